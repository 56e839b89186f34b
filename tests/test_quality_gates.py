"""The habits of the house, held by the test run: small files, small functions, docstrings, nothing forbidden."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("streams", "agents", "models", "infra", "client", "benchmarks", "examples", "tests")
SOURCES = sorted(p for name in FOLDERS for p in (ROOT / name).rglob("*.py") if "build" not in p.relative_to(ROOT).parts)
TEXTS = (".py", ".md", ".toml", ".yml", ".yaml", ".json", ".cfg", ".sh", "")

MOST_LINES, MOST_FUNCTION_LINES = 400, 60

# Written in parts, or this file would hold what it forbids.
FORBIDDEN = {
    r"^\s*(import|from) " + r"pickle\b": "pickle runs code when it reads; use msgspec",
    r"\bunittest\b.*"
    + r"\bmock\b|monkeypatch\b.*"
    + r"\bsetattr\b": "drive the real thing, or pass a named fake as argument",
    r"^\s*except" + r"\s*:": "name the exception",
    r"\b(TO" + r"DO|FIX" + r"ME)\b": "do it, or open an issue",
    r"pytest" + r"\.(mark\.skip|mark\.xfail|skip\(|xfail\(|importorskip)": "a test that does not run tells nothing",
    r"^\s*from \S+ import " + r"\*": "import names",
}
PATHS = re.compile(r"""(?<![\w.)}/$-])/(?:work|root|home|tmp|Users)/[\w.]""")
HOSTS = re.compile("|".join((r"pypi" + r"\.org", r"pythonhosted" + r"\.org", r"files\.python" + "hosted")))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _texts() -> Iterator[Path]:
    """The text files of the project; what runs leave behind at the root is not looked into."""
    inside = [p for name in (*FOLDERS, "docs", ".ci") for p in sorted((ROOT / name).rglob("*"))]
    for path in [*sorted(ROOT.iterdir()), *inside]:
        made = re.search(r"/(build|__pycache__|\.env|\.\w+_cache|[\w.-]+\.egg-info)(/|$)", f"/{_name(path)}")
        if path.is_file() and path.suffix in TEXTS and not made:
            yield path


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def _undocumented(node: ast.AST, where: str) -> Iterator[str]:
    """Public classes and functions under `node` without a docstring; methods of private classes are private too."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith("_"):
            continue
        if ast.get_docstring(child) is None and not _declaration(child):
            yield f"{where}:{child.lineno} {child.name}"
        if isinstance(child, ast.ClassDef):
            yield from _undocumented(child, where)


def _declaration(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """An overload or a protocol's method: its class, or the one implementation, says what it is for."""
    return ast.unparse(node.body[-1]) == "..."


def test_sources_are_found() -> None:
    """A gate that sees nothing would pass."""
    assert {"streams/settings.py", "tests/conftest.py", "client/bestbefore_client/recorder.py"} <= set(
        map(_name, SOURCES)
    )


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_files_and_functions_are_small(path: Path) -> None:
    """At most 400 lines in a file, 60 in a function."""
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MOST_LINES, "split this file by what its parts are for"
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: _length(f) for f in functions if _length(f) > MOST_FUNCTION_LINES}
    assert not long, f"functions of more than {MOST_FUNCTION_LINES} lines: {long}"


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_nothing_forbidden(path: Path) -> None:
    """What the project never does; the message says what to do instead."""
    found = [
        f"{_name(path)}:{number}: {line.strip()} -- {why}"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for pattern, why in FORBIDDEN.items()
        if re.search(pattern, line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_public_names_are_documented(path: Path) -> None:
    """Every public module, class and function says what it is for."""
    tree = ast.parse(path.read_text("utf-8"))
    if tree.body:
        assert ast.get_docstring(tree), f"{_name(path)} has no module docstring"
    # What a migration defines is named by Alembic, and a test says by its name what it shows.
    if path.parent.name not in ("tests", "versions") and not path.name.startswith("test_"):
        missing = list(_undocumented(tree, _name(path)))
        assert not missing, "\n".join(missing)


def test_median_file_is_small() -> None:
    """Half of the package files have fewer than 160 lines."""
    lengths = sorted(len(p.read_text("utf-8").splitlines()) for p in SOURCES if p.parent.name != "tests")
    assert lengths[len(lengths) // 2] < 160


def test_nothing_of_one_machine() -> None:
    """No paths of the machine a file was written on, and no host of a package index: users have their own."""
    found = [
        f"{_name(path)}:{number}: {line.strip()[:120]}"
        for path in _texts()
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if (PATHS.search(line) or HOSTS.search(line)) and "--mount=type=cache" not in line
    ]
    assert not found, "\n".join(found)
