"""Shared by the tests of what profiles observe: a reference, rows with something to see, and profiles made plain."""

from typing import Any

import msgspec
import numpy as np

from models.columns import Categories, Inferences, TextIds
from models.profile import WEIGHT, Profile
from models.reference import CategoricalFeature, EmbeddingReference, NumericFeature, Reference

AGE = NumericFeature(
    edges=(20.0, 40.0, 60.0), mean=40.0, sd=20.0, low=0.0, high=120.0, integer=True, special={"-7": 0.1}
)
COUNTRY = CategoricalFeature(allowed=("DE", "FR"), min_length=2, max_length=2, special={"n. a.": 0.1})
REFERENCE = Reference(
    "m", "1", numeric={"age": AGE, "price": NumericFeature(mean=5.0, sd=2.0)}, categorical={"country": COUNTRY},
    latency_limit_ms=50.0,
    embedding=EmbeddingReference(
        mean=(0.0, 1.0), sd=(1.0, 2.0), n=100, edges=(0.5, 1.0), shares=(0.3, 0.3, 0.4), classes={"a": (1.0, ())}
    ),
)  # fmt: skip
# Measured on one partition only, and about ids that came before.
BY_ORDER = ("ids_repeated", "outputs_sampled", "outputs_repeated")


def texts(values: list[str | None]) -> Categories:
    """A column of strings; None is missing."""
    known = tuple(dict.fromkeys(v for v in values if v is not None))
    return Categories(np.array([-1 if v is None else known.index(v) for v in values], np.int32), known)


def rows_of(n: int, **columns: Any) -> Inferences:
    """n rows with ids, whose hashes are the numbers up to n in some order."""
    hashes = np.random.default_rng(9).permutation(n).astype(np.uint64)
    base: dict[str, Any] = {"ids": TextIds([f"id-{h}" for h in hashes.tolist()]), "id_hash": hashes}
    return Inferences(**({"offset": np.arange(n), "time": np.arange(n)} | base | columns))


def profile_of(*parts: Any, reference: Reference = REFERENCE) -> Profile:
    """The profile of rows that come one after the other."""
    made = Profile()
    for part in parts:
        made.add(part, reference)
    return made


def counted(profile: Profile, name: str) -> dict[str, float]:
    """A table of categories as numbers of events."""
    return {key: total / WEIGHT for key, total in profile.categories.get(name, {}).items()}


def mixed(n: int, seed: int) -> Inferences:
    """Rows in which every observation has something to see."""
    rng = np.random.default_rng(seed)
    age = rng.choice([10.0, -1.0, 44.5, 0.0, 999.0, -7.0, 1e300, np.nan, -np.inf], n)
    return Inferences(
        offset=np.arange(n), time=np.arange(n), weight=1 / rng.choice([1.0, 0.5, 0.01], n),
        ids=TextIds([f"{seed}-{i}" for i in range(n)]), id_hash=rng.integers(0, 1 << 59, n, dtype=np.uint64),
        numeric={"age": age, "price": rng.normal(size=n) * 10.0 ** rng.integers(0, 8, n), "country": np.ones(n)},
        missing={"age": np.isnan(age) & (rng.random(n) < 0.5)},
        categorical={"place": texts(rng.choice(["a", "NA", ""], n).tolist()), "price ": texts([None] * n)},
        value=rng.choice([1.5, -2e7, 3e15, np.nan], n), latency_ms=rng.choice([1.0, 70.0, np.nan], n),
        scores=rng.dirichlet(np.ones(3), n).astype(np.float32), label=texts(rng.choice(["x", "y"], n).tolist()),
        failed=rng.random(n) < 0.2, abstained=rng.random(n) < 0.1, live=rng.random(n) < 0.9,
        status=texts(rng.choice(["2xx", "5xx"], n).tolist()), digest=texts([*rng.choice(["d", "e"], n - 1), None]),
        embedded=rng.random(n) < 0.5,
    )  # fmt: skip


def plain(profile: Profile) -> Any:
    """What a profile says, without what depends on which rows came before in the same partition."""
    body = msgspec.msgpack.decode(profile.pack())
    body["categories"] = {name: table for name, table in body["categories"].items() if table}
    body["counts"] = {name: value for name, value in body["counts"].items() if name not in BY_ORDER}
    return body
