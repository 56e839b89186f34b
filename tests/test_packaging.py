"""The four folders are plain top-level packages of one application; these guards keep that safe."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CLIENT: dict[str, Any] = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text("utf-8"))
TOP = ("streams", "agents", "models", "infra")
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]


def _modules() -> list[str]:
    """Every importable module; migration scripts are loaded by Alembic, by path."""
    paths = [p for name in TOP for p in (ROOT / name).rglob("*.py")] + list((ROOT / "client").glob("bestbefore_*/*.py"))
    names = {
        ".".join(p.relative_to(ROOT / "client" if "client" in p.relative_to(ROOT).parts[:1] else ROOT).parts)
        for p in paths
        if p.parent.name != "versions" and p.name not in ("env.py", "__main__.py")
    }
    return sorted(name.removesuffix(".py").removesuffix(".__init__") for name in names)


def test_no_other_distribution_owns_our_names() -> None:
    """Where the project is installed, nothing else ships a package called streams, agents, models or infra."""
    owners = packages_distributions()
    for name in TOP:
        assert set(owners.get(name, ["bestbefore"])) == {"bestbefore"}, f"{name} is also in {owners[name]}"


def test_our_folders_come_first() -> None:
    """The modules that are tested are those of this checkout."""
    for name in TOP:
        assert str(importlib.import_module(name).__file__).startswith(str(ROOT / name))


def test_tests_are_flat() -> None:
    """A package below tests/ could shadow the real one of the same name."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_package_is_listed() -> None:
    """Each folder with Python files is a package, is listed in pyproject.toml, and exists."""
    folders = {p.parent.relative_to(ROOT) for name in TOP for p in (ROOT / name).rglob("*.py")}
    assert sorted(".".join(folder.parts) for folder in folders) == sorted(PACKAGES)
    missing = [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").exists()]
    assert not missing, f"no __init__.py in {missing}"


def test_files_that_are_no_code_are_packaged() -> None:
    """Each other file below the packages matches a pattern of package-data, or the image would lack it.

    What deploys the image is not in it.
    """
    patterns = [pattern for each in PROJECT["tool"]["setuptools"]["package-data"].values() for pattern in each]
    for name in TOP:
        for path in (ROOT / name).rglob("*"):
            of_code = path.suffix in (".py", ".pyc") or path.name == "py.typed"
            if path.is_file() and not of_code and not path.is_relative_to(ROOT / "infra" / "deploy"):
                assert any(path.match(pattern) for pattern in patterns), f"{path.relative_to(ROOT)}: add it"


def test_the_wheel_is_not_for_an_index() -> None:
    """Names as common as ours must not be uploaded."""
    assert "Private :: Do Not Upload" in PROJECT["project"]["classifiers"]


def test_versions_agree() -> None:
    """Project, client and changelog tell one version."""
    version = PROJECT["project"]["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest is not None
    assert version == CLIENT["project"]["version"] == newest[1]


def _declared(requirements: list[str]) -> set[str]:
    """Names of distributions, as packaging compares them."""
    return {_normal(re.split(r"[\[<>=!~; ]", text, maxsplit=1)[0]) for text in requirements}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(folder: Path) -> dict[str, str]:
    """Top-level names that the files below `folder` import, each with one file that does."""
    found = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found.update(dict.fromkeys((alias.name.partition(".")[0] for alias in node.names), str(path)))
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module.partition(".")[0]] = str(path)
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names}


@pytest.mark.parametrize(
    ("folder", "own", "extras"),
    [
        *(
            (
                name,
                {*TOP, "bestbefore_client"},
                {"infra": ["local", "demo"], "streams": ["avro", "tracing"]}.get(name, []),
            )
            for name in TOP
        ),
        ("client/bestbefore_client", {"bestbefore_client"}, ["confluent"]),
    ],
)
def test_what_is_imported_is_declared(folder: str, own: set[str], extras: list[str]) -> None:
    """No import relies on a dependency of a dependency."""
    project = (CLIENT if folder.startswith("client") else PROJECT)["project"]
    declared = _declared([*project["dependencies"], *(d for e in extras for d in project["optional-dependencies"][e])])
    owners = packages_distributions()
    for name, path in sorted(_imported(ROOT / folder).items()):
        if name not in own:
            known = {_normal(owner) for owner in owners.get(name, [name])}
            assert known & declared, f"{path} imports {name}, of {known}: add it to the dependencies"


@pytest.mark.parametrize("name", _modules())
def test_all_is_honest(name: str) -> None:
    """What `__all__` lists is there; what a package re-exports is listed."""
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", None)
    if listed is not None:
        assert list(listed) == sorted(set(listed)), f"{name}.__all__ is sorted and without repetition"
        assert [entry for entry in listed if not hasattr(module, entry)] == []
    elif str(module.__file__).endswith("__init__.py"):
        tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
        assert not any(isinstance(node, ast.ImportFrom) for node in tree.body), f"{name} re-exports without __all__"


# What an import may not do, by the names of Python's audit events. A library's own import is the library's business, so
# an event counts for the innermost module that was being imported, if that is one of ours.
PROBE = """
import importlib, json, os, sys, threading
names, roots = json.loads(sys.argv[1]), tuple(json.loads(sys.argv[2]))
WATCHED = {
    "socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.fork", "os.posix_spawn", "os.mkdir",
    "os.remove", "os.rename", "os.putenv", "os.unsetenv", "os.chdir", "sqlite3.connect",
}
found = []

def audit(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if event not in WATCHED and not writes:
        return
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "<module>":
        if "importlib" in frame.f_code.co_filename and "_bootstrap" in frame.f_code.co_filename:
            return  # the import system itself, writing its cache
        frame = frame.f_back
    if frame is not None and frame.f_code.co_filename.startswith(roots):
        found.append([frame.f_code.co_filename, event, repr(args)[:200]])

sys.addaudithook(audit)
path = list(sys.path)
for name in names:
    importlib.import_module(name)
if sys.path != path:
    found.append(["sys.path", "changed", repr(sys.path)])
found += [["thread", "started", t.name] for t in threading.enumerate() if t is not threading.main_thread()]
print(json.dumps(found))
"""


def _side_effects(folder: Path, path: list[Path], ours: list[Path], names: list[str]) -> list[list[str]]:
    """What importing `names`, found through `path`, did besides in modules below `ours`; in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(names), json.dumps([str(each) for each in ours])],
        cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_imports_have_no_side_effects(tmp_path: Path) -> None:
    """Importing any module opens no socket, starts no thread or process, writes no file, changes no environment."""
    ours = [*(ROOT / name for name in TOP), ROOT / "client" / "bestbefore_client"]
    assert _side_effects(tmp_path, [ROOT, ROOT / "client"], ours, _modules()) == []
    assert list(tmp_path.iterdir()) == []


def test_side_effects_would_be_seen(tmp_path: Path) -> None:
    """The probe above sees what it looks for."""
    lines = ("import os, threading", "os.environ['A'] = 'b'", "threading.Timer(0.2, int).start()", "open('x', 'w')")
    (tmp_path / "loud.py").write_text("\n".join(lines))
    events = {event for _, event, _ in _side_effects(tmp_path, [tmp_path], [tmp_path], ["loud"])}
    assert events == {"os.putenv", "started", "open"}
