"""The jar files of Apache Kafka, from the user's Maven cache or, the first time, from Maven Central."""

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.env import EnvironmentBuilder
from jgo.maven import MavenContext, PythonResolver

from infra.local.daemon import Report
from infra.local.machine import locked
from streams.errors import ServiceError

KAFKA = "4.1.0"

# The broker logs through slf4j, whose log4j side its own dependencies lack. Without the "!" jgo would also apply the
# versions that log4j's parent manages, which downgrade kafka-clients.
_ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA}+org.apache.logging.log4j:log4j-slf4j-impl:2.24.3!"


class Cache(msgspec.Struct, frozen=True):
    """Where jars are kept and fetched from.

    `jars` is a Maven repository folder, `links` jgo's folder of class paths, `repositories` name to URL.
    """

    jars: Path
    links: Path
    repositories: dict[str, str]

    @classmethod
    def of_user(cls) -> "Cache":
        """The user's own: ~/.m2/repository, ~/.cache/jgo, Maven Central, unless ~/.config/jgo.conf says otherwise."""
        settings = GlobalSettings.load()
        repositories = {"central": MAVEN_CENTRAL_URL, **settings.repositories}
        return cls(jars=settings.repo_cache, links=settings.cache_dir, repositories=repositories)


def kafka_jars(cache: Cache, *, report: Report) -> list[Path]:
    """The class path of the broker; fetches about 45 MB the first time.

    Raises:
        ServiceError: not in the cache and not to be fetched.
    """
    with locked(cache.links / "bestbefore.lock", report=report):
        jars = _resolve(cache, report)
        broken = [jar for jar in jars if not zipfile.is_zipfile(jar)]
        if not broken:
            return jars
        # jgo writes straight to the cache, so a download that was cut off stays there and counts as present.
        for jar in broken:
            report(f"{jar.name} in the cache is damaged; fetching it again")
            for copy in [jar, *cache.jars.rglob(jar.name)]:
                copy.unlink(missing_ok=True)
        return _resolve(cache, report, update=True)


def _resolve(cache: Cache, report: Report, *, update: bool = False) -> list[Path]:
    resolver = PythonResolver(progress_callback=_announcer(report))
    context = MavenContext(resolver=resolver, repo_cache=cache.jars, remote_repos=cache.repositories)
    builder = EnvironmentBuilder(context=context, cache_dir=cache.links)
    try:
        return list(builder.from_endpoint(_ENDPOINT, update=update).all_jars)
    # What jgo lets through: network and files (OSError), not found (RuntimeError), a damaged POM (SyntaxError).
    except (OSError, RuntimeError, ValueError, SyntaxError) as error:
        sources = ", ".join(cache.repositories.values())
        raise ServiceError(
            f"Apache Kafka {KAFKA} could not be made ready from the cache {cache.jars} nor from {sources}: {error}. "
            "The first start needs the network (Maven Central), or this cache folder copied from a machine that has "
            "started it before; a mirror goes under [repositories] in ~/.config/jgo.conf. Or use a broker that you "
            'have: set `broker = "HOST:PORT"` in bestbefore.toml'
        ) from error


def _announcer(report: Report) -> Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]:
    told: set[str] = set()

    @contextlib.contextmanager
    def announce(file: str, size: int) -> Iterator[Callable[[int], None]]:
        if not told:
            report(f"first start: fetching Apache Kafka {KAFKA}, about 45 MB")
        told.add(file)
        if size > 2_000_000:
            report(f"fetching {file}, {size / 1e6:.0f} MB")
        yield lambda _received: None

    return announce
