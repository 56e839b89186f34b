"""The topics: what each holds, how it is keyed, and how long it keeps."""

from typing import NamedTuple

DAY_MS = 86_400_000
HEADROOM = 1 << 20  # bytes that we write around a record that we read: error headers, the frame of a profile


class Topic(NamedTuple):
    """One row of the table below."""

    name: str
    direction: str  # in, out, internal
    key: str
    cleanup: str
    days: int
    stamped_by_broker: bool = False  # LogAppendTime: clocks of senders are not trusted for event-time bounds

    def config(self, max_record_bytes: int) -> dict[str, str]:
        """Broker-side configuration; `max_record_bytes` is the largest record that is read."""
        config = {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.days * DAY_MS),
            "max.message.bytes": str(max_record_bytes + (HEADROOM if self.name in (DEAD_LETTERS, PROFILES) else 0)),
        }
        if self.stamped_by_broker:
            config["message.timestamp.type"] = "LogAppendTime"
        return config


INFERENCE, INPUTS, LABELS, PROFILES = "inference", "inputs", "labels", "profiles"
MISMATCHES, TRIGGERS, LABEL_REQUESTS, STATUS = "mismatches", "retrain-triggers", "label-requests", "status"
LIFECYCLE, DEAD_LETTERS = "lifecycle", "dead-letters"

TOPICS = (
    Topic(INFERENCE, "in", "anything; the client uses the model", "delete", 3, True),
    Topic(INPUTS, "in", "inference id", "delete", 3, True),
    Topic(LABELS, "in", "inference id", "delete", 30, True),
    Topic(PROFILES, "internal", "model/version", "delete", 7),
    Topic(MISMATCHES, "out", "model", "delete", 30),
    Topic(TRIGGERS, "out", "model", "delete", 90),
    Topic(LABEL_REQUESTS, "out", "inference id", "delete", 30),
    Topic(STATUS, "out", "model/version/segment", "compact", 90),
    Topic(LIFECYCLE, "in and out", "model", "compact,delete", 90),
    Topic(DEAD_LETTERS, "out", "original", "delete", 30),
)
