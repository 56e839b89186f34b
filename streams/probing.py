"""Knocks at a broker before a client does, because the clients tell neither soon nor clearly why nobody lets them in.

kafka-python and aiokafka try again and again, and end with "unable to bootstrap": the certificate that has expired, the
wrong name, the listener that wants SASL are lost on the way, and kafka-python 3.0 loses an answer that comes together
with the end of the connection, which is how a broker refuses a password. So one connection is made by hand: TCP, TLS,
the two requests that every listener answers to anybody (ApiVersions, SaslHandshake), and the proof of the password.
"""

import socket
import ssl
import struct

from kafka.net.sasl import get_sasl_mechanism

from streams import broker_hints
from streams.errors import ServiceError
from streams.security import brokers, split_address, uses_sasl
from streams.settings import Settings

PATIENCE = 5.0  # seconds for each step at each broker
_API_VERSIONS, _SASL_HANDSHAKE, _SASL_AUTHENTICATE = 18, 17, 36  # Kafka's numbers of requests
_UNSUPPORTED_MECHANISM, _NO_SASL_HERE = 33, 34  # Kafka's error codes
_TLS_ALERT = 0x15
_LARGEST = 1 << 20


class _Refused(Exception):
    """Somebody answers, but would not let us in; says why and what to do."""


def probe(settings: Settings, context: ssl.SSLContext | None) -> None:
    """Returns when one of the brokers answers and speaks as we do.

    Raises ServiceError: none does. A broker that refuses tells more than one that is away.
    """
    silent = refused = ""
    for address in brokers(settings):
        try:
            _knock(settings, address, context)
            return
        except _Refused as error:
            refused = refused or f"the broker at {address} {error}"
        except (OSError, UnicodeError) as error:  # a host that is no name is the latter
            silent = silent or str(getattr(error, "strerror", None) or error or type(error).__name__)
    raise ServiceError(
        refused
        or f"no Kafka broker answers at {settings.broker} ({silent or 'no address is set'}); is `bestbefore up` "
        "running, is `broker` set?"
    )


def _knock(settings: Settings, address: str, context: ssl.SSLContext | None) -> None:
    host, port = split_address(address)
    with socket.create_connection((host, port), timeout=PATIENCE) as plain:
        if context is None:
            _converse(settings, plain)
            return
        try:
            with context.wrap_socket(plain, server_hostname=host.rstrip(".")) as encrypted:
                _converse(settings, encrypted)
        except ssl.SSLCertVerificationError as error:
            raise _Refused(broker_hints.about_certificate(settings, error)) from None
        except ssl.SSLError as error:
            raise _Refused(broker_hints.about_tls(settings, error)) from None


def _converse(settings: Settings, connection: socket.socket) -> None:
    try:
        _ask(connection, _API_VERSIONS, 0, b"")
    except (ssl.SSLError, TimeoutError):
        raise
    except OSError as error:
        raise _Refused(broker_hints.about_silence(settings, error)) from None
    name = (settings.broker_sasl_mechanism or "NONE").encode()
    try:
        answer = _ask(connection, _SASL_HANDSHAKE, 1, struct.pack(">h", len(name)) + name)
        code, offered = _handshake(answer)
    except (OSError, struct.error):
        return  # not Apache's broker: the client will see
    if code == _NO_SASL_HERE and uses_sasl(settings):
        raise _Refused(broker_hints.about_no_user(settings))
    if code in (0, _UNSUPPORTED_MECHANISM) and not uses_sasl(settings):
        raise _Refused(broker_hints.about_user(settings, offered))
    if code == _UNSUPPORTED_MECHANISM:
        raise _Refused(broker_hints.about_mechanism(settings, offered))
    if code == 0:
        _prove(settings, connection)


def _prove(settings: Settings, connection: socket.socket) -> None:
    """Say who we are, with kafka-python's own mechanisms."""
    mechanism = get_sasl_mechanism(settings.broker_sasl_mechanism)(
        sasl_mechanism=settings.broker_sasl_mechanism, security_protocol=settings.broker_security,
        sasl_plain_username=settings.broker_user, sasl_plain_password=settings.broker_password,
    )  # fmt: skip
    while not mechanism.is_done():
        token = mechanism.auth_bytes()
        try:
            answer = _ask(connection, _SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
            code, told = struct.unpack_from(">hh", answer)  # then the error's text, and the broker's token
            if code:
                raise _Refused(broker_hints.about_password(settings))
            mechanism.receive(answer[8 + max(told, 0) :])
        except OSError:
            raise _Refused(broker_hints.about_password(settings)) from None
        except (ValueError, struct.error):  # its own proof is wrong: it does not know the password either
            raise _Refused("does not prove that it knows the password; is it the right one?") from None


def _ask(connection: socket.socket, api: int, version: int, body: bytes) -> bytes:
    """Send one request with an empty client id; the answer without its correlation id."""
    message = struct.pack(">hhih", api, version, 1, -1) + body
    connection.sendall(struct.pack(">i", len(message)) + message)
    head = _exactly(connection, 4)
    if head[0] == _TLS_ALERT:
        raise ConnectionError("an alert of TLS")
    size = struct.unpack(">i", head)[0]
    if not 4 <= size <= _LARGEST:
        raise ConnectionError("no answer of Kafka")
    return _exactly(connection, size)[4:]


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise ConnectionResetError("the connection was closed")
        found += part
    return found


def _handshake(answer: bytes) -> tuple[int, str]:
    """Error code and names of the mechanisms that are offered."""
    code, count = struct.unpack_from(">hi", answer)
    names, at = [], 6
    for _ in range(count):
        (length,) = struct.unpack_from(">h", answer, at)
        names.append(answer[at + 2 : at + 2 + length].decode("ascii", "replace"))
        at += 2 + length
    return code, ", ".join(sorted(names))
