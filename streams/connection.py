"""How a Kafka client is configured: the only place that knows, for kafka-python, aiokafka and Faust alike.

Both libraries take the same words (`security_protocol`, `sasl_plain_password` …). TLS is a context made here, so that
neither library loads files, and both check the broker's certificate and its name, with TLS 1.2 or newer.
"""

import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka.errors import AuthorizationError, KafkaError, SaslAuthenticationFailedError, UnsupportedSaslMechanismError
from kafka.net.compat import KafkaNetClient

from streams.broker_hints import about_password
from streams.errors import ServiceError, SettingsError
from streams.probing import probe
from streams.security import brokers, uses_sasl, uses_tls
from streams.settings import Settings

BOOTSTRAP_MS = 10_000  # longest that a client may take until a broker has answered it


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What the broker's certificate is checked with, and the client's own one; None without TLS.

    Raises SettingsError: a file cannot be read, or the key does not belong to the certificate.
    """
    if not uses_tls(settings):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.broker_ca:
        with _reading("broker_ca", settings.broker_ca, "it must hold certificates in PEM"):
            context.load_verify_locations(settings.broker_ca)
    else:
        context.load_default_certs()
    if settings.broker_certificate:
        key = settings.broker_key or settings.broker_certificate
        why = "certificate and key must be PEM and belong together, and an encrypted key needs broker_key_password"
        with _reading("broker_certificate", settings.broker_certificate, why), _reading("broker_key", key, why):
            # Given as a function always: without one OpenSSL would ask the terminal.
            context.load_cert_chain(settings.broker_certificate, key, lambda: str(settings.broker_key_password))
    return context


def security_options(settings: Settings) -> dict[str, Any]:
    """The security of a client, as kafka-python and aiokafka call it; also for `producer_options` of a `Recorder`.

    Raises SettingsError, as `tls_context`.
    """
    keep_quiet()
    options: dict[str, Any] = {"security_protocol": settings.broker_security}
    context = tls_context(settings)
    if context is not None:
        options["ssl_context"] = context
    if uses_sasl(settings):
        options["sasl_mechanism"] = settings.broker_sasl_mechanism
        options["sasl_plain_username"] = settings.broker_user
        options["sasl_plain_password"] = settings.broker_password
    return options


def client_options(settings: Settings) -> dict[str, Any]:
    """Addresses and security of a client of kafka-python or aiokafka. Raises SettingsError, as `tls_context`."""
    return {"bootstrap_servers": brokers(settings), **security_options(settings)}


def faust_credentials(settings: Settings) -> Any:
    """The same for `faust.App(broker_credentials=…)`; None without security. Raises SettingsError, as `tls_context`."""
    from faust import SASLCredentials, SSLCredentials  # noqa: PLC0415 -- Faust is slow to import

    keep_quiet()
    context = tls_context(settings)
    if uses_sasl(settings):
        return SASLCredentials(
            username=settings.broker_user, password=settings.broker_password,
            mechanism=settings.broker_sasl_mechanism, ssl_context=context,
        )  # fmt: skip
    return None if context is None else SSLCredentials(context)


@contextmanager
def connected(settings: Settings, kind: Callable[..., Any], **options: Any) -> Iterator[Any]:
    """A client of kafka-python (`kind` is its class), connected, closed at the end.

    Raises ServiceError, in one line that says what to do, for everything that Kafka says meanwhile; SettingsError, as
    `tls_context`.
    """
    given = {**client_options(settings), "client_id": "bestbefore-cli", "bootstrap_timeout_ms": BOOTSTRAP_MS, **options}
    probe(settings, given.get("ssl_context"))
    nets: list[Any] = []

    def net(**configs: Any) -> Any:
        nets.append(KafkaNetClient(**configs))
        return nets[-1]

    try:
        client = kind(**given, kafka_client=net)
    except KafkaError as error:
        # The constructor that fails leaves its sockets and its thread behind.
        for made in nets:
            made.close()
        raise ServiceError(explained(settings, error)) from None
    try:
        yield client
    except KafkaError as error:
        raise ServiceError(explained(settings, error)) from None
    finally:
        client.close()


def explained(settings: Settings, error: KafkaError) -> str:
    """What went wrong between us and the broker, and what to do about it."""
    where, user = settings.broker, settings.broker_user
    if isinstance(error, SaslAuthenticationFailedError | UnsupportedSaslMechanismError):
        return f"the broker at {where} {about_password(settings)}"
    if isinstance(error, AuthorizationError):
        return (
            f"the broker at {where} does not allow this to {user or 'this client'!r} ({error!r}); grant it with an ACL"
        )
    return (
        f"the broker at {where} refused or did not answer in time ({error!r}); look at its log, and whether the "
        "addresses that it advertises can be reached from here, then run it again"
    )


def keep_quiet() -> None:
    """At level debug both libraries log what they send, the password of PLAIN included; from here on they do not."""
    for name in ("aiokafka.conn", "kafka.net.connection", "kafka.protocol.parser"):
        logging.getLogger(name).addFilter(_FILTER)


class _Discreet(logging.Filter):
    """Lets no raw bytes and no message of SASL into a log line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: the line is kept."""
        if isinstance(record.args, tuple):
            record.args = tuple(_discreet(value) for value in record.args)
        return True


_FILTER = _Discreet()  # one, so that adding it twice changes nothing


def _discreet(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    return f"{type(value).__name__} (hidden)" if type(value).__name__.startswith("Sasl") else value


@contextmanager
def _reading(name: str, path: str, why: str) -> Iterator[None]:
    try:
        with open(path, "rb"):
            pass
        yield
    except OSError as error:  # ssl.SSLError is one
        reason = why if isinstance(error, ssl.SSLError) else error.strerror
        raise SettingsError(f"{name}: {path} cannot be used: {reason}") from None
