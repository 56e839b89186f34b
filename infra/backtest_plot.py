"""The plot of a backtest: what served under each policy, when it was replaced, and what it cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.figures import pyplot, write
from models.backtest import Setting, World, quality_served
from models.backtest_table import ORACLE, Row

PANEL_HEIGHT = 0.92  # inches per policy
MARGIN = 0.1
Rows = Mapping[str, Sequence[Row]]


def plot_backtest(world: World, setting: Setting, rows: Rows, out: Path) -> list[Path]:
    """Draw `backtest.png` and `backtest.svg`; without matplotlib (extra `demo`) nothing is drawn."""
    plt = pyplot()
    if plt is None:
        return []
    figure = plt.figure(figsize=(12.5, 1.9 + PANEL_HEIGHT * len(rows)), layout="constrained")
    grid = figure.add_gridspec(len(rows), 2, width_ratios=(3.2, 1))
    panels: list[Any] = []
    for k, (name, each) in enumerate(rows.items()):
        share = panels[0] if panels else None
        panels.append(figure.add_subplot(grid[k, 0], sharex=share, sharey=share))
        _panel(panels[-1], name, each[0], 100 * quality_served(world, each[0].run), setting)
        panels[-1].tick_params(labelsize=8, labelbottom=k == len(rows) - 1)
    panels[0].margins(x=0.01, y=MARGIN)
    panels[-1].set_xlabel("window of the history (quality: right answers in %)", fontsize=9)
    _bars(figure.add_subplot(grid[:, 1]), rows)
    named = {label: handle for p in panels for handle, label in zip(*p.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower left", ncols=5, frameon=False, fontsize=9)
    draws = len(next(iter(rows.values())))
    drawn = (
        "" if draws == 1 else f"\nleft: the first of {draws} draws, right: median cost of all with its 5 to 95% range"
    )
    figure.suptitle(
        f"Retraining policies: lead time {setting.lead} windows, label delay {setting.delay} windows{drawn}",
        fontsize=12,
    )
    return write(figure, out, "backtest")


def _panel(axis: Any, name: str, row: Row, quality: NDArray[np.float64], setting: Setting) -> None:
    windows = row.run.start + np.arange(len(quality))
    axis.plot(windows, quality, color="tab:blue", lw=1.5, label="quality of what serves")
    if setting.threshold is not None:
        line = 100 * setting.threshold
        axis.axhline(line, color="black", lw=1.1, ls=":", label="threshold")
        below = quality < line
        axis.fill_between(
            windows, quality, line, where=below, color="tab:red", alpha=0.35, lw=0, label="below the threshold"
        )
    for asked, serves, _ in row.run.retrainings:
        axis.axvspan(asked + 0.5, serves - 0.5, color="tab:orange", alpha=0.25, lw=0, label="retraining under way")
        axis.axvline(serves - 0.5, color="tab:orange", lw=1.3, label="new model begins to serve")
    axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    axis.grid(alpha=0.25)


def _bars(axis: Any, rows: Rows) -> None:
    names = list(rows)
    costs = [[r.figures.cost for r in rows[name]] for name in names]
    medians = np.array([np.median(c) for c in costs])
    low, high = (np.array([np.quantile(c, share) for c in costs]) for share in (0.05, 0.95))
    colours = ["tab:green" if n == ORACLE else "tab:blue" if n.startswith("ours") else "tab:gray" for n in names]
    places = np.arange(len(names))
    axis.barh(places, medians, color=colours, height=0.62)
    if len(costs[0]) > 1:
        axis.errorbar(medians, places, xerr=[medians - low, high - medians], fmt="none", ecolor="black", capsize=3)
    for place, value, end in zip(places, medians, high, strict=True):
        axis.annotate(f"  {value:.4g}", (end, place), va="center", fontsize=8)
    axis.set_yticks(places, names, fontsize=9)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(0, 1.22 * max(float(high.max()), 1e-9))
    axis.set_xlabel("cost: retrainings and bad quality", fontsize=9)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(alpha=0.25, axis="x")
