"""What a design-time check looks at: the descriptors, the model file where there is one, and the date."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.checks.verdict import Side
from models.descriptors.paths import Trees, entries_at, items_at, value_at
from models.inspection import Inspection


@dataclass(frozen=True)
class Workplace:
    """`now_us` None: no clock, so checks about age are unknown. `place` gives file and line of a path."""

    trees: Trees
    now_us: int | None = None
    inspection: Inspection | None = None
    place: Callable[[str], str] = lambda _: ""

    def value(self, path: str) -> Any:
        """The fact at `path`, or None."""
        return value_at(self.trees, path)

    def items(self, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The objects of the list at `path`, each with its own path."""
        return items_at(self.trees, path)

    def entries(self, path: str) -> Iterator[tuple[str, str, Any]]:
        """Path, key and value of the object at `path`."""
        return entries_at(self.trees, path)

    def has(self, kind: str) -> bool:
        """Whether the descriptor is there at all."""
        return bool(self.trees.get(kind))

    def side(self, path: str, value: Any = None, unit: str = "") -> Side:
        """The side of a comparison that stands at `path`."""
        return Side(path, self.value(path) if value is None else value, unit, place=self.place(path))
