"""`python -m tests.fuzz`: fuzz all groups side by side; `replay NAME FILE`: try one input again and show what comes."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import engine

PATIENCE = 90  # seconds for imports, and for an input that takes long


class Run(NamedTuple):
    """What came of a group."""

    group: str
    status: int
    output: str

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Inputs, lines and branches covered (0 without atheris), defects: kinds found, or a process that died."""
        inputs = [int(a or b) for a, b in re.findall(rf"{self.group}: (\d+) inputs|executed_units: (\d+)", self.output)]
        covered = [int(n) for n in re.findall(r"cov: (\d+)", self.output)]
        defects = self.output.count("DEFECT ") + (self.status != 0)
        return (inputs or [0])[-1], (covered or [0])[-1], defects


def fuzz(groups: list[str], seconds: int, folder: Path, at_once: int = 0) -> list[Run]:
    """Fuzz each group for so many seconds, in a process of its own, as many at once as there are cores."""
    at_once = at_once or os.cpu_count() or 1
    done: list[Run] = []
    for first in range(0, len(groups), at_once):
        some = groups[first : first + at_once]
        logs = [(folder / f"{group}.log").open("w+", encoding="utf-8", errors="replace") for group in some]
        processes = [_started(group, seconds, folder, log) for group, log in zip(some, logs, strict=True)]
        for group, log, process in zip(some, logs, processes, strict=True):
            try:
                status = process.wait(seconds + PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            log.seek(0)
            done.append(Run(group, status, log.read()))
            log.close()
    return done


def _started(group: str, seconds: int, folder: Path, log: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.fuzz", "one", group, str(seconds), str(folder)]
    return subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=_modest)  # type: ignore[call-overload,no-any-return]  # noqa: PLW1509


def _modest() -> None:
    os.nice(10)


def main() -> int:
    """The command line; returns 1 when there is a defect."""
    from tests.fuzz.registry import GROUPS, TARGETS, replayed  # noqa: PLC0415 -- `one` must import it under atheris

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each group")
    parser.add_argument("--folder", type=Path, help="for inputs with a defect, and the corpus; default: a new one")
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; or `replay` with a name and a file")
    given = parser.parse_args()
    if given.groups[:1] == ["replay"]:
        _, name, file = given.groups
        if name not in {*TARGETS, *GROUPS}:
            parser.error(f"no target {name!r}; there are {', '.join((*GROUPS, *TARGETS))}")
        _say("a value came back" if replayed(name, Path(file).read_bytes()) else "an error of the project came back")
        return 0
    folder = given.folder or Path(tempfile.mkdtemp(prefix="bestbefore-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    runs = fuzz(given.groups or list(GROUPS), given.seconds, folder)
    for run in runs:
        inputs, covered, defects = run.numbers
        _say(f"{run.group:12} {inputs:>9} inputs  {covered:>6} covered  {defects} defects")
        if defects:
            _say(
                "\n".join(
                    line for line in run.output.splitlines() if "DEFECT" in line or "replay" in line or "ERROR" in line
                )
            )
            _say(f"  all of it: {folder / run.group}.log")
    return int(any(run.numbers[2] for run in runs))


def _say(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        engine.main(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        sys.exit(main())
