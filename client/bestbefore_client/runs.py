"""What was begun and finished of each trigger, in a folder: one file each, and a lock that dies with its process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

try:
    import fcntl
except ImportError:  # Windows: there one consumer per folder is the user's duty
    fcntl = None  # type: ignore[assignment]


class Runs:
    """The runs of a folder. Consumers that share it, also over a file system with locks, act once on each trigger."""

    def __init__(self, folder: str | Path) -> None:
        """Make the folder if it is missing."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self, trigger_id: str) -> Iterator[None]:
        """Hold the trigger; waits while another process does. A killed process holds nothing."""
        with open(self._path(trigger_id, "lock"), "ab") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self, trigger_id: str) -> dict[str, Any]:
        """What was last written of a trigger; empty for a new one."""
        try:
            found = json.loads(self._path(trigger_id, "json").read_bytes())
        except FileNotFoundError:
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, trigger_id: str, state: Mapping[str, Any]) -> None:
        """Replace it; a crash leaves the old or the new one, never half of it."""
        path = self._path(trigger_id, "json")
        draft = path.with_suffix(f".{os.getpid()}.draft")
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)

    def _path(self, trigger_id: str, kind: str) -> Path:
        """Ids come from outside: none leads out of the folder."""
        return self.folder / f"trigger-{quote(trigger_id, safe='')}.{kind}"
