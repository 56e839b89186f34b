"""TLS and SASL, said once for either Kafka library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class Security:
    """How to talk to the broker: over TLS, as whom. Secrets are not in its repr.

    `ca_file`: PEM file of who signed the broker's certificate; None trusts the system's. `cert_file`, `key_file`,
    `key_password`: the client's own certificate. `mechanism` is one of `MECHANISMS`, with `username` and `password`.
    Raises ValueError when these do not fit together.

    >>> Security(mechanism="SCRAM-SHA-512", username="server", password="secret")
    Security(tls=True, ca_file=None, cert_file=None, key_file=None, check_hostname=True, mechanism='SCRAM-SHA-512', \
username='server')
    """

    tls: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    check_hostname: bool = True
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check."""
        if self.mechanism is not None and self.mechanism not in MECHANISMS:
            raise ValueError(f"security: mechanism {self.mechanism!r} is not one of {', '.join(MECHANISMS)}")
        if (self.mechanism is None) != (self.username is None) or (self.username is None) != (self.password is None):
            raise ValueError("security: give mechanism, username and password together, or none of them")
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError("security: certificates are given, but tls is off")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("security: give cert_file and key_file together, or neither")

    @property
    def protocol(self) -> str:
        """Kafka's name for it."""
        return ("SASL_" if self.mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")

    def kafka_python(self) -> dict[str, Any]:
        """Give it as options of `kafka.KafkaProducer`."""
        return _given(
            {
                "security_protocol": self.protocol,
                "ssl_cafile": self.ca_file,
                "ssl_certfile": self.cert_file,
                "ssl_keyfile": self.key_file,
                "ssl_password": self.key_password,
                "ssl_check_hostname": self.check_hostname if self.tls else None,
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        )

    def confluent(self) -> dict[str, Any]:
        """Give it as configuration of librdkafka."""
        return _given(
            {
                "security.protocol": self.protocol.lower(),
                "ssl.ca.location": self.ca_file,
                "ssl.certificate.location": self.cert_file,
                "ssl.key.location": self.key_file,
                "ssl.key.password": self.key_password,
                "ssl.endpoint.identification.algorithm": ("https" if self.check_hostname else "none")
                if self.tls
                else None,
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password,
            }
        )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
