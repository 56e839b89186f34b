"""The live page in a real Chromium: what it shows, for whom, and that it follows the store by itself.

`pytest tests/test_page.py --pictures docs/pictures` also renews the pictures of docs/live-page.md.
"""

import asyncio
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import NamedTuple

import msgspec
import pytest
from aiohttp import web

from infra.local.daemon import silent
from infra.local.machine import locked
from infra.migrate import upgrade
from infra.web.hub import Hub
from infra.web.site import Site
from models.policy import DAY_US
from streams.event_store import EventStore
from streams.settings import load
from streams.store_pages import PageReader
from tests.broker_rig import environment
from tests.chromium import Browser, Tab, chromium
from tests.health_rig import free_port
from tests.page_rig import HOSTILE, Story, copies, falling, fill, reference, sqlite, tell, write

TODAY_US = int(time.time()) // 86_400 * DAY_US
AXE = Path(__file__).parent / "data" / "axe-core-4.14.1.min.js.gz"  # by Deque, under the MPL 2.0 named in it
DESKTOP, PHONE = (1280, 860), (360, 740)
LIST, MODEL = "document.querySelectorAll('.rows .row').length", "document.querySelector('.plot .estimate')"
TOKEN = "open-sesame"  # noqa: S105 -- of a test
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


class Shown(NamedTuple):
    """A page that is served."""

    url: str
    store: str


@contextmanager
def served(store: str, folder: Path) -> Iterator[Shown]:
    """`bestbefore page` on a store, in a process of its own."""
    port = free_port()
    settings = msgspec.structs.replace(load({}, folder, store=store), web_port=port)
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "page"], env=environment(settings), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        yield Shown(f"http://127.0.0.1:{port}/", store)
    finally:
        process.terminate()
        process.communicate(timeout=20)
        assert process.returncode == 0


