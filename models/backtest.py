"""What a retraining policy would have cost: one simulator for every policy, on one history.

A history is cut into windows. A model is known by the window before which its training labels end, so a `World` says
of every model (trained at i) which answers of every later window j would have been wrong: policies that retrain at
other times meet the same traffic. At the end of a window a policy sees only labels that have arrived, `delay` windows
late, of the models that really served. What it asks for serves `lead` windows later, trained on the labels known when
it was asked for. A policy that looks ahead has nothing to look at.

The first third of the history is for tuning: what a policy may learn from it goes through `Past`, which ends where the
labels known at the start of the comparison end. Costs are counted on the rest, for retrainings that took effect.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SMOOTHED = 2  # windows on either side over which the quality of one model is averaged before it is called below


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison assumes. Times are in windows, costs in one currency.

    A day below `threshold` costs `cost_degraded_per_day`, every wrong answer `cost_error`.
    """

    threshold: float | None = None
    lead: int = 0
    delay: int = 0
    cost_retrain: float = 1.0
    cost_degraded_per_day: float = 0.0
    cost_error: float = 0.0
    window_days: float = 1.0


def near(values: Floats) -> Floats:
    """Sums over five windows around each; fewer at the ends.

    >>> near(np.array([1.0, 1.0, 1.0, 4.0])).tolist()
    [3.0, 7.0, 7.0, 6.0]
    """
    return np.convolve(values, np.ones(2 * SMOOTHED + 1))[SMOOTHED : SMOOTHED + len(values)]


class Outcome(NamedTuple):
    """Labels of one window have arrived: which answers of the model that serves since window `since` were wrong."""

    window: int
    since: int
    wrong: Bits


class Policy(Protocol):
    """Decides at the end of every window whether a retraining is asked for."""

    def renewed(self, window: int) -> None:
        """A new model serves from this window on."""

    def learnt(self, outcome: Outcome) -> None:
        """Labels have arrived, in the order of their windows."""

    def asks(self, window: int) -> bool:
        """Retrain now? Asked at the end of a window, while no retraining is under way."""


class World:
    """What every model would have answered. `answers(i)` gives, for a model trained on what came before window i, the
    wrong answers of windows i, i + 1, .. as one array each; it is called at most once per model.

    `truth(i, j)` is the true quality where it is known; else it is the share of right answers of that model over five
    windows around j. `first` is the earliest window a model can be trained for.
    """

    def __init__(
        self,
        windows: int,
        answers: Callable[[int], Sequence[Bits]],
        *,
        first: int = 1,
        truth: Callable[[int, int], float] | None = None,
    ) -> None:
        self.windows, self.first = windows, first
        self._answers, self.truth = answers, truth
        self._wrong: dict[int, Sequence[Bits]] = {}
        self._errors: dict[int, tuple[Floats, Floats]] = {}

    def wrong(self, trained: int, window: int) -> Bits:
        """Which answers of a window the model got wrong. Raises IndexError outside of its life and the history."""
        if not self.first <= trained <= window < self.windows:
            raise IndexError(f"no answers of a model trained for window {trained} in window {window}")
        if trained not in self._wrong:
            self._wrong[trained] = self._answers(trained)
        return self._wrong[trained][window - trained]

    def errors(self, trained: int) -> tuple[Floats, Floats]:
        """Wrong answers, and true quality, of one model in windows `trained` .. the end."""
        if trained not in self._errors:
            rows = [self.wrong(trained, window) for window in range(trained, self.windows)]
            wrong = np.array([np.count_nonzero(r) for r in rows], float)
            count = np.array([len(r) for r in rows], float)
            if self.truth is not None:
                quality = np.array([self.truth(trained, window) for window in range(trained, self.windows)])
            else:
                quality = 1 - near(wrong) / np.maximum(near(count), 1)
            self._errors[trained] = wrong, quality
        return self._errors[trained]


class Past:
    """The world up to window `end`, exclusive: all that a policy may be tuned on."""

    def __init__(self, world: World, end: int) -> None:
        self._world, self.end, self.first = world, max(end, world.first), world.first
        self._errors: list[tuple[int, int, float, int]] | None = None

    def wrong(self, trained: int, window: int) -> Bits:
        """As `World.wrong`, but never beyond `end`."""
        if window >= self.end:
            raise IndexError(f"window {window} is not past: labels are known up to window {self.end - 1}")
        return self._world.wrong(trained, window)

    def world(self) -> World:
        """The past as a world of its own, to try policies in."""
        return World(
            self.end,
            lambda i: [self.wrong(i, j) for j in range(i, self.end)],
            first=self.first,
            truth=self._world.truth,
        )

    def errors(self) -> list[tuple[int, int, float, int]]:
        """(trained, window, share of wrong answers, answers) of every model and window of the past."""
        if self._errors is None:
            pairs = ((i, j, self.wrong(i, j)) for i in range(self.first, self.end) for j in range(i, self.end))
            self._errors = [(i, j, np.count_nonzero(b) / len(b), len(b)) for i, j, b in pairs if len(b)]
        return self._errors


