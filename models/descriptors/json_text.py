"""JSON (RFC 8259) as a stream of events with lines: Python's own reader gives values but not where they stand."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from models.descriptors.problem import DescriptorProblem

_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\\x00-\x1f]|\\.)*")|(?P<mark>[][{}:,])|(?P<word>true|false|null)
    |(?P<number>-?(?:0|[1-9][0-9]*)(?P<real>(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?))""",
    re.VERBOSE,
)
_SPACE = re.compile(r"[ \t\n\r]*")
_WORDS = {"true": True, "false": False, "null": None}
_CLOSING = {"{": "}", "[": "]"}
_OPENING = {"{": "object", "[": "list"}
_NO_VALUE = ("", "]", "}", ":", ",")

Event = tuple[str, Any, int]  # object | list | key | value | close, then its value, then its line


def json_events(text: str) -> Iterator[Event]:
    """The events of one JSON text in their order. Raises DescriptorProblem with the line of what does not fit."""
    tokens = _Tokens(text)
    closing: list[str] = []
    yield from _value(tokens, closing)
    while closing:
        end, first = closing[-1], tokens.previous in _CLOSING
        if tokens.peek == end:
            tokens.take()
            closing.pop()
            yield "close", None, tokens.line
            continue
        if not first:
            tokens.expect(",", f"',' or '{end}'")
        if end == "}":
            if not tokens.peek.startswith('"'):
                raise tokens.wrong("a key in double quotes")
            tokens.take()
            yield "key", _text(tokens), tokens.line
            tokens.expect(":", "':'")
        yield from _value(tokens, closing)
    if tokens.peek:
        raise tokens.wrong("the end of the file")


def _value(tokens: "_Tokens", closing: list[str]) -> Iterator[Event]:
    token = tokens.peek
    if token in _NO_VALUE:
        raise tokens.wrong("a value")
    kind = tokens.kind
    tokens.take()
    if token in _CLOSING:
        closing.append(_CLOSING[token])
        yield _OPENING[token], None, tokens.line
    elif kind == "text":
        yield "value", _text(tokens), tokens.line
    else:
        yield "value", _WORDS[token] if kind == "word" else _number(tokens), tokens.line


def _text(tokens: "_Tokens") -> str:
    try:
        text: str = json.loads(tokens.previous)
    except ValueError:
        raise DescriptorProblem(f"cannot be read: {tokens.previous[:40]} is no JSON text", tokens.line) from None
    return text


def _number(tokens: "_Tokens") -> float:
    token = tokens.previous
    try:
        number = float(token) if tokens.real else int(token)
        if math.isfinite(number):
            return number
    except (ValueError, OverflowError):  # more digits than Python reads, or than any float has
        pass
    raise DescriptorProblem(f"{token[:40]} is too large for a number", tokens.line)


class _Tokens:
    """The tokens of a JSON text, one ahead. `line` is that of the token taken last."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._next_line = 1
        self.line = 1
        self.previous = ""
        self.real = False
        self._look()

    def take(self) -> None:
        """Makes the token ahead the previous one."""
        self.previous, self.line, self.real = self.peek, self._next_line, self._real
        self._at += len(self.peek)
        self._look()

    def expect(self, token: str, named: str) -> None:
        """Takes `token`. Raises DescriptorProblem where another one stands."""
        if self.peek != token:
            raise self.wrong(named)
        self.take()

    def wrong(self, expected: str) -> DescriptorProblem:
        """The error that something else was expected here."""
        found = repr(self._text[self._at : self._at + 20]) if self._at < len(self._text) else "the end of the file"
        return DescriptorProblem(f"cannot be read: expected {expected}, found {found}", self._next_line)

    def _look(self) -> None:
        space = _SPACE.match(self._text, self._at)
        end = space.end() if space else self._at
        self._next_line += self._text.count("\n", self._at, end)
        self._at = end
        found = _TOKEN.match(self._text, end)
        self.peek = found.group() if found else ""
        self.kind = str(found.lastgroup) if found else ""
        self._real = bool(found and found.group("real"))
        if found and found.group("number") is not None:
            self.kind = "number"
        if not found and end < len(self._text):
            raise self.wrong("JSON")
