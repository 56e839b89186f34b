"""Numbers with units as people write them."""

from typing import Any

import pytest

from models.domains import expected_values
from models.quantities import converted, number_of, unit_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (5, (5.0, "")), ("5", (5.0, "")), ("-1e3", (-1000.0, "")), (".5", (0.5, "")), ("1_000", (1000.0, "")),
        ("50 ms", (50.0, "ms")), ("50ms", (50.0, "ms")), ("33.3 %", (0.333, "")), ("100/minute", (100.0, "/minute")),
        ("100 per minute", (100.0, "per minute")), ("36.6 °C", (36.6, "°C")), ("3 1/s", (3.0, "1/s")),
        ({"value": 5, "unit": "ms"}, (5.0, "ms")), ({"value": "5 s"}, (5.0, "s")), ("5 EUR", (5.0, "EUR")),
        ("2026-09-01", None), ("1.2.3", None), ("0..5", None), ("1,000", None), (True, None), (None, None), ("", None),
        ("five", None), ([5], None), ({}, None),
    ],
)  # fmt: skip
def test_numbers(text: Any, found: tuple[float, str] | None) -> None:
    assert number_of(text) == found


@pytest.mark.parametrize(
    ("value", "unit", "to", "found"),
    [
        (50, "Milliseconds", "s", 0.05), (100, "per minute", "1/s", 100 / 60),
        (100, "requests per minute", "1/s", 100 / 60),
        (1, "GB", "MB", 1000), (1, "m", "ft", 3.280839895), (100, "degC", "degF", 212),
        (1, "h", "us", 3.6e9), (5, "Hz", "1/s", 5),
        (5, "ms", "m", None), (5, "EUR", "USD", None), (5, "EUR", "EUR", 5), (5, "", "s", 5), (5, "9**9**9", "s", None),
    ],
)  # fmt: skip
def test_conversions(value: float, unit: str, to: str, found: float | None) -> None:
    assert converted(value, unit, to) == (None if found is None else pytest.approx(found))


def test_a_unit_as_written_counts_before_its_lower_case() -> None:
    assert unit_of("mW") != unit_of("MW")
    assert unit_of("nobody knows") is None


@pytest.mark.parametrize(
    ("text", "low", "high", "unit"),
    [
        ("0..5", 0, 5, ""), ("0 to 5", 0, 5, ""), ("-1.5..2e3", -1.5, 2000, ""), ("0..inf", 0, None, ""),
        ("0..5 m", 0, 5, "m"), ("0..50 °C", 0, 50, "°C"), ("0..5m/s", 0, 5, "m/s"), ("from 0 to 5", None, None, ""),
        ("0..", None, None, ""), ("1..2..3", None, None, ""),
    ],
)  # fmt: skip
def test_ranges(text: str, low: float | None, high: float | None, unit: str) -> None:
    found = expected_values(text)
    assert (found.low, found.high, found.unit) == (low, high, unit)
