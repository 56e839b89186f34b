"""One's own logs: a JSON object for each answer, or for each truth that has become known, with names of one's own.

Nothing is guessed: sources.yaml says where id, time, model, version, features and output stand, or `truth`. Paths lead
into `record`, the whole object.
"""

from typing import Any

from streams.adapters.contract import Adapter, Part, Record, json_of
from streams.errors import Unadaptable


def read(record: Record, _: Any = None) -> list[Part]:
    """One object, whose fields are both question and answer, or a truth. Raises Unadaptable."""
    row = json_of(record.value, "a JSON object, one a record")
    if not isinstance(row, dict) or not row:
        raise Unadaptable(f"not a JSON object with fields but {'an empty one' if row == {} else type(row).__name__}")
    return [Part(side="both", request=[row], response=[row], trees={"record": row})]


ADAPTER = Adapter("json", "Logs of your own: one JSON object a record", read, whole=True)
