"""The types of what is stored and of what workers tell each other, as plain data.

    python tests/stored_shapes.py      (prints JSON)

Runs under this version and under the previous one, like tests/artefacts.py.
"""

import sys
from typing import Any

import msgspec

import streams.lane
from models.inspection import Inspection
from models.reference import Reference
from models.subject_state import FORMAT, Saved
from models.window_book import Clock
from streams.lane import ProfileRecord

INSPECTED = {"state": Saved, "profile": ProfileRecord, "reference": Reference, "inspection": Inspection, "clock": Clock}


def shapes() -> dict[str, Any]:
    """Every type with the number of its format, where it carries one; 0 for the others."""
    formats = {"state": FORMAT, "profile": getattr(streams.lane, "PROFILE_FORMAT", 1)}
    return {
        name: {"format": formats.get(name, 0), "shape": shape(msgspec.inspect.type_info(kind), ())}
        for name, kind in INSPECTED.items()
    }


def shape(kind: Any, above: tuple[type, ...]) -> Any:
    """A type as plain data; a type within itself is only named."""
    name = type(kind).__name__
    if hasattr(kind, "fields"):
        if kind.cls in above:
            return f"{name} within itself"
        array = bool(getattr(kind, "array_like", False))
        fields = [[f.encode_name, f.required, shape(f.type, (*above, kind.cls))] for f in kind.fields]
        return {"fields": fields, "array": array, "strict": bool(getattr(kind, "forbid_unknown_fields", False))}
    return [name, {part: plain(getattr(kind, part), above) for part in kind.__struct_fields__}]


def plain(value: Any, above: tuple[type, ...]) -> Any:
    """A part of a type: other types, or words that describe it."""
    if isinstance(value, tuple):
        return [plain(one, above) for one in value]
    return shape(value, above) if isinstance(value, msgspec.inspect.Type) else repr(value)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(shapes()))
