"""Accuracy without labels under drift, CNN on digits: ours beside ATC, DoC, a forest on the nuclear norm, a constant.

    python -m benchmarks.label_free            # six models, seeds 70 to 75: three minutes of one core
    python -m benchmarks.label_free 0 4        # models with seeds 0 to 3

`dev` rows leave the tested family (and every pair that holds it) out of all that is fitted; `held` rows test families
that are never induced. `alien` rows are contents that are no drift, each tested by an estimator to which that kind was
never shown, `stranger` the same where none of its relatives was shown either. MAE and bias are in points of accuracy
over all windows, also those read "unknown", as for the peers; `said` is the MAE where a number is given. An unknown
window counts as covered. +- is the standard error over models.
Peers: ATC (Garg et al. 2022, arXiv:2201.04234), DoC (Guillory et al. 2021, arXiv:2107.03315), nuclear norm (Deng et
al. 2023, arXiv:2302.01094) with the entropy of predicted classes in a random forest, trained on the same windows.
"""

import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.digit_model import HELD, INDUCED
from benchmarks.label_free_cost import main as cost
from benchmarks.label_free_peers import Peers
from benchmarks.label_free_worlds import Tested, Window, reference, tested
from models import alien_images, induction, induction_images, window_sums
from models.alien_images import ALIENS
from models.event_features import EventReference, freeze
from models.induced_quality import InducedQuality
from models.induction import Induced, Windows
from models.registrar import Registrar

Floats = NDArray[np.float64]
ROWS = [f"{world} {n}" for world in ("dev", "held", "clean") for n in (500, 50, 200, 1000, "mix")]
ROWS += ["devpair", "heldpair", "alien", "stranger"]
KIN = (("fliplr", "flipud", "quarter"), ("noise", "permute"), ("mixup", "tile"), ("invert", "black"))


class Found(NamedTuple):
    """Windows of one model in one row of the table: truth, estimates by method, our interval, the family tested."""

    model: int
    truth: Floats
    estimates: dict[str, Floats]
    low: Floats
    high: Floats
    unknown: NDArray[np.bool_]
    family: list[str]


class Study:
    """One model with everything that is registered on it, and its test conditions as the estimator sees them."""

    def __init__(self, seed: int) -> None:
        self.seed, self.tested = seed, tested(seed)
        self.reference, self.windows, self.contents = _registered(self.tested, seed)
        self.registrar = Registrar(self.windows)
        self._known: dict[tuple[frozenset[str], frozenset[str]], tuple[InducedQuality, Peers]] = {}
        self._peers: dict[frozenset[str], Peers] = {}
        worlds = self.tested.worlds
        self.observed = {
            name: [induction.observe(self.reference, c.answers, c.families) for c in found]
            for name, found in worlds.items()
        }

    def results(self) -> Iterator[tuple[str, Found]]:
        """Every row of the table in pieces, by what was left out of the estimator."""
        for family in INDUCED:
            for name in self.tested.windows:
                if name.startswith("dev"):
                    yield from self._row(name, frozenset({family}))
        for name in self.tested.windows:
            if not name.startswith(("dev", "alien")):
                yield from self._row(name)
        for kind in ALIENS:
            yield from self._row("alien", aliens=frozenset({kind}))
        for kin in KIN:
            for _, found in self._row("alien", aliens=frozenset(kin)):
                yield "stranger", found

    def _row(
        self, name: str, without: frozenset[str] = frozenset(), aliens: frozenset[str] = frozenset()
    ) -> Iterator[tuple[str, Found]]:
        """Windows that hold what is left out; all windows where nothing is."""
        wanted = without | aliens
        windows = [w for w in self.tested.windows[name] if not wanted or self._at(w).families & wanted]
        if not windows:
            return
        quality, peers = self._estimator(without, aliens)
        means, sums = self._sums(quality, windows)
        n = np.array([len(w.rows) for w in windows], dtype=float)
        reading, strange = quality.reading(sums, n)
        half = quality.interval.half_width(reading)
        unknown = strange > 0
        low = np.where(unknown, 0, np.clip(reading.share - half, 0, 1))
        high = np.where(unknown, 1, np.clip(reading.share + half, 0, 1))
        truth = np.array([self._at(w).right[w.rows].mean() for w in windows])
        above = [peers.above(self._at(w).probability[w.rows]) for w in windows]
        estimates = {"ours": reading.share} | peers(means, np.array(above))
        family = [_name(self._at(w).families, wanted) for w in windows]
        yield name, Found(self.seed, truth, estimates, low, high, unknown, family)

    def _estimator(self, without: frozenset[str], aliens: frozenset[str]) -> tuple[InducedQuality, Peers]:
        if (without, aliens) not in self._known:
            contents = _without(self.contents, aliens)
            quality = InducedQuality(self.reference, *self.registrar.parts(contents, without))
            if without not in self._peers:
                self._peers[without] = Peers(self.windows, without)
            self._known[without, aliens] = quality, self._peers[without]
        return self._known[without, aliens]

    def _at(self, window: Window) -> Induced:
        return self.observed[window.world][window.condition]

    def _sums(self, quality: InducedQuality, windows: list[Window]) -> tuple[window_sums.Means, NDArray[np.int64]]:
        columns: dict[tuple[str, int], Floats] = {}
        sums = []
        for w in windows:
            where = (w.world, w.condition)
            if where not in columns:
                columns[where] = self._at(w).columns(quality.correct_probability(self._at(w).features))
            sums.append(window_sums.add_up(columns[where][w.rows], None))
        total = np.stack(sums)
        return window_sums.split(total[:, 1:] / total[:, :1], quality.classes), total


