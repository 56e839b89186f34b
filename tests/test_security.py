"""Settings of security: where secrets come from, what does not go together, and that nobody prints them."""

import logging
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest
from faust import SASLCredentials, SSLCredentials
from sqlalchemy import event, make_url

from infra import show
from streams.connection import client_options, faust_credentials, keep_quiet, security_options, tls_context
from streams.errors import SettingsError
from streams.secret_values import Secret
from streams.settings import SECRETS, Settings, load
from streams.store_engine import open_engine
from tests.secured import KEY_PASSWORD, Certificates

SASL = {"broker_security": "SASL_SSL", "broker_sasl_mechanism": "PLAIN", "broker_user": "u", "broker_password": "hush"}
STORE = "postgresql://u@db/x"
PASSWORD = {"store_password": "hush"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of all kinds."""
    return Certificates(tmp_path_factory.mktemp("security") / "certificates")


def env(**given: object) -> dict[str, str]:
    return {f"BESTBEFORE_{name.upper()}": str(value) for name, value in given.items()}


# -- where secrets come from ---------------------------------------------------------------------------------


def test_every_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    """Named in the environment or in the settings file, there relative to its folder; its line end is no part of it."""
    assert set(SECRETS) >= {"store", "store_password", "broker_password", "broker_key_password"}
    for name, content in (("broker", "hush\n"), ("store", " p@ss word \r\n"), ("url", f"{STORE}\n")):
        (tmp_path / name).write_bytes(content.encode())
    from_environment = load(
        env(**SASL | {"broker_password": ""}, broker_password_file=tmp_path / "broker", store_file=tmp_path / "url")
    )
    assert (from_environment.broker_password, from_environment.store) == ("hush", STORE)
    (tmp_path / "bestbefore.toml").write_text(f'store = "{STORE}"\nstore_password_file = "store"\n')
    assert ":" + str(make_url(load({}, tmp_path).store).password) == ": p@ss word "


def test_the_environment_wins_over_the_file_however_each_says_it(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("of-the-file")
    toml = tmp_path / "bestbefore.toml"
    toml.write_text(f'store = "{STORE}"\nstore_password_file = "s"')
    assert ":hush@" in load(env(**PASSWORD), tmp_path).store
    toml.write_text(f'store = "{STORE}"\nstore_password = "hush"')
    assert ":of-the-file@" in load(env(store_password_file=tmp_path / "s"), tmp_path).store
    assert ":hush@" in load(env(store_password_file=""), tmp_path).store


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x" * 70_000, "longer"),
    ],
)
def test_a_file_that_holds_no_secret_is_named(tmp_path: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / "s").write_bytes(content)
    with pytest.raises(SettingsError, match=rf"store_password_file in environment names {tmp_path}/s, which .*{told}"):
        load(env(store=STORE, store_password_file=tmp_path / "s"))


def test_a_secret_given_twice_in_one_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("hush")
    with pytest.raises(SettingsError, match="store_password and store_password_file are both set in environment"):
        load(env(**PASSWORD, store=STORE, store_password_file=tmp_path / "s"))
    with pytest.raises(SettingsError, match="unknown setting 'broker_user_file'"):
        load(env(broker_user_file=tmp_path / "s"))


@pytest.mark.parametrize(("line", "warned"), [('store_password = "hush"', True), ("keep_days = 3", False)])
def test_a_settings_file_that_all_may_read_and_holds_a_secret_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str, warned: bool
) -> None:
    path = tmp_path / "bestbefore.toml"
    path.write_text(f'store = "{STORE}"\n{line}\n')
    path.chmod(0o644)
    load({}, tmp_path)
    assert [f"run: chmod 600 {path}" in record.message for record in caplog.records] == [True] * warned
    caplog.clear()
    path.chmod(0o640)
    load({}, tmp_path)
    assert not caplog.records


# -- what goes together --------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"broker_security": "TLS"}, "setting broker_security = 'TLS'"),
    (SASL | {"broker_sasl_mechanism": ""}, "broker_sasl_mechanism: is missing"),
    (SASL | {"broker_sasl_mechanism": "GSSAPI"}, "setting broker_sasl_mechanism = 'GSSAPI'"),
    (SASL | {"broker_user": ""}, "broker_user: is missing"),
    (SASL | {"broker_password": ""}, "broker_password: is missing; set it, or set broker_password_file"),
    ({"broker_password": "hush"}, "broker_password: is set, but broker_security = PLAINTEXT asks for no user"),
    ({"broker_user": "u", "broker_security": "SSL"}, "broker_user: is set, but broker_security = SSL asks for no user"),
    ({"broker_ca": "ca.pem"}, "broker_ca: is set, but broker_security = PLAINTEXT is not encrypted; set it to SSL"),
    ({"broker_security": "SSL", "broker_key": "k"}, "broker_key: is set without broker_certificate"),
    ({"broker_security": "SSL", "broker_key_password": "hush"}, "broker_key_password: is set without"),
    (
        SASL | {"broker_security": "SASL_PLAINTEXT", "broker": "127.0.0.1:1,kafka:1"},
        "send the password to kafka:1 over",
    ),
    (SASL | {"broker_security": "SASL_PLAINTEXT", "broker": "10.0.0.1:1"}, "use SASL_SSL, or set broker_allow"),
    ({"broker": "kafka:many"}, "broker: 'kafka:many' is not HOST:PORT"),
    ({"store_password": "hush"}, "store_password: an SQLite file has no password"),
    ({"store": "postgresql://u:hush@db/x", "store_password": "hush"}, "store_password: the URL in `store` has a passw"),
    ({"store": "postgresql://db/x?password=hush", "store_password": "hush"}, "store_password: the URL in `store` has"),
]


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_what_makes_no_sense_ends_the_start(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(env(**given), tmp_path)
    assert told in str(caught.value)
    assert "hush" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "given",
    [
        SASL | {"broker": "kafka-1:9093,kafka-2"},
        SASL | {"broker_security": "SASL_PLAINTEXT", "broker": "localhost:1, 127.0.0.2:1, [::1]:1"},
        SASL | {"broker_security": "SASL_PLAINTEXT", "broker": "kafka:1", "broker_allow_unencrypted": "true"},
    ],
)
def test_what_makes_sense_is_taken(tmp_path: Path, given: dict[str, Any]) -> None:
    settings = load(env(**given), tmp_path)
    options = client_options(settings)
    assert options.pop("sasl_plain_password") == SASL["broker_password"]
    assert ("ssl_context" in options) == (settings.broker_security == "SASL_SSL")
    credentials = faust_credentials(settings)
    assert isinstance(credentials, SASLCredentials)
    assert credentials.protocol.value == settings.broker_security


def test_without_security_clients_are_as_plain_as_before() -> None:
    assert client_options(Settings(broker="a:1, b:2")) == {
        "bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT",
    }  # fmt: skip
    assert faust_credentials(Settings()) is None
    assert isinstance(faust_credentials(Settings(broker_security="SSL")), SSLCredentials)


# -- files of TLS --------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_named(files: Certificates, tmp_path: Path) -> None:
    """With the setting that names them; an encrypted key without its password does not ask the terminal."""
    (tmp_path / "bestbefore.toml").write_text('broker_security = "SSL"\nbroker_ca = "ca.pem"\n')
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, f"broker_ca: {tmp_path}/ca.pem cannot be used: No such file"),
        ({"broker_ca": __file__}, "test_security.py cannot be used: it must hold certificates in PEM"),
        ({"broker_certificate": "gone"}, "broker_certificate: gone cannot be used: No such file"),
        ({"broker_certificate": files.certificate, "broker_key": files.key}, "encrypted key needs broker_key_password"),
        ({"broker_certificate": files.certificate, "broker_key": files.stranger}, "must be PEM and belong together"),
    ]
    for given, told in wrong:
        ca = {} if not given else {"broker_ca": files.ca}
        with pytest.raises(SettingsError) as caught:
            tls_context(load(env(**ca | given), tmp_path))
        assert told in str(caught.value)
    right = {"broker_certificate": files.certificate, "broker_key": files.key, "broker_key_password": KEY_PASSWORD}
    assert tls_context(load(env(broker_ca=files.ca, **right), tmp_path)) is not None
    assert tls_context(load(env(broker_ca=files.ca, broker_certificate=files.client), tmp_path)) is not None


def test_the_broker_is_checked() -> None:
    """Its certificate and its name, in a protocol of today; nothing in the settings switches that off."""
    context = tls_context(Settings(broker_security="SSL"))
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert context.minimum_version.name == "TLSv1_2"


# -- nobody prints them --------------------------------------------------------------------------------------


def test_settings_and_options_do_not_show_secrets(tmp_path: Path) -> None:
    settings = load(env(**SASL, **PASSWORD, store=STORE), tmp_path)
    changed = msgspec.structs.replace(settings, group="another")
    assert (changed.store, changed.broker_password) == (settings.store, "hush")
    for shown in (settings, changed, security_options(settings), faust_credentials(settings), [Secret("hush")]):
        assert "hush" not in repr(shown)
        assert "hush" not in f"{shown}"
    assert show.without_password(settings.store) == "postgresql+psycopg://u:***@db/x"
    assert "hush" not in show.without_password("postgresql://db/x?password=hush&sslpassword=hush")


def test_the_libraries_do_not_log_what_proves_who_we_are(caplog: pytest.LogCaptureFixture) -> None:
    """Their lines at level debug with raw bytes, or with a message of SASL; others are left alone."""

    class SaslAuthenticateRequest(msgspec.Struct):
        auth_bytes: bytes

    keep_quiet()
    caplog.set_level(logging.DEBUG)
    for name in ("aiokafka.conn", "kafka.net.connection", "kafka.protocol.parser"):
        logging.getLogger(name).debug("%s: %s %r %d", "x", SaslAuthenticateRequest(b"hush"), b"hush", 7)
    assert {record.getMessage() for record in caplog.records} == {"x: SaslAuthenticateRequest (hidden) '4 bytes' 7"}


@pytest.mark.parametrize(
    ("url", "guarded"),
    [
        ("postgresql://u@db/x", True),
        ("postgresql://u@db/x?sslmode=require", True),
        ("postgresql://u@db/x?sslmode=verify-full", False),
        ("postgresql://u@db/x?require_auth=password", False),
        ("postgresql://u@127.0.0.1/x", False),
        ("postgresql://u@/x?host=/run/postgresql", False),
        ("postgresql://u@/x?host=db", True),
    ],
)
def test_an_unproven_store_gets_no_password_in_the_clear(url: str, guarded: bool) -> None:
    """libpq refuses to send it; who wants it anyway says so in the URL."""
    engine = open_engine(url, patient=True)
    found: list[dict[str, Any]] = []

    class Connected(Exception):
        pass

    @event.listens_for(engine, "do_connect")
    def _connect(*given: Any) -> None:
        found.append(given[3])
        raise Connected

    with pytest.raises(Connected):
        engine.connect()
    assert (found[0].get("require_auth") == "!password") == guarded
