"""`bestbefore backtest`: what retraining policies would have cost on the user's own history."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from infra.backtest_plot import plot_backtest
from infra.history import History, HistoryError
from models.backtest import Figures, Setting, quality_served
from models.backtest_table import ORACLE, Difference, Row, compare, difference, starting

OURS = "ours"


class Report(NamedTuple):
    """Rows of every policy over all worlds of a history."""

    history: History
    setting: Setting
    rows: dict[str, list[Row]]


def backtest(
    history: History, setting: Setting, policies: Sequence[str], progress: Callable[[int, int], None] = lambda *_: None
) -> Report:
    """Compare policies. Raises HistoryError where label delay or lead time leave nothing to compare."""
    world = history.worlds[0]
    start = starting(world)
    if start - setting.delay <= world.first + 1:
        raise HistoryError(
            f"labels come {setting.delay} windows late, the first third has {start - world.first} windows: nothing is "
            "known when the comparison starts; choose longer windows or bring a longer history"
        )
    if start + setting.lead + 1 >= world.windows:
        raise HistoryError(
            f"a new model takes {setting.lead} windows, the comparison lasts {world.windows - start}: no retraining "
            "could take effect; choose longer windows or bring a longer history"
        )
    rows: dict[str, list[Row]] = {name: [] for name in policies}
    for done, each in enumerate(history.worlds, 1):
        for row in compare(each, setting, policies):
            rows[row.policy].append(row)
        progress(done, len(history.worlds))
    return Report(history, setting, rows)


def document(report: Report) -> dict[str, Any]:
    """The report as plain data; medians over worlds, quality and retrainings of the first world."""
    world = report.history.worlds[0]
    policies = {
        name: {
            **{field: _median(rows, field) for field in Figures.__struct_fields__},
            "regret": float(np.median([r.regret for r in rows])),
            "retrainings": [{"asked": a, "serves": s} for a, s, _ in rows[0].run.retrainings],
            "quality": [round(v, 6) for v in quality_served(world, rows[0].run).tolist()],
        }
        for name, rows in report.rows.items()
    }
    setting = {field: getattr(report.setting, field) for field in Setting.__struct_fields__}
    return {
        "assumed": report.history.assumed,
        "setting": setting,
        "windows": {"tuned_on": starting(world) - world.first, "compared": world.windows - starting(world)},
        "worlds": len(report.history.worlds),
        "policies": policies,
        "ours": [
            {"against": name, "verdict": d.word, "difference": d.value, "reach": d.reach}
            for name, d in _differences(report).items()
        ],
    }


def shown(report: Report) -> Table:
    """The report as a table, with what it rests on above and the verdicts below."""
    world, setting = report.history.worlds[0], report.setting
    table = Table(box=None, header_style="bold", pad_edge=False, title_justify="left", caption_justify="left")
    table.title = (
        f"{world.windows - starting(world)} windows, after {starting(world) - world.first} to tune on; lead time "
        f"{setting.lead}, label delay {setting.delay} windows; {_costs(setting)}\n{report.history.assumed}"
    )
    for column in (
        "policy",
        "retrains",
        "below threshold",
        "mean error",
        "cost",
        "regret",
        "missed",
        "warning, windows",
    ):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for name, rows in report.rows.items():
        below, missed, warning = (_median(rows, f) for f in ("below", "missed", "warning"))
        table.add_row(
            name,
            f"{_median(rows, 'retrains'):g}",
            "-" if below is None else f"{100 * below:.1f}%",
            f"{100 * (_median(rows, 'error') or 0.0):.2f}%",
            f"{_median(rows, 'cost'):.2f}",
            f"{np.median([r.regret for r in rows]):.2f}",
            "-" if missed is None else f"{missed:g}",
            "-" if warning is None else f"{warning:+g}",
        )
    table.caption = "\n".join(verdicts(report))
    return table


def verdicts(report: Report) -> list[str]:
    """`ours ties with periodic: …`, one line per rival."""
    lines = []
    for name, d in _differences(report).items():
        verb = {"ties": "ties with", "wins": "beats", "loses": "loses to"}[d.word]
        lines.append(f"ours {verb} {name}: cost difference {d.value:+.2f} ± {d.reach:.2f} (90%)")
    return lines


def write(report: Report, out: Path) -> list[Path]:
    """`backtest.json` and, where matplotlib is installed, `backtest.png`."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "backtest.json"
    path.write_text(json.dumps(document(report), indent=2) + "\n", "utf-8")
    return [path, *plot_backtest(report.history.worlds[0], report.setting, report.rows, out)]


def _differences(report: Report) -> dict[str, Difference]:
    mine = report.rows.get(OURS)
    if mine is None:
        return {}
    rivals = [name for name in report.rows if name not in (OURS, ORACLE)]
    return {name: difference(mine, report.rows[name]) for name in rivals}


def _median(rows: Sequence[Row], field: str) -> float | None:
    values = [v for v in (getattr(r.figures, field) for r in rows) if v is not None]
    return float(np.median(values)) if values else None


def _costs(setting: Setting) -> str:
    parts = [f"a retraining costs {setting.cost_retrain:g}"]
    if setting.threshold is not None:
        parts.append(f"a day below {setting.threshold:g} costs {setting.cost_degraded_per_day:g}")
    if setting.cost_error:
        parts.append(f"a wrong answer costs {setting.cost_error:g}")
    return ", ".join(parts)
