"""The cheapest retrainings in hindsight, under the same lead time and label delay: no policy can beat them."""

import numpy as np

from models.backtest import Run, Setting, World, window_costs


def oracle(world: World, setting: Setting, *, start: int) -> Run:
    """Backward induction over the window in which a model begins to serve (Bellman 1957).

    Which model begins in a window follows from lead time and label delay alone, so that window is the whole state.
    """
    end = world.windows
    least = {end: 0.0}
    choice: dict[int, int | None] = {}
    for begin in range(end - 1, start - 1, -1):
        trained = model_of(world, setting, begin, start)
        spent = np.concatenate([[0.0], np.cumsum(window_costs(world, trained, setting)[begin - trained :])])
        best, at = float(spent[-1]), None
        for serves in range(begin + 1 + setting.lead, end):  # the next one
            if serves <= start:
                continue
            cost = float(spent[serves - begin]) + setting.cost_retrain + least[serves]
            if cost < best - 1e-9:
                best, at = cost, serves
        least[begin], choice[begin] = best, at
    return _path(world, setting, start, choice)


def model_of(world: World, setting: Setting, begin: int, start: int) -> int:
    """The model that begins to serve in a window: trained on the labels known when it was asked for."""
    asked = begin if begin == start else begin - setting.lead
    return max(world.first, asked - setting.delay)


def _path(world: World, setting: Setting, start: int, choice: dict[int, int | None]) -> Run:
    served = np.zeros(world.windows - start, np.int64)
    done: list[tuple[int, int, int]] = []
    begin = start
    while True:
        trained, serves = model_of(world, setting, begin, start), choice[begin]
        served[begin - start : None if serves is None else serves - start] = trained
        if serves is None:
            return Run(start, served, tuple(done))
        done.append((serves - 1 - setting.lead, serves, model_of(world, setting, serves, start)))
        begin = serves
