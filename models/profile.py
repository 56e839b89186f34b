"""The profile of one subject in one window: everything the estimators need, in a bounded set of integers.

Integers, because integer sums are associative: partitions, batches and replays may add in any order and arrive at
the same bits. Reals are therefore added in fixed point: WEIGHT for shares of an event, UNIT for sums of reals.
A profile is mergeable (`merge`), so windows can be joined and partitions added up.
"""

import hashlib
import zlib
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.columns import Categories, Embedded, Floats, Inferences, Ints, Outcomes
from models.grid import CLIP, Grid
from models.quality import top_confidence
from models.reference import GENERIC_EDGES, EmbeddingReference, Reference

WEIGHT = 1 << 16  # fixed point of weights: an event sampled with probability 1 adds WEIGHT
UNIT = 1 << 16  # fixed point of standardised values and confidences
MAX_FEATURES, MAX_CATEGORIES = 200, 256
MAX_NAME_BYTES, KEPT_NAME_BYTES = 100, 60  # longer names of features and categories become a prefix and a digest
MAX_BYTES = 2 << 20  # of a packed profile; brokers take messages of a few MB
MAX_COUNT = 1 << 62  # msgpack ends at 2^64, the tables of a database at 2^63
ID_SAMPLE, MAX_IDS = 64, 10_000
OTHER, MISSING = "__other__", "__missing__"  # categories beyond the bound, and rows without one
FORMAT = 1

# Latency in ms, four bins per factor of two from 1/16 ms to about 18 minutes.
LATENCY_EDGES = np.array([2.0 ** (k / 4) for k in range(-16, 81)])
CONFIDENCE_EDGES = np.linspace(0.0, 1.0, 65)[1:-1]


