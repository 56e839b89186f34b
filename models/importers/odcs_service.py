"""Service levels of a data contract as facts about rate and deadlines.

ODCS does not define its terms: `latency` of minutes or less is read as the time an answer may take, one of days as the
age of data, which has no place in the descriptors.
"""

from models.importers.document import Node
from models.importers.part import Tree
from models.quantities import converted, unit_of
from models.units import SECOND_US, duration_us

_UNITS = {"ms": "Milliseconds", "s": "Seconds", "min": "Minutes", "h": "Hours"}
_SHORT = {
    "millisecond": "ms", "msec": "ms", "sec": "s", "second": "s", "m": "min", "minute": "min", "hour": "h", "hr": "h",
}  # fmt: skip
_HOUR = 3_600 * SECOND_US


def services(levels: Node, notes: list[str]) -> tuple[Tree, Tree]:
    """production_data and production_environment as far as the service levels speak of them."""
    data: Tree = {}
    environment: Tree = {}
    for level in levels.objects():
        name = level["property"].name()
        key = name.lower()
        unit = level["unit"].text()
        value = level["value"].value
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            notes.append(f"{level.path}: {name[:40]} is not a number of 0 or more, left out")
            continue
        number = level["value"].number() or 0
        if key == "latency" and _deadline(number, unit):
            environment["required_inference_time"] = _deadline(number, unit)
        elif key in ("throughput", "frequency") and (rate := _rate(key, number, unit)):
            data["data_rates"] = f"{number} {rate}"
            data["bestbefore"] = {"rate": {"mean": number, "unit": rate}}
        elif key == "errorrate" and number <= (100 if unit in ("%", "percent") else 1):
            environment["bestbefore"] = {"error_rate": number / 100 if unit in ("%", "percent") else number}
        else:
            notes.append(f"{level.path}: {name[:40]} {number} {unit[:20]} has no place in the descriptors, left out")
    return data, environment


def _deadline(number: float, unit: str) -> Tree:
    """TEC's time and unit, empty for what is no time or too long to wait for an answer."""
    word = unit.lower()
    word = word if word in _UNITS else _SHORT.get(word, _SHORT.get(word.removesuffix("s"), ""))
    if word not in _UNITS or duration_us(f"{number:f} {word}") > _HOUR:
        return {}
    return {"time": number, "unit": _UNITS[word]}


def _rate(key: str, number: float, unit: str) -> str:
    """The unit of a rate as `1/minute`; empty where the unit is none of a rate."""
    if not unit:
        return ""
    text = unit if key == "throughput" else f"1/{'day' if unit == 'd' else unit}"
    return text if unit_of(text) is not None and converted(float(number), text, "1/minute") is not None else ""
