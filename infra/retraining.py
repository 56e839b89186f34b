"""Retrain stand-in models on a table of past traffic: what every model would have answered, for a backtest."""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.backtest import Bits, World
from models.units import DAY_US
from streams.errors import ModelError

Array = NDArray[Any]
MOST_CATEGORIES = 50


def gradient_boosting() -> Any:
    """The default stand-in: 40 small trees, early stopping off, so that the same rows always give the same model."""
    ensemble = _scikit_learn("ensemble")
    return ensemble.HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=15, early_stopping=False, random_state=0)


def logistic() -> Any:
    """Logistic regression on standardised columns; what is missing counts as the mean."""
    impute, linear, pipeline, scale = map(_scikit_learn, ("impute", "linear_model", "pipeline", "preprocessing"))
    return pipeline.make_pipeline(
        impute.SimpleImputer(keep_empty_features=True), scale.StandardScaler(), linear.LogisticRegression(max_iter=500)
    )


MODELS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {"hist-gradient-boosting": gradient_boosting, "logistic": logistic}
)


def _scikit_learn(part: str) -> Any:
    import importlib  # noqa: PLC0415 -- scikit-learn is slow to import, and may not be installed

    try:
        return importlib.import_module(f"sklearn.{part}")
    except ImportError:
        raise ModelError(
            "retraining a stand-in model needs scikit-learn: pip install 'bestbefore[demo]', or name your own with "
            "--model module:factory"
        ) from None


def encoded_columns(table: pa.Table) -> Array:
    """Columns as numbers: times in days, few categories as a column each, many by the order of their names."""
    columns: list[Array] = []
    for name in table.column_names:
        column = table.column(name)
        kind = column.type
        if pa.types.is_temporal(kind):
            column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
            columns.append(np.array([np.nan if v is None else v / DAY_US for v in column.to_pylist()]))
        elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
            columns.append(np.array([np.nan if v is None else float(v) for v in column.to_pylist()]))
        else:
            columns += _categories([None if v is None else str(v) for v in column.to_pylist()])
    size = table.num_rows
    return np.stack(columns, axis=1) if columns else np.empty((size, 0))


def _categories(values: list[str | None]) -> list[Array]:
    names, codes = np.unique(np.array(["" if v is None else v for v in values]), return_inverse=True)
    if len(names) > MOST_CATEGORIES:
        return [codes.astype(float)]
    return [(codes == k).astype(float) for k in range(len(names))]


def table_world(
    features: Array,
    truth: Array,
    edges: Sequence[int] | Array,
    *,
    make: Callable[[], Any] = gradient_boosting,
    memory: int = 2000,
    stride: int = 1,
) -> World:
    """A world in which a model for window i is trained on the last `memory` rows before it.

    `edges[i]` is the first row of window i and `edges[-1]` the number of rows. The first model needs `memory` rows, or
    a quarter of the history if that is less. With a `stride` only every so many windows have a model of their own;
    those between share it, as where training data are cut at fixed times.
    """
    bounds = np.asarray(edges)
    enough = min(memory, int(bounds[-1]) // 4)
    first = int(np.searchsorted(bounds, enough))

    @functools.cache
    def cut(trained: int) -> list[Bits]:
        end = int(bounds[trained])
        rows = slice(max(end - memory, 0), end)
        if len(np.unique(truth[rows])) < 2:
            wrong = truth[end:] != truth[rows][0]
        else:
            model = make()
            model.fit(features[rows], truth[rows])
            wrong = np.asarray(model.predict(features[end:]) != truth[end:])
        return [wrong[a - end : b - end] for a, b in zip(bounds[trained:-1], bounds[trained + 1 :], strict=True)]

    def answers(trained: int) -> list[Bits]:
        own = trained - (trained - first) % stride
        return cut(own)[trained - own :]

    first = max(first, 1)
    return World(len(bounds) - 1, answers, first=first)
