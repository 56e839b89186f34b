"""The JSON Schemas that a version publishes, as JSON; of one that publishes none, those of its inputs.

    python tests/published_schemas.py

Runs under this version and under the previous one, like tests/artefacts.py.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from streams import records


def schemas() -> dict[str, Any]:
    """By their published names."""
    # Looked for as a file: an editable install beside it would lend what this version does not have.
    if not Path(records.__file__).with_name("schemas.py").exists():
        inputs = {
            "inference-event": records.InferenceEvent, "label-event": records.LabelEvent,
            "lifecycle-event": records.LifecycleEvent,
        }  # fmt: skip
        return {name: schema(kind) for name, kind in inputs.items()}
    from streams.schemas import published  # noqa: PLC0415 -- earlier versions have none

    found: dict[str, Any] = published()
    return found


def schema(kind: Any) -> dict[str, Any]:
    """The schema of a type, with the type itself at the top."""
    found = msgspec.json.schema(kind)
    parts = found.pop("$defs")
    top = parts.pop(kind.__name__)
    return {**top, "$defs": parts}


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(schemas()))
