"""Plots of a model's quality over time: estimates with intervals, audits, threshold, forecast and triggers."""

import math
import textwrap
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from infra.figures import file_name, pyplot, write

SIZE = (13.0, 6.2)


def plot_status(
    status: Sequence[dict[str, Any]],
    triggers: Sequence[dict[str, Any]],
    out: Path,
    *,
    truth: Sequence[tuple[datetime, float]] = (),
    crossing: datetime | None = None,
) -> list[Path]:
    """A PNG and an SVG per model version (all traffic); returns the files, none without matplotlib (extra `demo`)."""
    plt = pyplot()
    if plt is None:
        return []
    files: list[Path] = []
    for model, version in sorted({(s["model"], s["version"]) for s in status}):
        files += _plot(plt, model, version, status, triggers, out, truth, crossing)
    return files


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _plot(
    plt: Any, model: str, version: str, status: Sequence[dict[str, Any]], triggers: Sequence[dict[str, Any]], out: Path,
    truth: Sequence[tuple[datetime, float]], crossing: datetime | None,
) -> list[Path]:  # fmt: skip
    lines = [s for s in status if (s["model"], s["version"], s["segment"]) == (model, version, None)]
    figure, (quality, dates) = plt.subplots(2, 1, figsize=SIZE, sharex=True, height_ratios=(3, 2), layout="constrained")
    ends = [end for s in lines if (end := _time(s["window"]["end"])) is not None]
    quality.plot(ends, [math.nan] * len(ends))  # the axis is of time, also where there is nothing to show
    if ends and all(s["quality"]["estimate"] is None and s["forecast"].get("reason") for s in lines):
        quality.set_xlim(min(_time(s["window"]["start"]) or ends[0] for s in lines), max(ends))  # and of these windows
    _quality(quality, lines, truth)
    _dates(dates, lines, crossing)
    for trigger in (t for t in triggers if (t["model_name"], t["model_version"]) == (model, version)):
        for axis in (quality, dates):
            axis.axvline(
                _time(trigger["created_at"]),
                color="tab:red",
                lw=1.4,
                label="retrain trigger" if axis is quality else None,
            )
    for axis in (quality, dates):  # beside the lines, which may be anywhere
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    dates.set_xlabel("end of the window (UTC)")
    figure.suptitle(f"{model} {version}: quality and best-before date", fontsize=13)
    return write(figure, out, file_name(model, version))


def _quality(axis: Any, lines: Sequence[dict[str, Any]], truth: Sequence[tuple[datetime, float]]) -> None:
    known = [s for s in lines if s["quality"]["estimate"] is not None]
    times = [_time(s["window"]["end"]) for s in known]
    low, middle, high = ([s["quality"][key] for s in known] for key in ("low", "estimate", "high"))
    if not known:
        _instead(axis, lines, "quality", "no estimate")
    axis.fill_between(times, low, high, alpha=0.25, color="tab:blue", lw=0, label="90% interval")
    axis.plot(times, middle, color="tab:blue", lw=1.8, label="estimated quality")
    if truth:
        axis.plot(
            [t for t, _ in truth],
            [v for _, v in truth],
            color="black",
            lw=1.2,
            ls="--",
            label="truth, hidden from the pipeline",
        )
    threshold = next((s["forecast"].get("threshold") for s in lines if s["forecast"].get("threshold")), None)
    if threshold is not None:
        axis.axhline(threshold, color="tab:gray", lw=1.2, ls=":", label=f"threshold {threshold:g}")
    axis.set_ylabel(lines[0]["quality"]["metric"] + " (share)" if lines else "quality")
    axis.grid(alpha=0.25)


def _dates(axis: Any, lines: Sequence[dict[str, Any]], crossing: datetime | None) -> None:
    """Days until the best-before date, as told at the end of each window."""
    forecasts = [s for s in lines if not s["forecast"].get("reason")]
    times = [_time(s["window"]["end"]) for s in forecasts]
    low, middle, high = ([_ahead(s, key) for s in forecasts] for key in ("low", "best_before", "high"))
    if not forecasts:
        _instead(axis, lines, "forecast", "no forecast")
    ceiling = max([v for v in (*low, *middle, *high) if not math.isnan(v)], default=1.0)
    upper = [ceiling if math.isnan(v) else v for v in high]
    axis.plot(times, low, color="tab:orange", lw=1.8, label="good for at least, 90% sure")
    axis.fill_between(
        times,
        low,
        upper,
        alpha=0.2,
        color="tab:orange",
        lw=0,
        label="from there to the end of the 90%\ninterval (open where cut off)",
    )
    axis.plot(times, middle, color="tab:orange", lw=1.0, ls="--", label="best before, median")
    if crossing is not None:
        left = [max((crossing - t).total_seconds() / 86400, 0.0) for t in times if t is not None]
        axis.plot(times, left, color="black", lw=1.2, ls="--", label="truth: days until the crossing")
    axis.set_ylabel("days ahead")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.25)


def _instead(axis: Any, lines: Sequence[dict[str, Any]], part: str, what: str) -> None:
    """Why there is nothing to see, in the words of the last window."""
    reason = (lines[-1][part].get("reason") if lines else None) or "there are no windows"
    words = textwrap.fill(f"{what}: {reason}", 80)
    axis.text(0.5, 0.5, words, transform=axis.transAxes, ha="center", va="center", color="tab:gray", fontsize=11)
    axis.set_yticks([])


def _ahead(line: dict[str, Any], key: str) -> float:
    """Days from the end of the window; not a number where there is no date within the horizon."""
    then, now = _time(line["forecast"].get(key)), _time(line["window"]["end"])
    return math.nan if then is None or now is None else (then - now).total_seconds() / 86400
