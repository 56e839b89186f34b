"""Which settings of security go together. What makes no sense ends the start, before anything is connected."""

from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal

from streams.secret_values import Secret

if TYPE_CHECKING:
    from streams.settings import Settings

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def uses_sasl(settings: "Settings") -> bool:
    """Whether the broker asks for user and password."""
    return settings.broker_security.startswith("SASL")


def uses_tls(settings: "Settings") -> bool:
    """Whether the connection to the broker is encrypted."""
    return settings.broker_security.endswith("SSL")


def brokers(settings: "Settings") -> list[str]:
    """The addresses of the brokers, one by one."""
    return [address.strip() for address in settings.broker.split(",") if address.strip()]


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[IPv6]:port`, or `host` alone for Kafka's own port. Raises ValueError."""
    host, _, port = (address if ":" in address else f"{address}:9092").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"broker: {address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def check(settings: "Settings") -> None:
    """Raises ValueError with the setting, what is wrong and what to do."""
    for address in brokers(settings):
        split_address(address)
    _check_sasl(settings)
    _check_tls(settings)
    _check_web(settings)
    _check_bridge(settings)
    if settings.broker_security == "SASL_PLAINTEXT" and not settings.broker_allow_unencrypted:
        away = [address for address in brokers(settings) if not is_loopback(split_address(address)[0])]
        if away:
            raise ValueError(
                f"broker_security: SASL_PLAINTEXT would send the password to {away[0]} over an unencrypted connection; "
                "use SASL_SSL, or set broker_allow_unencrypted = true where the network is trusted"
            )


def _check_web(settings: "Settings") -> None:
    if not 0 <= settings.web_port <= 65535:
        raise ValueError(f"web_port: must lie in 0 to 65535 (0: no pages), is {settings.web_port}")
    if settings.web_port and not settings.web_token and not is_loopback(settings.web_host):
        raise ValueError(
            f"web_host: {settings.web_host!r} is seen by other machines, so web_token must be set; "
            "or set web_host to 127.0.0.1, or web_port to 0"
        )


def _check_bridge(settings: "Settings") -> None:
    if not 0 <= settings.bridge_port <= 65535:
        raise ValueError(f"bridge_port: must lie in 0 to 65535 (0: a free one), is {settings.bridge_port}")
    if not settings.bridge_token and not is_loopback(settings.bridge_host):
        raise ValueError(
            f"bridge_host: {settings.bridge_host!r} is seen by other machines, so bridge_token must be set; "
            "or set bridge_host to 127.0.0.1"
        )


def _check_sasl(settings: "Settings") -> None:
    given = {
        name: getattr(settings, name) for name in ("broker_sasl_mechanism", "broker_user", "broker_password")
    }  # fmt: skip
    if not uses_sasl(settings):
        for name in (name for name, value in given.items() if value):
            raise ValueError(
                f"{name}: is set, but broker_security = {settings.broker_security} asks for no user; set it to SASL_SSL"
            )
    elif not settings.broker_sasl_mechanism:
        raise ValueError("broker_sasl_mechanism: is missing; SASL needs PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    elif not settings.broker_user:
        raise ValueError("broker_user: is missing; SASL needs a user and a password")
    elif not settings.broker_password:
        raise ValueError("broker_password: is missing; set it, or set broker_password_file to a file that holds it")


def _check_tls(settings: "Settings") -> None:
    names = ("broker_ca", "broker_certificate", "broker_key", "broker_key_password")
    for name in names if not uses_tls(settings) else ():
        if getattr(settings, name):
            raise ValueError(
                f"{name}: is set, but broker_security = {settings.broker_security} is not encrypted; "
                f"set it to {'SASL_SSL' if uses_sasl(settings) else 'SSL'}"
            )
    for name in names[2:]:
        if getattr(settings, name) and not settings.broker_certificate:
            raise ValueError(f"{name}: is set without broker_certificate; both belong to one client certificate")


def with_password(store: str, password: str) -> Secret:
    """The URL of the store with the password in it. Raises ValueError and SettingsError."""
    from streams.store_engine import parse_url  # noqa: PLC0415 -- SQLAlchemy is slow to import, and only needed here

    url = parse_url(store)
    if url.get_backend_name() == "sqlite":
        raise ValueError("store_password: an SQLite file has no password; set `store` to the URL of a Postgres")
    if url.password is not None or "password" in url.query:
        raise ValueError("store_password: the URL in `store` has a password already; take it out of the URL")
    return Secret(url.set(password=str(password)).render_as_string(hide_password=False))


def is_loopback(host: str) -> bool:
    """Whether this host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
