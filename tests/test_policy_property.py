"""What holds of decisions whatever comes: one trigger an incident, no flapping, dearer delay is never slower."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from models.causes import OpenCause
from models.checks.verdict import Action, Severity
from models.forecast import Passage
from models.policy import CONFIRMATIONS, PolicyState, Terms, Trigger, close, decide
from models.quality import Estimate

HOUR = 3_600_000_000
START = 1_795_000_000_000_000 // HOUR * HOUR
TERMS = Terms(threshold=0.85, lead_time_us=12 * HOUR, window_us=HOUR, cost_degraded_per_day=6.0)

FOUND: tuple[tuple[str, str, Action, Severity], ...] = (
    ("unit-scale-encoding", "income", "fix-pipeline", "critical"),
    ("domain-and-schema", "income", "fix-pipeline", "critical"),
    ("domain-and-schema", "age", "fix-pipeline", "critical"),
    ("missing-and-special-values", "city", "fix-pipeline", "warning"),
    ("model-identity", "golden", "roll-back", "critical"),
    ("covariate-drift", "income", "review", "critical"),
)
CAUSES = [
    OpenCause(id=f"m-{i}", check=check, field=field, action=action, severity=severity, first_seen_us=START - i * HOUR)
    for i, (check, field, action, severity) in enumerate(FOUND)
]
ESTIMATES = (
    Estimate(estimate=0.92, low=0.90, high=0.94, n=900, basis="labels"),
    Estimate(estimate=0.86, low=0.83, high=0.89, n=900, basis="labels"),
    Estimate(estimate=0.80, low=0.78, high=0.82, n=900, basis="labels"),
    Estimate(reason="no labels"),
)
PROBABILITIES = (0.0, 0.02, 0.1, 0.24, 0.26, 0.6, 1.0, None)


class Window(msgspec.Struct, frozen=True):
    """What one window brings."""

    estimate: Estimate
    probability: float | None
    causes: tuple[OpenCause, ...]

    def passage(self) -> Passage | None:
        if self.probability is None:
            return None
        return Passage(threshold=0.85, median=20.0, good_for=10.0, lead=12.0, probability_within_lead=self.probability)


chosen_causes = st.sets(st.integers(0, len(CAUSES) - 1), max_size=3).map(lambda c: tuple(CAUSES[i] for i in sorted(c)))
windows = st.builds(Window, st.sampled_from(ESTIMATES), st.sampled_from(PROBABILITIES), chosen_causes)
# Stretches rather than single windows, so that incidents open and close.
histories = st.lists(st.tuples(windows, st.integers(1, 8)), min_size=1, max_size=14).map(
    lambda parts: [window for window, times in parts for _ in range(times)]
)


def step(state: PolicyState, number: int, window: Window, terms: Terms = TERMS) -> tuple[PolicyState, Trigger | None]:
    return decide(
        state, terms, subject=("loan", "7"), now_us=START + number * HOUR, estimate=window.estimate,
        passage=window.passage(), open_mismatches=[c.id for c in window.causes], causes=window.causes,
    )  # fmt: skip


def run(history: list[Window], terms: Terms = TERMS) -> list[tuple[int, Trigger, PolicyState]]:
    state, found = PolicyState(), []
    for number, window in enumerate(history):
        state, trigger = step(state, number, window, terms)
        found += [] if trigger is None else [(number, trigger, state)]
    return found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(histories)
def test_one_trigger_an_incident_and_one_incident_a_cool_down(history: list[Window]) -> None:
    found = run(history)
    assert len({t.trigger_id for _, t, _ in found}) == len({t.dedupe_key for _, t, _ in found}) == len(found)
    last: dict[str, int] = {}
    for number, trigger, state in found:
        assert state.open_triggers[trigger.action] == trigger.trigger_id
        if trigger.action in last:
            assert (number - last[trigger.action]) * HOUR >= TERMS.lead_time_us, "calm and alarm in turn do not flap"
        last[trigger.action] = number
        calling = history[number - CONFIRMATIONS + 1 : number + 1]
        assert all(w.estimate is ESTIMATES[2] or (w.probability or 0) >= TERMS.trigger_probability for w in calling)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(histories, st.data())
def test_replays_repeats_and_restarts_change_nothing(history: list[Window], data: Any) -> None:
    once = [t for _, t, _ in run(history)]
    repeats = data.draw(st.lists(st.integers(0, len(history) - 1), max_size=20))
    state, found = PolicyState(), []
    for number, window in enumerate(history):
        # A restart: the state comes back from the store.
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=PolicyState)
        state, trigger = step(state, number, window)
        found += [trigger] if trigger else []
        for again in (number, *(r for r in repeats if r <= number)):
            assert step(state, again, history[again]) == (state, None), "this window was decided before"
    assert found == once


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(windows, min_size=1, max_size=40), st.floats(0, 50), st.floats(0, 50))
def test_dearer_delay_never_triggers_later(history: list[Window], a: float, b: float) -> None:
    history = [msgspec.structs.replace(window, causes=()) for window in history]
    cheap, dear = (
        run(history, msgspec.structs.replace(TERMS, cost_degraded_per_day=cost))[:1] for cost in sorted((a, b))
    )
    assert not cheap or (dear and dear[0][0] <= cheap[0][0])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(histories, histories)
def test_after_another_version_took_over_nothing_is_open(before: list[Window], after: list[Window]) -> None:
    state = PolicyState()
    for number, window in enumerate(before):
        state, _ = step(state, number, window)
    ended = close(state)
    assert ended.open_triggers == {}
    assert ended.alarming == ended.calm == 0
    ids = set(state.open_triggers.values())
    for number, window in enumerate(after, len(before)):
        ended, trigger = step(ended, number, window)
        assert trigger is None or trigger.trigger_id not in ids


# -- a second critical cause ---------------------------------------------------------------------------------


def told(*stretches: tuple[tuple[int, ...], int]) -> list[tuple[int, tuple[str, ...]]]:
    """When triggers come, and the causes they name, while the model is below its threshold."""
    history = [
        Window(ESTIMATES[2], None, tuple(CAUSES[i] for i in chosen))
        for chosen, times in stretches
        for _ in range(times)
    ]
    return [
        (number, tuple(c["id"] for c in t.reason["withheld"]["because"] if c["check"] != "cause-and-cure"))
        for number, t, _ in run(history)
    ]


def test_a_critical_cause_that_the_open_trigger_does_not_name_is_told_after_the_cool_down() -> None:
    assert told(((0,), 4), ((0, 2), 30)) == [(1, ("m-0",)), (13, ("m-2", "m-0"))]


def test_what_is_the_same_fact_or_no_more_than_a_warning_is_not_told_twice() -> None:
    assert told(((0,), 4), ((0, 1, 3), 40)) == [(1, ("m-0",))]


def test_a_state_that_does_not_say_what_was_named_asks_no_second_time() -> None:
    state = PolicyState()
    for number in range(3):
        state, _ = step(state, number, Window(ESTIMATES[2], None, (CAUSES[0],)))
    old = msgspec.json.decode(msgspec.json.encode(state))
    del old["cures"]["fix-pipeline"]["facts"]
    state = msgspec.convert(old, PolicyState)
    for number in range(3, 60):
        state, trigger = step(state, number, Window(ESTIMATES[2], None, (CAUSES[0], CAUSES[2])))
        assert trigger is None
