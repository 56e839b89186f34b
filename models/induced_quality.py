"""Accuracy without labels under drift, with an interval that holds for corruptions never seen: drift induction.

At registration drift is induced on held-out inputs, and a regression learns accuracy from what a window shows without
labels. At run time a window is 149 sums for ten classes (`models.window_sums`). The 90% interval is for families of
drift exchangeable with the induced ones; a window unlike all of them reads "unknown", never a number. A change of
P(y | x) is invisible to it (`models.concept` sees that, with labels).

>>> from functools import partial
>>> rng = np.random.default_rng(0)
>>> def model(x):  # two blobs told apart by their first coordinate
...     return np.stack([-2 * x[:, 0], 2 * x[:, 0]], axis=1), x
>>> labels = np.tile([0, 1], 150)
>>> inputs = rng.normal(size=(300, 4)) + np.outer(2 * labels - 1, [1.5, 0, 0, 0])
>>> def noise(x, y, severity, rng):
...     return x + rng.normal(size=x.shape) * 0.4 * severity, y
>>> def pull(x, y, severity, rng, axis=0):
...     return x - 0.2 * severity * np.eye(4)[axis], y
>>> shifts = {"noise": noise} | {f"pull{i}": partial(pull, axis=i % 4) for i in range(8)}
>>> answers = Answers(*model(inputs), labels)
>>> quality = fit(answers, answers, inducer(shifts, inputs, labels, model), shifts, pairs=10)
>>> sums = quality.sums(*model(inputs[:200]), weight=None)
>>> sums += quality.sums(*model(inputs[200:]), weight=np.full(100, WEIGHT))  # windows merge by adding
>>> found = quality.read(sums, n=300)
>>> bool(found.low <= 0.93 <= found.high), found.basis
(True, 'label-free')
>>> same = InducedQuality.unpack(quality.pack(), quality.digest)
>>> same.read(sums, n=300) == found
True
>>> proxy = quality.correct_probability(quality.features(*model(inputs)))  # r(x) of each event, for the label layer
>>> proxy.shape
(300,)
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import packing, window_sums
from models.columns import Floats, Ints
from models.error_tables import ErrorTables
from models.event_features import FEATURES, Answers, EventReference, freeze
from models.family_interval import ENOUGH, FamilyInterval, Reading
from models.fixed_point import WEIGHT
from models.induction import ALIEN_DRAWS, PAIRS, SIZES, Induce, conditions, draw, inducer, run
from models.kernel_ridge import KernelRidge
from models.quality import Estimate
from models.registrar import Registrar
from models.unlike import Unlike

__all__ = [  # noqa: RUF022 -- sorted as strings sort
    "Answers", "InducedQuality", "WEIGHT", "fit", "inducer",
]  # fmt: skip

KIND, VERSION = "estimator of quality", 1
STRANGE = {
    1: "unknown: this window is unlike all drift that was induced at registration; only labels can tell",
    2: "unknown: this window looks like content that is no drift of known inputs; only labels can tell",
}
LEAST = 20  # events: below, nothing was induced that small


class InducedQuality(NamedTuple):
    """A registered estimator: plain arrays, frozen. `model` is the digest of the model file it was induced on."""

    reference: EventReference
    tables: ErrorTables
    ridge: KernelRidge
    interval: FamilyInterval
    unlike: Unlike
    model: str = ""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.reference.classes

    @property
    def size(self) -> int:
        """How many sums a window has."""
        return window_sums.size(self.classes, len(self.unlike.centre))

    def features(self, scores: NDArray[Any], embedding: NDArray[Any]) -> Floats:
        """x1 to x8 of each event, shape (n, 8); NaN for rows with a score or an embedding that is not finite."""
        return self.reference.features(scores, embedding)

    def correct_probability(self, features: Floats) -> Floats:
        """r(x), the probability that an answer is right, (n,); NaN where its features are."""
        return self.tables(features)

    def sums(self, scores: NDArray[Any], embedding: NDArray[Any], weight: Ints | None = None) -> Ints:
        """What these events add to a window: int64 (size,), exact to add in any order.

        `weight` (n,) is 1 / sampling in units of WEIGHT, None for 1 each. Rows that are not finite add nothing.
        """
        usable, features, probability, residual = self.reference.observe(scores, embedding)
        columns = window_sums.columns(features, self.tables(features), probability, residual)
        return window_sums.add_up(columns, None if weight is None else weight[usable])

    def read(self, sums: Ints, n: float, n_effective: float | None = None, failed: float = 0.0) -> Estimate:
        """Accuracy of a window with a 90% interval, from its added-up `sums`; without a number, the reason.

        `n` counts its events; `n_effective` is what weights and dependence leave of the usable ones (default n);
        `failed` is the share of events without a usable answer, which count as wrong. Raises ValueError for sums of
        another estimator.
        """
        if sums.shape != (self.size,):
            raise ValueError(f"{sums.shape} sums do not belong to this estimator, which has {self.size}")
        effective = n if n_effective is None else n_effective
        reason = self._refusal(int(sums[0]), effective)
        if reason is None:
            try:
                reading, strange = self.reading(sums[None], np.array([effective]))
                reason = STRANGE.get(int(strange[0]))
            except np.linalg.LinAlgError as error:  # numbers of the estimator, or of the window, that are none
                reason = f"the sums of this window cannot be read ({error}): run `bestbefore induce` again"
        if reason is not None:
            return Estimate(n=n, reason=reason, n_effective=effective)
        half, share = float(self.interval.half_width(reading)[0]), float(reading.share[0])
        low, high, answered = max(share - half, 0.0), min(share + half, 1.0), 1 - failed
        return Estimate(
            estimate=share * answered, low=low * answered, high=high * answered, n=n, basis="label-free",
            n_effective=effective,
        )  # fmt: skip

    def reading(self, sums: Ints, effective: Floats) -> tuple[Reading, Ints]:
        """What the regression says of w windows with these `sums` (w, size) and sizes, and a code of STRANGE for each.

        A code other than 0 means that the number must not be used.
        """
        means = window_sums.split(sums[:, 1:] / sums[:, :1].astype(np.float64), self.classes)
        # Beyond the largest window that was induced, size is no news.
        n = np.clip(effective, 1.0, float(max(SIZES)))
        inputs = window_sums.regressors(means, n)
        share, distance = self.ridge(inputs)
        far = (distance > self.interval.reach) | (self.unlike.odd(means.residual) > self.unlike.odd_limit)
        alien = self.unlike.alien(inputs) > self.unlike.alien_limit
        return Reading(share, distance, n, window_sums.unevenness(means)), np.where(far, 1, np.where(alien, 2, 0))

    def _refusal(self, weight: int, effective: float) -> str | None:
        if weight <= 0:
            return "no sampled inputs with usable scores and embeddings in this window"
        if effective < LEAST:
            return f"{effective:.0f} effective events: an estimate without labels needs {LEAST}"
        if not self.interval.finite:
            return (
                f"drift of {self.interval.families} families was induced at registration: a 90% interval needs "
                f"{ENOUGH}, so no number would be honest"
            )
        return None

    def pack(self) -> bytes:
        """The estimator as bytes; `unpack` reads them."""
        arrays = {f"{part}.{name}": value for part in _PARTS for name, value in getattr(self, part)._asdict().items()}
        arrays["model"] = np.frombuffer(self.model.encode(), dtype=np.uint8)
        return packing.pack(KIND, VERSION, arrays)

    @property
    def digest(self) -> str:
        """SHA-256 of the packed estimator."""
        return packing.digest(self.pack())

    @classmethod
    def unpack(cls, content: bytes, digest: str | None = None) -> "InducedQuality":
        """The estimator whose bytes these are; ValueError for another digest, another version, or missing arrays."""
        arrays = packing.unpack(KIND, VERSION, content, digest)
        parts: dict[str, Any] = {}
        for part, kind in _PARTS.items():
            try:
                values = {name: arrays[f"{part}.{name}"] for name in kind._fields}
            except KeyError as missing:
                raise ValueError(f"this {KIND} lacks {missing}; register it again") from missing
            parts[part] = kind(**{name: value if value.ndim else value.item() for name, value in values.items()})
        model = arrays.get("model")
        found = cls(**parts, model="" if model is None else model.tobytes().decode())
        found._check()
        return found

    def _check(self) -> None:
        """Raise ValueError where the parts do not fit together: no window may find that out."""
        about, classes, length = self.reference, len(self.reference.means), len(self.reference.whitening)
        directions = about.directions.shape[1] if about.directions.size else length
        shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = (
            ("means", about.means.shape, (classes, length)),
            ("whitening", about.whitening.shape, (length, length)),
            ("core", about.core.shape, (len(about.core_labels), length)),
            ("edges", (self.tables.edges.size and self.tables.edges.shape[1],), (FEATURES,)),
            ("table", self.tables.table.shape, ((len(self.tables.edges) + 1) * FEATURES,)),
            ("seen", self.ridge.seen.shape, (len(self.ridge.dual), window_sums.REGRESSORS)),
            ("centre", self.unlike.centre.shape, (directions,)),
            ("axes", self.unlike.axes.shape, (directions, directions)),
            ("alien", self.unlike.seen.shape, (len(self.unlike.dual), window_sums.REGRESSORS)),
            ("scale", self.interval.scale.shape, (5,)),
        )
        for name, has, needs in shapes:
            if has != needs:
                raise ValueError(f"{name} of this {KIND} is {has}, not {needs}; register it again")


_PARTS: dict[str, Any] = {
    "reference": EventReference, "tables": ErrorTables, "ridge": KernelRidge, "interval": FamilyInterval,
    "unlike": Unlike,
}  # fmt: skip


def fit(
    train: Answers,
    held_out: Answers,
    induce: Induce,
    families: Iterable[str],
    *,
    aliens: Iterable[str] = (),
    seed: int = 0,
    pairs: int = PAIRS,
    model: str = "",
) -> InducedQuality:
    """Register an estimator: drift of `families` induced on held-out inputs the model has not learnt from.

    `induce` gives the answers under a condition (see `models.induction.inducer`), also those to the contents `aliens`,
    at severity 0: what is like them reads "unknown". A few hundred held-out inputs are enough; twelve families take
    seconds. Fewer than nine give an estimator that explains why it has no number. Raises ValueError for more than 64
    classes, or answers that cannot be used.
    """
    if not 2 <= train.scores.shape[1] <= window_sums.MAX_CLASSES:
        raise ValueError(
            f"{train.scores.shape[1]} classes: quality without labels is read for 2 to {window_sums.MAX_CLASSES}"
        )
    names = tuple(families)
    if not names:
        raise ValueError("no family of drift to induce; choose some of models.induction_images or induction_tables")
    rng = np.random.default_rng(seed)
    reference = freeze(train, held_out, rng)
    windows = draw(run(reference, induce, conditions(names, rng, pairs), rng), rng)
    contents = run(reference, induce, [((name, 0),) for name in aliens], rng)
    foreign = draw(contents, rng, times=ALIEN_DRAWS) if contents else None
    return InducedQuality(reference, *Registrar(windows).parts(foreign), model)
