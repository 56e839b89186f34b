"""One process that fuzzes one group for some seconds: atheris, guided by coverage, where there is one for the machine.

It goes on after a defect, so that one run finds many; each kind (error and line) is kept once, as a file. What
kills the process instead (memory, an input that takes too long, a crash of a library) is kept by libFuzzer.
"""

import contextlib
import hashlib
import importlib.util
import io
import logging
import sys
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

ATHERIS = importlib.util.find_spec("atheris") is not None
RSS_MB = 2048
SLOW_S = 20  # for one input, on a machine that does other things too
MAX_LEN = 1 << 16
PACKAGES = ["streams", "models", "agents", "infra", "bestbefore_client"]


class Books:
    """What a run has seen: inputs, values, errors of the project, kinds of defects."""

    def __init__(self, group: str, folder: Path) -> None:
        self.group, self.folder = group, folder
        self.inputs = self.values = 0
        self.defects: dict[str, Path] = {}

    def one(self, content: bytes) -> None:
        """Try one input."""
        from tests.fuzz.registry import replayed  # noqa: PLC0415 -- after atheris has hooked the imports

        self.inputs += 1
        try:
            self.values += replayed(self.group, content)
        except AssertionError as error:
            self._keep(content, error)

    def _keep(self, content: bytes, error: AssertionError) -> None:
        cause = error.__cause__ or error
        last = traceback.extract_tb(cause.__traceback__)[-1]
        kind = f"{type(cause).__name__} in {Path(last.filename).name}:{last.lineno}"
        if kind in self.defects:
            return
        path = self.folder / f"{self.group}-{hashlib.sha256(content).hexdigest()[:12]}"
        path.write_bytes(content)
        self.defects[kind] = path
        print(f"DEFECT {kind}: {error}\n  replay: python -m tests.fuzz replay {self.group} {path}", flush=True)  # noqa: T201

    def told(self) -> str:
        """The last line of a run."""
        return f"{self.group}: {self.inputs} inputs, {self.values} values, {len(self.defects)} kinds of defects"


def main(group: str, seconds: int, folder: Path) -> None:
    """Fuzz; the process does not return from atheris, whose numbers come on stderr."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    folder.mkdir(parents=True, exist_ok=True)
    books = Books(group, folder)
    (_guided if ATHERIS else _blind)(books, seconds)


def _guided(books: Books, seconds: int) -> None:
    import atheris  # noqa: PLC0415 -- there is none for some machines

    with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=PACKAGES):
        from tests.fuzz.registry import group_damage, group_seeds  # noqa: PLC0415 -- hooked
    corpus = books.folder / f"corpus-{books.group}"
    corpus.mkdir(exist_ok=True)
    for seed in group_seeds(books.group):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def mutate(content: bytes, size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.4:
            return bytes(atheris.Mutate(content, size))
        return group_damage(books.group, bytes(content), random)[:size]

    due = 0.0

    def one(content: bytes) -> None:
        nonlocal due
        books.one(content)
        if time.monotonic() > due:  # libFuzzer ends the process when its time is over, and asks nobody
            due = time.monotonic() + 1
            _told(books)

    options = [
        f"-max_len={MAX_LEN}",
        f"-rss_limit_mb={RSS_MB}",
        f"-timeout={SLOW_S}",
        "-print_final_stats=1",
        f"-max_total_time={seconds}",
        f"-artifact_prefix={books.folder}/{books.group}-crash-",
        "-len_control=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()


def _blind(books: Books, seconds: int) -> None:
    from tests.fuzz.registry import group_damage, group_seeds  # noqa: PLC0415 -- as above

    random, seeds, end = Random(), group_seeds(books.group), time.monotonic() + seconds
    while time.monotonic() < end:
        content = random.choice(seeds)
        for _ in range(random.choice((0, 1, 1, 2))):
            content = group_damage(books.group, content, random)
        books.one(content)
    _told(books)


def _told(books: Any) -> None:
    print(books.told(), flush=True)  # noqa: T201
