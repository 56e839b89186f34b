"""Every setting in one place: read once, from the environment and one file, into a frozen value.

Order: environment (`BESTBEFORE_BROKER=…`), then the file named by `BESTBEFORE_CONFIG`, else `./bestbefore.toml`, else
`./.bestbefore/bestbefore.toml` (which `bestbefore up` writes), then the defaults below. Unknown keys and malformed
values end the start with the key, where it was found and, of a known key that is no secret, the value. A secret may
stand in a file of its own: the setting `<name>_file` names it.
"""

import difflib
import logging
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from models.units import duration_us
from streams import security
from streams.errors import SettingsError
from streams.secret_values import Secret, gives_away, is_secret, read_secret, shown

log = logging.getLogger(__name__)

PREFIX = "BESTBEFORE_"
OF_CLIENT = "BESTBEFORE_CLIENT_"  # read by the recorder, which may share the environment with a command
FILES = ("bestbefore.toml", ".bestbefore/bestbefore.toml")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Durations are written with units (`30 s`, `2 minutes`); sizes are bytes."""

    broker: str = "127.0.0.1:9092"
    """Addresses of Kafka brokers, separated by commas."""
    store: str = "sqlite:///.bestbefore/bestbefore.db"
    """SQLAlchemy URL of the event store; Postgres (`postgresql+psycopg://…`) in production."""
    store_password: str = ""
    """Password of the event store, so that none need stand in the URL."""
    broker_security: security.Protocol = "PLAINTEXT"
    """How the broker is spoken to, in Kafka's words: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`."""
    broker_sasl_mechanism: security.Mechanism = ""
    """How user and password are proven: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`."""
    broker_user: str = ""
    """User at the broker."""
    broker_password: str = ""
    """Password of that user."""
    broker_ca: str = ""
    """File (PEM) of the authorities that the broker's certificate may be signed by; the system's by default."""
    broker_certificate: str = ""
    """File (PEM) of the client certificate, with its chain, where the broker wants one."""
    broker_key: str = ""
    """File (PEM) of its private key; not needed where the certificate's file has it."""
    broker_key_password: str = ""
    """Password of that key, if it is encrypted."""
    broker_allow_unencrypted: bool = False
    """Lets `SASL_PLAINTEXT` send the password beyond this machine, unencrypted."""
    group: str = "bestbefore"
    """Consumer group of the workers. Workers of one deployment share it."""
    topic_prefix: str = "bestbefore."
    """Put before every topic name."""
    partitions: int = 4
    """Partitions of topics made by `topics create`; also the most workers that share the work."""
    replication: int = 1
    """Replication factor of topics made by `topics create`; 3 in production."""
    default_window: str = "1 hour"
    """Window of a model nobody described."""
    default_lateness: str = "5 minutes"
    """Lateness of a model nobody described."""
    clock_skew: str = "5 minutes"
    """How far ahead of the broker's clock an event time may be; beyond it the time is capped and counted."""
    oldest_event: str = "400 days"
    """How far behind the broker's clock an event time may be; beyond it the time is capped and counted."""
    idle_after: str = "60 s"
    """A partition without records for this long closes its finished windows by the clock."""
    assess_grace: str = "60 s"
    """How long a window waits for a partition that has stopped reporting."""
    label_patience: str = "30 s"
    """How long a label waits for the prediction it is about."""
    keep_rate: float = 0.05
    """Share of predictions kept for late labels, chosen by a hash of the id."""
    keep_per_window: int = 10_000
    """Most predictions kept per model version, window and partition."""
    keep_days: int = 60
    """Days that predictions and labels are kept."""
    max_record_bytes: int = 4 << 20
    """Larger records go to the dead letters."""
    max_frame_bytes: int = 64 << 20
    """Frames that take more once uncompressed go to the dead letters, before they take memory."""
    max_segments: int = 100
    """Most segments of a model version that are watched on their own; rows of further ones count in the whole only."""
    max_unregistered: int = 1000
    """Most model versions nobody registered that a worker watches; records of further ones go to the dead letters."""
    buffer_records: int = 1024
    """Records held per topic in the worker's memory before its partitions are paused."""
    dataref_prefixes: tuple[str, ...] = ()
    """URI prefixes from which sampled inputs may be fetched; none by default. In the environment: comma-separated."""
    model_prefixes: tuple[str, ...] = ()
    """URI prefixes from which ONNX files may be loaded, besides those registered from a local folder."""
    provider_policy: Literal["require", "prefer", "cpu"] = "prefer"
    """Whether embeddings need a GPU, use one when there is one, or stay on the CPU."""
    embed_batch: int = 256
    """Largest batch of sampled inputs that is embedded at once; a power of two."""
    embed_delay: str = "20 ms"
    """How long a sampled input waits for others to fill a batch."""
    inspect_every: str = "10 minutes"
    """How often a worker that embeds loads each model's file anew and replays its golden records."""
    sources: str = ""
    """File (`sources.yaml`) that says which adapter reads which topic of other servers; without it none is read."""
    watchdog_after: str = "2 minutes"
    """A worker without progress for this long, although there is work, ends itself."""
    commit_every: str = "1 s"
    """How often offsets are committed."""
    session_timeout: str = "10 s"
    """After this long without a heartbeat the broker gives a worker's partitions to another."""
    web_host: str = "127.0.0.1"
    """Address on which a worker answers `/live`, `/ready`, `/metrics` and `/progress`. One that other machines see
    needs `web_token`."""
    web_port: int = 6066
    """Port of these pages; 0: none. Where it is taken the worker says so and goes on without them."""
    web_token: str = ""
    """Secret that `/metrics` and `/progress` ask for as `Authorization: Bearer …`. `/live` and `/ready` stay open, and
    give no details then."""
    bridge_host: str = "127.0.0.1"
    """Address on which `bestbefore bridge` takes events over HTTP. One that other machines see needs `bridge_token`."""
    bridge_port: int = 6067
    """Its port; 0: a free one, which the bridge tells when it starts."""
    bridge_token: str = ""
    """Secret that senders give as `Authorization: Bearer …`, or as the password of a URL (`http://x:…@bridge:6067/`)."""
    bridge_topic: str = "inference"
    """Topic of events that are sent to `/` or `/v1/logs`; others are named in the path: `/topics/NAME`."""
    bridge_headers: tuple[str, ...] = ()
    """Names of further HTTP headers that records keep, such as `x-site`. In the environment: comma-separated."""
    bridge_max_body_bytes: int = 16 << 20
    """Larger bodies are refused with 413, once unpacked too. Each record in them is bound by `max_record_bytes`."""
    bridge_queue_records: int = 50_000
    """Most records that wait for the broker in the bridge's memory; then it refuses with 429."""
    bridge_queue_bytes: int = 128 << 20
    """Most bytes of these records, and of the bodies that are being read."""
    bridge_away_after: str = "30 s"
    """The bridge refuses with 429 once the broker has not answered for this long, although there is room."""
    bridge_ack_timeout: str = "10 s"
    """How long a sender who asks for it (`?wait=ack`) waits for the broker's acknowledgement, at most."""

    def __post_init__(self) -> None:
        for name in DURATIONS:
            try:
                value = duration_us(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            if value <= 0 and name not in MAY_BE_ZERO:
                raise ValueError(f"{name}: must be longer than zero, is {getattr(self, name)!r}")
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more, is {getattr(self, name)}")
        if self.seconds("watchdog_after") < SHORTEST_WATCH:
            raise ValueError(
                f"watchdog_after: must be {SHORTEST_WATCH} s or longer, because a worker says once a second that it "
                f"lives; is {self.watchdog_after!r}"
            )
        if self.max_segments < 0:
            raise ValueError(f"max_segments: must be 0 or more, is {self.max_segments}")
        if not 0.0 <= self.keep_rate <= 1.0:
            raise ValueError(f"keep_rate: must lie in [0, 1], is {self.keep_rate}")
        if self.embed_batch < 1 or self.embed_batch & (self.embed_batch - 1):
            raise ValueError(f"embed_batch: must be a power of two, is {self.embed_batch}")
        security.check(self)
        if self.store_password:
            msgspec.structs.force_setattr(self, "store", security.with_password(self.store, self.store_password))
            msgspec.structs.force_setattr(self, "store_password", "")
        for name in SECRETS:
            msgspec.structs.force_setattr(self, name, Secret(getattr(self, name)))

    def us(self, name: str) -> int:
        """A duration setting in microseconds."""
        return duration_us(getattr(self, name))

    def seconds(self, name: str) -> float:
        """A duration setting in seconds."""
        return self.us(name) / 1e6

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return self.topic_prefix + name


DURATIONS = (
    "default_window", "default_lateness", "clock_skew", "oldest_event", "idle_after", "assess_grace",
    "label_patience", "embed_delay", "inspect_every", "watchdog_after", "commit_every", "session_timeout",
    "bridge_away_after", "bridge_ack_timeout",
)  # fmt: skip
SHORTEST_WATCH = 3  # seconds
MAY_BE_ZERO = ("default_lateness", "clock_skew", "assess_grace", "label_patience")
AT_LEAST_ONE = (
    "partitions",
    "replication",
    "keep_days",
    "max_record_bytes",
    "max_frame_bytes",
    "max_unregistered",
    "buffer_records",
    "bridge_max_body_bytes",
    "bridge_queue_records",
    "bridge_queue_bytes",
)
LISTS = ("dataref_prefixes", "model_prefixes", "bridge_headers")

SECRETS = tuple(name for name in Settings.__struct_fields__ if is_secret(name))
FILE_NAMES = ("broker_ca", "broker_certificate", "broker_key", "sources")


def load(environment: Mapping[str, str] | None = None, folder: Path | None = None, **given: Any) -> Settings:
    """Settings from `environment` (default: the process's), the settings file, and `given` values, which win.

    Raises SettingsError naming key, value and source.
    """
    environment = os.environ if environment is None else environment
    known = set(Settings.__struct_fields__)
    found: dict[str, tuple[Any, str]] = {}
    path = _file(environment, folder or Path.cwd())
    if path is not None:
        found |= _of_file(path)
    given_there = {
        name.removeprefix(PREFIX).lower(): text
        for name, text in environment.items()
        if name.startswith(PREFIX) and not name.startswith(OF_CLIENT)
    }
    given_there.pop("config", None)
    for key, value in _secrets_read(given_there, "environment", Path()):
        text = _listed(value) if key in LISTS else value
        found[key] = (text, f"environment ({PREFIX}{key.upper()[:100]})")
    found |= {key: (value, "command line") for key, value in given.items() if value is not None}
    values = {}
    for key, (value, source) in found.items():
        if key not in known:
            # Its value is not shown: the name may be that of a secret, misspelt.
            raise SettingsError(f"unknown setting {key[:100]!r} in {source}; {_nearest(key, known)}")
        values[key] = _convert(key, value, source)
    try:
        return Settings(**values)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _file(environment: Mapping[str, str], folder: Path) -> Path | None:
    named = environment.get(PREFIX + "CONFIG")
    if named:
        if not Path(named).is_file():
            raise SettingsError(f"{PREFIX}CONFIG names {named}, which is not a file")
        return Path(named)
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def _of_file(path: Path) -> dict[str, tuple[Any, str]]:
    """What the settings file says, with where it says so. Names of files in it are relative to its folder."""
    told = _read(path)
    named = {key: str(path.parent / str(value)) for key, value in told.items() if key in FILE_NAMES and value}
    found = dict(_secrets_read({**told, **named}, str(path), path.parent))
    if path.stat().st_mode & stat.S_IROTH and any(gives_away(key, value) for key, value in told.items()):
        log.warning("%s holds a secret, and every user of this machine may read it; run: chmod 600 %s", path, path)
    return {key: (value, str(path)) for key, value in found.items()}


def _secrets_read(given: Mapping[str, Any], source: str, folder: Path) -> Iterator[tuple[str, Any]]:
    """The same settings, with what `<name>_file` names in place of it; an empty `<name>_file` is none."""
    for key, value in given.items():
        plain = key.removesuffix("_file")
        if plain == key or not is_secret(plain):
            yield key, value
        elif value and given.get(plain):
            raise SettingsError(f"{plain} and {key} are both set in {source}; take one away")
        elif value:
            yield plain, read_secret(folder / str(value), f"{key} in {source}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None


def _nearest(key: str, known: set[str]) -> str:
    near = difflib.get_close_matches(key[:100], sorted(known), n=1)
    return f"is {near[0]} meant?" if near else "take it away; docs/reference/settings.md lists those that exist"


def _convert(key: str, value: Any, source: str) -> Any:
    kind = next(f.type for f in msgspec.structs.fields(Settings) if f.name == key)
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        words = ", ".join(repr(word) for word in get_args(kind)) if get_origin(kind) is Literal else ""
        why = f"must be one of {words}" if words else str(error)[:300]
        raise SettingsError(f"setting {key} = {shown(key, value)} in {source}: {why}") from None


def _listed(text: str) -> tuple[str, ...]:
    # An empty prefix would be one that everything begins with.
    return tuple(part.strip() for part in text.split(",") if part.strip())
