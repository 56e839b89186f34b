"""Makes the topics, and checks that those of a broker are as the workers need them."""

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from streams.connection import connected
from streams.errors import ServiceError
from streams.settings import Settings
from streams.topics import TOPICS, Topic


class Finding(NamedTuple):
    """What is to be said of one topic."""

    topic: str
    ok: bool
    message: str


def _admin(settings: Settings) -> AbstractContextManager[Any]:
    return connected(settings, KafkaAdminClient)


def _config(settings: Settings, topic: Topic) -> dict[str, str]:
    return topic.config(settings.max_record_bytes)


def create_topics(settings: Settings) -> list[Finding]:
    """Make the topics that are missing; those that exist are left as they are. Raises ServiceError."""
    with _admin(settings) as admin:
        existing = set(admin.list_topics())
        missing = [topic for topic in TOPICS if settings.topic(topic.name) not in existing]
        if missing:
            wanted = {
                settings.topic(topic.name): {
                    "num_partitions": settings.partitions,
                    "replication_factor": settings.replication,
                    "configs": _config(settings, topic),
                }
                for topic in missing
            }
            admin.create_topics(wanted, wait_for_metadata=True)
        made = f"made with {settings.partitions} partitions"
        return [Finding(settings.topic(t.name), True, made if t in missing else "exists") for t in TOPICS]


def require_topics(settings: Settings) -> None:
    """Raises ServiceError when no broker answers, or one has not the topics: Faust would tell neither in one line."""
    with _admin(settings) as admin:
        known = set(admin.list_topics())
    for topic in TOPICS:
        if settings.topic(topic.name) not in known:
            raise ServiceError(f"topic {settings.topic(topic.name)} is missing; run `bestbefore topics create`")


def check_topics(settings: Settings) -> list[Finding]:
    """Compare the broker's topics with what the workers need. Raises ServiceError."""
    with _admin(settings) as admin:
        names = [settings.topic(topic.name) for topic in TOPICS]
        known = set(admin.list_topics())
        here = [name for name in names if name in known]
        described = {t["name"]: t for t in admin.describe_topics(here)} if here else {}
        configs = _configs(admin, here)
        counts = {
            len(described[n]["partitions"])
            for t, n in zip(TOPICS, names, strict=True)
            if n in described and t.direction == "in"
        }
        findings = []
        for topic, name in zip(TOPICS, names, strict=True):
            if name not in described:
                findings.append(Finding(name, False, "missing; run `bestbefore topics create`"))
                continue
            wrong = _differences(settings, topic, described[name], configs.get(name, {}))
            if topic.direction == "in" and len(counts) > 1:
                wrong.append(f"the input topics have different numbers of partitions ({sorted(counts)})")
            findings.append(Finding(name, not wrong, "; ".join(wrong) or "as needed"))
        return findings


def _configs(admin: Any, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answer = admin.describe_configs(resources, config_filter="all")
    found = answer.get("topic", answer) if isinstance(answer, dict) else {}
    return {name: {k: _value(v) for k, v in entries.items()} for name, entries in found.items()}


def _value(entry: Any) -> str:
    return str(entry.get("value") if isinstance(entry, dict) else entry)


def _differences(settings: Settings, topic: Topic, described: dict[str, Any], config: dict[str, str]) -> list[str]:
    """What would lose records or hide them; a longer retention or more partitions are the operator's business."""
    wrong = []
    wanted = _config(settings, topic)
    if set(config.get("cleanup.policy", "").split(",")) != set(wanted["cleanup.policy"].split(",")):
        wrong.append(f"cleanup.policy is {config.get('cleanup.policy')}, needs {wanted['cleanup.policy']}")
    retention = int(config.get("retention.ms", "0"))
    if 0 <= retention < int(wanted["retention.ms"]):
        wrong.append(f"retention.ms is {retention}, needs {wanted['retention.ms']} or more")
    if int(config.get("max.message.bytes", "0")) < int(wanted["max.message.bytes"]):
        wrong.append(f"max.message.bytes is {config.get('max.message.bytes')}, needs {wanted['max.message.bytes']}")
    if topic.stamped_by_broker and config.get("message.timestamp.type") != "LogAppendTime":
        wrong.append("message.timestamp.type is not LogAppendTime, so senders' clocks bound the event times")
    replicas = min((len(p["replica_nodes"]) for p in described["partitions"]), default=0)
    if replicas < settings.replication:
        wrong.append(f"{replicas} replicas, needs {settings.replication}")
    return wrong
