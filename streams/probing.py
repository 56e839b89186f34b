"""Knocks at a broker before a client does, because the clients tell neither soon nor clearly why nobody lets them in.

kafka-python and aiokafka try again and again, and end with "unable to bootstrap": the certificate that has expired, the
wrong name, the listener that wants SASL are lost on the way. So one connection is made by hand: TCP, TLS, and two
requests that every listener answers before anybody has proven who they are (ApiVersions and SaslHandshake).
"""

import socket
import ssl
import struct

from streams.errors import ServiceError
from streams.security import brokers, split_address, uses_sasl, uses_tls
from streams.settings import Settings

PATIENCE = 5.0  # seconds for each step at each broker
_API_VERSIONS, _SASL_HANDSHAKE = 18, 17
_UNSUPPORTED_MECHANISM, _NO_SASL_HERE = 33, 34  # Kafka's error codes
_EXPIRED, _NOT_YET_VALID, _NAME, _ADDRESS = 10, 9, 62, 64  # OpenSSL's X509_V_ERR_*
_UNTRUSTED = (18, 19, 20, 21)  # likewise: self-signed, or the issuer is not known
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
        except OSError as error:
            silent = silent or f"{error.strerror or error or type(error).__name__}"
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
            raise _Refused(_about_certificate(settings, error)) from None
        except ssl.SSLError as error:
            raise _Refused(_about_tls(settings, error)) from None


def _converse(settings: Settings, connection: socket.socket) -> None:
    try:
        _ask(connection, _API_VERSIONS, 0, b"")
    except ssl.SSLError:
        raise
    except OSError as error:
        raise _Refused(_about_silence(settings, error)) from None
    name = (settings.broker_sasl_mechanism or "NONE").encode()
    try:
        answer = _ask(connection, _SASL_HANDSHAKE, 1, struct.pack(">h", len(name)) + name)
        code, offered = _handshake(answer)
    except (OSError, struct.error):
        return  # not Apache's broker: the client will see
    if uses_sasl(settings) and code == _NO_SASL_HERE:
        raise _Refused(f"asks for no user at this listener; set broker_security = {_without_sasl(settings)}")
    if uses_sasl(settings) and code == _UNSUPPORTED_MECHANISM:
        raise _Refused(
            f"does not take broker_sasl_mechanism = {settings.broker_sasl_mechanism}; it offers {offered or 'none'}"
        )
    if not uses_sasl(settings) and code in (0, _UNSUPPORTED_MECHANISM):
        wanted = "SASL_SSL" if uses_tls(settings) else "SASL_PLAINTEXT"
        raise _Refused(
            f"wants a user; set broker_security = {wanted}, broker_sasl_mechanism ({offered}), broker_user and "
            "broker_password"
        )


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


def _without_sasl(settings: Settings) -> str:
    return "SSL" if uses_tls(settings) else "PLAINTEXT"


def _about_silence(settings: Settings, error: OSError) -> str:
    if uses_tls(settings):
        return (
            f"ended the connection after the TLS handshake ({error}); does it want a client certificate "
            "(broker_certificate, broker_key), or another one?"
        )
    wanted = "SASL_SSL" if uses_sasl(settings) else "SSL or SASL_SSL"
    return f"does not answer in Kafka's protocol ({error}); if this listener speaks TLS, set broker_security = {wanted}"


def _about_certificate(settings: Settings, error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "has a certificate that has expired; renew it there (and look at the clock here)"
    if code == _NOT_YET_VALID:
        return "has a certificate that is not valid yet; look at the clocks of both machines"
    if code in (_NAME, _ADDRESS):
        return (
            f"has a certificate for another name ({error.verify_message}); put the name in the certificate in `broker`"
        )
    if code in _UNTRUSTED:
        trusted = f"broker_ca = {settings.broker_ca}" if settings.broker_ca else "the authorities of this system"
        return (
            f"has a certificate that {trusted} did not sign ({error.verify_message}); set broker_ca to the file (PEM) "
            "of the authority that did"
        )
    return f"has a certificate that is not accepted: {error.verify_message}"


def _about_tls(settings: Settings, error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).upper()
    if "CERTIFICATE_REQUIRED" in reason or ("ALERT" in reason and not settings.broker_certificate):
        return f"wants a client certificate ({error.reason}); set broker_certificate and broker_key"
    if "ALERT" in reason:
        return (
            f"does not accept the client certificate ({error.reason}); is broker_certificate signed by an authority "
            "that the broker trusts, and still valid?"
        )
    plain = "SASL_PLAINTEXT" if uses_sasl(settings) else "PLAINTEXT or SASL_PLAINTEXT"
    return (
        f"does not answer in TLS 1.2 or newer ({error.reason or error}); if this listener is not encrypted, "
        f"broker_security is {plain}"
    )
