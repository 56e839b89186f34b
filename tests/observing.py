"""Shared by the tests of run-time checks: small references, profiles from arrays, windows as checks see them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from models.checks.check import Check
from models.checks.observed import Memory, Observed
from models.checks.verdict import Verdict
from models.columns import Categories, Embedded, Inferences, Outcomes, Subject
from models.profile import Profile
from models.reference import NumericFeature, Reference

HOUR = 3_600_000_000
DAY = 24 * HOUR
START = 1_795_000_000_000_000 // DAY * DAY
SUBJECT = Subject("loan", "7")
# A standard normal feature on fourteen bins, as described by `n` values of the training data.
PROBABILITIES = np.array([0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])


def numeric_feature(values: ArrayLike, **facts: Any) -> NumericFeature:
    """The reference of a numeric feature as `describe` makes it from `values`."""
    x = np.asarray(values, dtype=np.float64)
    edges = np.quantile(x, PROBABILITIES)
    shares = np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1) / len(x)
    known: dict[str, Any] = {"mean": float(x.mean()), "sd": float(x.std(ddof=1)), "n": len(x)}
    return NumericFeature(edges=tuple(edges.tolist()), shares=tuple(shares.tolist()), **(known | facts))


def normal_feature(n: int = 5000, **facts: Any) -> NumericFeature:
    """A standard normal feature, known without sampling error."""
    edges = np.linspace(-2, 2, 13)
    shares = np.diff([0.0, *ndtr(edges), 1.0])
    return NumericFeature(edges=tuple(edges.tolist()), shares=tuple(shares.tolist()), n=n, **facts)


def small_reference(**facts: Any) -> Reference:
    """A registered model `loan` 7 with hourly windows, nothing known but `facts`."""
    known: dict[str, Any] = {"window_us": HOUR, "lateness_us": 0, "minimum_n": 50, "owner": "lending"}
    return Reference("loan", "7", **(known | facts))


def declared(reference: Reference, **own: dict[str, Any]) -> Reference:
    """`reference` with keys under `bestbefore`, as in `declared(r, system_context={"season": "1 day"})`."""
    trees = {kind: dict(tree) for kind, tree in reference.descriptors.items()}
    for kind, keys in own.items():
        trees.setdefault(kind, {})["bestbefore"] = {**(trees.get(kind, {}).get("bestbefore") or {}), **keys}
    return msgspec.structs.replace(reference, descriptors=trees)


def texts(values: Sequence[str | None]) -> Categories:
    """A column of strings; None is missing."""
    known = tuple(sorted({v for v in values if v is not None}))
    codes = {value: code for code, value in enumerate(known)}
    return Categories(np.array([-1 if v is None else codes[v] for v in values], np.int32), known)


def profile_of(reference: Reference, **columns: Any) -> Profile:
    """The profile of inference events given as columns of `Inferences`; lists of strings become categories."""
    if "label" in columns and not isinstance(columns["label"], Categories):
        columns["label"] = texts(columns["label"])
    columns["categorical"] = {
        k: v if isinstance(v, Categories) else texts(v) for k, v in columns.get("categorical", {}).items()
    }
    n = _rows(columns)
    made = Profile()
    made.add(Inferences(**({"offset": np.arange(n), "time": np.full(n, START)} | columns)), reference)
    return made


def labelled(reference: Reference, truth: Sequence[str], correct: ArrayLike, **columns: Any) -> Profile:
    """The profile of audited labels."""
    n = len(truth)
    rest: dict[str, Any] = {
        "offset": np.arange(n), "time": np.full(n, START), "event_time": np.full(n, START),
        "correct": np.asarray(correct, np.bool_), "truth": texts(truth), "confidence": np.full(n, 0.9),
        "feedback": np.zeros(n, np.bool_),
    }  # fmt: skip
    made = Profile()
    made.add(Outcomes(**(rest | columns)), reference)
    return made


def embedded(reference: Reference, embedding: NDArray[np.float32], **columns: Any) -> Profile:
    """The profile of sampled inputs after the embedder."""
    n = len(embedding)
    made = Profile()
    made.add(
        Embedded(**({"offset": np.arange(n), "time": np.full(n, START)} | columns), embedding=embedding), reference
    )
    return made


def _rows(columns: dict[str, Any]) -> int:
    for column in columns.values():
        parts = list(column.values()) if isinstance(column, dict) else [column]
        for part in parts:
            return len(part.codes if isinstance(part, Categories) else part)
    return 0


def observed(profile: Profile, reference: Reference, *, index: int = 0, **facts: Any) -> Observed:
    """What a check sees of window `index`, which is a block by itself."""
    start = START + index * reference.window_us
    known: dict[str, Any] = {
        "subject": SUBJECT, "window": profile, "block": profile, "start_us": start,
        "end_us": start + reference.window_us, "block_start_us": start,
    }  # fmt: skip
    return Observed(reference=reference, **(known | facts))


def by_field(verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    """Verdicts of one window by what they are about."""
    return {verdict.field: verdict for verdict in verdicts}


def over_windows(check: Check, reference: Reference, profiles: Iterable[Profile]) -> Iterator[dict[str, Verdict]]:
    """The verdicts of consecutive windows, with the memory that a check keeps between them."""
    assert check.live is not None
    memory: Memory = {}
    for index, profile in enumerate(profiles):
        yield by_field(check.live(observed(profile, reference, index=index, memory=memory)))


def opening(verdicts: Iterable[dict[str, Verdict]], field: str | None = None, confirm: int = 2) -> int | None:
    """Windows until a mismatch (of any field) would open: until `confirm` windows in a row show it; None for never."""
    bad: dict[str, int] = {}
    for index, window in enumerate(verdicts):
        for name, verdict in window.items():
            if verdict.verdict != "unknown" and field in (None, name):
                bad[name] = bad.get(name, 0) + 1 if verdict.verdict == "mismatch" else 0
                if bad[name] >= confirm:
                    return index + 1
    return None