class Profile:
    """Counts, histograms, sums and categories, each by name; all values are integers."""

    __slots__ = ("_grid", "_ids", "categories", "counts", "histograms", "sums")

    def __init__(self) -> None:
        self._grid: Grid | None = None
        self._ids: set[int] = set()  # sampled hashes of ids; they stay behind when the profile travels
        self.counts: dict[str, int] = {}
        self.histograms: dict[str, Ints] = {}
        self.sums: dict[str, Ints] = {}
        self.categories: dict[str, dict[str, int]] = {}

    @property
    def n(self) -> int:
        """Inference events, each counted once whatever its weight."""
        return self.counts.get("n", 0)

    def count(self, name: str, by: int) -> None:
        """Add to one counter."""
        if by:
            self.counts[name] = self.counts.get(name, 0) + int(by)

    # -- adding ------------------------------------------------------------------------------------------

    def add(self, columns: Inferences | Embedded | Outcomes, reference: Reference) -> None:
        """Add rows, measured on the grids of `reference`."""
        if columns.__class__ is Inferences:
            self._add_inferences(columns, reference)
        elif isinstance(columns, Embedded):
            self._add_embedded(columns, reference)
        elif isinstance(columns, Outcomes):
            self._add_outcomes(columns)

    def _add_inferences(self, rows: Inferences, reference: Reference) -> None:
        if rows.live is not None and not rows.live.all():
            self.count("not_live", int((~rows.live).sum()))
            rows = rows.take(np.flatnonzero(rows.live))
        if not len(rows):
            return
        self.count("n", len(rows))
        weight = None if rows.weight is None else np.rint(rows.weight * WEIGHT).astype(np.int64)
        self.count("weight", len(rows) * WEIGHT if weight is None else int(weight.sum()))
        self.count("weight_squared", _squares(rows.weight, len(rows)))
        for name in ("failed", "abstained", "capped"):
            flags = getattr(rows, name)
            if flags is not None:
                self.count(name, int(flags.sum()))
        self._add_ids(rows)
        self._add_numeric(rows, weight, reference)
        for name, column in rows.categorical.items():
            self._add_categories(f"feature.{short_name(name)}", column, weight)
        self._drop_features()
        self._add_values("latency_ms", rows.latency_ms, LATENCY_EDGES, weight)
        self._add_outputs(rows, weight, reference)

    def _add_ids(self, rows: Inferences) -> None:
        """Measure how many ids come more than once in this partition and window, on one of ID_SAMPLE of them."""
        if rows.id_hash is None or len(self._ids) >= MAX_IDS:
            return
        sample = rows.id_hash[rows.id_hash < (1 << 64) // ID_SAMPLE].tolist()
        known = len(self._ids)
        self._ids.update(sample)
        self.count("ids_sampled", len(sample))
        self.count("ids_repeated", len(sample) - (len(self._ids) - known))

    def _drop_features(self) -> None:
        """Of more than MAX_FEATURES features those of the lowest ranks are kept, the values of others only counted."""
        if len(self.histograms) + len(self.categories) <= MAX_FEATURES:
            return
        names = {name for name in (*self.histograms, *self.categories) if name.startswith("feature.")}
        for name in sorted(names, key=_rank)[MAX_FEATURES:]:
            self.sums.pop(name, None)
            self.count("values_beyond_bound", int(self.histograms.pop(name, np.zeros(1, np.int64)).sum()))
            self.count("values_beyond_bound", sum(self.categories.pop(name, {}).values()))

    def _add_values(self, name: str, values: Floats | None, edges: Any, weight: Ints | None) -> None:
        """A histogram of the values that are there."""
        if values is None:
            return
        bins = np.searchsorted(edges, values)
        absent = np.isnan(values)
        if absent.any():
            bins, weight = bins[~absent], None if weight is None else weight[~absent]
        self._histogram(name, bins, len(edges) + 1, weight)

    def _add_numeric(self, rows: Inferences, weight: Ints | None, reference: Reference) -> None:
        names = tuple(rows.numeric)
        if not names:
            return
        if self._grid is None or self._grid.names != names:
            self._grid = Grid(names, reference.numeric)
        grid = self._grid
        values = np.stack([rows.numeric[name] for name in names])
        finite = np.isfinite(values)
        bins = grid.bins(values)
        if not finite.all():
            # The two last bins: null, and not finite although present.
            absent = (grid.sizes - 1)[:, None] - np.stack([_or_false(rows.missing.get(n), len(rows)) for n in names])
            bins = np.where(finite, bins, absent)
            values = np.where(finite, values, grid.mean)
        counts = grid.count(bins, weight) * (WEIGHT if weight is None else 1)
        z = grid.standardised(values)
        moments = np.stack((_fixed(z, weight), _fixed(z * z, weight)), axis=1)
        for i, name in enumerate(names):
            key = f"feature.{short_name(name)}"
            self._into(self.histograms, key, counts[grid.starts[i] : grid.starts[i + 1]])
            self._into(self.sums, key, moments[i])

    def _add_outputs(self, rows: Inferences, weight: Ints | None, reference: Reference) -> None:
        if rows.label is not None:
            self._add_categories("label", rows.label, weight)
        self._add_values("value", rows.value, GENERIC_EDGES, weight)
        if rows.scores is None:
            return
        calibration = reference.calibration
        confidence = top_confidence(rows.scores, calibration.temperature if calibration else 1.0)
        usable = np.isfinite(confidence)
        for flags in (rows.failed, rows.abstained):
            if flags is not None:
                usable &= ~flags
        if not usable.all():
            self.count("scores_unusable", int((~usable).sum()))
            confidence = confidence[usable]
            weight = None if weight is None else weight[usable]
        self.count("scored", len(confidence) * WEIGHT if weight is None else int(weight.sum()))
        threshold = calibration.atc_threshold if calibration else None
        above = confidence > (1.0 if threshold is None else threshold)
        self._sum("confidence", np.array([_fixed(confidence, weight), _fixed(above.astype(np.float64), weight)]))
        self._histogram("confidence", np.searchsorted(CONFIDENCE_EDGES, confidence), len(CONFIDENCE_EDGES) + 1, weight)

    def _add_embedded(self, rows: Embedded, reference: Reference) -> None:
        self.count("n_input", len(rows))
        if rows.capped is not None:
            self.count("capped", int(rows.capped.sum()))
        weight = None if rows.weight is None else np.rint(rows.weight * WEIGHT).astype(np.int64)
        self.count("input_weight", len(rows) * WEIGHT if weight is None else int(weight.sum()))
        self.count("input_weight_squared", _squares(rows.weight, len(rows)))
        known = reference.embedding
        if known is None or len(known.mean) != rows.embedding.shape[1]:
            self.count("embedding_without_reference", len(rows))
            return
        z = standardised(rows.embedding, known)
        self._sum("embedding", _fixed(z.T, weight))
        distance = np.sqrt(np.mean(z * z, axis=1))
        self._histogram("embedding", np.asarray(np.searchsorted(known.edges, distance)), len(known.edges) + 1, weight)

    def _add_outcomes(self, rows: Outcomes) -> None:
        kinds = (("audit", ~rows.feedback), ("feedback", rows.feedback))
        if rows.capped is not None:
            self.count("capped", int(rows.capped.sum()))
        weight = np.ones(len(rows)) if rows.weight is None else rows.weight
        for kind, chosen in kinds:
            if not chosen.any():
                continue
            w = np.rint(weight[chosen] * WEIGHT).astype(np.int64)
            right = rows.correct[chosen]
            self.count(f"{kind}.n", int(chosen.sum()))
            self.count(f"{kind}.n_correct", int(right.sum()))
            self.count(f"{kind}.weight", int(w.sum()))
            self.count(f"{kind}.weight_correct", int(w[right].sum()))
            self.count(f"{kind}.weight_squared", int(np.rint((weight[chosen] ** 2) * WEIGHT).sum()))
            if kind == "audit":
                self._sum("audit.confidence", np.array([_fixed(np.nan_to_num(rows.confidence[chosen]), w)]))
                self._add_categories("truth", Categories(rows.truth.codes[chosen], rows.truth.values), w)

    def _histogram(self, name: str, bins: NDArray[Any], size: int, weight: Ints | None) -> None:
        if weight is None:
            counts = np.bincount(bins, minlength=size).astype(np.int64) * WEIGHT
        else:
            # Sums of integers below 2^53 are exact in the float64 that bincount uses for weights.
            counts = np.bincount(bins, weights=weight.astype(np.float64), minlength=size).astype(np.int64)
        self._into(self.histograms, name, counts)

    def _sum(self, name: str, values: Ints) -> None:
        self._into(self.sums, name, values)

    def _into(self, table: dict[str, Ints], name: str, values: Ints) -> None:
        have = table.get(name)
        if have is None:
            table[name] = values
        elif len(have) == len(values):
            table[name] = have + values
        else:
            # Another reference was in force when the first was made: what cannot be compared is not mixed in.
            self.count("grid_changed", 1)

    def _add_categories(self, name: str, column: Categories, weight: Ints | None) -> None:
        table = self.categories.setdefault(name, {})
        codes = np.where(column.codes < 0, len(column.values), column.codes)
        weights = None if weight is None else weight.astype(np.float64)
        totals = np.bincount(codes, weights=weights, minlength=len(column.values) + 1).astype(np.int64)
        if weight is None:
            totals = totals * WEIGHT
        for value, total in zip((*column.values, None), totals.tolist(), strict=True):
            if total:
                key = MISSING if value is None else short_name(value)
                table[key] = table.get(key, 0) + total
        _bound(table)

    # -- merging and the wire ----------------------------------------------------------------------------

    def merge(self, other: "Profile") -> Self:
        """Add `other` into this one and return it; the result does not depend on the order of merging."""
        for name, value in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + value
        for mine, theirs in ((self.histograms, other.histograms), (self.sums, other.sums)):
            for key, values in theirs.items():
                self._into(mine, key, values)
        for name, table in other.categories.items():
            into = self.categories.setdefault(name, {})
            for category, total in table.items():
                into[category] = into.get(category, 0) + total
            _bound(into)
        self._drop_features()
        return self

    def encode(self) -> dict[str, Any]:
        """Plain builtins for msgpack: arrays as little-endian int64 bytes. Counts end at MAX_COUNT (`saturated`)."""
        counts = {name: min(value, MAX_COUNT) for name, value in self.counts.items()}
        if over := sum(value > MAX_COUNT for value in self.counts.values()):
            counts["saturated"] = counts.get("saturated", 0) + over
        return {
            "format": FORMAT,
            "counts": counts,
            "histograms": {k: v.astype("<i8").tobytes() for k, v in self.histograms.items()},
            "sums": {k: v.astype("<i8").tobytes() for k, v in self.sums.items()},
            "categories": self.categories,
        }

    @classmethod
    def decode(cls, body: dict[str, Any]) -> "Profile":
        """The inverse of `encode`. Raises ValueError for a format this version does not know."""
        if body.get("format") != FORMAT:
            raise ValueError(f"profile format {body.get('format')!r} is not {FORMAT}; upgrade the worker that reads it")
        profile = cls()
        profile.counts = {str(k): int(v) for k, v in body["counts"].items()}
        profile.histograms = {k: np.frombuffer(v, "<i8").astype(np.int64) for k, v in body["histograms"].items()}
        profile.sums = {k: np.frombuffer(v, "<i8").astype(np.int64) for k, v in body["sums"].items()}
        profile.categories = {k: {str(c): int(w) for c, w in v.items()} for k, v in body["categories"].items()}
        return profile

    def pack(self) -> bytes:
        """The profile as msgpack bytes, with the largest tables of categories added up where MAX_BYTES ask for it."""
        body = msgspec.msgpack.encode(self.encode())
        return body if len(body) <= MAX_BYTES else msgspec.msgpack.encode(self._lighter(len(body) - MAX_BYTES))

    def _lighter(self, excess: int) -> dict[str, Any]:
        """`encode`, with categorical features reduced to their total until `excess` bytes are saved."""
        body, beyond = self.encode(), 0
        tables = body["categories"] = dict(self.categories)
        features = [name for name in tables if name.startswith("feature.")]
        sizes = {name: len(msgspec.msgpack.encode(tables[name])) for name in features}
        for name in sorted(features, key=lambda n: (sizes[n], _rank(n)), reverse=True):
            if excess <= 0:
                break
            kept = {k: v for k, v in tables[name].items() if k == MISSING}
            moved = sum(tables[name].values()) - sum(kept.values())
            beyond += moved - tables[name].get(OTHER, 0)
            tables[name] = kept | {OTHER: moved}
            excess -= sizes[name] - len(msgspec.msgpack.encode(tables[name]))
        body["counts"]["values_beyond_bound"] = min(body["counts"].get("values_beyond_bound", 0) + beyond, MAX_COUNT)
        return body

    @classmethod
    def unpack(cls, body: bytes) -> "Profile":
        """The inverse of `pack`."""
        return cls.decode(msgspec.msgpack.decode(body))


def standardised(embedding: NDArray[np.float32], known: EmbeddingReference) -> Floats:
    """(n, d) embeddings in units of the reference's spread, clipped."""
    sd = np.array(known.sd)
    scale = np.maximum(sd, 1e-3 * sd.max() if len(sd) and sd.max() > 0 else 1.0)
    z: Floats = np.clip((embedding - np.array(known.mean)) / scale, -CLIP, CLIP)
    return z


def _fixed(values: NDArray[Any], weight: Ints | None) -> Any:
    """Fixed-point sum over the last axis; each row is rounded by itself, so the sum has one value only.

    Without weights the sum is taken in float64, where integers are exact below 2^53, which CLIP and the bound on rows
    of a frame keep them.
    """
    if weight is None:
        scaled = values * UNIT
        return np.rint(scaled, out=scaled).sum(axis=-1).astype(np.int64)
    return np.rint(values * (weight * (UNIT / WEIGHT))).astype(np.int64).sum(axis=-1)


def _squares(weight: Floats | None, rows: int) -> int:
    """Sum of squared weights in units of WEIGHT, added as integers; weights up to 1e4 leave room for a million rows."""
    return rows * WEIGHT if weight is None else int(np.rint(weight**2 * WEIGHT).astype(np.int64).sum())


def _or_false(flags: NDArray[np.bool_] | None, size: int) -> NDArray[np.bool_]:
    return np.zeros(size, np.bool_) if flags is None else flags


def short_name(name: str) -> str:
    """`name`, or, where it takes more than MAX_NAME_BYTES as UTF-8, its beginning and a digest of the whole."""
    if len(name) * 4 <= MAX_NAME_BYTES:
        return name
    raw = name.encode("utf-8", "surrogatepass")
    if len(raw) <= MAX_NAME_BYTES:
        return name
    return f"{raw[:KEPT_NAME_BYTES].decode('utf-8', 'ignore')}…{hashlib.sha256(raw).hexdigest()[:16]}"


def _rank(name: str) -> tuple[int, str]:
    """A fixed order of names that has nothing to do with which came first."""
    return zlib.crc32(name.encode("utf-8", "surrogatepass")), name


def _bound(table: dict[str, int]) -> None:
    """Of more than MAX_CATEGORIES categories keep those of the lowest ranks, exactly; the others add up in OTHER.

    What is among the lowest ranks of all is so in every part, so parts may be merged in any order.
    """
    if len(table) <= MAX_CATEGORIES:
        return
    for name in sorted(table.keys() - {OTHER, MISSING}, key=_rank)[MAX_CATEGORIES:]:
        table[OTHER] = table.get(OTHER, 0) + table.pop(name)
