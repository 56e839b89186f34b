"""Every command, a worker and the client against a broker and a store that want TLS and a password.

All runs at level debug, and what comes out (lines, logs of every library, errors) is searched for the secrets.
"""

import asyncio
import gc
import io
import logging
import shutil
import tempfile
import time
import urllib.parse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]
import pytest
from aiokafka import AIOKafkaProducer
from bestbefore_client import Recorder
from click.testing import CliRunner
from kafka import KafkaProducer

from infra.cli import main
from streams.connection import client_options, connected, security_options
from streams.errors import StoreUnreachable
from streams.event_store import EventStore
from streams.settings import Settings, load
from tests.broker_rig import BASE, ignore, inference, reader, started, until
from tests.faults.crew import Worker
from tests.faults.traffic import HOUR_US
from tests.secured import (
    KEY_PASSWORD,
    MECHANISMS,
    PASSWORD,
    STORE_PASSWORD,
    USER,
    WRONG_PASSWORD,
    Secured,
    secured_services,
)

DESCRIPTORS = Path(__file__).parents[1] / "examples" / "digits" / "descriptors"
WAYS = (*MECHANISMS, "mTLS")
PREFIX = "secured."


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    """Both services, with topics and tables."""
    folder = Path(tempfile.mkdtemp(prefix="bestbefore-secured-"))  # see tests/conftest.py
    with secured_services(folder) as running:
        yield running
    shutil.rmtree(folder)


class Told(NamedTuple):
    """What a command printed, and what all libraries logged meanwhile."""

    status: int
    output: str
    errors: str
    log: str


def environment(**given: str) -> dict[str, str]:
    """Settings as a command gets them."""
    return {f"BESTBEFORE_{name.upper()}": value for name, value in {"topic_prefix": PREFIX, **given}.items()}


def holds_no_secret(*texts: str) -> None:
    """As it is, quoted for a URL, or as Python shows bytes and text."""
    for secret in (PASSWORD, STORE_PASSWORD, KEY_PASSWORD, WRONG_PASSWORD):
        random = secret.split()[-1]
        for form in (secret, random, urllib.parse.quote(secret), repr(secret.encode())[2:-1], ascii(secret)[1:-1]):
            assert not any(form in text for text in texts), "a secret came out"


def command(given: dict[str, str], *words: str) -> Told:
    """Run a command in this process, with everything logged."""
    root, log = logging.getLogger(), io.StringIO()
    handler, level = logging.StreamHandler(log), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        done = CliRunner().invoke(main, words, env={"BESTBEFORE_CONFIG": None, **environment(**given)})
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    told = Told(done.exit_code, done.stdout, done.stderr, log.getvalue())
    holds_no_secret(told.output, told.errors, told.log, str(done.exception))
    return told


def unencrypted(secured: Secured) -> dict[str, str]:
    """User and password without TLS: allowed on this machine."""
    return secured.given("PLAIN", broker=secured.address("OPEN"), broker_security="SASL_PLAINTEXT", broker_ca="")


# -- what is allowed in --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ready(secured: Secured) -> Secured:
    """With topics and tables."""
    given = secured.given("SCRAM-SHA-512", partitions="1")
    for words in (("migrate",), ("topics", "create")):
        told = command(given, *words)
        assert told.status == 0, told
    return secured


def test_each_way_in_works_for_each_library(ready: Secured) -> None:
    """kafka-python in the commands, aiokafka, and Faust's consumer and producer."""

    async def play(way: str) -> None:
        settings = load(environment(**ready.given(way), group=way, session_timeout="6 s"))
        producer = AIOKafkaProducer(**client_options(settings))
        await producer.start()
        await producer.send_and_wait(f"{PREFIX}mismatches", b"{}")
        await producer.stop()
        async with started(reader(settings, ignore)) as consumer:
            await consumer.app.producer.send_and_wait(f"{PREFIX}mismatches", b"k", b"{}", None, None, None)

    async def together() -> None:
        await asyncio.gather(*map(play, WAYS))

    for way in WAYS:
        told = command(ready.given(way), "topics", "check", "--format", "json")
        assert told.status == 0, told
        # Level debug shows that there was something to hide.
        assert ("Sasl" in told.log and "(hidden)" in told.log) == (way != "mTLS")
    asyncio.run(together())
    assert command(unencrypted(ready), "topics", "check").status == 0


