"""The site builds without a warning, loads nothing from elsewhere, and every page of docs/ is in its navigation."""

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import create_engine, inspect

from infra.migrate import upgrade
from tests.test_docs import DOCS, ROOT, commands

TAKEN = runpy.run_path(str(ROOT / ".ci" / "docs_site.py"))["TAKEN"]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)], cwd=ROOT, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class _Loads(HTMLParser):
    """What a page makes the browser load."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        fields = dict(attrs)
        if tag in LOADED and fields.get(LOADED[tag]) and fields.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(fields[LOADED[tag]])


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """No script, style, font or picture of another host: it works without a network and tells nobody of its readers."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    assert {load for page in pages for load in _Loads(page).found if re.match(r"(https?:)?//", load)} == set()
    for style in site.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)]+", style.read_text("utf-8")) == [], style


def test_what_is_generated_is_there(site: Path) -> None:
    """The newcomer's path, the help of every command, metrics, and the client's API."""
    assert "Say where things stand in your logs" in (site / "start/index.html").read_text("utf-8")
    told = (site / "reference/help/index.html").read_text("utf-8")
    assert [name for name, _ in commands() if f"Usage: {name}" not in told] == []
    assert "bestbefore_records_total" in (site / "reference/metrics/index.html").read_text("utf-8")
    client = (site / "reference/client/index.html").read_text("utf-8")
    assert "heartbeat_seconds" in client
    assert "RecorderMiddleware" in client
    assert '<svg role="img" aria-label="' in (site / "concepts/index.html").read_text("utf-8")


def _listed(entries: Any) -> Iterator[str]:
    for entry in entries:
        target = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from _listed(target) if isinstance(target, list) else (target,)


def test_every_page_is_in_the_navigation() -> None:
    """A page that nobody lists is found by search only."""
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = set(_listed(yaml.safe_load(text)["nav"]))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert {page for page in pages if not page.startswith("reference/checks/")} - listed == set()
    assert all((ROOT / source).exists() for source in TAKEN.values())


def test_every_view_of_the_store_has_its_row(tmp_path: Path) -> None:
    """Names and columns of the views that dashboards read, as the migrations make them."""
    url = f"sqlite:///{tmp_path}/events.db"
    upgrade(url)
    store = inspect(create_engine(url))
    rows = dict(re.findall(r"^\| `(v_\w+)` \| [^|]+ \| (.+) \|$", (DOCS / "dashboards.md").read_text("utf-8"), re.M))
    assert sorted(rows) == sorted(store.get_view_names())
    for name, told in rows.items():
        columns = [column["name"] for column in store.get_columns(name)]
        assert told == "the same" or re.findall(r"`(\w+)`", told) == columns, f"docs/dashboards.md, {name}: {columns}"
