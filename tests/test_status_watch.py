"""`status --watch` on a real store that goes away and comes back, and `plot`."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console
from sqlalchemy import make_url

from infra.cli import main
from infra.figures import file_name
from infra.local.machine import free_port
from infra.migrate import upgrade
from infra.watch import Watch
from streams.event_store import EventStore
from streams.store_rows import Event, WindowCounts, WindowEstimate
from tests.faults.proxy import Proxy

DAY_US = 86_400_000_000
START = 20_473 * DAY_US  # 2026-01-20


def told(store: EventStore, day: int, estimate: float | None, model: str = "digits") -> dict[str, Any]:
    """A status line of one day, written as `assess` writes it."""
    at = START + day * DAY_US
    end = f"2026-01-{20 + day + 1:02}T00:00:00Z"
    body: dict[str, Any] = {
        "model": model, "version": "1", "segment": None, "registered": True,
        "window": {"start": end, "end": end, "n": 500},
        "quality": {"metric": "accuracy", "estimate": estimate, "low": 0.8, "high": 1.0, "basis": "labels",
                    "reason": None if estimate else "no labels yet"},
        "forecast": {"threshold": 0.85, "low": "2026-02-03T00:00:00Z", "best_before": "2026-02-09T00:00:00Z",
                     "high": "2026-03-01T00:00:00Z", "reason": None},
        "open_mismatches": [], "open_triggers": {},
    }  # fmt: skip
    key: dict[str, Any] = {"model": model, "version": "1", "segment": "", "window_start_us": at,
           "window_end_us": at + DAY_US}  # fmt: skip
    with store.transaction() as tx:
        tx.append_events(
            [Event(event_id=f"{model}-{day}", kind="status", model=model, version="1", occurred_at_us=at, body=body)]
        )
        tx.add_windows([WindowCounts(n=500, **key)])
        tx.set_estimates([WindowEstimate(estimate=estimate, low=0.8, high=1.0, basis="labels", **key)])
    return body


@pytest.fixture
def store(store_url: str) -> Iterator[EventStore]:
    """A store with tables."""
    upgrade(store_url)
    found = EventStore(store_url)
    yield found
    found.close()


@pytest.fixture
def proxied(store_url: str) -> Iterator[tuple[str, Proxy]]:
    """The store's URL over a network that can be cut."""
    url = make_url(store_url)
    proxy = Proxy(free_port(), url.port or 0)
    proxy.start()
    yield url.set(port=proxy.port).render_as_string(hide_password=False), proxy
    proxy.stop()


def test_a_pipe_gets_a_line_for_what_is_new(store: EventStore, proxied: tuple[str, Proxy]) -> None:
    """It outlives the store, and Ctrl-C is its ordinary end."""
    url, proxy = proxied
    first = told(store, 0, 0.95)
    command = [sys.executable, "-m", "infra.cli", "status", "--watch", "0.1"]
    with subprocess.Popen(
        command, env={**os.environ, "BESTBEFORE_STORE": url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert json.loads(watching.stdout.readline()) == first
        proxy.refuse()
        assert "trying again" in watching.stderr.readline()
        second = told(store, 1, 0.94)
        proxy.heal()
        assert json.loads(watching.stdout.readline()) == second
        watching.send_signal(signal.SIGINT)
        rest, more = watching.communicate(timeout=20)
    assert (watching.returncode, rest, more) == (0, "", "")


def test_a_terminal_shows_the_trend_and_dates_what_is_old(store: EventStore, proxied: tuple[str, Proxy]) -> None:
    url, proxy = proxied
    mine = EventStore(url)
    watch = Watch(mine, None, 2.0)
    console = Console(width=220, record=True, file=io.StringIO())

    def screen() -> str:
        console.print(watch.screen())
        return console.export_text()

    assert watch.look()
    assert "nothing yet" in screen()
    for day, estimate in enumerate([0.90, 0.95, None]):
        told(store, day, estimate)
    assert watch.look()
    assert not watch.look()
    assert "▁█·" in screen()
    told(store, 3, 1.0)
    assert watch.look()
    shown = screen()
    assert "▁▄·█" in shown
    assert "1.000 [0.800, 1.000]" in shown
    proxy.refuse()
    assert watch.look()
    assert not watch.look()
    shown = screen()
    assert "NOT CURRENT: as of " in shown
    assert "1.000 [0.800, 1.000]" in shown
    proxy.heal()
    assert watch.look()
    assert "NOT CURRENT" not in screen()
    mine.close()


def test_what_the_store_knows_is_drawn(store: EventStore, store_url: str, tmp_path: Path) -> None:
    """A file for each model version, also where its name would be another folder."""
    nothing = CliRunner().invoke(main, ["--store", store_url, "plot", "--out", str(tmp_path)])
    assert nothing.exit_code == 2
    assert "nothing to draw: nothing yet" in nothing.stderr
    for day in range(5):
        told(store, day, 0.95 - day / 100)
        told(store, day, None, model="../up/<b>")
    drawn = CliRunner().invoke(main, ["--store", store_url, "plot", "--out", str(tmp_path / "plots")])
    assert drawn.exit_code == 0, drawn.output
    names = {"digits-1", file_name("../up/<b>", "1")}
    assert {Path(line).stem for line in drawn.stdout.split()} == names
    assert {f.name for f in (tmp_path / "plots").iterdir()} == {f"{n}.{kind}" for n in names for kind in ("png", "svg")}
    svg = (tmp_path / "plots" / "digits-1.svg").read_text()
    for words in ("accuracy (share)", "days ahead", "end of the window (UTC)", "90% interval", "threshold 0.85"):
        assert words in svg
    assert (tmp_path / "plots" / "digits-1.png").read_bytes().startswith(b"\x89PNG")
    again = CliRunner().invoke(main, ["--store", store_url, "plot", "--out", str(tmp_path / "again")])
    assert again.exit_code == 0
    assert (tmp_path / "again" / "digits-1.svg").read_text() == svg


def test_a_narrow_terminal_gets_paragraphs(store: EventStore) -> None:
    """Words stay whole in 80 columns; a wide terminal gets the table."""
    watch = Watch(store, None, 1.0)
    _ = told(store, 0, 0.95)
    _ = watch.look()
    narrow, wide = (Console(file=io.StringIO(), width=width) for width in (80, 200))
    for console in (narrow, wide):
        console.print(watch.screen())
    assert isinstance(narrow.file, io.StringIO)
    assert isinstance(wide.file, io.StringIO)
    assert "digits 1, window to 2026-01-21 00:00, n 500\n" in narrow.file.getvalue()
    assert "  quality      0.950 [0.800, 1.000], labels" in narrow.file.getvalue()
    assert "quality, 90% interval" in wide.file.getvalue()
