"""Merging sources: the same windows come out, whatever the order in which the sources are heard."""

from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.assembly import IDLE, Assembly
from models.profile import Profile

LENGTH = 10


class Said(NamedTuple):
    """One record of a source: a profile, or (n is None) only how far it has come."""

    source: str
    start: int
    arrival: int
    watermark: int
    n: int | None = None
    retired: bool = False
    idle: bool = False


def counted(n: int) -> Profile:
    made = Profile()
    made.count("n", n)
    return made


def hear(assembly: Assembly, said: Said) -> list[Any]:
    """What `assess` does with a record, and what comes of it in plain values."""
    if said.n is not None:
        assembly.add(said.start, said.arrival, counted(said.n))
    assembly.heard(said.source, said.watermark, retired=said.retired, idle=said.idle)
    return told(assembly)


def told(assembly: Assembly) -> list[Any]:
    return [
        (tick.start, tick.profile.n if tick.profile else None, [(start, p.n) for start, p in tick.revisions])
        for tick in assembly.complete()
    ]


def window(source: str, start: int, n: int, arrival: int | None = None, watermark: int | None = None) -> Said:
    arrival = start if arrival is None else arrival
    return Said(source, start, arrival, arrival + LENGTH if watermark is None else watermark, n)


def life(rng: Random, source: str) -> list[Said]:
    """A source as a window book tells of it: windows and late windows in order, news, and at last silence."""
    said, now = [], rng.randrange(3) * LENGTH
    for _ in range(rng.randrange(1, 8)):
        late = sorted({now - LENGTH * rng.randrange(1, 6) for _ in range(rng.choice([0, 0, 1, 2]))})
        starts = [*late, *([now] if not late or rng.random() < 0.7 else [])]
        said += [window(source, s, rng.randrange(1, 50), now, watermark=now) for s in starts[:-1]]
        said.append(window(source, starts[-1], rng.randrange(1, 50), now))
        gap = rng.choice([0, 0, 1, 3])
        if gap:
            said.append(Said(source, 0, 0, now + LENGTH * (1 + gap)))
        now += LENGTH * (1 + gap)
    ending = rng.choice(["retired", "idle"])
    return [*said, Said(source, 0, 0, now, None, ending == "retired", ending == "idle")]


def interleaved(rng: Random, lives: list[list[Said]]) -> list[Said]:
    left, mixed = [list(one) for one in lives], []
    while any(left):
        mixed.append(rng.choice([one for one in left if one]).pop(0))
    return mixed


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.integers(1, 4), st.integers(0, 2**32))
def test_any_interleaving_of_the_sources_gives_the_same_windows(count: int, seed: int) -> None:
    rng = Random(seed)
    lives = [life(rng, f"inference/{i}") for i in range(count)]
    announced = [Said(one[0].source, 0, 0, -LENGTH) for one in lives]
    runs = []
    for _ in range(3):
        assembly = Assembly(LENGTH)
        ticks = [tick for said in [*announced, *interleaved(rng, lives)] for tick in hear(assembly, said)]
        assert not assembly.waiting()
        runs.append(ticks)
    assert runs[0] == runs[1] == runs[2]
    total = sum((n or 0) + sum(more for _, more in revisions) for _, n, revisions in runs[0])
    assert total == sum(said.n or 0 for one in lives for said in one)
    assert [start for start, _, _ in runs[0]] == sorted({said.arrival for one in lives for said in one if said.n})


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.integers(0, 2**32))
def test_an_assembly_goes_on_after_its_state_was_saved(seed: int) -> None:
    rng = Random(seed)
    mixed = interleaved(rng, [life(rng, "a"), life(rng, "b")])
    once, again = Assembly(LENGTH), Assembly(LENGTH)
    for said in mixed:
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(again), type=Assembly)
        assert hear(once, said) == hear(again, said)


def test_a_window_waits_for_every_source_that_was_announced() -> None:
    assembly = Assembly(LENGTH)
    assert hear(assembly, Said("b", 0, 0, 0)) == []
    assert hear(assembly, window("a", 0, 5)) == []
    assert assembly.waiting()
    assert hear(assembly, window("b", 0, 7)) == [(0, 12, [])]
    assert not assembly.waiting()


def test_an_idle_source_is_not_waited_for_until_it_speaks() -> None:
    assembly = Assembly(LENGTH)
    hear(assembly, Said("b", 0, 0, 0, idle=True))
    assert hear(assembly, window("a", 0, 5)) == [(0, 5, [])]
    hear(assembly, Said("b", 0, 0, 10))
    assert hear(assembly, window("a", 10, 5)) == []
    assert hear(assembly, Said("b", 0, 0, 20)) == [(10, 5, [])]


def test_a_retired_source_is_forgotten() -> None:
    assembly = Assembly(LENGTH)
    hear(assembly, Said("b", 0, 0, 0))
    assert hear(assembly, window("a", 0, 5)) == []
    assert hear(assembly, Said("b", 0, 0, 0, retired=True)) == [(0, 5, [])]
    assert assembly.sources == {"a": 10}


def test_giving_up_lets_the_window_go_and_what_comes_after_is_a_revision() -> None:
    assembly = Assembly(LENGTH)
    hear(assembly, Said("b", 0, 0, 0))
    assert hear(assembly, window("a", 0, 5)) == []
    assembly.give_up()
    assert assembly.sources["b"] == IDLE
    assert told(assembly) == [(0, 5, [])]
    assert hear(assembly, window("b", 0, 7)) == [(0, None, [(0, 7)])]
    assert hear(assembly, window("a", 10, 1)) == []  # b has spoken, so it counts again
    assert hear(assembly, window("b", 10, 1)) == [(10, 2, [])]


def test_what_a_source_repeats_takes_nothing_back() -> None:
    assembly = Assembly(LENGTH)
    hear(assembly, Said("b", 0, 0, 30))
    hear(assembly, Said("b", 0, 0, 10))
    assert hear(assembly, window("a", 20, 5)) == [(20, 5, [])]


def test_giving_up_without_anything_to_wait_for_changes_nothing() -> None:
    assembly = Assembly(LENGTH)
    hear(assembly, Said("b", 0, 0, 0))
    assembly.give_up()
    assert assembly.sources == {"b": 0}


@pytest.mark.parametrize("first", ["a", "b"])
def test_late_profiles_of_several_sources_for_one_window_are_one_revision(first: str) -> None:
    assembly = Assembly(LENGTH)
    for source in ("a", "b"):
        hear(assembly, Said(source, 0, 0, 20))
    second = "b" if first == "a" else "a"
    assert hear(assembly, window(first, 0, 5, arrival=20, watermark=30)) == []
    assert hear(assembly, window(second, 0, 7, arrival=20, watermark=20)) == []
    assert hear(assembly, window(second, 20, 1, watermark=30)) == [(20, 1, [(0, 12)])]
