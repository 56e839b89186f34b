"""Every setting in one place: read once, from the environment and one file, into a frozen value.

Order: environment (`BESTBEFORE_BROKER=…`), then the file named by `BESTBEFORE_CONFIG`, else `./bestbefore.toml`, else
`./.bestbefore/bestbefore.toml` (which `bestbefore up` writes), then the defaults below. Unknown keys and malformed
values end the start with the key, the value and where it was found.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from models.units import duration_us
from streams.errors import SettingsError

PREFIX = "BESTBEFORE_"
FILES = ("bestbefore.toml", ".bestbefore/bestbefore.toml")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Durations are written with units (`30 s`, `2 minutes`); sizes are bytes."""

    broker: str = "127.0.0.1:9092"
    """Addresses of Kafka brokers, separated by commas."""
    store: str = "sqlite:///.bestbefore/bestbefore.db"
    """SQLAlchemy URL of the event store; Postgres (`postgresql+psycopg://…`) in production."""
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
    """A partition without records for this long closes its finished windows by the wall clock."""
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
    watchdog_after: str = "2 minutes"
    """A worker without progress for this long, although there is work, ends itself."""
    commit_every: str = "1 s"
    """How often offsets are committed."""
    session_timeout: str = "10 s"
    """After this long without a heartbeat the broker gives a worker's partitions to another."""

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
        if not 0.0 <= self.keep_rate <= 1.0:
            raise ValueError(f"keep_rate: must lie in [0, 1], is {self.keep_rate}")
        if self.embed_batch < 1 or self.embed_batch & (self.embed_batch - 1):
            raise ValueError(f"embed_batch: must be a power of two, is {self.embed_batch}")

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
)  # fmt: skip
MAY_BE_ZERO = ("default_lateness", "clock_skew", "assess_grace", "label_patience")
AT_LEAST_ONE = ("partitions", "replication", "keep_days", "max_record_bytes", "buffer_records")


def load(environment: Mapping[str, str] | None = None, folder: Path | None = None, **given: Any) -> Settings:
    """Settings from `environment` (default: the process's), the settings file, and `given` values, which win.

    Raises SettingsError naming key, value and source.
    """
    environment = os.environ if environment is None else environment
    known = set(Settings.__struct_fields__)
    found: dict[str, tuple[Any, str]] = {}
    path = _file(environment, folder or Path.cwd())
    if path is not None:
        found |= {key: (value, str(path)) for key, value in _read(path).items()}
    for name, text in environment.items():
        key = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and key != "config":
            found[key] = (_listed(text) if key.endswith("_prefixes") else text, f"environment ({name[:100]})")
    found |= {key: (value, "command line") for key, value in given.items() if value is not None}
    values = {}
    for key, (value, source) in found.items():
        if key not in known:
            raise SettingsError(
                f"unknown setting {key[:100]!r} = {_shown(key, value)} in {source}; known: {', '.join(sorted(known))}"
            )
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


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None


def _convert(key: str, value: Any, source: str) -> Any:
    kind = next(f.type for f in msgspec.structs.fields(Settings) if f.name == key)
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"setting {key} = {_shown(key, value)} in {source}: {str(error)[:300]}") from None


def _listed(text: str) -> tuple[str, ...]:
    # An empty prefix would be one that everything begins with.
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _shown(key: str, value: Any) -> str:
    """Secrets are never printed: the store's URL may hold a password, also behind a misspelt key."""
    text = repr(value)
    return "(hidden)" if key == "store" or "@" in text else text if len(text) <= 200 else f"{text[:200]}…"
