"""A real broker and a real Postgres, started once for the whole run and stopped at its end."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from infra.local.services import Services, ephemeral
from tests.filled_store import filled


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """The broker and the store that all tests share."""
    # Not pytest's own folder: every later run of it takes that folder's rights away, which Postgres needs under root.
    folder = Path(tempfile.mkdtemp(prefix="bestbefore-tests-"))
    with ephemeral(folder) as started:
        yield started
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def broker(services: Services) -> str:
    """Address of the shared broker; use topic and group names of your own."""
    return services.broker


@pytest.fixture
def store_url(services: Services) -> Iterator[str]:
    """SQLAlchemy URL of an empty Postgres database of this test's own."""
    server = make_url(services.store)
    name = f"test_{uuid.uuid4().hex}"
    _execute(server, f"CREATE DATABASE {name}")
    yield server.set(database=name).render_as_string(hide_password=False)
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def filled_store(services: Services) -> Iterator[str]:
    """SQLAlchemy URL of a Postgres database with four weeks of three models, for tests that only read."""
    server = make_url(services.store)
    name = f"filled_{uuid.uuid4().hex}"
    _execute(server, f"CREATE DATABASE {name}")
    url = server.set(database=name).render_as_string(hide_password=False)
    filled(url).close()
    yield url
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["postgres", "sqlite"])
def any_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLAlchemy URL of an empty database, once on Postgres and once on SQLite."""
    if request.param == "sqlite":
        return URL.create("sqlite", database=str(tmp_path / "store.db")).render_as_string()
    return str(request.getfixturevalue("store_url"))


def _execute(server: URL, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of tests/fuzz and of tests/test_page.py."""
    parser.addoption("--fuzz-seconds", default=60, help="seconds for each group that coverage guides")
    parser.addoption("--fuzz-times", default=1, help="so many times the damaged inputs, drawn anew (1: the same ones)")
    parser.addoption("--pictures", help="folder into which tests/test_page.py puts the pictures of the live page")
