"""A worker whose wall clock is off by as many seconds as stand in a file, which may change while it runs.

The one fake in it is the clock: `time.time` and `time.time_ns`, which all of the worker's code asks.
Run as `python -m tests.faults.stepped_worker FILE worker`.
"""

import sys
import time
from pathlib import Path


def step(file: Path) -> None:
    """Step the clock of this process."""
    real, real_ns, monotonic = time.time, time.time_ns, time.monotonic
    off, looked = 0.0, -1.0

    def offset() -> float:
        nonlocal off, looked
        if monotonic() - looked > 0.02:
            off, looked = float(file.read_text()), monotonic()
        return off

    time.time = lambda: real() + offset()
    time.time_ns = lambda: real_ns() + int(offset() * 1e9)


if __name__ == "__main__":
    step(Path(sys.argv.pop(1)))
    from infra.cli import main

    main()
