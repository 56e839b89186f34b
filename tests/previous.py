"""The previous version of the project, run beside this one: from its wheels, with the same installed dependencies.

`tests/data/previous` holds them; `make previous` renews them at a release.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
WHEELS = ROOT / "tests" / "data" / "previous"


def version() -> str:
    """Which version it is."""
    (wheel,) = WHEELS.glob("bestbefore-*.whl")
    return wheel.name.split("-")[1]


def unpacked(folder: Path) -> str:
    """Unpack it into `folder`, because its migrations and data must be files; where it is imported from."""
    for wheel in sorted(WHEELS.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return str(folder)


def environment(home: str) -> dict[str, str]:
    """The environment in which Python finds the version at `home`, whatever else is installed."""
    return {**os.environ, "PYTHONPATH": home, "OMP_NUM_THREADS": "1"}


def python(home: str, *arguments: str, folder: Path) -> bytes:
    """What a Python process of that version prints; fails with what it said."""
    done = subprocess.run(
        [sys.executable, "-P", *arguments], cwd=folder, env=environment(home), capture_output=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    return done.stdout
