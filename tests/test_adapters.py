"""The contract of adapters: one suite, applied to each. tests/fuzz/adapters.py damages their samples at random."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.adapters.catalogue import ADAPTERS
from streams.adapters.contract import Record, Thing, Unpaired
from streams.errors import BadRecord
from streams.records import InferenceEvent, LabelEvent, decode_inference, decode_label
from tests.sources_rig import FOLDER, PAIRED, SAMPLES, adapted, source_of, sources, told
from tests.wire import field

NAMES = sorted(ADAPTERS)
JSON_VALUES = ["azure-ml", "bentoml", "databricks", "json", "kserve", "sagemaker", "triton", "vertex"]
PROTOBUF = {"open-inference": (0, 1, 4, 5), "tensorflow-serving": (0,)}
OWN = [
    Record("x", b'{"id":"r","time":"2026-11-20T10:00:00Z","model":"m","version":"1","output":{"label":"7"}}'),
    Record(
        "x", b"\xff\xff\xff\xff\x10\x00\x00\x00", headers=[("content-type", b"application/vnd.apache.arrow.stream")]
    ),
    Record("x", None),
    Record("x", b""),
    Record("x", b"\x00"),
    Record("x", b"null"),
    Record("x", b"[]"),
    Record("x", b"{}"),
    Record("x", b"\x08\x96\x01"),
]


def attempt(name: str, record: Record) -> list[Thing] | None:
    """What a fresh source makes of a record; None where it is refused, as the contract says it must be."""
    source, names = source_of(name)
    try:
        things = source.adapt(record, names)
    except BadRecord as error:
        refusal: BadRecord = error
    else:
        for thing in things:
            readable(thing)
        return things
    assert refusal.stage == "adapt"
    assert 0 < len(str(refusal)) < 1000
    return None


def readable(thing: Thing) -> None:
    """An event that the rest of the pipeline can read."""
    if isinstance(thing, InferenceEvent):
        assert decode_inference(msgspec.json.encode(thing), []) == thing
    elif isinstance(thing, LabelEvent):
        assert decode_label(msgspec.json.encode(thing), []) == thing
    else:
        assert isinstance(thing, Unpaired)


# -- what it reads -------------------------------------------------------------------------------------------


def test_every_adapter_has_a_sample_and_what_is_expected_of_it() -> None:
    expected = json.loads((FOLDER / "expected.json").read_text("utf-8"))
    assert sorted(expected) == NAMES
    assert {entry.source.adapter.name for entry in sources().entries} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_sample_becomes_these_events(name: str) -> None:
    expected = json.loads((FOLDER / "expected.json").read_text("utf-8"))[name]
    things = adapted(SAMPLES[name])
    assert [told(thing) for thing in things] == expected
    for thing in things:
        readable(thing)


@pytest.mark.parametrize("name", NAMES)
def test_reading_again_gives_the_same_ids(name: str) -> None:
    assert adapted(SAMPLES[name]) == adapted(SAMPLES[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [str.upper, str.title, lambda key: key.replace("_", "-").replace("ce-", "Ce-")])
def test_headers_in_any_case_are_the_same(name: str, change: Any) -> None:
    changed = [r._replace(headers=[(change(k), v) for k, v in r.headers]) for r in SAMPLES[name]]
    assert [told(t) for t in adapted(changed)] == [told(t) for t in adapted(SAMPLES[name])]


@pytest.mark.parametrize("name", JSON_VALUES)
def test_unknown_fields_are_no_matter(name: str) -> None:
    def more(value: bytes) -> bytes:
        tree = json.loads(value)
        for one in tree if isinstance(tree, list) and name == "triton" else [tree]:
            if isinstance(one, dict):
                one["surprise"] = {"a": [1, None]}
        return json.dumps(tree).encode()

    changed = [record._replace(value=more(record.value or b"")) for record in SAMPLES[name]]
    assert [without_digests(t) for t in adapted(changed)] == [without_digests(t) for t in adapted(SAMPLES[name])]


def without_digests(thing: Thing) -> dict[str, Any]:
    """Ids that are digests of the record change with it."""
    return {k: v for k, v in told(thing).items() if not (k.endswith("id") and len(str(v).partition("#")[0]) == 32)}


@pytest.mark.parametrize("name", sorted(PROTOBUF))
def test_unknown_protobuf_fields_are_no_matter(name: str) -> None:
    extra = field(900, b"later") + field(901, 7) + field(902, 1.5)
    changed = [
        r._replace(value=(r.value or b"") + extra) if i in PROTOBUF[name] else r for i, r in enumerate(SAMPLES[name])
    ]
    assert [without_digests(t) for t in adapted(changed)] == [without_digests(t) for t in adapted(SAMPLES[name])]


# -- what it refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_records_of_other_servers_are_refused(name: str) -> None:
    topic = SAMPLES[name][0].topic
    for other in NAMES:
        for record in SAMPLES[other] if other != name else []:
            assert attempt(name, record._replace(topic=topic)) is None, f"{name} reads a record of {other}: {record}"


@pytest.mark.parametrize("name", NAMES)
def test_records_of_this_project_and_of_nobody_are_refused(name: str) -> None:
    for record in OWN:
        assert attempt(name, record._replace(topic=SAMPLES[name][0].topic)) is None, record


@pytest.mark.parametrize("name", NAMES)
def test_what_was_cut_is_refused_or_read_but_nothing_else(name: str) -> None:
    for record in SAMPLES[name]:
        value = record.value or b""
        cuts = {len(value) * i // 40 for i in range(40)} | {len(value) - 1}
        outcomes = [attempt(name, record._replace(value=value[:cut])) for cut in sorted(cuts)]
        if name in JSON_VALUES:
            assert outcomes == [None] * len(outcomes)


# -- halves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRED)
def test_halves_come_in_any_order(name: str) -> None:
    forth, back = adapted(SAMPLES[name]), adapted(reversed(SAMPLES[name]))
    by_id = {t.id: t for t in forth if isinstance(t, InferenceEvent)}
    assert by_id == {t.id: t for t in back if isinstance(t, InferenceEvent)}
    assert not [t for t in (*forth, *back) if isinstance(t, Unpaired)]


@pytest.mark.parametrize("name", PAIRED)
def test_a_half_alone_waits_and_is_then_told_as_unpaired(name: str) -> None:
    first = SAMPLES[name][0]
    source, names = source_of(name)
    assert source.adapt(first, names) == []
    later = first._replace(timestamp=first.timestamp + 3_600_000_000)
    (given_up,) = source.adapt(later, names)  # the same id again, an hour later: it waits anew
    assert isinstance(given_up, Unpaired)
    assert "did not come within" in given_up.reason
    (left,) = source.rest()
    assert (left.id, left.side) == (given_up.id, "request")
    assert source.rest() == []


@pytest.mark.parametrize("name", PAIRED)
def test_the_same_half_twice_counts_once(name: str) -> None:
    things = adapted([SAMPLES[name][0], *SAMPLES[name]])
    again = [thing for thing in things if isinstance(thing, Unpaired)]
    assert len(again) == 1
    assert "waits already" in again[0].reason
    assert [t for t in things if not isinstance(t, Unpaired)] == adapted(SAMPLES[name])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_sent_again_gives_the_same_events_again(name: str) -> None:
    """A resend keeps its ids, so that the duplicate rate shows it, and a label joins once."""
    once, twice = adapted(SAMPLES[name]), adapted([*SAMPLES[name], *SAMPLES[name]])
    assert twice == [*once, *once]


# -- what is large, and what is broken at random -------------------------------------------------------------


def paths(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in a tree."""
    yield at
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield from paths(value, (*at, key))


