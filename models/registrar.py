"""Fits an estimator of quality to windows of induced drift; its interval and limits to families left out in turn."""

from typing import NamedTuple

import numpy as np

from models import error_tables, family_interval, kernel_ridge, unlike, window_sums
from models.columns import Floats
from models.error_tables import ErrorTables
from models.family_interval import FamilyInterval, Reading
from models.induction import Windows, window_inputs
from models.kernel_ridge import KernelRidge
from models.unlike import Unlike
from models.window_sums import Means

EVERY = 4  # events apart: enough for r(x), since those of a condition are alike


class Parts(NamedTuple):
    """Everything of an estimator that induced drift decides."""

    tables: ErrorTables
    ridge: KernelRidge
    interval: FamilyInterval
    unlike: Unlike


class Drift(NamedTuple):
    """What is fitted to the windows without some families; regressors and means of all windows with its r(x)."""

    tables: ErrorTables
    ridge: KernelRidge
    inputs: Floats
    means: Means


class Registrar:
    """Estimators from `windows`, with any families left out; what they share is fitted once."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self._drift: dict[frozenset[str], Drift] = {}

    def parts(self, aliens: Windows | None = None, without: frozenset[str] = frozenset()) -> Parts:
        """The estimator as if the families `without` were unknown, with windows of alien contents where there are."""
        windows = self.windows
        readings, truths, codes, odd, alien = [], [], [], [], []
        for code, family in enumerate(sorted(set(windows.families) - without)):
            drift, strangeness = self._fitted(aliens, without | {family})
            held = windows.holding(frozenset({family})) & ~windows.holding(without)
            share, distance = drift.ridge(drift.inputs[held])
            uneven = window_sums.unevenness(drift.means)[held]
            readings.append(Reading(share, distance, windows.n[held], uneven))
            truths.append(windows.truth[held])
            codes.append(np.full(len(share), code))
            odd.append(strangeness.odd(drift.means.residual[held]))
            alien.append(strangeness.alien(drift.inputs[held]))
        joined = Reading(*(np.concatenate(parts) for parts in zip(*readings, strict=True)))
        of = np.concatenate(codes)
        interval = family_interval.fit(joined, np.concatenate(truths), of)
        drift, strangeness = self._fitted(aliens, without)
        limited = strangeness.limited(np.concatenate(odd), np.concatenate(alien), 1 / np.bincount(of)[of])
        return Parts(drift.tables, drift.ridge, interval, limited)

    def drift(self, without: frozenset[str]) -> Drift:
        """What is fitted to the windows without these families."""
        return self._drift.get(without) or self._drift.setdefault(without, self._fit(without))

    def _fitted(self, aliens: Windows | None, without: frozenset[str]) -> tuple[Drift, Unlike]:
        drift = self.drift(without)
        seen = ~self.windows.holding(without)
        foreign = window_inputs(aliens, drift.tables)[0] if aliens is not None else drift.inputs[:0]
        return drift, unlike.fit(drift.inputs[seen], drift.means.residual[seen], foreign)

    def _fit(self, without: frozenset[str]) -> Drift:
        induced = [one for one in self.windows.induced if not one.families & without]
        features = np.concatenate([one.features[::EVERY] for one in induced])
        tables = error_tables.fit(features, np.concatenate([one.right[::EVERY] for one in induced]))
        inputs, means = window_inputs(self.windows, tables)
        seen = ~self.windows.holding(without)
        return Drift(tables, kernel_ridge.fit(inputs[seen], self.windows.truth[seen]), inputs, means)