def test_every_command_works(ready: Secured) -> None:
    """The store by password and by certificate."""
    by_certificate = {
        "store": f"postgresql://mtls@127.0.0.1:{ready.postgres.port}/bestbefore?sslmode=verify-full&"
        f"sslrootcert={ready.files.ca}&sslcert={ready.files.client}&sslkey={ready.files.client}", "store_password": "",
    }  # fmt: skip
    for given in (ready.given("PLAIN"), ready.given("mTLS", **by_certificate)):
        for words in (
            ("migrate",), ("register", str(DESCRIPTORS)), ("status",), ("events",), ("triggers",),
            ("topics", "create"), ("topics", "check"), ("lifecycle", "deployed", "digits", "2", "--id", "release-2"),
            ("dead-letters", "list"), ("dead-letters", "replay", "--yes"),
        ):  # fmt: skip
            told = command(given, *words)
            assert told.status == 0, (words, told.errors, told.output)


def test_a_worker_counts_what_client_and_servers_send(ready: Secured, tmp_path: Path) -> None:
    """Frames of the client and single events, over SASL and TLS; what cannot be read comes back by the commands."""
    given = ready.given("PLAIN", session_timeout="6 s", idle_after="2 s", assess_grace="5 s", default_lateness="0 s")
    given |= {"store_password": "", "store_password_file": str(tmp_path / "password")}
    (tmp_path / "password").write_text(f"{STORE_PASSWORD}\n")
    settings = load(environment(**given))
    worker = Worker(tmp_path, "one", environment(**given), "--log-level", "debug")
    try:
        with connected(settings, KafkaProducer) as producer:
            for number in range(100):
                producer.send(settings.topic("inference"), inference(number, BASE + number % 4 * HOUR_US))
            producer.send(settings.topic("inference"), b"{no json")
        options = security_options(settings)
        with Recorder(
            settings.broker, model="m", version="1", topic_prefix=PREFIX, producer_options=options
        ) as recorder:
            for number in range(100, 300):
                recorder.record(f"r-{number}", time_us=BASE + number % 4 * HOUR_US, features={"x": 1.0})
            assert recorder.flush(30), recorder.last_error
        store = EventStore(settings.store)
        try:
            asyncio.run(until(lambda: sum(w.n for w in store.windows("m", "1")) >= 300))
            assert sum(w.n for w in store.windows("m", "1")) == 300
        finally:
            store.close()
        process = psutil.Process(worker.process.pid)
        holds_no_secret(" ".join(process.cmdline()), process.name())
        letters = command(given, "dead-letters", "list", "--format", "json")
        assert letters.output.count('"stage"') == 1, letters
        assert "sent 1 records again" in command(given, "dead-letters", "replay", "--yes").output
        assert worker.stop() == 0
    finally:
        worker.kill()
    said = worker.log.read_text()
    assert "SaslAuthenticate" in said, "level debug must be on for this test to tell anything"
    holds_no_secret(said)


# -- who is not let in ---------------------------------------------------------------------------------------

BROKER_COMMANDS = (
    ("topics", "create"), ("topics", "check"), ("lifecycle", "deployed", "m", "2"), ("dead-letters", "list"),
    ("dead-letters", "replay", "--yes"), ("worker",),
)  # fmt: skip


def one_line(told: Told, *words: str) -> None:
    """Exit status 2 and one line that has these words."""
    assert told.status == 2, told
    lines = told.errors.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("bestbefore: ")
    for word in words:
        assert word in lines[0]


def wrong_broker(secured: Secured) -> list[tuple[dict[str, str], str]]:
    """Settings that the broker refuses or that refuse the broker, and what is said of them."""
    files = secured.files
    plain, tls = secured.given("PLAIN"), secured.given("mTLS")
    nobody = {"broker_sasl_mechanism": "", "broker_user": "", "broker_password": ""}
    return [
        *(
            (secured.given(way, broker_password=WRONG_PASSWORD), f"refused the user '{USER}' ({way})")
            for way in MECHANISMS
        ),
        (plain | {"broker_user": "nobody"}, "refused the user 'nobody' (PLAIN); check broker_user, broker_password"),
        (plain | {"broker_ca": str(files.stranger_ca)}, f"broker_ca = {files.stranger_ca} did not sign"),
        (plain | {"broker_ca": ""}, "the authorities of this system did not sign"),
        (tls | {"broker": secured.address("ELSEWHERE")}, "has a certificate for another name"),
        (tls | {"broker": secured.address("EXPIRED")}, "has a certificate that has expired; renew it there"),
        (tls | {"broker_certificate": "", "broker_key": "", "broker_key_password": ""}, "wants a client certificate"),
        (
            tls | {"broker_certificate": str(files.stranger), "broker_key": "", "broker_key_password": ""},
            "does not accept the client certificate",
        ),
        (plain | nobody | {"broker_security": "SSL"}, "wants a user; set broker_security = SASL_SSL, broker_sasl_mech"),
        (
            unencrypted(secured) | nobody | {"broker_security": "PLAINTEXT"},
            "wants a user; set broker_security = SASL_PL",
        ),
        (unencrypted(secured) | {"broker_sasl_mechanism": "SCRAM-SHA-256"}, "SCRAM-SHA-256; it offers PLAIN"),
        (unencrypted(secured) | {"broker_password": WRONG_PASSWORD}, f"refused the user '{USER}' (PLAIN)"),
        (
            tls | {name: plain[name] for name in ("broker_security", *nobody)},
            "asks for no user at this listener; set broker_security = SSL",
        ),
        (plain | nobody | {"broker_security": "PLAINTEXT", "broker_ca": ""}, "if this listener speaks TLS, set"),
        (plain | {"broker": secured.address("CONTROLLER")}, "if this listener is not encrypted, broker_security is"),
        (plain | {"broker": secured.address("MTLS")}, "wants a client certificate"),
        (plain | {"broker": "127.0.0.1:9"}, "no Kafka broker answers at 127.0.0.1:9 (Connection refused)"),
        (plain | {"broker": "nowhere.invalid:9"}, "no Kafka broker answers at nowhere.invalid:9 ("),
    ]


