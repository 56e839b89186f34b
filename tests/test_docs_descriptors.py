"""docs/reference/descriptors.md names every key under `bestbefore`, telemetry.md every statistic, and examples work."""

import re
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
import yaml

from infra.checking import check
from models.checks.telemetry import explained
from models.checks.user_entries import CHECKS, entries
from models.descriptors import own
from models.descriptors.types import TYPES
from streams.settings import Settings

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "descriptors.md"
PAGE = ROOT / "docs" / "reference" / "descriptors.md"
TELEMETRY = ROOT / "docs" / "reference" / "telemetry.md"
NAMED = {
    own.Share: "share", own.Positive: "number > 0", own.Count: "count", own.Amount: "number >= 0",
    own.Duration: "duration", own.Instant: "instant",
}  # fmt: skip
PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "any"}
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.M | re.S)
ROW = re.compile(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", re.M)


def _sections() -> dict[str, dict[str, tuple[str, ...]]]:
    """Type, unit, default and use of every key, by heading and key."""
    found = {}
    for heading, body in SECTION.findall(PAGE.read_text("utf-8")):
        rows = ROW.findall(body)
        found[heading] = {key: tuple(part.strip() for part in rest) for key, *rest in rows}
        assert len(found[heading]) == len(rows), f"## {heading} has a key twice"
    return found


def _structs() -> dict[str, type[msgspec.Struct]]:
    """Heading on the page and the struct it is of: the descriptors, and what they are made of."""
    kinds: dict[str, type[msgspec.Struct]] = {}
    for kind, tree in TYPES.items():
        (section,) = (a for a in get_args(get_type_hints(tree)["bestbefore"]) if a is not type(None))
        kinds[kind] = section
    parts = {
        name: kind
        for name, kind in vars(own).items()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in kinds.values()
        if kind.__module__ == own.__name__ and kind is not own.Own
    }
    return {"Every descriptor": own.Own, **kinds, **parts}


def _belongs(struct: type[msgspec.Struct], key: str) -> bool:
    """Whether the key stands in the section of the struct, rather than in that of every descriptor."""
    return struct is own.Own or not issubclass(struct, own.Own) or key not in own.Own.__struct_fields__


def _told(hint: Any) -> str:
    """A type as the page writes it."""
    told = next((text for kind, text in NAMED.items() if kind == hint), None)
    origin, inner = get_origin(hint), get_args(hint)
    if told is None and origin is Annotated:
        told = _told(inner[0])
    elif told is None and origin in (types.UnionType, Union):
        told = " or ".join(_told(part) for part in inner if part is not type(None))
    elif told is None and origin is Literal:
        told = " or ".join(f"`{value}`" for value in inner).replace(" or ", ", ", len(inner) - 2)
    elif told is None and origin in (list, dict):
        told = f"{'list' if origin is list else 'object'} of {_told(inner[-1])}"
    elif told is None and isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        told = f"[{hint.__name__}](#{hint.__name__.lower()})"
    return told or PLAIN[hint]


def test_every_key_has_its_row() -> None:
    """Each struct of models/descriptors/own.py is a section with exactly its keys."""
    sections, structs = _sections(), _structs()
    assert sections.keys() == structs.keys()
    for heading, struct in structs.items():
        wanted = [key for key in struct.__struct_fields__ if _belongs(struct, key)]
        assert list(sections[heading]) == wanted, f"docs/reference/descriptors.md, ## {heading}"


def test_every_key_has_its_type() -> None:
    """The type that the page tells is the one that is enforced."""
    sections = _sections()
    for heading, struct in _structs().items():
        hints = get_type_hints(struct, include_extras=True)
        for key, (told, _, _, use) in sections[heading].items():
            assert told == _told(hints[key]), f"## {heading}, `{key}`"
            assert use, f"## {heading}: say what `{key}` is for"


def test_links_lead_to_sections() -> None:
    """Anchors within the page exist."""
    text = PAGE.read_text("utf-8")
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.M)}
    assert set(re.findall(r"\(#([^)]+)\)", text)) <= headings


def test_every_statistic_has_its_row() -> None:
    """docs/reference/telemetry.md tells name, unit and meaning as models/checks/telemetry.py does, and nothing else."""
    rows = [line for line in TELEMETRY.read_text("utf-8").splitlines() if line.startswith("| `telemetry.")]
    assert rows == [f"| `{name}` | {unit or '-'} | {about} |" for name, unit, about in explained()]


def _own_checks() -> list[tuple[str, Any]]:
    """The lists of checks that the guide shows."""
    found = []
    for body in re.findall(r"^```yaml\n(.*?)^```$", GUIDE.read_text("utf-8"), re.M | re.S):
        tree = yaml.safe_load(body)
        if isinstance(tree, dict) and "checks" in tree:
            found += [(entry["id"], entry) for entry in tree["checks"]]
    return found


@pytest.mark.parametrize(("name", "entry"), _own_checks())
def test_own_checks_of_the_guide_are_understood(name: str, entry: Any, tmp_path: Path) -> None:
    """Each is read without complaint, and holds or waits for traffic where the loan model is described."""
    folder = tmp_path / "loan"
    folder.mkdir()
    for file in (ROOT / "examples" / "loan").iterdir():
        tree = yaml.safe_load(file.read_text("utf-8"))
        if file.stem == "system_context":
            tree["bestbefore"]["checks"] = [entry]
            (found,) = entries({"system_context": tree})
            assert found.error == "", CHECKS
        (folder / file.name).write_text(yaml.safe_dump(tree), "utf-8")
    verdicts = [v for v in check(folder, Settings()).verdicts if v.check.startswith("user:")]
    assert [(v.check, v.verdict) for v in verdicts if v.verdict == "mismatch"] == [], name


def test_the_guide_shows_own_checks() -> None:
    """There is something to understand."""
    assert len(_own_checks()) >= 5
