"""Embeddings over time: streams that are standard while nothing changes, kept over a restart; support in the status."""

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.assessor import assess
from models.columns import Categories, Subject
from models.describing_columns import Embeddings
from models.describing_embedding import embedding_profile
from models.kernel_streams import kernel_streams
from models.newma import Newma
from models.notes import Note
from models.profile import Profile
from models.reference import Reference, compile_reference
from models.subject_state import State, fresh
from tests.observing import embedded, profile_of

HOUR = 3_600_000_000
START = 1_795_000_000_000_000 // HOUR * HOUR
DIMENSIONS = 8


def inputs(rng: np.random.Generator, n: int, moved: float = 0.0) -> NDArray[np.float32]:
    return (rng.standard_normal((n, DIMENSIONS)) + moved).astype(np.float32)


def reference(seed: int = 0) -> Reference:
    rng = np.random.default_rng(seed)
    section = embedding_profile(Embeddings(inputs(rng, 1000), Categories(np.full(1000, -1, np.int32), ())))
    trees: dict[str, dict[str, Any]] = {
        "trained_model": {"model_name": "m", "model_version": "1", "bestbefore": {"minimum_n": 40}},
        "training_data": {"bestbefore": {"embedding": section}},
    }
    return compile_reference(trees)


REFERENCE = reference()


def hour(rng: np.random.Generator, moved: float = 0.0, n: int = 80) -> Profile:
    made = embedded(REFERENCE, inputs(rng, n, moved)) if n else Profile()
    return made.merge(profile_of(REFERENCE, value=np.zeros(50)))


def run(profiles: list[Profile], *, saved: bool) -> tuple[State, list[Note]]:
    state, notes = fresh(REFERENCE), []
    for i, profile in enumerate(profiles):
        state.assembly.add(START + i * HOUR, START + i * HOUR, Profile.unpack(profile.pack()))
        state.assembly.heard("inputs/0", START + (i + 1) * HOUR + REFERENCE.lateness_us)
        if saved:
            state = State.decode(state.encode())
        notes += assess(state, Subject("m", "1"), REFERENCE)[0]
    return state, notes


def streams(values: list[float], seed: int, known: Reference = REFERENCE, n: int = 60) -> list[dict[str, float]]:
    """Of consecutive blocks whose inputs moved by `values`."""
    rng, newma = np.random.default_rng(seed), Newma()
    return [kernel_streams(newma, embedded(known, inputs(rng, n, moved)), known) for moved in values]


def test_both_streams_are_standard_while_nothing_changes() -> None:
    """Thirty references, and as many blocks with 20 to 200 inputs: the number of inputs does not show."""
    for n in (20, 200):
        found = [one for seed in range(30) for one in streams([0.0] * 30, seed, reference(seed), n)[2:]]
        for name in ("embedding/mmd", "embedding/newma"):
            values = np.array([one[name] for one in found])
            assert abs(values.mean()) < 0.25, (n, name)
            assert 0.75 < values.std() < 1.3, (n, name)


def test_a_sudden_change_is_seen_by_both_and_a_slow_one_by_the_frozen_reference() -> None:
    sudden = streams([0.0] * 20 + [0.4] * 6, seed=1)
    assert max(one.get("embedding/newma", 0.0) for one in sudden[:20]) < 4
    assert max(one["embedding/newma"] for one in sudden[20:]) > 10
    assert max(one["embedding/mmd"] for one in sudden[20:]) > 10
    slow = streams(np.linspace(0, 0.6, 200).tolist(), seed=2)
    assert slow[-1]["embedding/mmd"] > 3 * slow[-1]["embedding/newma"]


def test_blocks_without_inputs_say_nothing_and_change_nothing() -> None:
    newma = Newma()
    assert kernel_streams(newma, Profile(), REFERENCE) == {}
    assert (
        kernel_streams(newma, hour(np.random.default_rng(0)), msgspec.structs.replace(REFERENCE, embedding=None)) == {}
    )
    assert newma.state.seen == 0
    newma.update(np.full(4, np.nan), n=10.0)
    newma.update(np.ones(4), n=0.0)
    assert (newma.state.seen, newma.state.skipped, newma.score((1.0, 1.0, 1.0))) == (0, 2, None)


def test_another_reference_begins_the_averages_afresh() -> None:
    newma, rng = Newma(), np.random.default_rng(3)
    for _ in range(5):
        kernel_streams(newma, hour(rng), REFERENCE)
    other = reference(seed=9)
    made = embedded(other, inputs(rng, 80))
    assert set(kernel_streams(newma, made, other)) == {"embedding/mmd"}
    assert newma.state.seen == 1


def test_a_restart_at_any_window_says_the_same() -> None:
    rng = np.random.default_rng(4)
    hours = [hour(rng, moved=0.6 * (i >= 12), n=80 * (i % 5 != 4)) for i in range(20)]
    (lived, notes), (restarted, again) = run(hours, saved=False), run(hours, saved=True)
    assert notes == again
    assert lived.encode() == restarted.encode()
    assert lived.newma.state.seen == 16
    assert {"embedding/mmd/adwin", "embedding/newma/adwin"} <= set(lived.drift)
    mismatches = [note.body for note in notes if note.kind == "mismatch"]
    assert any(body["field"] == "mmd" for body in mismatches)


def test_the_status_tells_the_support_with_its_interval() -> None:
    rng = np.random.default_rng(5)
    _, notes = run([hour(rng), hour(rng, moved=2.0), hour(rng, n=0)], saved=False)
    usual, far, none = (note.body["support"] for note in notes if note.kind == "status")
    assert usual["low"] <= usual["expected"] == 0.95 <= usual["high"]
    assert (usual["n"], far["high"] < 0.8) == (80, True)
    assert (none["share"], none["n"], none["reason"]) == (None, 0, "no sampled inputs in this window")


def test_a_state_written_before_there_were_averages_is_read() -> None:
    state, _ = run([hour(np.random.default_rng(6))], saved=False)
    older = msgspec.msgpack.decode(state.encode())
    del older["newma"]
    assert State.decode(msgspec.msgpack.encode(older)).newma.state.seen == 0
    newer = msgspec.msgpack.decode(state.encode())
    newer["newma"]["version"] = 2
    with pytest.raises(ValueError, match="NEWMA state has version 2"):
        State.decode(msgspec.msgpack.encode(newer))
