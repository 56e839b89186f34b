"""NannyML's CBPE on the data sets it brings along, run by an interpreter of its own: its packages differ from ours.

    python -m venv peer && peer/bin/pip install nannyml statsmodels
    peer/bin/python benchmarks/nannyml_peer.py OUT.npz          (benchmarks.audits does this with --peer)

Writes for each data set: scores, predicted and true class codes of the reference and of what came after, the size of
a chunk, NannyML's accuracy per chunk, and its microseconds per row.
"""

import importlib
import sys
import time
from typing import Any, NamedTuple

import numpy as np


class Bundle(NamedTuple):
    """How a data set of NannyML is laid out."""

    name: str
    loader: str
    truth: str
    predicted: str
    scores: tuple[str, ...]
    classes: tuple[str, ...]
    key: str
    chunk: int


CARDS = ("prepaid_card", "highstreet_card", "upmarket_card")
BUNDLES = (
    Bundle("car loan", "load_synthetic_car_loan_dataset", "repaid", "y_pred", ("y_pred_proba",), (), "id", 5000),
    Bundle(
        "census MA", "load_us_census_ma_employment_data", "employed", "prediction",
        ("predicted_probability",), (), "id", 5000,
    ),
    Bundle(
        "cards", "load_synthetic_multiclass_classification_dataset", "y_true", "y_pred",
        tuple(f"y_pred_proba_{c}" for c in CARDS), CARDS, "id", 6000,
    ),
    Bundle(
        "California", "load_modified_california_housing_dataset", "clf_target", "y_pred",
        ("y_pred_proba",), (), "id", 500,
    ),
)  # fmt: skip


def codes(column: Any, classes: tuple[str, ...]) -> Any:
    """Class codes of a column."""
    if not classes:
        return column.to_numpy().astype(np.int64)
    return column.map({name: code for code, name in enumerate(classes)}).to_numpy().astype(np.int64)


def measured(nannyml: Any, bundle: Bundle) -> dict[str, Any]:
    """The data set as plain arrays, and what NannyML says about it."""
    reference, analysis, truth = getattr(importlib.import_module("nannyml.datasets"), bundle.loader)()
    labelled = analysis.merge(truth, on=bundle.key, how="left")
    many = len(bundle.scores) > 1
    estimator = nannyml.CBPE(
        y_true=bundle.truth,
        y_pred=bundle.predicted,
        y_pred_proba=dict(zip(bundle.classes, bundle.scores, strict=True)) if many else bundle.scores[0],
        problem_type="classification_multiclass" if many else "classification_binary",
        metrics=["accuracy"],
        chunk_size=bundle.chunk,
    )
    estimator.fit(reference)
    started = time.perf_counter()
    result = estimator.estimate(analysis)
    seconds = time.perf_counter() - started
    frame = result.filter(period="analysis").to_df()
    found = {"estimate": frame[("accuracy", "value")].to_numpy(dtype=float), "chunk": bundle.chunk}
    found["us"] = 1e6 * seconds / len(analysis)
    for name, data in (("reference", reference), ("analysis", labelled)):
        found[f"{name} scores"] = data[list(bundle.scores)].to_numpy(dtype=float).squeeze()
        found[f"{name} predicted"] = codes(data[bundle.predicted], bundle.classes)
        found[f"{name} truth"] = codes(data[bundle.truth], bundle.classes)
    return found


def main(path: str) -> None:
    """Write everything to `path`."""
    nannyml = importlib.import_module("nannyml")
    arrays: dict[str, Any] = {}
    for bundle in BUNDLES:
        arrays |= {f"{bundle.name}/{key}": value for key, value in measured(nannyml, bundle).items()}
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