def replaced(tree: Any, at: tuple[Any, ...], value: Any) -> Any:
    """The tree with another value at one place; text that holds JSON is opened on the way."""
    if not at:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[at[0]] = replaced(tree[at[0]], at[1:], value)
    return copy


def places(name: str) -> list[tuple[int, Any, tuple[Any, ...]]]:
    """Every place of every JSON record of the samples."""
    found = []
    for i, record in enumerate(SAMPLES[name]):
        try:
            tree = json.loads(record.value or b"")
        except ValueError:
            continue
        found += [(i, tree, at) for at in paths(tree)]
    return found


HUGE = [10**400, -(10**25), 1e308, "x" * 100_000, [0.5] * 20_001, [[[[1]]]] * 3, {"a": {}}, "\0", "é" * 300, -0.0]


@pytest.mark.parametrize("name", [*JSON_VALUES, "open-inference"])
def test_huge_and_odd_values_anywhere(name: str) -> None:
    for i, tree, at in places(name):
        for value in HUGE:
            if len(at) <= 4 or isinstance(value, int):
                changed = json.dumps(replaced(tree, at, value)).encode()
                attempt(name, SAMPLES[name][i]._replace(value=changed))


@pytest.mark.parametrize("name", NAMES)
def test_deep_nesting_is_refused(name: str) -> None:
    for value in (b"[" * 100_000, b'{"a":' * 100_000, b'[{"id":' + b"[" * 50_000):
        assert attempt(name, SAMPLES[name][0]._replace(value=value)) is None


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", [*JSON_VALUES, "open-inference"])
@QUICK
@given(data=st.data())
def test_any_value_in_any_place(name: str, data: st.DataObject) -> None:
    i, tree, at = data.draw(st.sampled_from(places(name)))
    value = data.draw(ODD)
    if at and at[-1] in ("request", "response", "raw_data", "raw_prediction", "data") and data.draw(st.booleans()):
        value = json.dumps(value)
    attempt(name, SAMPLES[name][i]._replace(value=json.dumps(replaced(tree, at, value)).encode()))


# -- values of persons ---------------------------------------------------------------------------------------

CANARY, NUMBER = "xq7canary", 48151623
# What names things (models, tensors, types of events) and sizes are told.
NAMED = ("name", "model_name", "model_version", "type", "id", "request_id", "model", "endpoint", "role", "shape")


@pytest.mark.parametrize("name", [*JSON_VALUES, "open-inference"])
def test_what_is_told_of_a_refused_record_holds_no_value_of_it(name: str) -> None:
    wrong: tuple[Any, ...] = (
        CANARY,
        [CANARY],
        [[CANARY, NUMBER]],
        {"x": [CANARY]},
        f"{CANARY},{NUMBER}",
        NUMBER,
        -NUMBER,
    )
    source, names = source_of(name)
    refused = 0
    for i, tree, at in places(name):
        for value in wrong if at and not {*at[-2:]} & {*NAMED} else ():
            try:
                source.adapt(SAMPLES[name][i]._replace(value=json.dumps(replaced(tree, at, value)).encode()), names)
            except BadRecord as error:
                said = str(error)
            else:
                continue
            refused += 1
            assert CANARY not in said, (at, value, said)
            assert str(NUMBER) not in said, (at, value, said)
    assert refused
