"""What the embedded services need of the machine: free ports, room on the disk, and one command at a time."""

import fcntl
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.daemon import Report
from streams.errors import ServiceError

HOST = "127.0.0.1"

# Below the range that systems hand out to outgoing connections: a client that reconnects to a stopped service
# cannot be given that very port as its own and so keep the service from coming back.
_FREE_PORTS = range(15_000, 32_000)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on."""
    for _ in range(100):
        port = _FREE_PORTS.start + secrets.randbelow(len(_FREE_PORTS))
        if is_free(port):
            return port
    raise ServiceError(f"no free port found on {HOST} from {_FREE_PORTS.start} to {_FREE_PORTS.stop - 1}")


def is_free(port: int) -> bool:
    """Whether a service could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def is_open(port: int) -> bool:
    """Whether somebody accepts connections on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def claim_port(service: str, port: int) -> int:
    """`port` itself, if a service can listen on it.

    Raises:
        ServiceError: it is taken, or no port number at all.
    """
    if not 0 < port < 65_536:
        raise ServiceError(f"{service}: {port} is not a port; choose 1 to 65535 with `--{service}-port`")
    if not is_free(port):
        raise ServiceError(
            f"{service}: port {port} on {HOST} is taken by another program (or needs more rights); "
            f"stop that program, or choose another port with `--{service}-port PORT`"
        )
    return port


def need_room(folder: Path, room: int) -> None:
    """Make sure that `room` bytes are free where `folder` is.

    Raises:
        ServiceError: there is less.
    """
    free = shutil.disk_usage(folder).free
    if free < room:
        raise ServiceError(
            f"only {free / 1e9:.2f} GB are free on the disk of {folder}, the broker and the store need "
            f"{room / 1e9:.2f} GB; free some, or choose a folder on another disk"
        )


@contextmanager
def locked(path: Path, *, report: Report, patience_s: float = 180) -> Iterator[None]:
    """Hold the lock file `path`; another process that holds it is waited for. The system frees it if we die.

    Raises:
        ServiceError: the other one still holds it after `patience_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        _take(handle.fileno(), path, report, patience_s)
        yield


def _take(descriptor: int, path: Path, report: Report, patience_s: float) -> None:
    end_at = time.monotonic() + patience_s
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > end_at:
                raise ServiceError(
                    f"another command has held {path} for {patience_s:.0f} s; wait for it, or end it, then try again"
                ) from error
        if not told:
            report(f"waiting for another command that works in {path.parent}")
            told = True
        time.sleep(0.1)
