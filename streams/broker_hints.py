"""What to do about a broker that lets nobody in, in words that follow "the broker at HOST:PORT"."""

import ssl

from streams.security import uses_sasl, uses_tls
from streams.settings import Settings

_EXPIRED, _NOT_YET_VALID, _NAME, _ADDRESS = 10, 9, 62, 64  # OpenSSL's X509_V_ERR_*
_UNTRUSTED = (18, 19, 20, 21)  # likewise: self-signed, or the issuer is not known


def about_password(settings: Settings) -> str:
    """User, password or both are wrong; the broker does not say which."""
    return (
        f"refused the user {settings.broker_user!r} ({settings.broker_sasl_mechanism}); check broker_user, "
        "broker_password, and that this user was made for this broker_sasl_mechanism"
    )


def about_no_user(settings: Settings) -> str:
    """We want to say who we are, and nobody asks."""
    wanted = "SSL" if uses_tls(settings) else "PLAINTEXT"
    return f"asks for no user at this listener; set broker_security = {wanted}, or take the port of its SASL listener"


def about_user(settings: Settings, offered: str) -> str:
    """It asks who we are, and we do not say."""
    wanted = "SASL_SSL" if uses_tls(settings) else "SASL_PLAINTEXT"
    return (
        f"wants a user; set broker_security = {wanted}, broker_sasl_mechanism ({offered}), broker_user and "
        "broker_password"
    )


def about_mechanism(settings: Settings, offered: str) -> str:
    """It asks who we are, in another way."""
    return f"does not take broker_sasl_mechanism = {settings.broker_sasl_mechanism}; it offers {offered or 'none'}"


def about_silence(settings: Settings, error: OSError) -> str:
    """The connection was made, and ended without an answer."""
    if uses_tls(settings):
        return (
            f"ended the connection after the TLS handshake ({error}); does it want a client certificate "
            "(broker_certificate, broker_key), or another one?"
        )
    wanted = "SASL_SSL" if uses_sasl(settings) else "SSL or SASL_SSL"
    return f"does not answer in Kafka's protocol ({error}); if this listener speaks TLS, set broker_security = {wanted}"


def about_certificate(settings: Settings, error: ssl.SSLCertVerificationError) -> str:
    """Its certificate is not accepted."""
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


def about_tls(settings: Settings, error: ssl.SSLError) -> str:
    """TLS could not be agreed on, or it does not accept us."""
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
