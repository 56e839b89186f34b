"""The unprivileged user that Postgres runs as when root starts it."""

import os
import pwd
import stat
import subprocess
from pathlib import Path

from streams.errors import ServiceError

_NAME = "pgserver"


def system_user() -> pwd.struct_passwd | None:
    """The user to run Postgres as: None (oneself), or for root a system user that is made if missing.

    Raises:
        ServiceError: the user cannot be made.
    """
    if os.geteuid() != 0:
        return None
    return _known() or _made()


def _known() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(_NAME)
    except KeyError:
        return None


def _made() -> pwd.struct_passwd:
    useradd = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _NAME]
    try:
        done = subprocess.run(useradd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
        why = done.stderr.strip()
    except OSError as error:
        why = str(error)
    # Another process may have made it at the same moment, so what counts is whether it is there.
    user = _known()
    if user is None:
        raise ServiceError(
            f"postgres refuses to run as root, and the system user {_NAME} could not be made ({why}); make it with "
            "your system's tools, run as an ordinary user, or choose the store `sqlite`"
        )
    return user


def admit(user: pwd.struct_passwd, folder: Path, binaries: Path) -> None:
    """Let `user` pass through to `folder` and run the programs in `binaries`.

    Adds the right to pass through (x, not to list) for others to the folders above, where it is missing; and to a
    private installation of the programs the right to read.

    Raises:
        ServiceError: the rights cannot be changed.
    """
    try:
        for path in (folder, *folder.parents, *binaries.parents):
            _add(path, stat.S_IXOTH)
        if not binaries.stat().st_mode & stat.S_IROTH:
            for path in [binaries.parent, *binaries.parent.rglob("*")]:
                _add(path, stat.S_IROTH | (stat.S_IXOTH if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0))
    except OSError as error:
        raise ServiceError(
            f"postgres refuses to run as root, and the user {user.pw_name} cannot be let in: {error}; "
            "run as an ordinary user, choose another folder, or choose the store `sqlite`"
        ) from error


def run_as(user: pwd.struct_passwd | None, command: list[str]) -> None:
    """Run `command` to its end as `user` (None: as oneself).

    Raises:
        ServiceError: it failed; the message has what it printed.
    """
    done = subprocess.run(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=None if user is None else user.pw_uid,
        group=None if user is None else user.pw_gid,
        extra_groups=None if user is None else [],
    )
    if done.returncode != 0:
        raise ServiceError(f"`{command[0]}` failed: {(done.stderr or done.stdout)[-2000:]}")


def _add(path: Path, right: int) -> None:
    mode = path.stat().st_mode
    if mode & right != right:
        path.chmod(mode | right)