@contextmanager
def here(store: str, token: str = "") -> Iterator[Shown]:
    """The same in a thread of this process, which starts at once."""
    started: Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Queue()

    async def serve() -> None:
        reader, app, ended = PageReader(store), web.Application(), asyncio.Event()
        app.add_routes(Site(Hub(reader, lambda: {"worker": None}), token).routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        started.put((asyncio.get_running_loop(), ended, runner.addresses[0][1]))
        await ended.wait()
        await runner.cleanup()
        reader.close()

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop, ended, port = started.get(timeout=60)
    try:
        yield Shown(f"http://127.0.0.1:{port}/", store)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests of this file."""
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The page of a store with a model in every state."""
    folder = tmp_path_factory.mktemp("page")
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")  # processes that share the tests share the store as well
    filled = folder if run is None else tmp_path_factory.getbasetemp().parent / f"page-{run}"
    filled.mkdir(exist_ok=True)
    with locked(filled / "lock", report=silent, patience_s=120):
        if not (filled / "done").exists():
            fill(sqlite(filled), TODAY_US)
            (filled / "done").touch()
    with served(sqlite(filled), folder) as found:
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
    """The text of an element, once it is there, with single spaces."""
    tab.wait(f"document.querySelector({json.dumps(selector)})")
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
    told = dict(rows)
    assert rows[0][0] == "churn 4"
    assert told["churn 4"] == "Below its threshold"
    assert told["digits 3"] == "Retrain now"
    assert told["fraud 9"] == "Fix the pipeline"
    assert told["weather 8"].startswith("No data since ")
    assert told["pricing 2"] == "Date unknown"
    assert told["search-ranking 1"] == "Quality unknown"
    assert told["vision-qa 1"] == "No window yet"
    assert told["demand 2"] == "1 fact not as declared"
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


def test_axe_sees_what_is_wrong(browser: Browser, page: Shown) -> None:
    """A tool that sees nothing would pass."""
    tab = look(browser, page.url, LIST)
    tab.run("document.querySelector('.rows h2 a').textContent = ''; 0")
    assert any(found.startswith("link-name") for found in violations(tab))


@pytest.mark.parametrize("place", ["", "#/defect-camera/3", "#/fraud/9", "#/vision-qa/1"])
def test_nothing_scrolls_sideways_on_a_phone(browser: Browser, page: Shown, place: str) -> None:
    there = "document.querySelector('.card') && !document.body.innerText.includes('Asking')"
    tab = look(browser, page.url + place, there, size=PHONE)
    assert tab.run("document.documentElement.scrollWidth") <= PHONE[0]
    small = tab.run("[...document.querySelectorAll('button, summary, input')].filter((e) => e.offsetParent && "
                    "e.getBoundingClientRect().height < 24).map((e) => e.outerHTML)")  # fmt: skip
    assert small == [], "too small for a finger"


def test_text_from_telemetry_is_only_ever_text(browser: Browser, page: Shown) -> None:
    """A segment whose name is markup: shown as it is, in the table, in the address and as a title."""
    tab = look(browser, f"{page.url}#/defect-camera/3", MODEL)
    link = "[...document.querySelectorAll('#main th a')].find((e) => e.innerText.includes('<img'))"
    assert HOSTILE in tab.run(f"{link}.innerText")
    tab.run(f"{link}.click(); 0")
    tab.wait("document.querySelector('.part') && document.querySelector('.plot .estimate')")
    assert HOSTILE in tab.run("document.querySelector('.part').innerText")
    assert tab.run("document.querySelectorAll('main img, main script, main iframe').length") == 0
    assert "owned" not in tab.run("document.title")
    refused = tab.run("(() => { try { document.body.innerHTML = '<b>x</b>' } catch (e) { return e.name } })()")
    assert refused == "TypeError", "the policy lets no text become markup, whoever forgets it in a script"


def test_it_asks_nobody_but_the_worker(browser: Browser, page: Shown) -> None:
    tab = look(browser, f"{page.url}#/digits/3", MODEL)
    assert len(tab.asked) >= 10
    assert [url for url in tab.asked if not url.startswith((page.url, "data:"))] == []


def test_a_model_tells_what_is_wrong_what_to_do_and_who_does_it(browser: Browser, page: Shown) -> None:
    tab = look(browser, f"{page.url}#/fraud/9", MODEL)
    told = text(tab, "main")
    for part in ("income is exactly '-1'", "Declared", "Seen", "Owner", "restore the nulls at their source",
                 "Fix the pipeline, by", "withheld"):  # fmt: skip
        assert part in told, part
    tab.run("document.querySelector('.mismatch summary').click(); 0")
    assert "bestbefore check --explain" in text(tab, ".mismatch details")
    assert "Labels" in told
    assert "observations" in told


def test_the_keyboard_is_enough(browser: Browser, page: Shown) -> None:
    """Skip to the models, open one, read the chart point by point, go back to where one was."""
    tab = look(browser, page.url, LIST)
    tab.press("Tab")
    assert tab.run("document.activeElement.id") == "skip"
    tab.press("Enter")
    assert tab.run("document.activeElement.id") == "main"
    for _ in range(12):
        tab.press("Tab")
        if tab.run("document.activeElement.closest('.rows') !== null"):
            break
    assert tab.run("getComputedStyle(document.activeElement.closest('.row')).outlineStyle") == "solid"
    assert tab.run("document.activeElement.innerText") == "churn 4"
    tab.press("Enter")
    tab.wait(MODEL)
    assert tab.run("document.activeElement.id") == "title"
    tab.run("document.querySelector('.plot').focus(); 0")
    tab.press("Home")
    first = text(tab, ".readout")
    tab.press("ArrowRight")
    assert text(tab, ".readout") != first
    assert "inferences" in first
    assert tab.run("document.activeElement.getAttribute('aria-valuetext')") == text(tab, ".readout")
    tab.run("history.back(); 0")
    tab.wait(LIST)


def test_the_chart_has_its_numbers_in_a_table(browser: Browser, page: Shown) -> None:
    tab = look(browser, f"{page.url}#/credit-risk/12", MODEL)
    tab.wait("document.querySelector('figure summary')")
    tab.run("document.querySelector('figure summary').click(); 0")
    tab.wait("document.querySelectorAll('figure tbody tr').length === 36")
    assert text(tab, "figure thead") == (
        "Window until accuracy 90% interval Inferences Labels Basis Best before, as told then"
    )
    assert "both" in text(tab, "figure tbody tr")


def test_times_are_the_readers_and_utc_is_at_hand(browser: Browser, page: Shown) -> None:
    tab = look(browser, f"{page.url}#/credit-risk/12", MODEL)
    title = tab.run("[...document.querySelectorAll('time')].map((t) => t.title).find((t) => t.includes('Zurich'))")
    assert "(Europe/Zurich) · " in title
    assert title.endswith(" UTC")
    tab.run("document.querySelector('#zone').click(); 0")
    assert text(tab, "#zone") == "Times are in UTC"
    assert "(UTC)" in tab.run("document.querySelector('time').title")


def test_a_link_leads_to_a_part_and_to_a_choice_of_models(browser: Browser, page: Shown) -> None:
    tab = look(browser, f"{page.url}#/?show=blind", LIST)
    assert set(tab.run("[...document.querySelectorAll('.rows .row')].map((r) => r.className)")) == {"row tone-blind"}
    assert tab.run("document.querySelector('[aria-pressed=true]').innerText").startswith("Unknown or silent")
    tab.open(f"{page.url}#/nobody/1")
    tab.wait("document.body.innerText.includes('no model version of that name')")


def test_paper_is_white_whatever_the_screen_is(browser: Browser, page: Shown) -> None:
    tab = look(browser, f"{page.url}#/fraud/9", MODEL, theme="dark")
    light = "getComputedStyle(document.body).color.match(/\\d+/g).every((part) => part < 60)"
    assert not tab.run(light)
    tab.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert tab.run(light)
    assert tab.run("getComputedStyle(document.querySelector('.back')).display") == "none"


# -- what changes ------------------------------------------------------------------------------------------------------


def test_it_follows_the_store_and_says_aloud_only_a_verdict_that_changed(browser: Browser, tmp_path: Path) -> None:
    """A day that changes figures is shown and not said; the day of the trigger is said. The focus stays."""
    url = sqlite(tmp_path)
    upgrade(url)
    story = Story(reference("digits", "3"), falling(24, 0.004), days=40)
    kinds = [{note.kind for note in day.notes} for day in tell(story, TODAY_US, 2)]
    asked = next(i for i, found in enumerate(kinds) if "trigger" in found)
    days = list(tell(story, TODAY_US + (len(kinds) - asked - 1) * DAY_US, 2))  # so that it is asked for today
    store = EventStore(url)
    with here(url) as shown:
        tab = look(browser, shown.url, "document.querySelector('.start')")
        assert "bestbefore register FOLDER" in text(tab, ".start")
        write(store, days[: asked - 8])
        tab.wait(LIST)
        tab.run("document.querySelector('.rows a').focus(); 0")
        tab.run("window.old = document.querySelector('.quality').innerText; 0")
        write(store, days[asked - 8 : asked - 7])
        tab.wait("document.querySelector('.quality').innerText !== window.old")
        assert text(tab, "#spoken") == ""
        write(store, days[asked - 7 : asked + 1])
        tab.wait("document.querySelector('#spoken').innerText.includes('digits 3: Retrain now, was ')")
        assert tab.run("document.activeElement.innerText") == "digits 3"
        tab.open(f"{shown.url}#/digits/3")
        tab.wait(MODEL)
        before = tab.run("document.querySelector('.plot').getAttribute('aria-valuemax')")
        write(store, days[asked + 1 : asked + 2])
        tab.wait(f"document.querySelector('.plot').getAttribute('aria-valuemax') === '{int(before) + 1}'")
        assert tab.said == []
    store.close()
    tab.wait("document.querySelector('#link').innerText === 'connection lost'")
    assert "has not been heard since" in text(tab, "#banner")


def test_who_has_the_token_sees_it_and_the_token_is_in_no_address(browser: Browser, tmp_path: Path) -> None:
    """A form, a cookie that no script reads, back to the place of the link; and out again."""
    url = sqlite(tmp_path)
    upgrade(url)
    write(EventStore(url), list(tell(Story(reference("a/b ü", "1"), falling(99, 0.0), days=3), TODAY_US)))
    with here(url, TOKEN) as shown:
        tab = browser.tab()
        tab.open(f"{shown.url}#/a%2Fb%20%C3%BC/1")
        tab.wait("document.activeElement.id === 'token'")
        assert violations(tab) == []
        tab.write("wrong")
        tab.press("Enter")
        tab.wait("document.querySelector('#wrong') && !document.querySelector('#wrong').hidden")
        tab.write(TOKEN)
        tab.press("Enter")
        tab.wait("document.querySelector('h1')?.innerText.startsWith('a/b ü')")
        assert tab.run("document.cookie") == ""
        assert not any(TOKEN in asked for asked in tab.asked)
        assert tab.run("fetch('models.json').then((r) => r.status)") == 200
        tab.run("document.querySelector('#out button').click(); 0")
        tab.wait("document.querySelector('#token')")
        assert tab.run("fetch('models.json').then((r) => r.status)") == 401


def test_two_hundred_models_are_found_and_filtered(browser: Browser, page: Shown, tmp_path: Path) -> None:
    shutil.copy(page.store.removeprefix("sqlite:///"), tmp_path / "store.db")
    copies(sqlite(tmp_path), 188)
    with here(sqlite(tmp_path)) as shown:
        tab = look(browser, shown.url, f"{LIST} === 100")
        assert violations(tab) == []
        tab.run("document.querySelector('[data-key=more]').click(); 0")
        assert tab.run(LIST) == 200
        tab.run("document.querySelector('#find').focus(); 0")
        tab.write("site-007")
        tab.wait(f"{LIST} === 1")
        assert "find=site-007" in tab.run("location.hash")
        took = tab.run("(() => { const t = performance.now(); document.querySelector('#find').dispatchEvent("
                       "new Event('input')); return performance.now() - t })()")  # fmt: skip
        assert took < 1000


# -- pictures ------------------------------------------------------------------------------------------------------

PICTURES = {
    "live-page-light": ("", DESKTOP, "light"), "live-page-dark": ("", DESKTOP, "dark"),
    "live-page-phone": ("", PHONE, "light"),
    "live-page-model": ("#/defect-camera/3", DESKTOP, "light"), "live-page-model-dark": ("#/fraud/9", DESKTOP, "dark"),
    "live-page-model-phone": ("#/digits/3", PHONE, "dark"),
}  # fmt: skip


def test_the_pictures_of_the_documentation_are_there(
    browser: Browser, page: Shown, request: pytest.FixtureRequest
) -> None:  # fmt: skip
    """Each is small, and with --pictures it is made anew."""
    folder = Path(request.config.getoption("--pictures") or Path(__file__).parent.parent / "docs" / "pictures")
    for name, (place, size, theme) in PICTURES.items():
        if request.config.getoption("--pictures"):
            tab = look(browser, page.url + place, MODEL if place else LIST, size=size, theme=theme)
            tab.picture(folder / f"{name}.png")
        assert 10_000 < (folder / f"{name}.png").stat().st_size < 200_000, name
    told = (folder.parent / "live-page.md").read_text("utf-8")
    assert [name for name in PICTURES if f"pictures/{name}.png" not in told] == []
