"""The file of an SQLite store: made where it is asked for, and named when it is not there."""

from pathlib import Path

from streams.errors import StoreOutdated
from streams.store_engine import parse_url


def _file(url: str) -> Path | None:
    parsed = parse_url(url)
    named = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return Path(str(parsed.database)) if named else None


def make_folder(url: str) -> None:
    """Make the folder of an SQLite store; a server's store needs none."""
    file = _file(url)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)


def require_file(url: str) -> None:
    """Raises StoreOutdated when the file of an SQLite store was never made."""
    file = _file(url)
    if file is not None and not file.is_file():
        raise StoreOutdated(
            f"there is no event store at {file} yet; run `bestbefore up` (Kafka and Postgres on this machine), or set "
            "`store` and run `bestbefore migrate`"
        )
