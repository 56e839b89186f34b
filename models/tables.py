"""Named tables of integers that can be merged in any order, and their form on the wire; all of them are bounded."""

import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.columns import Categories, Ids, Inferences, Ints, Traces
from models.fixed_point import WEIGHT

MAX_FEATURES, MAX_CATEGORIES, MAX_GROUPS = 200, 256, 16
MAX_NAME_BYTES, KEPT_NAME_BYTES = 100, 60  # longer names of features and categories become a prefix and a digest
MAX_BYTES = 2 << 20  # of a packed profile; brokers take messages of a few MB
MAX_COUNT = 1 << 62  # msgpack ends at 2^64, the tables of a database at 2^63
SAMPLES = 5  # ids kept as evidence of one thing
TRACE = "trace."  # before the name of a sample: traces of requests that show the same thing
OTHER, MISSING = "__other__", "__missing__"  # categories beyond the bound, and rows without one
FORMAT = 1
# What is kept per feature, beside `feature.`; what is kept per group (origin, version), at most MAX_GROUPS of them.
ABOUT_FEATURES = ("violations.", "special.", "wide.", "fine.")
GROUPED = ("skew.", "cosine.", "digest.", "induced.", "kernel.segment.")


_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class NewerFormat(ValueError):
    """A profile of a later format than this version knows."""


class _Body(msgspec.Struct):
    """What `encode` gives; older workers keep no samples."""

    counts: dict[str, _Count]
    histograms: dict[str, bytes]
    sums: dict[str, bytes]
    categories: dict[str, dict[str, _Count]]
    samples: dict[str, list[tuple[int, str]]] | None = None


