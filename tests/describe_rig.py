"""Recordings for the tests of `describe`, made of arrays whose figures numpy can tell."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

START = datetime(2026, 11, 1, tzinfo=UTC)
SHARPER = 2.0  # the synthetic model's scores are its true probabilities, sharpened: temperature 2 undoes it


class Loans:
    """A classifier of applications whose events, labels and truth are known: n of them, one every six seconds."""

    def __init__(self, n: int = 4000, seed: int = 5) -> None:
        rng = np.random.default_rng(seed)
        self.n = n
        self.income = np.where(rng.random(n) < 0.03, -1.0, rng.normal(3000, 800, n))
        self.null = rng.random(n) < 0.1
        self.term = rng.integers(6, 85, n).astype(np.float64)
        self.region = rng.choice(["N", "S", "E", "W"], n, p=[0.4, 0.3, 0.2, 0.1])
        p = 1 / (1 + np.exp(-rng.normal(0.5, 1.5, n)))
        self.truth = (rng.random(n) < p).astype(int)
        sharp = np.stack([1 - p, p], axis=1) ** SHARPER
        self.scores = sharp / sharp.sum(axis=1, keepdims=True)
        self.predicted = self.scores.argmax(axis=1)
        self.latency = rng.gamma(4, 2, n)
        self.labelled = rng.random(n) < 0.5
        self.failed = np.arange(n) % 100 == 99
        self.time = [START + timedelta(seconds=6 * i) for i in range(n)]

    def events(self) -> list[dict[str, Any]]:
        """Inference and label events as JSON has them."""
        rows: list[dict[str, Any]] = []
        for i in range(self.n):
            scores = {str(k): float(s) for k, s in enumerate(self.scores[i])}
            row = {
                "id": f"r-{i}", "time": self.time[i].isoformat(), "model": "loan", "version": "7",
                "latency_ms": float(self.latency[i]), "status": 500 if self.failed[i] else 200,
                "features": {
                    "income": None if self.null[i] else float(self.income[i]), "term": float(self.term[i]),
                    "region": str(self.region[i]),
                },
                "output": {} if self.failed[i] else {"scores": scores},
            }  # fmt: skip
            rows.append(row)
            if self.labelled[i]:
                late = (self.time[i] + timedelta(days=7)).isoformat()
                rows.append({"inference_id": f"r-{i}", "time": late, "label": str(self.truth[i])})
        return rows

    def table(self) -> pa.Table:
        """The inference events as a frame's columns; labels go elsewhere."""
        scores = self.scores.astype(np.float32).copy()
        scores[self.failed] = np.nan
        names = {"classes": json.dumps(["0", "1"])}
        columns = {
            "id": [f"r-{i}" for i in range(self.n)],
            "time": pa.array(self.time, pa.timestamp("us", "UTC")),
            "model": ["loan"] * self.n,
            "version": ["7"] * self.n,
            "latency_ms": self.latency,
            "status": np.where(self.failed, 500, 200),
            "features.income": pa.array(self.income, mask=self.null),
            "features.term": self.term,
            "features.region": self.region.tolist(),
            "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), 2),
        }
        return pa.table(columns).replace_schema_metadata(names)


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def read(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in folder.glob("*.yaml")}


def small(path: Path, rows: int = 200, **more: Any) -> Path:
    """A recording of a model `m`, version `1`, with one feature; `more` overrides fields of every event."""
    rng = np.random.default_rng(1)
    events = [
        {
            "id": str(i), "time": (START + timedelta(minutes=i)).isoformat(), "model": "m", "version": "1",
            "features": {"age": float(rng.normal(40, 10))}, **more,
        }
        for i in range(rows)
    ]  # fmt: skip
    return write_lines(path, events)
