"""Quality requirements of an MLTE card whose measure has a simple form: `at least 90%`, `no more than two seconds`."""

import re

from models.importers.document import Node
from models.importers.part import Tree

_WORDS = dict(zip("one two three four five six seven eight nine ten".split(), range(1, 11), strict=True))  # noqa: SIM905
_LOWER = ("at least", "no less than", "not less than", "minimum of", ">=")
_UPPER = ("at most", "no more than", "not more than", "within", "maximum of", "<=")
_STRICT = {"more than": "greater than", "above": "greater than", ">": "greater than",
           "less than": "less than", "below": "less than", "under": "less than", "<": "less than"}  # fmt: skip
_FORM = re.compile(
    rf"\s*({'|'.join(map(re.escape, (*_LOWER, *_UPPER, *_STRICT)))})\s*"
    rf"(\d{{1,9}}(?:\.\d{{1,9}})?|{'|'.join(_WORDS)})\s*"
    r"(%|percent|ms|milliseconds?|s|seconds?|minutes?)?\s*(accuracy|f1|f1 score)?\.?\s*",
    re.IGNORECASE,
)
_METRICS = (("false positive rate", "False Positive Rate"), ("false negative rate", "False Negative Rate"),
            ("f1", "F1 Score"), ("accuracy", "Accuracy"))  # fmt: skip


def limits(scenarios: Node, notes: list[str]) -> tuple[Tree, list[Tree]]:
    """The time that an answer may take, and limits of metrics, from quality attribute scenarios.

    A share is a limit of a metric only where the response or the measure names one metric; the rest is noted.
    """
    required: Tree = {}
    metrics: list[Tree] = []
    for one in scenarios.objects():
        measure = one["measure"].text()
        name = one["identifier"].text() or one["quality"].text() or one.path
        found = _FORM.fullmatch(measure)
        if not found:
            notes.append(
                f"{one['measure'].path}: the measure of {name[:60]} is prose; write it as a check or threshold"
            )
            continue
        said, number = found.group(1).lower(), found.group(2).lower()
        value = float(_WORDS.get(number, 0) or number)
        unit = (found.group(3) or "").lower()
        operator = _operator(said)
        metric = _metric(f"{one['response'].text()} {measure}".lower())
        seconds = _time_unit(unit)
        if (
            seconds
            and operator.startswith("less")
            and one["quality"].text().lower() == "time behavior"
            and not required
        ):
            required = {"time": value, "unit": seconds}
        elif unit in ("%", "percent") and metric:
            row = {"metric": metric, "operator": operator, "threshold": round(value / 100, 12)}
            metrics += [] if any(known["metric"] == metric for known in metrics) else [row]
        else:
            notes.append(f"{one['measure'].path}: {measure[:60]!r} of {name[:60]} is a limit of nothing known here")
    return required, metrics


def _operator(said: str) -> str:
    if said in _LOWER:
        return "greater or equal than"
    return _STRICT.get(said, "less or equal than")


def _time_unit(unit: str) -> str:
    if unit.startswith("minute"):
        return "Minutes"
    return "Milliseconds" if unit.startswith("m") else ("Seconds" if unit.startswith("s") else "")


def _metric(text: str) -> str:
    """The one metric that a text names; empty for none and for several."""
    found = {name for word, name in _METRICS if word in text}
    return found.pop() if len(found) == 1 else ""