class Tables:
    """Counts, histograms, sums and categories, each by name: all values are integers. Samples are ids of events."""

    __slots__ = ("categories", "counts", "histograms", "samples", "sums")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.histograms: dict[str, Ints] = {}
        self.sums: dict[str, Ints] = {}
        self.categories: dict[str, dict[str, int]] = {}
        self.samples: dict[str, list[tuple[int, str]]] = {}  # the lowest hashes of ids, with the ids

    def evidence(self, name: str = "any") -> tuple[str, ...]:
        """Ids of a few events that show `name`; of any events where none was kept for it."""
        kind, dot, about = name.partition(".")
        name = f"{kind}{dot}{short_name(about)}"
        return tuple(text for _, text in self.samples.get(name) or self.samples.get("any") or ())

    # -- adding ------------------------------------------------------------------------------------------

    def count(self, name: str, by: int) -> None:
        """Add to one counter."""
        if by:
            self.counts[name] = self.counts.get(name, 0) + int(by)

    def histogram(self, name: str, bins: NDArray[Any], size: int, weight: Ints | None) -> None:
        """Count rows by their bin."""
        if weight is None:
            counts = np.bincount(bins, minlength=size).astype(np.int64) * WEIGHT
        else:
            # Sums of integers below 2^53 are exact in the float64 that bincount uses for weights.
            counts = np.bincount(bins, weights=weight.astype(np.float64), minlength=size).astype(np.int64)
        self.into(self.histograms, name, counts)

    def sum(self, name: str, values: Ints) -> None:
        """Add sums that are in fixed point already."""
        self.into(self.sums, name, values)

    def into(self, table: dict[str, Ints], name: str, values: Ints) -> None:
        """Add an array to the one of that name."""
        have = table.get(name)
        if have is None:
            table[name] = values
        elif len(have) == len(values):
            table[name] = have + values
        else:
            # Another reference was in force when the first was made: what cannot be compared is not mixed in.
            self.count("grid_changed", 1)

    def category(self, name: str, category: str, by: int) -> None:
        """Add a weight to one category."""
        if by:
            table = self.categories.setdefault(name, {})
            table[category] = table.get(category, 0) + by
            _bound(table)

    def tally(self, name: str, column: Categories, weight: Ints | None) -> list[int]:
        """Count rows by category; returns the weight of each of `column.values`, and of missing ones."""
        table = self.categories.setdefault(name, {})
        codes = np.where(column.codes < 0, len(column.values), column.codes)
        weights = None if weight is None else weight.astype(np.float64)
        totals = np.bincount(codes, weights=weights, minlength=len(column.values) + 1).astype(np.int64)
        if weight is None:
            totals = totals * WEIGHT
        listed: list[int] = totals.tolist()
        for value, total in zip((*column.values, None), listed, strict=True):
            if total:
                key = MISSING if value is None else short_name(value)
                table[key] = table.get(key, 0) + total
        _bound(table)
        return listed

    def sample(self, name: str, rows: Inferences, where: NDArray[np.intp]) -> None:
        """Keep ids of rows `where` something shows, and traces of such rows: the same ones in whatever order."""
        if rows.id_hash is None or not len(where):
            return
        if rows.ids is not None:
            self._lowest(name, rows.ids, rows.id_hash, where)
        if rows.traces is not None:
            self._lowest(TRACE + name, rows.traces, rows.id_hash, where[rows.traces.sampled[where]])

    def sample_traces(self, rows: Inferences) -> None:
        """Keep traces of any rows."""
        if rows.traces is not None and rows.id_hash is not None:
            self._lowest(TRACE + "any", rows.traces, rows.id_hash, rows.traces.sampled.nonzero()[0])

    def _lowest(self, name: str, ids: Ids | Traces, hashes: NDArray[np.uint64], rows: NDArray[np.intp]) -> None:
        """Keep the texts with the lowest hashes among `rows`; of one hash, as of a request sent again, the lowest."""
        if not len(rows):
            return
        found = hashes[rows]
        several = isinstance(ids, Traces)  # a hash has one id, and as many traces as its request was sent
        kept = self.samples.get(name) or []
        if len(kept) == SAMPLES:
            last = np.uint64(kept[-1][0])
            lower = (found <= last if several else found < last).nonzero()[0]
            if not len(lower):
                return
            rows, found = rows[lower], found[lower]
        lowest, where = np.unique(found, return_index=True)
        where = (found <= lowest[:SAMPLES][-1]).nonzero()[0] if several else where[:SAMPLES]
        texts = ids.texts(rows[where])
        self.samples[name] = sorted({*kept, *zip(found[where].tolist(), texts, strict=True)})[:SAMPLES]

    # -- bounds ------------------------------------------------------------------------------------------

    def join_groups(self) -> None:
        """Join what is kept per group beyond MAX_GROUPS groups, the same ones in whatever order they came."""
        for prefix in GROUPED:
            _join(self.histograms, prefix, lambda name, values: self.into(self.histograms, name, values))
            _join(self.sums, prefix, lambda name, values: self.into(self.sums, name, values))
            _join(self.categories, prefix, self._join_categories)

    def _join_categories(self, name: str, table: dict[str, int]) -> None:
        for category, total in table.items():
            self.category(name, category, total)

    def drop_features(self) -> None:
        """Of more than MAX_FEATURES features those of the lowest ranks are kept, the values of others only counted."""
        if len(self.histograms) + len(self.categories) <= MAX_FEATURES:
            return
        names = {name for name in (*self.histograms, *self.categories) if name.startswith("feature.")}
        for name in sorted(names, key=_rank)[MAX_FEATURES:]:
            self.sums.pop(name, None)
            self.count("values_beyond_bound", int(self.histograms.pop(name, np.zeros(1, np.int64)).sum()))
            self.count("values_beyond_bound", sum(self.categories.pop(name, {}).values()))
            for prefix in ABOUT_FEATURES:
                about = prefix + name.removeprefix("feature.")
                self.sums.pop(about, None)
                self.categories.pop(about, None)
                self.samples.pop(about, None)
                self.samples.pop(TRACE + about, None)

    # -- merging and the wire ----------------------------------------------------------------------------

    def merge(self, other: "Tables") -> Self:
        """Add `other` into this one and return it; the result does not depend on the order of merging."""
        for name, value in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + value
        for mine, theirs in ((self.histograms, other.histograms), (self.sums, other.sums)):
            for key, values in theirs.items():
                self.into(mine, key, values)
        for name, table in other.categories.items():
            into = self.categories.setdefault(name, {})
            for category, total in table.items():
                into[category] = into.get(category, 0) + total
            _bound(into)
        for name, kept in other.samples.items():
            self.samples[name] = sorted({*self.samples.get(name, ()), *kept})[:SAMPLES]
        self.drop_features()
        self.join_groups()
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
            "samples": self.samples,
        }

    @classmethod
    def decode(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of `encode`. Raises ValueError for a format this version does not know, a later NewerFormat."""
        form = body.get("format") if isinstance(body, Mapping) else None
        if form != FORMAT:
            kind = NewerFormat if isinstance(form, int) and form > FORMAT else ValueError
            raise kind(f"profile format {ascii(form)[:40]} is not {FORMAT}; upgrade the worker that reads it")
        try:
            read = msgspec.convert(body, _Body)
        except msgspec.ValidationError as error:
            raise ValueError(f"this is no profile: {error}") from None
        made = cls()
        made.counts, made.categories = read.counts, read.categories
        made.histograms = {name: _integers(name, content) for name, content in read.histograms.items()}
        made.sums = {name: _integers(name, content) for name, content in read.sums.items()}
        made.samples = read.samples or {}
        return made

    def pack(self) -> bytes:
        """All of it as msgpack bytes; where MAX_BYTES ask for it, with fewer samples and with large tables added up."""
        body = msgspec.msgpack.encode(self.encode())
        return body if len(body) <= MAX_BYTES else msgspec.msgpack.encode(self._lighter(len(body) - MAX_BYTES))

    def _lighter(self, excess: int) -> dict[str, Any]:
        """`encode` without samples of single features, and with categorical features reduced to their total."""
        body, beyond = self.encode(), 0
        whole = len(msgspec.msgpack.encode(self.samples))
        body["samples"] = {
            name: kept for name, kept in self.samples.items() if not name.removeprefix(TRACE).startswith(ABOUT_FEATURES)
        }
        excess -= whole - len(msgspec.msgpack.encode(body["samples"]))
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
    def unpack(cls, body: bytes) -> Self:
        """The inverse of `pack`. Raises ValueError for bytes that are no profile, or one of another format."""
        try:
            decoded = msgspec.msgpack.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise ValueError(f"this is no profile: {str(error)[:200]!a}") from None
        return cls.decode(decoded)


def _integers(name: str, content: bytes) -> Ints:
    if len(content) % 8:
        raise ValueError(f"this is no profile: {name[:100]!a} has {len(content)} bytes, which are no whole numbers")
    return np.frombuffer(content, "<i8").astype(np.int64)


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


def _join(table: dict[str, Any], prefix: str, add: Callable[[str, Any], None]) -> None:
    """Of more than MAX_GROUPS groups the lowest ranks stay, as in `_bound`; the others add up under `other`."""
    names = [name for name in table if name.startswith(prefix)]
    if len(names) <= MAX_GROUPS:
        return
    rest = prefix + "other"
    for name in sorted(set(names) - {rest}, key=_rank)[MAX_GROUPS:]:
        add(rest, table.pop(name))
