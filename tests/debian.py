"""Programs that tests run for real and that pip does not have: a Prometheus, an Alertmanager, a Chromium.

What is on the machine is used. Else the packages of Debian are: those that stand alone are unpacked into a cache
folder, where they start no service; those that need the rest of the system are installed, which takes root.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from infra.local.daemon import silent
from infra.local.machine import locked

CACHE = Path.home() / ".cache" / "bestbefore" / "debian"
# program -> (package, where the program lies in it)
_UNPACKED = {
    "prometheus": ("prometheus", "usr/bin/prometheus"),
    "promtool": ("prometheus", "usr/bin/promtool"),
    "prometheus-alertmanager": ("prometheus-alertmanager", "usr/bin/prometheus-alertmanager"),
    "amtool": ("prometheus-alertmanager", "usr/bin/amtool"),
}
_INSTALLED = {"chromium": "chromium", "curl": "curl"}


def program(name: str) -> Path:
    """The path of a program, fetched the first time.

    Raises:
        RuntimeError: it is not on the machine and Debian's packages cannot be had; says what to install.
    """
    if found := shutil.which(name):
        return Path(found)
    if shutil.which("apt-get") is None:
        raise RuntimeError(f"tests need {name}, which is not on this machine; install it")
    with locked(CACHE / "lock", report=silent, patience_s=600):
        if name in _UNPACKED:
            package, inside = _UNPACKED[name]
            path = CACHE / package / inside
            if not path.exists():
                _unpack(package, CACHE / package)
            return path
        if shutil.which(name) is None:
            _apt(name, "install", "--yes", "--no-install-recommends", _INSTALLED[name])
        return Path(shutil.which(name) or f"/usr/bin/{name}")


def _unpack(package: str, into: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        _apt(package, "download", package, folder=folder)
        (archive,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", archive, Path(folder) / "files"], check=True)
        (Path(folder) / "files").rename(into)  # whole or not at all


def _apt(wanted: str, *arguments: str, folder: str | None = None) -> None:
    """Ask apt; where its lists do not know the package, or know one that is gone, renew them and ask again."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    said = ""
    for command in (arguments, ("update",), arguments):
        done = subprocess.run(
            ["apt-get", "--quiet", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and command == arguments:
            return
        said = done.stderr.strip()[-500:]
    raise RuntimeError(f"tests need {wanted}, which Debian's packages did not give; install it. apt-get said:\n{said}")
