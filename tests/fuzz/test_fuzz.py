"""Damaged input of every kind, to every reader: a value comes back, or the project's own error, and nothing else."""

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.fuzz import engine, reading
from tests.fuzz.__main__ import fuzz
from tests.fuzz.registry import GROUPS, TARGETS, found
from tests.fuzz.target import FOUND, tried

every = pytest.mark.parametrize("name", TARGETS)
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


@every
def test_valid_input_reaches_the_end(name: str) -> None:
    """A target whose seeds are all refused would find nothing."""
    values = [tried(TARGETS[name], seed) for seed in TARGETS[name].seeds()]  # each must be tried
    assert any(values)


@every
def test_what_was_once_answered_wrongly_is_not_again(name: str) -> None:
    for content in found(name):
        tried(TARGETS[name], content)


def test_every_file_of_a_defect_belongs_to_a_target() -> None:
    assert {path.name for path in FOUND.iterdir()} <= set(TARGETS)


@every
def test_damaged_input_gives_a_value_or_an_error_of_the_project(name: str, pytestconfig: pytest.Config) -> None:
    target, times = TARGETS[name], int(pytestconfig.getoption("--fuzz-times"))
    seeds = list(target.seeds())

    @settings(
        max_examples=target.examples * times,
        deadline=None,
        derandomize=times == 1,
        database=None,
        suppress_health_check=SLOW,
    )
    @given(st.integers(0, 2**64 - 1))
    def try_one(number: int) -> None:
        random = Random(number)
        content = random.choice(seeds)
        for _ in range(random.choice((1, 1, 2))):
            content = target.damage(content, random)
        note(f"{name}: {content[:500]!r}")
        tried(target, content)

    try_one()


def test_coverage_leads_to_no_defect_either(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Atheris on frames, events and descriptors, side by side; where there is none, the same inputs blind."""
    seconds = int(pytestconfig.getoption("--fuzz-seconds"))
    for run in fuzz(list(GROUPS), seconds, tmp_path, at_once=len(GROUPS)):
        inputs, covered, defects = run.numbers
        assert not defects, run.output[-3000:]
        assert inputs > 100, run.output[-3000:]
        assert covered > 200 or not engine.ATHERIS, run.output[-3000:]


# -- the gate ------------------------------------------------------------------------------------------------


def test_every_reader_is_reached_by_a_target() -> None:
    """A new reader without a target, or one that no valid input reaches, is found here."""
    wanted = {function.__code__: name for name, function in _readers()}
    reached: set[Any] = set()

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            reached.add(frame.f_code)

    for target in TARGETS.values():
        for seed in target.seeds():
            sys.setprofile(look)
            try:
                tried(target, seed)
            finally:
                sys.setprofile(None)
    missing = sorted(name for code, name in wanted.items() if code not in reached and name not in reading.EXEMPT)
    assert not missing, f"no target of tests/fuzz reaches these readers; add one, or an exemption: {', '.join(missing)}"
    assert set(wanted.values()) >= set(reading.EXEMPT), "an exemption for what does not exist any more"


def _readers() -> Iterator[tuple[str, FunctionType]]:
    for module in reading.modules():
        for holder in (module, *_classes(module)):
            for name, value in vars(holder).items():
                function = getattr(value, "__func__", value)
                mine = isinstance(function, FunctionType) and function.__module__ == module.__name__
                if mine and reading.READS.match(name):
                    yield f"{module.__name__}.{function.__qualname__}", function


def _classes(module: ModuleType) -> list[type]:
    return [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
