"""Names of quality metrics as people write them: which are the same, which way is better, and which are shares."""

import re
from typing import Literal

Polarity = Literal["higher", "lower"]

_SAME = {
    "acc": "accuracy", "fpr": "false positive rate", "fallout": "false positive rate", "fnr": "false negative rate",
    "miss rate": "false negative rate", "ppv": "precision", "positive predictive value": "precision",
    "npv": "negative predictive value", "recall": "true positive rate", "sensitivity": "true positive rate",
    "hit rate": "true positive rate", "tpr": "true positive rate", "tnr": "true negative rate",
    "specificity": "true negative rate", "f1": "f1 score", "f score": "f1 score", "f measure": "f1 score",
    "auroc": "auc", "roc auc": "auc", "area under the curve": "auc", "error": "error rate", "logloss": "log loss",
    "cross entropy": "log loss", "brier": "brier score", "mean average precision": "map", "r squared": "r2",
    "mean absolute error": "mae", "mean squared error": "mse", "root mean squared error": "rmse",
    "expected calibration error": "ece",
}  # fmt: skip
_HIGHER = {
    "accuracy", "balanced accuracy", "precision", "negative predictive value", "true positive rate",
    "true negative rate", "f1 score", "auc", "average precision", "map", "iou", "r2", "top 5 accuracy",
}  # fmt: skip
_LOWER = {
    "false positive rate", "false negative rate", "error rate", "log loss", "brier score", "mae", "mse", "rmse", "mape",
    "ece", "loss", "abstention rate",
}  # fmt: skip
_NO_SHARES = {"log loss", "mae", "mse", "rmse", "mape", "loss", "r2"}


def plain_name(text: object) -> str:
    """A name without case, punctuation and blanks in a row: `Default-Rate` is `default rate`."""
    return " ".join(re.findall(r"[^\W_]+", str(text or "").casefold()))


def metric_name(text: object) -> str:
    """One name for the spellings of a metric.

    >>> metric_name("F1-Score"), metric_name("FPR")
    ('f1 score', 'false positive rate')
    """
    plain = plain_name(text)
    return _SAME.get(plain, plain)


def polarity(metric: str) -> Polarity | None:
    """Whether more is better; None for a metric that nobody knows here. `metric` as `metric_name` gives it."""
    if metric in _HIGHER:
        return "higher"
    return "lower" if metric in _LOWER else None


def is_share(metric: str) -> bool:
    """Whether the metric is known to lie between 0 and 1, or 0 and 100 percent."""
    return metric in _HIGHER | _LOWER and metric not in _NO_SHARES
