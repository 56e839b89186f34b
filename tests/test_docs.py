"""The documentation is complete, and what it shows runs.

Convention for README.md and docs/: a `python` or `console` block is run when the line before it is `<!-- run -->`, and
only shown when that line is `<!-- not run: reason -->`. A `python` block without either is run, a `console` block
without either is an error. A block of any kind below `<!-- file: NAME -->` is the content of that file. Blocks of one
page share a folder, which holds `examples/` and a `bestbefore.toml` naming a real broker and an empty, migrated store;
`python` blocks share their names as well. `sql` blocks are marked as `console` blocks are, and run in that store. In a
`console` block `$ ` begins a command; lines below it, if there are any, are its output: `...` stands for anything.
`pycon` blocks and the examples in docstrings are doctests.
"""

import ast
import doctest
import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import pytest

from infra.cli import main
from infra.migrate import upgrade
from streams import settings, topics
from streams.store_engine import open_engine

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = sorted(
    path
    for folder in (
        ROOT / "streams",
        ROOT / "agents",
        ROOT / "models",
        ROOT / "infra",
        ROOT / "client/bestbefore_client",
    )
    for path in folder.rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)
PAGES = sorted(p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")) if p.exists())
BLOCK = re.compile(r"^(?P<mark><!--[^\n]*-->\n)?\n?```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.M | re.S)
TIMEOUT = 180


class Block(NamedTuple):
    """One fenced block; `mark` is the comment before it."""

    page: Path
    line: int
    kind: str
    mark: str
    body: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is the content of."""
        found = re.fullmatch(r"<!-- file: ([\w.-]+) -->", self.mark)
        return found[1] if found else None

    @property
    def shown_only(self) -> bool:
        """Whether its page says, with a reason, that it is not to be run."""
        return re.fullmatch(r"<!-- not run: .+ -->", self.mark) is not None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text("utf-8")
    return [
        Block(page, text.count("\n", 0, m.start("kind")) + 1, m["kind"], (m["mark"] or "").strip(), m["body"])
        for m in BLOCK.finditer(text)
    ]


# -- completeness --------------------------------------------------------------------------------------------


def _explained() -> dict[str, str]:
    """The text under each setting in streams/settings.py."""
    tree = ast.parse(Path(settings.__file__).read_text("utf-8"))
    body = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Settings").body
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def test_every_setting_has_its_row() -> None:
    """Name, default and meaning as in streams/settings.py, and nothing besides."""
    explained, defaults = _explained(), settings.Settings()
    assert explained.keys() == set(settings.Settings.__struct_fields__), "every setting has a text below it"
    wanted = []
    for name, text in explained.items():
        default = getattr(defaults, name)
        shown = "none" if default in ((), "") else f"`{default}`"
        wanted.append(f"| `{settings.PREFIX}{name.upper()}` | {shown} | {text} |")
    page = (DOCS / "reference" / "settings.md").read_text("utf-8")
    assert [line for line in page.splitlines() if line.startswith(f"| `{settings.PREFIX}")] == wanted


def test_every_topic_has_its_row() -> None:
    """Name, direction, key, cleanup and retention as in streams/topics.py."""
    lines = (DOCS / "reference" / "topics.md").read_text("utf-8").splitlines()
    for topic in topics.TOPICS:
        row = f"| `{topic.name}` | {topic.direction} | {topic.key} | {topic.cleanup} | {topic.days} d | "
        assert any(line.startswith(row) for line in lines), f"docs/reference/topics.md needs: {row}… |"


def test_every_event_field_is_named() -> None:
    """The fields of inference and label events stand in the page of topics."""
    from streams.heartbeats import Heartbeat  # noqa: PLC0415
    from streams.records import InferenceEvent, InputSample, LabelEvent, LifecycleEvent, Output  # noqa: PLC0415

    page = (DOCS / "reference" / "topics.md").read_text("utf-8")
    fields = {
        name
        for kind in (InferenceEvent, LabelEvent, LifecycleEvent, InputSample, Output, Heartbeat)
        for name in kind.__struct_fields__
    }
    assert sorted(name for name in fields if f"`{name}`" not in page) == []


def commands(group: click.Group = main, prefix: str = "bestbefore") -> Iterator[tuple[str, click.Command]]:
    """Every command of the command line by its full name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def test_every_command_has_its_section() -> None:
    """A section for each command, naming each of its options; none for commands that do not exist."""
    page = (DOCS / "reference" / "commands.md").read_text("utf-8")
    sections = dict(re.findall(r"^## (bestbefore [a-z -]+)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    assert sections.keys() == dict(commands()).keys()
    for name, command in commands():
        for parameter in command.params:
            option = max(parameter.opts, key=len)
            if isinstance(parameter, click.Option):
                assert f"`{option}`" in sections[name], f"section {name!r} does not name {option}"
                assert parameter.help, f"`{name} {option}` says nothing of itself in --help"


def test_every_page_is_reached() -> None:
    """Links within the documentation lead to files that exist."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}, which does not exist"


def test_make_targets_exist() -> None:
    """Every `make …` that a page tells of is a target, and continuous integration calls one."""
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for page in PAGES:
        told = set(re.findall(r"(?:`|\$ |^)make ([a-z]+)\b(?=`|$| )", page.read_text("utf-8"), re.M))
        assert told <= targets, f"{page.relative_to(ROOT)}: no target {told - targets}"
    run = ROOT / ".ci" / "run"
    assert run.read_text("utf-8").endswith("exec make test\n")
    assert os.access(run, os.X_OK)


def test_configuration_and_events_shown_are_valid(tmp_path: Path) -> None:
    """`toml` blocks are settings that load, `json` blocks that are inference events decode."""
    from streams.records import InferenceEvent  # noqa: PLC0415

    for block in (b for page in PAGES for b in blocks(page)):
        if block.kind == "toml":
            (tmp_path / "bestbefore.toml").write_text(block.body)
            for name in re.findall(r'_file = "(.+?)"', block.body):
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_text("secret")
            settings.load({}, tmp_path)
        elif block.kind == "json" and '"output"' in block.body:
            assert msgspec.json.decode(block.body, type=InferenceEvent).id
        elif block.kind == "json":
            json.loads(block.body)


# -- execution -----------------------------------------------------------------------------------------------


def test_every_block_says_whether_it_runs() -> None:
    """A `console` block is marked, and marks are spelled right."""
    for block in (b for page in PAGES for b in blocks(page)):
        where = f"{block.page.relative_to(ROOT)}:{block.line}"
        if block.kind in ("console", "sql"):
            assert block.mark == "<!-- run -->" or block.shown_only, f"{where}: put <!-- run --> or <!-- not run: … -->"
        assert block.kind not in ("sh", "shell", "bash") or block.shown_only, f"{where}: use `console`"


def _runnable(page: Path) -> list[Block]:
    kinds = ("python", "console", "pycon", "sql")
    return [b for b in blocks(page) if b.file or (b.kind in kinds and not b.shown_only)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_page_shows_runs(page: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every block of a page that is to be run, in order."""
    if not _runnable(page):
        return
    environment = _workplace(tmp_path, request.getfixturevalue("broker"), request.getfixturevalue("store_url"))
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in _runnable(page):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.file:
            (tmp_path / block.file).write_text(block.body, "utf-8")
        elif block.kind == "console":
            _run_console(block, where, tmp_path, environment)
        elif block.kind == "pycon":
            _run_doctest(block, where, names)
        elif block.kind == "sql":
            _run_sql(block, request.getfixturevalue("store_url"))
        else:
            previous = Path.cwd()
            os.chdir(tmp_path)
            try:
                exec(compile("\n" * block.line + block.body, str(page), "exec"), names)  # noqa: S102
            finally:
                os.chdir(previous)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_in_docstrings_run(path: Path) -> None:
    """Every example in a docstring prints what it shows."""
    base = ROOT / "client" if ROOT / "client" in path.parents else ROOT
    module = importlib.import_module(".".join(path.relative_to(base).with_suffix("").parts))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0, "see what it printed"


def _workplace(folder: Path, broker: str, store_url: str) -> dict[str, str]:
    """A folder as after `bestbefore up`, and an environment in which `bestbefore` and `python` are this project's."""
    upgrade(store_url)
    (folder / "bestbefore.toml").write_text(f"broker = {json.dumps(broker)}\nstore = {json.dumps(store_url)}\n")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    programs = folder / ".programs"
    programs.mkdir()
    for name, arguments in (("bestbefore", "-m infra.cli "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(settings.PREFIX)}
    path = os.pathsep.join((str(programs), os.environ.get("PATH", "")))
    return {**kept, "PATH": path, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}", "COLUMNS": "120"}


def _run_console(block: Block, where: str, folder: Path, environment: dict[str, str]) -> None:
    """Run the commands of a block one by one; compare what they print where the page shows it."""
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for command, expected in re.findall(r"^\$ ((?:[^\n]*\\\n)*[^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", block.body, re.M):
        done = subprocess.run(
            ["sh", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{where}: `{command}` ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        if expected.strip():
            good = checker.check_output(expected, done.stdout, flags)
            assert good, f"{where}: `{command}` printed\n{done.stdout}\nthe page shows\n{expected}"


def _run_sql(block: Block, store_url: str) -> None:
    engine = open_engine(store_url)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(block.body).all()
    finally:
        engine.dispose()


def _run_doctest(block: Block, where: str, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(block.body, names, where, str(block.page), block.line)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failed = runner.run(test, out=said.append, clear_globs=False).failed
    assert not failed, f"{where}:\n{''.join(said)}"
