"""The contract of every estimator's state: exact over a restart, bounded, and never misread.

The estimators are those of `benchmarks.estimator_states`, which measures the same over a million updates. Beside each
lies a state that the first release wrote (tests/data/states): a later one reads it and goes on, or refuses it by name.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.estimator_states import Entry, entries, values

FIRST = Path(__file__).parent / "data" / "states"
UPDATES = 120  # in a golden state
every = pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)


def fed(entry: Entry, estimator: Any, given: list[float], first: int = 0) -> Any:
    for i, value in enumerate(given, first):
        entry.feed(estimator, i, value)
    return estimator


def golden(entry: Entry) -> Path:
    return FIRST / f"{entry.name.replace(': ', '-').replace(' ', '-').lower()}.json"


@every
def test_a_restart_at_any_update_changes_no_bit(entry: Entry) -> None:
    given = values(240).tolist()
    lived, restarted = entry.make(), entry.make()
    for i, value in enumerate(given):
        entry.feed(lived, i, value)
        entry.feed(restarted, i, value)
        if i % 7 == 3 or i > 230:
            body = entry.write(restarted)
            restarted = entry.restarted(body)
            assert entry.write(restarted) == body == entry.write(lived), f"after update {i}"


@every
def test_a_state_is_as_large_after_many_updates_as_after_some(entry: Entry) -> None:
    many = 1600 if "kswin" in entry.name else 4000
    given = values(many).tolist()
    estimator, sizes = entry.make(), []
    for i, value in enumerate(given):
        entry.feed(estimator, i, value)
        if i % (many // 40) == 0:
            sizes.append(len(entry.write(estimator)))
    # Numbers grow by some bytes as they count on; what is kept of a stream has filled its window by a half.
    assert max(sizes[20:]) <= 1.2 * max(sizes[:20]) + 64
    assert sizes[-1] < 64_000


@every
def test_a_state_of_another_version_is_refused_by_name(entry: Entry) -> None:
    state = fed(entry, entry.make(), values(50).tolist()).state
    with pytest.raises(ValueError, match=r"version 99"):
        entry.read(msgspec.structs.replace(state, version=99))


@every
def test_a_state_that_the_first_release_wrote_goes_on_alike(entry: Entry) -> None:
    given = values(UPDATES + 40).tolist()
    restored = entry.read(msgspec.json.decode(golden(entry).read_bytes(), type=entry.kind))
    lived = fed(entry, entry.make(), given[:UPDATES])
    for estimator in (restored, lived):
        fed(entry, estimator, given[UPDATES:], UPDATES)
    was, now = (json.loads(msgspec.json.encode(e.state)) for e in (restored, lived))
    assert _close(was, now), f"{entry.name}: {was} is not {now}"


def _close(one: Any, other: Any) -> bool:
    """Equal but for the last digits of real numbers, which depend on the processor that wrote them."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_close(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(_close(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) or isinstance(other, float):
        return bool(one == pytest.approx(other, rel=1e-6, abs=1e-9))
    return bool(one == other)


if __name__ == "__main__":  # writes the states of estimators that are new; those that are there are never changed
    FIRST.mkdir(exist_ok=True)
    for made in entries():
        if not golden(made).exists():
            state = fed(made, made.make(), values(UPDATES + 40).tolist()[:UPDATES]).state
            golden(made).write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")
