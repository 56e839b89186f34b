"""Passwords and tokens: which settings are secret, how they are read from files, and that nobody prints them."""

import re
from pathlib import Path
from typing import Any

from streams.errors import SettingsError

_LONGEST = 64 << 10  # bytes of a secret's file; what is longer is another file
_SUSPECT = re.compile(r"passw|secret|token|^store|key$", re.I)
_IN_URL = re.compile(r"://[^/@]*:[^/@]+@|[?&](ssl)?password=")


class Secret(str):
    """Text whose `repr` hides it, so that it is not in tracebacks, in printed settings, or in what clients log of them.

    >>> Secret("hunter2"), Secret("hunter2") == "hunter2", Secret("")
    ((hidden), True, '')
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "(hidden)" if self else "''"


def is_secret(name: str) -> bool:
    """Whether a setting holds a secret, and may therefore be given as `<name>_file`."""
    return name == "store" or name.endswith(("_password", "_token"))


def gives_away(name: str, value: Any) -> bool:
    """Whether whoever reads this value of a setting learns a secret; the store's URL may or may not have a password."""
    return is_secret(name) and bool(value) and (name != "store" or bool(_IN_URL.search(str(value))))


def shown(name: str, value: Any) -> str:
    """A value as a message may quote it; hidden behind a misspelt name too, and where it looks like a user in a URL."""
    text = repr(value)
    return "(hidden)" if _SUSPECT.search(name) or "@" in text else text if len(text) <= 200 else f"{text[:200]}…"


def read_secret(path: Path, named_by: str) -> Secret:
    """The secret that a file holds, without the line end behind it. `named_by` is the setting and where it stands.

    Raises SettingsError: it cannot be read, is empty, too long or not text; the message never quotes it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        text = content.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{named_by} names {path}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{named_by} names {path}, which is not UTF-8 text; put just the secret there") from None
    if len(content) > _LONGEST:
        raise SettingsError(
            f"{named_by} names {path}, which is longer than {_LONGEST} bytes; put just the secret there"
        )
    if not text:
        raise SettingsError(f"{named_by} names {path}, which is empty; put the secret there, or take the setting away")
    return Secret(text)
