"""One pipeline for each file of tests: models of different names share it."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from infra.local.services import Services
from tests.conftest import _execute
from tests.orchestrators.rig import Pipeline, pipeline


@pytest.fixture(scope="module")
def running(services: Services) -> Iterator[Pipeline]:
    """A real worker on the shared broker, with topics and a Postgres database of its own."""
    server = make_url(services.store)
    name = f"orchestrated_{uuid.uuid4().hex}"
    folder = Path(tempfile.mkdtemp(prefix="bestbefore-orchestrated-"))
    _execute(server, f"CREATE DATABASE {name}")
    url = server.set(database=name).render_as_string(hide_password=False)
    with pipeline(services.broker, url, folder) as started:
        yield started
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")
    shutil.rmtree(folder)
