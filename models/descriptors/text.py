"""Descriptors as text: YAML and JSON become plain trees, with the line of every fact, and trees become text again.

What is read is deliberately little. YAML: the core schema of YAML 1.2 (so `NO` and `2026-08-01` are text and `1e-3` is
a number), without tags, aliases and merge keys: an alias is how a small file becomes a large one, a tag how a file
runs code. JSON: RFC 8259, so no NaN. Keys are always text, as they are written. Nothing is ever unpickled.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from models.descriptors.json_text import Event, json_events
from models.descriptors.paths import join
from models.descriptors.problem import DescriptorProblem

MAX_DEPTH = 64
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_FOLDED = re.compile("[\r\x85\u2028\u2029\ufeff]")  # line breaks that YAML reads as another one


class Parsed(NamedTuple):
    """A tree and the line (from 1) on which each fact begins, by its path without the kind; the root is ``''``."""

    tree: dict[str, Any]
    lines: dict[str, int]


def parse(content: bytes, *, as_json: bool = False) -> Parsed:
    """The tree of a YAML or JSON text.

    Raises DescriptorProblem with the line where it can: no UTF-8, pickled, malformed, a key twice, a tag, an alias,
    deeper than `MAX_DEPTH`, a number that is not finite, or no keys and values at the top.

    >>> parse(b"rate: {mean: 5}").lines["rate.mean"]
    1
    """
    if _PICKLE.match(content):
        raise DescriptorProblem("is pickled; a pickle runs code when it is read, so write it as YAML or JSON")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DescriptorProblem(f"is not UTF-8 text: byte {error.start} is {content[error.start]:#04x}", line) from None
    events = json_events(text) if as_json else _yaml_events(text)
    tree, lines = _built(events)
    if not isinstance(tree, dict):
        raise DescriptorProblem(f"expected keys and values at the top, found {type(tree).__name__}", 1)
    return Parsed(tree, lines)


class _Open(NamedTuple):
    """A list or object that is being filled."""

    path: str
    body: Any
    keys: list[str]  # of an object: the key whose value comes next, if any


def _built(events: Iterator[Event]) -> tuple[Any, dict[str, int]]:
    """Values from (open object, open list, close, key or value, line); a loop, so depth costs no stack."""
    lines: dict[str, int] = {}
    stack: list[_Open] = []
    root: Any = None
    for what, value, line in events:
        if what == "close":
            stack.pop()
            continue
        if isinstance(value, str) and _SURROGATE.search(value):
            raise DescriptorProblem("half a surrogate pair is no text; write the character itself", line)
        top = stack[-1] if stack else None
        if what == "key":
            assert top is not None  # noqa: S101 -- both parsers give keys inside objects only
            path = _step(top.path, value)
            if value in top.body:
                first = lines[path]
                raise DescriptorProblem(f"{path} is there twice, first on line {first}; keep one", line)
            top.body[value] = None
            top.keys.append(value)
            lines[path] = line
            continue
        body = {} if what == "object" else [] if what == "list" else value
        path = _placed(top, body)
        if top is None:
            root = body
        lines.setdefault(path, line)
        if what != "value":
            if len(stack) >= MAX_DEPTH:
                raise DescriptorProblem(f"{path[:40]}… is nested deeper than {MAX_DEPTH} levels; flatten it", line)
            stack.append(_Open(path, body, []))
    return root, lines


def _placed(top: _Open | None, value: Any) -> str:
    """Puts a value where it belongs and says which path that is."""
    if top is None:
        return ""
    if isinstance(top.body, list):
        top.body.append(value)
        return f"{top.path}[{len(top.body) - 1}]"
    key = top.keys.pop()
    top.body[key] = value
    return _step(top.path, key)


def _step(path: str, key: str) -> str:
    return join(path, key) if path else join("", key).removeprefix(".")


def _yaml_events(text: str) -> Iterator[Event]:
    expects_key: list[bool | None] = []  # per open collection: None in a list
    documents = 0
    try:
        for event in yaml.parse(text, Loader=_Parser):
            line = getattr(event.start_mark, "line", 0) + 1
            documents += isinstance(event, yaml.DocumentStartEvent)
            _refuse_unread(event, documents, line)
            if isinstance(event, yaml.CollectionEndEvent):
                expects_key.pop()
                yield "close", None, line
            if not isinstance(event, yaml.NodeEvent):
                continue
            is_key = bool(expects_key) and expects_key[-1] is True
            if expects_key and expects_key[-1] is not None:
                expects_key[-1] = not is_key
            if isinstance(event, yaml.ScalarEvent):
                yield _scalar(event, line, is_key=is_key)
                continue
            if is_key:
                raise DescriptorProblem("a list or object stands where a key is expected; keys are text", line)
            is_object = isinstance(event, yaml.MappingStartEvent)
            expects_key.append(True if is_object else None)
            yield "object" if is_object else "list", None, line
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, said = mark.line + 1 if mark else 0, _said(error)
        # libyaml reads ahead for keys and has a limit of its own, which it may meet before we meet ours.
        if "nesting depth" in said:
            raise DescriptorProblem(f"the text is nested deeper than {MAX_DEPTH} levels; flatten it", line) from None
        raise DescriptorProblem(f"cannot be read: {said}", line) from None


def _refuse_unread(event: Any, documents: int, line: int) -> None:
    """Raises DescriptorProblem for what YAML has and descriptors do not."""
    if documents > 1:
        raise DescriptorProblem("a second document (---) begins; keep one per file", line)
    if isinstance(event, yaml.AliasEvent):
        raise DescriptorProblem("aliases (*name) are not read; write the value out", line)
    tag = getattr(event, "tag", None)
    if tag is not None:
        raise DescriptorProblem(f"tags ({tag}) are not read; write the plain value", line)


def _said(error: yaml.YAMLError) -> str:
    """What the parser says, on one line and without the excerpt of the file."""
    parts = [getattr(error, "context", None), getattr(error, "problem", None)]
    return ", ".join(part for part in parts if part) or " ".join(str(error).split())[:200]


def _scalar(event: Any, line: int, *, is_key: bool) -> Event:
    text, plain = event.value, event.implicit[0]
    if is_key:
        if plain and text == "<<":
            raise DescriptorProblem("merge keys (<<) are not read; write the keys out", line)
        return "key", text, line
    try:
        return "value", (plain_value(text) if plain else text), line
    except ValueError as error:
        raise DescriptorProblem(str(error), line) from None


def plain_value(text: str) -> Any:
    """What an unquoted word of YAML stands for. Raises ValueError for a number that is not finite.

    >>> plain_value("1e-3"), plain_value("NO"), plain_value("true")
    (0.001, 'NO', True)
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is no number to compare with; leave the key out where there is no bound")
    if not _FLOAT.fullmatch(text):
        return text
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large for a number")
    return number


def _integer(text: str) -> int:
    try:
        number = int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        float(number)
    except (ValueError, OverflowError):  # more digits than Python reads, or than any float has
        raise ValueError(f"{text[:40]} is too large for a number") from None
    return number


class _Dumper(yaml.SafeDumper):
    """Quotes what our own reader would not read back as text."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 -- PyYAML's name and signature
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        style = "'" if text == "<<" or not isinstance(plain_value(text), str) else None
    except ValueError:
        style = "'"
    if _FOLDED.search(text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def yaml_text(tree: dict[str, Any]) -> str:
    """The tree as YAML in the order of its keys; `parse` gives the same tree again."""
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def json_text(tree: dict[str, Any]) -> str:
    """The tree as JSON in the order of its keys; `parse` gives the same tree again. Raises ValueError for NaN."""
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