class Run(NamedTuple):
    """What one policy did: the model that served each window from `start` on, and (asked, serves, trained) of each
    retraining that took effect.
    """

    start: int
    served: Ints
    retrainings: tuple[tuple[int, int, int], ...]


def simulate(world: World, policy: Policy, setting: Setting, *, start: int, end: int | None = None) -> Run:
    """Let a policy run over windows `start` .. `end`, beginning with a fresh model."""
    end = world.windows if end is None else end
    trained, since = max(world.first, start - setting.delay), start
    served, sinces = np.zeros(end - start, np.int64), np.zeros(end - start, np.int64)
    done: list[tuple[int, int, int]] = []
    pending: tuple[int, int, int] | None = None
    policy.renewed(start)
    for window in range(start, end):
        if pending is not None and pending[1] == window:
            done.append(pending)
            trained, since, pending = pending[2], window, None
            policy.renewed(window)
        served[window - start], sinces[window - start] = trained, since
        known = window - setting.delay
        if known >= start:
            wrong = world.wrong(int(served[known - start]), known)
            policy.learnt(Outcome(known, int(sinces[known - start]), wrong))
        if pending is None and policy.asks(window):
            pending = window, window + 1 + setting.lead, max(world.first, window + 1 - setting.delay)
    return Run(start, served, tuple(done))


def window_costs(world: World, trained: int, setting: Setting) -> Floats:
    """What one model costs in each of windows `trained` .. the end."""
    wrong, quality = world.errors(trained)
    cost = setting.cost_error * wrong
    if setting.threshold is not None:
        cost = cost + setting.cost_degraded_per_day * setting.window_days * (quality < setting.threshold)
    return np.asarray(cost)


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was worth. Times are in windows; None where nothing can be said.

    `missed`: models that fell below the threshold while they served, and whose replacement had not been asked for.
    `warning`: median windows from the request to the crossing that the replaced model went on to, with none within the
    history left out; negative: asked for after the crossing.
    """

    retrains: int
    error: float
    below: float | None
    cost: float
    missed: int | None
    warning: float | None


def figures(world: World, run: Run, setting: Setting) -> Figures:
    """Count what a run cost."""
    errors = [world.errors(int(i)) for i in run.served]
    wrong = sum(float(e[0][run.start + k - int(i)]) for k, (e, i) in enumerate(zip(errors, run.served, strict=True)))
    answers = sum(len(world.wrong(int(i), run.start + k)) for k, i in enumerate(run.served))
    below, missed, warning = None, None, None
    if setting.threshold is not None:
        below = float((quality_served(world, run) < setting.threshold).mean())
        missed, warning = _warnings(world, run, setting.threshold)
    return Figures(
        retrains=len(run.retrainings),
        error=wrong / max(answers, 1),
        below=below,
        cost=float(costs_served(world, run, setting).sum()),
        missed=missed,
        warning=warning,
    )


def costs_served(world: World, run: Run, setting: Setting) -> Floats:
    """Cost per window from `run.start` on; a retraining is paid for in the window in which it begins to serve."""
    each = {i: window_costs(world, i, setting) for i in set(run.served.tolist())}
    costs = np.array([each[i][run.start + k - i] for k, i in enumerate(run.served.tolist())])
    np.add.at(costs, [serves - run.start for _, serves, _ in run.retrainings], setting.cost_retrain)
    return costs


def quality_served(world: World, run: Run) -> Floats:
    """The true quality of what served, per window from `run.start` on."""
    return np.array([world.errors(int(i))[1][run.start + k - int(i)] for k, i in enumerate(run.served)])


def _lives(run: Run) -> list[tuple[int, int, int]]:
    """(trained, first window, end) of every model that served."""
    starts = [run.start, *(serves for _, serves, _ in run.retrainings)]
    ends = [*starts[1:], run.start + len(run.served)]
    return [(int(run.served[a - run.start]), a, b) for a, b in zip(starts, ends, strict=True)]


def _warnings(world: World, run: Run, threshold: float) -> tuple[int, float | None]:
    """Crossings nobody had asked a retraining for, and the median warning."""
    requests = [*(asked for asked, _, _ in run.retrainings), None]
    missed, warnings = 0, []
    for (trained, begin, end), asked in zip(_lives(run), requests, strict=True):
        low = np.flatnonzero(world.errors(trained)[1][begin - trained :] < threshold)
        crossing = begin + int(low[0]) if len(low) else None
        if crossing is None:
            continue
        missed += crossing < end and (asked is None or asked >= crossing)
        warnings += [crossing - asked] if asked is not None else []
    return missed, float(np.median(warnings)) if warnings else None
