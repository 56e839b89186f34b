"""A JSON or YAML artefact with places: every access says what it expects and every refusal says where it was not so."""

import math
from collections.abc import Mapping
from typing import Any

from models.descriptors.paths import join
from models.descriptors.problem import DescriptorProblem
from models.descriptors.text import parse

MAX_TEXT = 16 << 20  # bytes; contracts and cards are a thousand times smaller


class Node:
    """One value of an artefact and where it stands. Absent values are nodes too: their `value` is None."""

    def __init__(self, artefact: str, value: Any, path: str = "", lines: Mapping[str, int] | None = None) -> None:
        self.artefact, self.value, self.path = artefact, value, path
        self._lines = lines or {}

    @classmethod
    def of(cls, artefact: str, content: bytes, *, as_json: bool = False) -> "Node":
        """The root of a text of keys and values. Raises ValueError with the line of what cannot be read.

        YAML is read without tags, aliases and merge keys, both to a bounded depth (`models.descriptors.text`).
        """
        if len(content) > MAX_TEXT:
            raise ValueError(f"{artefact} is larger than {MAX_TEXT >> 20} MiB; keep data out of it")
        try:
            tree, lines = parse(content, as_json=as_json)
        except DescriptorProblem as problem:
            place = f" at line {problem.line}" if problem.line else ""
            raise ValueError(f"{artefact}{place}: {problem}; correct the file or export it again") from None
        return cls(artefact, tree, "", lines)

    def __getitem__(self, key: str) -> "Node":
        """The value of a key."""
        return self.get(key)

    def get(self, *keys: str) -> "Node":
        """The value of the first of the keys that is there; keys are spellings of one thing (`name`, `sc:name`)."""
        if self.value is None:
            return Node(self.artefact, None, join(self.path, keys[0]) if self.path else keys[0], self._lines)
        if not isinstance(self.value, Mapping):
            raise self.wrong("keys and values")
        key = next((key for key in keys if self.value.get(key) is not None), keys[0])
        path = join(self.path, key) if self.path else join("", key).removeprefix(".")
        return Node(self.artefact, self.value.get(key), path, self._lines)

    def objects(self) -> list["Node"]:
        """The objects of a list; none where nothing is said."""
        found = self.elements()
        for node in found:
            if not isinstance(node.value, Mapping):
                raise node.wrong("keys and values")
        return found

    def elements(self) -> list["Node"]:
        """What a list holds; none where nothing is said."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return [Node(self.artefact, one, f"{self.path}[{i}]", self._lines) for i, one in enumerate(self.value)]

    def entries(self) -> list[tuple[str, "Node"]]:
        """Keys and values of an object; none where nothing is said."""
        if self.value is None:
            return []
        if not isinstance(self.value, Mapping):
            raise self.wrong("keys and values")
        return [(key, self.get(key)) for key in self.value]

    def text(self) -> str:
        """A text, empty where nothing is said. Numbers count as the text of themselves."""
        if self.value is None:
            return ""
        if isinstance(self.value, bool | list | Mapping):
            raise self.wrong("text")
        return str(self.value).strip()

    def name(self) -> str:
        """A text that must not be empty."""
        found = self.text()
        if not found:
            raise self.wrong("a name")
        return found

    def texts(self) -> list[str]:
        """The texts of a list, or the one text that stands in place of a list of one."""
        nodes = self.elements() if isinstance(self.value, list) else [self]
        return [found for found in (node.text() for node in nodes) if found]

    def number(self) -> float | None:
        """A finite number, or None where nothing is said."""
        if self.value is None:
            return None
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong("a number")
        try:
            found = float(self.value)
        except OverflowError:
            found = math.inf
        if not math.isfinite(found):
            raise self.wrong("a finite number")
        return self.value if isinstance(self.value, int) else found

    def flag(self) -> bool:
        """True or false; false where nothing is said."""
        if self.value is None:
            return False
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def shape(self) -> list[int | str] | None:
        """Axes of a tensor: sizes, -1 or a name for an open one; None where nothing is said."""
        if self.value is None:
            return None
        found: list[int | str] = []
        for node in self.elements():
            if isinstance(node.value, bool) or not isinstance(node.value, int | str) or node.value == "":
                raise node.wrong("the size of an axis or -1")
            if isinstance(node.value, int) and not -1 <= node.value < 1 << 63:
                raise node.wrong("the size of an axis or -1")
            found.append(node.value)
        return found

    def wrong(self, expected: str) -> ValueError:
        """The error that something else was expected here, with format, path, line and what to do."""
        found = repr(self.value)[:60] if isinstance(self.value, str | int | float) else type(self.value).__name__
        line = self._lines.get(self.path)
        place = f"{self.path or 'the top'}{f' (line {line})' if line else ''}"
        found = "nothing" if self.value is None else found
        return ValueError(f"{self.artefact}: {place}: expected {expected}, found {found}; correct it or leave it out")
