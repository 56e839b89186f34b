"""Virtual environments of their own for what tests run beside the project: orchestrators, model servers, peers.

Each is named after its requirements file in tests/environments/, is made once by uv and kept until that file changes.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from infra.local.daemon import silent
from infra.local.machine import locked

REQUIREMENTS = Path(__file__).with_name("environments")
CACHE = Path.home() / ".cache" / "bestbefore" / "environments"


def environment(name: str) -> Path:
    """The `python` of an environment in which tests/environments/NAME.txt is installed.

    The first time it fetches what the file names; two processes that want the same one wait for each other.

    Raises:
        RuntimeError: it could not be made; says what uv said.
    """
    wanted = REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{digest}"
    python, made = folder / "bin" / "python", folder / "made"
    with locked(CACHE / f"{name}.lock", report=silent, patience_s=900):
        if not made.exists():
            _uv(name, "venv", "--clear", "--python", sys.executable, str(folder))
            _uv(name, "pip", "install", "--python", str(python), "--requirement", str(wanted))
            made.touch()  # last, so that one that was cut off is made again
    return python


def _uv(name: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uv", "--quiet", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the environment {name} of tests/environments was not made:\n{done.stderr.strip()[-2000:]}")