def _registered(found: Tested, seed: int) -> tuple[EventReference, Windows, Windows]:
    rng = np.random.default_rng(5000 + seed)
    train, held_out = reference(found)
    frozen = freeze(train, held_out, rng)
    shifts = induction_images.shifts(families=INDUCED) | alien_images.shifts()
    induce = induction.inducer(shifts, found.split.reference, found.split.reference_labels, found.network)
    windows = induction.draw(induction.run(frozen, induce, induction.conditions(INDUCED, rng), rng), rng)
    contents = induction.run(frozen, induce, [((name, 0),) for name in ALIENS], rng)
    return frozen, windows, induction.draw(contents, rng, times=induction.ALIEN_DRAWS)


def _without(contents: Windows, kinds: frozenset[str]) -> Windows:
    keep = ~contents.holding(kinds)
    rows = [r for r, kept in zip(contents.rows, keep, strict=True) if kept]
    return contents._replace(
        condition=contents.condition[keep], rows=rows, truth=contents.truth[keep], n=contents.n[keep],
        means=contents.means[keep],
    )  # fmt: skip


def _name(families: frozenset[str], wanted: frozenset[str]) -> str:
    return next(iter((families & wanted) or (families & frozenset(HELD)) or {"clean"}))


def _line(name: str, pieces: list[Found]) -> str:
    models = np.concatenate([np.full(len(p.truth), p.model) for p in pieces])
    truth, low, high = (np.concatenate([getattr(p, part) for p in pieces]) for part in ("truth", "low", "high"))
    unknown = np.concatenate([p.unknown for p in pieces])
    family = np.concatenate([p.family for p in pieces])
    error = {m: 100 * (np.concatenate([p.estimates[m] for p in pieces]) - truth) for m in pieces[0].estimates}
    mae = {m: float(np.abs(e).mean()) for m, e in error.items()}
    hit = 100.0 * ((truth >= low - 1e-9) & (truth <= high + 1e-9))
    said = np.abs(error["ours"])[~unknown].mean() if not unknown.all() else np.nan
    worst, which = min((float(hit[family == f].mean()), str(f)) for f in np.unique(family))
    return (
        f"{name:10s} {len(truth):5d} {mae['ours']:6.2f} {_spread(np.abs(error['ours']), models)} {said:6.2f} "
        f"{mae['forest']:7.2f} {mae['atc']:6.1f} {mae['doc']:6.1f} {mae['constant']:6.1f} {error['ours'].mean():+6.1f} "
        f"| {hit.mean():5.1f} {_spread(hit, models)} {worst:4.0f} {which:9s} {100 * np.median(high - low):5.0f} "
        f"{100 * unknown.mean():7.1f} {_spread(100.0 * unknown, models)}"
    )


def _spread(values: NDArray[Any], models: NDArray[np.int64]) -> str:
    """Standard error of the mean over models."""
    each = [values[models == m].mean() for m in np.unique(models)]
    return "        " if len(each) < 2 else f"+- {np.std(each, ddof=1) / np.sqrt(len(each)):5.2f}"


def main(first: int = 70, end: int = 76) -> None:
    """Print the table for the models with seeds `first` to `end` - 1."""
    found: dict[str, list[Found]] = {}
    started = time.perf_counter()
    for seed in range(first, end):
        for name, piece in Study(seed).results():
            found.setdefault(name, []).append(piece)
        print(f"# model {seed} done after {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    print(
        "windows    count   ours MAE       said  forest    ATC    DoC  const   bias | coverage       worst family   "
        "width    unknown %"
    )
    for name in ROWS:
        print(_line(name, found[name]))
    for kind in ALIENS:
        print(_line(kind, [p for p in found["alien"] if p.family[0] == kind]))
    cost()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
