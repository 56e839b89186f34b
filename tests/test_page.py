"""The live page in a real Chromium: what it shows, for whom, and that it follows the store by itself.

`pytest tests/test_page.py --pictures docs/pictures` also renews the pictures of docs/live-page.md.
"""

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from infra.migrate import upgrade
from models.policy import DAY_US
from streams.event_store import EventStore
from tests.broker_rig import environment
from tests.chromium import Browser, Tab, chromium
from tests.health_rig import free_port, get, within
from tests.page_rig import HOSTILE, Story, copies, falling, fill, reference, sqlite, tell, write
from streams.settings import load

TODAY_US = int(time.time()) // 86_400 * DAY_US
AXE = Path(__file__).parent / "data" / "axe-core-4.14.1.min.js.gz"  # by Deque, under the MPL 2.0 named in it
DESKTOP, PHONE = (1280, 860), (360, 740)
LIST, MODEL = "document.querySelectorAll('.rows .row').length", "document.querySelector('.plot .estimate')"
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


class Shown(NamedTuple):
    """A page that is served."""

    url: str
    store: str


@contextmanager
def served(store: str, folder: Path, **changed: Any) -> Iterator[Shown]:
    """`bestbefore page` on a store, in a process of its own."""
    port = free_port()
    settings = msgspec.structs.replace(load({}, folder, store=store), web_port=port, **changed)
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "page"], env=environment(settings), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        yield Shown(f"http://127.0.0.1:{port}/", store)
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests of this file."""
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The page of a store with a model in every state."""
    folder = tmp_path_factory.mktemp("page")
    fill(sqlite(folder), TODAY_US)
    with served(sqlite(folder), folder) as found:
        yield found


def look(browser: Browser, url: str, ready: str, *, size: tuple[int, int] = DESKTOP, theme: str = "light") -> Tab:
    """A tab of a new user who reads English in Zurich."""
    tab = browser.tab()
    tab.size(*size, phone=size == PHONE)
    tab.prefers(color_scheme=theme, reduced_motion="reduce")
    tab.zone("Europe/Zurich")
    tab.open(url)
    tab.wait(ready)
    return tab


def text(tab: Tab, selector: str) -> str:
    """The text of an element, with single spaces."""
    return " ".join(str(tab.run(f"document.querySelector({json.dumps(selector)}).innerText")).split())


def violations(tab: Tab) -> list[str]:
    """What axe-core finds, by rule and place."""
    tab.run(gzip.decompress(AXE.read_bytes()).decode() + "; 0")
    asked = json.dumps({"runOnly": list(RULES), "resultTypes": ["violations"]})
    found = tab.run(f"axe.run(document, {asked}).then((r) => JSON.stringify(r.violations))")
    return [f"{v['id']}: {n['target']} {n['failureSummary']}" for v in json.loads(found) for n in v["nodes"]]


# -- what is shown -------------------------------------------------------------------------------------------------


def test_every_state_of_a_model_is_told_in_words_worst_first(browser: Browser, page: Shown) -> None:
    tab = look(browser, page.url, LIST)
    rows = tab.run("[...document.querySelectorAll('.rows .row')].map((r) => [r.querySelector('h2').innerText, "
                   "r.querySelector('.verdict').innerText])")  # fmt: skip
    told = {name: verdict for name, verdict in rows}
    assert [name for name, _ in rows][0] == "churn 4"
    assert told["churn 4"] == "Below its threshold"
    assert told["digits 3"] == "Retrain now"
    assert told["weather 8"].startswith("No data since ")
    assert told["pricing 2"] == "Date unknown"
    assert told["search-ranking 1"] == "Quality unknown"
    assert told["vision-qa 1"] == "No window yet"
    assert told["credit-risk 12"].startswith("Good until at least ")
    assert told["loan 6"] == "Replaced by version 7"
    assert rows[-1][0] == "loan 6"
    assert "need somebody" in text(tab, "#summary")
    assert text(tab, "#link") == "live"
    assert tab.said == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("place", ["", "#/defect-camera/3", "#/search-ranking/1"])
def test_axe_finds_nothing_in_either_theme(browser: Browser, page: Shown, theme: str, place: str) -> None:
    tab = look(browser, page.url + place, "document.querySelector('.plot') || " + LIST, theme=theme)
    assert violations(tab) == []
    assert tab.said == []
