"""The lines of a replay or a demo as files: one for each topic, as the topics would have carried them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from models.notes import Note
from streams.asking import Request
from streams.store_rows import Event

_FILES = {
    "status": "status.jsonl", "mismatch": "mismatches.jsonl", "trigger": "retrain-triggers.jsonl",
    "lifecycle": "lifecycle.jsonl",
}  # fmt: skip


def write_notes(notes: Sequence[Note | Event], out: Path) -> dict[str, int]:
    """Write the lines of each kind into its file; returns how many there are."""
    counts = dict.fromkeys(_FILES, 0)
    files = {kind: (out / name).open("w", encoding="utf-8") for kind, name in _FILES.items()}
    for note in notes:
        files[note.kind].write(json.dumps(note.body, ensure_ascii=False, sort_keys=True) + "\n")
        counts[note.kind] += 1
    for file in files.values():
        file.close()
    return counts


def write_requests(requests: Iterable[Request], out: Path) -> int:
    """Write the labels that were asked for, where any were; returns how many there are."""
    lines = [
        msgspec.json.encode(r) + b"\n" for r in sorted(requests, key=lambda r: (r.time, r.inference_id, r.version))
    ]
    if lines:
        (out / "label-requests.jsonl").write_bytes(b"".join(lines))
    return len(lines)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that a replay wrote."""
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
