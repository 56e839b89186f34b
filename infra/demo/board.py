"""What the demo shows: a live board while it plays, and the closing figures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra import show
from infra.demo.scenario import PER_DAY, START_US, Day, Scenario
from infra.plot import plot_status
from models.units import DAY_US
from streams.event_store import EventStore

MONTH = 30  # days of the fixed schedule that the closing figures compare with
SPARKS = "▁▂▃▄▅▆▇█"


class Board:
    """Follows the play and the store, and draws what an operator wants to see."""

    def __init__(self, scenario: Scenario, threshold: float, lead_days: float) -> None:
        self._scenario, self._threshold, self.lead_days = scenario, threshold, lead_days
        self._truth: list[float] = []
        self._status: list[dict[str, Any]] = []
        self._triggers: list[dict[str, Any]] = []
        self._live: Live | None = None
        self._console = Console(stderr=True)
        self._printed = 0
        self.delivered = 0
        self.triggered_on: int | None = None

    @property
    def windows(self) -> int:
        """Windows assessed so far."""
        return len(self._status)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Draw while the block runs; where nobody watches, one line every ten days."""
        if not self._console.is_terminal:
            yield
            return
        with Live(self._draw(), console=self._console, refresh_per_second=4) as self._live:
            yield
        self._live = None

    def day(self, day: Day) -> None:
        """A new day begins."""
        self._truth.append(day.accuracy)

    def sent(self, delivered: int) -> None:
        """Everything is with the broker."""
        self.delivered = delivered

    def look(self, store: EventStore) -> None:
        """Read what the pipeline has concluded since the last look."""
        self._status = [e.body for e in store.events(kind="status", limit=10_000) if not e.segment]
        self._triggers = [e.body for e in store.triggers()]
        if self._triggers and self.triggered_on is None:
            self.triggered_on = len(self._truth)
        if self._live is not None:
            self._live.update(self._draw())
        elif len(self._status) >= self._printed + 10:
            self._printed = len(self._status) // 10 * 10
            self._console.print(self._line(), highlight=False, soft_wrap=True)

    def _line(self) -> str:
        last = self._status[-1]
        return (
            f"  day {len(self._status):3d}  quality {show.interval(last['quality'])}  "
            f"truth {self._truth[len(self._status) - 1]:.3f}  {show.best_before(last['forecast'])}  "
            f"open mismatches {len(last['open_mismatches'])}  triggers {len(self._triggers)}"
        )

    def _draw(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column()
        played, total = len(self._truth), self._scenario.days
        table.add_row("played", f"day {played} of {total}, {played * PER_DAY:,} inferences sent")
        if self._status:
            self._rows(table, self._status[-1])
        else:
            table.add_row("assessed", "waiting for the first window to close")
        for trigger in self._triggers[-1:]:
            told = (
                f"{trigger['action']} by {show.day(trigger['retrain_by'])}, told on {show.day(trigger['created_at'])}"
            )
            table.add_row("trigger", Text(told, style="bold red"))
        bar = ProgressBar(total=total, completed=played, width=60)
        return Panel(Group(table, bar), title="digits 1: a reader behind a lens that clouds over", width=110)

    def _rows(self, table: Table, last: dict[str, Any]) -> None:
        number = len(self._status) - 1
        table.add_row("assessed", f"day {number + 1}, {last['window']['n']:,} inferences in it")
        table.add_row("quality", f"{show.interval(last['quality'])} from {last['quality']['basis']}  {self._sparks()}")
        table.add_row("truth", f"{self._truth[number]:.3f}, hidden from the pipeline; threshold {self._threshold}")
        table.add_row("best before", show.best_before(last["forecast"]))
        table.add_row("", Text(last["forecast"].get("levels") or "", style="dim"))
        probability = last["forecast"].get("probability_within_lead_time")
        told = "unknown" if probability is None else f"{probability:.0%}"
        table.add_row("below within lead time", told)
        table.add_row("open mismatches", "\n".join(last["open_mismatches"]) or "none")

    def _sparks(self) -> str:
        values = [s["quality"]["estimate"] for s in self._status if s["quality"]["estimate"] is not None][-40:]
        low, high = min([*values, self._threshold]), max([*values, self._threshold + 0.01])
        return "".join(SPARKS[min(int((v - low) / (high - low) * 8), 7)] for v in values)

    def truth(self) -> list[tuple[datetime, float]]:
        """The share of right answers of every day, at its end."""
        return [
            (datetime.fromtimestamp((START_US + (i + 1) * DAY_US) / 1e6, UTC), v) for i, v in enumerate(self._truth)
        ]


def closing(
    scenario: Scenario,
    board: Board,
    status: Sequence[dict[str, Any]],
    triggers: Sequence[dict[str, Any]],
    store: EventStore,
    out: Path,
) -> None:
    """The closing figures: when the model fell, when the pipeline said so, and what a calendar would have done."""
    threshold = status[-1]["forecast"]["threshold"] if status else None
    crossing = scenario.crossing(threshold) if threshold is not None else None
    crossed = None if crossing is None else _moment(crossing)
    plots = plot_status(status, triggers, out, truth=board.truth(), crossing=crossed)
    counts = store.counts()
    console = show.console()
    console.print("\n[bold]Closing figures[/]")
    table = Table.grid(padding=(0, 2))
    table.add_row(
        "inferences counted",
        f"{sum(s['window']['n'] for s in status):,} of {scenario.days * PER_DAY:,} in {len(status)} windows",
    )
    table.add_row("labels, days late", f"{counts['label']:,}; sampled inputs embedded {_inputs(store):,}")
    table.add_row(
        "true crossing", _date(crossing) + f" (accuracy below {threshold})" if crossing is not None else "never"
    )
    table.add_row("first trigger", *_first(triggers, crossing, board.lead_days))
    table.add_row("calendar, every 30 days", _calendar(crossing, scenario.days))
    table.add_row("forecast's 90% bound", _bound(status, crossing))
    table.add_row("estimate's 90% interval", _coverage(scenario, status))
    console.print(table)
    where = "\n".join(f"  {line}" for line in _where(out, plots))
    console.print(f"\n[bold]Where to look next[/]\n{where}", highlight=False)


def _inputs(store: EventStore) -> int:
    return sum(window.n_input for window in store.windows("digits", "1"))


def _moment(day: float) -> datetime:
    return datetime.fromtimestamp((START_US + day * DAY_US) / 1e6, UTC)


def _date(day: float) -> str:
    return f"{_moment(day):%Y-%m-%d}, day {day:.0f}"


def _number(text: str) -> float:
    return (datetime.fromisoformat(text).timestamp() * 1e6 - START_US) / DAY_US


def _first(triggers: Sequence[dict[str, Any]], crossing: float | None, lead: float) -> list[str]:
    """When the first trigger came, and whether a retraining begun then is in time."""
    if not triggers:
        return ["none"]
    first = triggers[0]
    told = _number(first["created_at"])
    ahead = ""
    if crossing is not None:
        spare = crossing - told - lead
        word = f"{spare:.0f} days to spare" if spare >= 0 else f"{-spare:.0f} days too late"
        ahead = f", {crossing - told:.0f} days ahead of the crossing; a retraining takes {lead:g}: {word}"
    count = "one trigger" if len(triggers) == 1 else f"{len(triggers)} triggers"
    return [
        f"{_date(told)}{ahead}; {count}, {first['action']} by {show.day(first['retrain_by'])}, id {first['trigger_id']}"
    ]


def _calendar(crossing: float | None, days: int) -> str:
    if crossing is None:
        return f"{days // MONTH} retrainings, none of them needed"
    early = [day for day in range(MONTH, days + 1, MONTH) if day <= crossing]
    if not early:
        return f"first on day {MONTH}: {MONTH - crossing:.0f} days below the threshold before it"
    return (
        f"retrains on day {', '.join(map(str, early))}, with {crossing - early[-1]:.0f} good days left; leaving "
        f"that one out, on day {early[-1] + MONTH}, after {early[-1] + MONTH - crossing:.0f} days below the threshold"
    )


def _coverage(scenario: Scenario, status: Sequence[dict[str, Any]]) -> str:
    known = [(i, s["quality"]) for i, s in enumerate(status) if s["quality"]["estimate"] is not None]
    if not known:
        return "no estimate"
    truth = {i: scenario.expected_accuracy(i + 0.5, 1) for i, _ in known}
    inside = sum(q["low"] <= truth[i] <= q["high"] for i, q in known)
    error = sum(abs(q["estimate"] - truth[i]) for i, q in known) / len(known)
    return f"held the truth on {inside} of {len(known)} days; mean error {100 * error:.1f} points"


def _bound(status: Sequence[dict[str, Any]], crossing: float | None) -> str:
    """How often the model was still good on the date until which it was promised to be."""
    if crossing is None:
        return "the model was good all the time"
    forecasts = [s["forecast"] for i, s in enumerate(status) if i < crossing]
    told = [f["low"] for f in forecasts if not f["reason"]]
    held = sum(low is not None and _number(low) <= crossing + 1 for low in told)
    silent = len(forecasts) - len(told)
    return f"'good for at least' held on {held} of {len(told)} days before the crossing, {silent} more say why not"


def _where(out: Path, plots: Sequence[Path]) -> list[str]:
    return [
        *(f"{plot}  (quality with its interval, best-before date, trigger; also as .svg)" for plot in plots[::2]),
        f"{out}/status.jsonl, {out}/mismatches.jsonl, {out}/retrain-triggers.jsonl  (what the topics carried)",
        f"bestbefore replay {out}/recording --descriptors examples/digits/descriptors --out {out}/replay"
        "  (the same lines again)",
        "python -m benchmarks.demo_seeds  (coverage and warning over 100 other decays, beside three baselines)",
        "bestbefore up; bestbefore register DIR; bestbefore worker  (your own models)",
    ]