def test_a_broker_that_lets_nobody_in_says_why_and_what_to_do(ready: Secured) -> None:
    """In one line, soon, and without leaving sockets open."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for given, words in wrong_broker(ready):
            one_line(command(given, "topics", "check"), words)
        for what in (("dead-letters", "list"), ("lifecycle", "retired", "m", "9")):  # nor when all is well
            assert command(ready.given("PLAIN"), *what).status == 0
        gc.collect()
    assert [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)] == []


@pytest.mark.parametrize("words", BROKER_COMMANDS, ids=" ".join)
def test_each_command_tells_of_it_alike(ready: Secured, words: tuple[str, ...]) -> None:
    one_line(command(ready.given("SCRAM-SHA-256", broker_password=WRONG_PASSWORD), *words), "refused the user 'worker'")
    one_line(command(ready.given("mTLS", broker=ready.address("EXPIRED")), *words), "has expired")


def wrong_store(secured: Secured) -> list[tuple[dict[str, str], str]]:
    """The same for the store."""
    files, port = secured.files, secured.postgres.port
    elsewhere = secured.url().replace("@127.0.0.1", "@db.elsewhere.test") + "&hostaddr=127.0.0.1"
    no_root = f"postgresql://postgres@127.0.0.1:{port}/bestbefore?sslmode=verify-full&sslrootcert=gone.pem"
    certificate = secured.url(sslcert=str(files.stranger), sslkey=str(files.stranger)).replace("postgres@", "mtls@")
    return [
        ({"store_password": WRONG_PASSWORD}, 'password authentication failed for user "postgres"; check the user in'),
        ({"store_password": "", "store": secured.url(WRONG_PASSWORD)}, "store_password or store_password_file"),
        ({"store_password": ""}, "no password supplied; set store_password"),
        ({"store": secured.url(sslmode="disable")}, "no encryption; if the server takes encrypted connections only"),
        ({"store": secured.url(sslrootcert=str(files.stranger_ca))}, "is not signed by the authority in sslrootcert"),
        ({"store": elsewhere}, "put the name in the server's certificate into `store`"),
        ({"store": no_root}, "put sslrootcert=FILE into `store`"),
        (
            {"store": certificate, "store_password": ""},
            "the server does not accept the client certificate; see sslcert",
        ),
    ]


def test_a_store_that_lets_nobody_in_says_why_and_what_to_do(ready: Secured) -> None:
    for given, words in wrong_store(ready):
        one_line(command(ready.given("PLAIN", **given), "status"), f":{ready.postgres.port}/bestbefore: ", words)


@pytest.mark.parametrize(
    "words", [("migrate",), ("register", str(DESCRIPTORS)), ("events",), ("worker",)], ids=" ".join
)
def test_each_command_of_the_store_tells_of_it_alike(ready: Secured, words: tuple[str, ...]) -> None:
    one_line(command(ready.given("PLAIN", store_password=WRONG_PASSWORD), *words), "password authentication failed")


def test_errors_of_the_store_have_no_secret(ready: Secured) -> None:
    """Nor has their trace."""
    settings = Settings(store=ready.url(WRONG_PASSWORD))
    store = EventStore(settings.store)
    with pytest.raises(StoreUnreachable) as caught:
        store.check()
    holds_no_secret(str(caught.value), repr(caught.value), repr(settings), str(caught.getrepr(showlocals=True)))
    store.close()


def test_a_certificate_of_the_store_that_expires_is_named(ready: Secured) -> None:
    given = ready.given("PLAIN")

    def status_until(wanted: int) -> Told:
        """The server reads its files again when it likes."""
        ends = time.monotonic() + 20
        while (told := command(given, "status")).status != wanted:
            assert time.monotonic() < ends, told
        return told

    ready.postgres.serve(ready.files.expired)
    try:
        one_line(status_until(2), "expired")
    finally:
        ready.postgres.serve(ready.files.server)
        status_until(0)
