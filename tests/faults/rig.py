"""A broker, a store and a crew, with a proxy between the crew and each of the two; what the faults act on."""

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import make_url

from infra.local.kafka import Broker
from infra.local.machine import free_port
from infra.local.postgres import Postgres
from infra.local.services import Services, ephemeral
from infra.migrate import upgrade
from infra.topic_admin import create_topics
from models.label_sampling import Plan
from streams.descriptor_files import load_reference
from streams.event_store import EventStore
from streams.registry import encode_reference
from streams.settings import Settings
from tests.faults.crew import ROOT, Crew, crew
from tests.faults.proxy import Proxy
from tests.faults.sender import Sender
from tests.faults.traffic import ASKED, PARTITIONS

GROUP = "faults"
READ = ("inference", "inputs", "labels", "profiles")
PASSED = "passed"

# A second listener, which the broker advertises as the proxy's address: clients that come through the proxy stay there.
_LISTENERS = """\
listeners=PLAINTEXT://{{host}}:{{broker}},PROXIED://{{host}}:{behind},CONTROLLER://{{host}}:{{controller}}
advertised.listeners=PLAINTEXT://{{host}}:{{broker}},PROXIED://{{host}}:{proxy}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
"""


@dataclass
class Rig:
    """`services` are the direct addresses; the crew knows only those of the proxies."""

    folder: Path
    services: Services
    settings: Settings
    crew: Crew
    sender: Sender
    broker_proxy: Proxy
    store_proxy: Proxy
    rng: random.Random  # for faults that choose

    @property
    def broker(self) -> Broker:
        """The broker itself, to be killed and started."""
        return Broker(self.folder)

    @property
    def postgres(self) -> Postgres:
        """The store itself."""
        return Postgres(self.folder)

    def topics(self) -> list[str]:
        """Full names of the topics that workers read."""
        return [self.settings.topic(name) for name in READ]


def environment(broker: str, store: str, **more: str) -> dict[str, str]:
    """Settings of the workers: short waits, every prediction kept."""
    return {
        "BESTBEFORE_BROKER": broker,
        "BESTBEFORE_STORE": store,
        "BESTBEFORE_GROUP": GROUP,
        "BESTBEFORE_DEFAULT_WINDOW": "6 hours",
        "BESTBEFORE_DEFAULT_LATENESS": "10 minutes",
        "BESTBEFORE_OLDEST_EVENT": "4000 days",
        "BESTBEFORE_IDLE_AFTER": "4 s",
        "BESTBEFORE_ASSESS_GRACE": "20 s",
        "BESTBEFORE_SESSION_TIMEOUT": "6 s",
        "BESTBEFORE_LABEL_PATIENCE": "3 minutes",
        "BESTBEFORE_KEEP_RATE": "1",
        "BESTBEFORE_PROVIDER_POLICY": "cpu",
        **more,
    }


def register(store_url: str, versions: list[str]) -> None:
    """Register these versions of `digits`, each with a budget of labels."""
    reference = load_reference(ROOT / "examples" / "digits" / "descriptors")
    terms = msgspec.structs.replace(reference.labels, plan=Plan(rate=ASKED, uniform=1.0))
    store = EventStore(store_url)
    for version in versions:
        mine = msgspec.structs.replace(reference, version=version, labels=terms)
        store.register(mine.model, version, f"{mine.digest}-{version}", encode_reference(mine))
    store.close()


@contextmanager
def rig(seed: int, versions: list[str], **more: str) -> Iterator[Rig]:
    """Everything but the traffic; `more` are settings of the workers. The folder stays unless marked `PASSED`."""
    folder = Path(tempfile.mkdtemp(prefix="bestbefore-faults-"))
    behind, near = free_port(), free_port()
    (folder / "kafka").mkdir()
    (folder / "kafka" / "extra.properties").write_text(_LISTENERS.format(behind=behind, proxy=near))
    with ephemeral(folder) as services:
        url = make_url(services.store)
        broker_proxy, store_proxy = Proxy(near, behind), Proxy(free_port(), url.port or 0)
        proxied = url.set(port=store_proxy.port).render_as_string(hide_password=False)
        settings = Settings(broker=services.broker, store=services.store, group=GROUP, partitions=PARTITIONS)
        upgrade(services.store)
        create_topics(settings)
        register(services.store, versions)
        broker_proxy.start()
        store_proxy.start()
        sender = Sender(services.broker, settings.topic_prefix, folder / "sent.log")
        with crew(folder, environment(f"127.0.0.1:{near}", proxied, **more)) as hired:
            yield Rig(folder, services, settings, hired, sender, broker_proxy, store_proxy, random.Random(seed))
        broker_proxy.stop()
        store_proxy.stop()
    if (folder / PASSED).exists():  # else its logs are wanted
        shutil.rmtree(folder)
