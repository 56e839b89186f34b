"""Background processes that outlive the command that started them, known by pid file and command line.

A pid alone proves nothing: after a crash the number may belong to another program. A process is ours only if
its command line also names a path of ours (`mark`), so a reused pid is neither taken for a service nor killed.
"""

import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from streams.errors import ServiceError

Report = Callable[[str], None]


def silent(_message: str) -> None:
    """Report to nobody."""


def launch(argv: Sequence[str], *, output: Path, folder: Path, user: pwd.struct_passwd | None = None) -> int:
    """Start `argv` in `folder`, detached, and return its pid.

    It gets a session of its own, no standard input, and `output` for what it prints. The shell in between leaves at
    once, so the service is nobody's child here: no zombie is left when it dies, whoever started it.

    Args:
        argv: program and arguments.
        output: file that standard output and error are appended to.
        folder: its working folder.
        user: whom to run as; needs root.
    """
    with output.open("ab") as log:
        shell = subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", '"$@" </dev/null >&2 & echo $!', "sh", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            umask=0o077,
            start_new_session=True,
            check=True,
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )
    return int(shell.stdout)


def find(pid_file: Path, *, mark: str) -> psutil.Process | None:
    """The live process that `pid_file` names (first line), if its command line has the argument `mark`."""
    try:
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        return process if is_ours(process, mark=mark) else None
    except (FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        return None


def alive(pid: int, *, mark: str) -> bool:
    """Whether the process `pid` lives and has the argument `mark` on its command line."""
    try:
        return is_ours(psutil.Process(pid), mark=mark)
    except psutil.NoSuchProcess:
        return False


def is_ours(process: psutil.Process, *, mark: str) -> bool:
    """Whether `process` lives and has the argument `mark` on its command line."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and mark in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def end(process: psutil.Process, *, mark: str, how: signal.Signals = signal.SIGTERM, patience_s: float = 20) -> None:
    """Ask `process` to leave with the signal `how`; after `patience_s` kill it. Returns when it is gone."""
    _send(process, how, mark)
    if not _gone(process, patience_s):
        kill(process, mark=mark)


def kill(process: psutil.Process, *, mark: str) -> None:
    """Kill -9 `process` and wait until it and its children are gone.

    Raises:
        ServiceError: it is still there after 20 s.
    """
    family = [process, *_children(process)]
    _send(process, signal.SIGKILL, mark)
    if not all(_gone(member, 20) for member in family):
        raise ServiceError(f"process {process.pid} did not go within 20 s of kill -9; see `ps -p {process.pid}`")


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log, indented for an error message; empty if there is none."""
    if not path.exists():
        return ""
    last = path.read_text(errors="replace").splitlines()[-lines:]
    return "".join(f"\n    {line}" for line in last)


def wait_until(answers: Callable[[], bool], alive: Callable[[], bool], *, deadline_s: float) -> bool:
    """Poll `answers` until it holds; False when the deadline passes or `alive` stops holding."""
    end_at = time.monotonic() + deadline_s
    while time.monotonic() < end_at and alive():
        if answers():
            return True
        time.sleep(0.05)
    return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _send(process: psutil.Process, how: signal.Signals, mark: str) -> None:
    if not is_ours(process, mark=mark):
        return
    try:
        process.send_signal(how)
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise ServiceError(f"process {process.pid} belongs to another user; stop it as that user") from error


def _gone(process: psutil.Process, patience_s: float) -> bool:
    end_at = time.monotonic() + patience_s
    while time.monotonic() < end_at:
        if _exited(process):
            return True
        time.sleep(0.02)
    return False


def _exited(process: psutil.Process) -> bool:
    # The first thread of a dying process is a zombie while others still hold its ports; and where nobody reaps
    # orphans (some containers) a zombie of one thread is all the end there will be.
    try:
        return not process.is_running() or (process.status() == psutil.STATUS_ZOMBIE and len(process.threads()) <= 1)
    except psutil.NoSuchProcess:
        return True
