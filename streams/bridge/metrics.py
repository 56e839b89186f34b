"""What a bridge counts, for Prometheus. docs/operations.md has a row for each metric."""

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from streams.bridge.buffer import Buffer
from streams.services import Service

# streams/metrics.py would bring all that workers compute with: a bridge starts and stays small without.
OTHER, MOST_TOPICS = "other", 50
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class BridgeMetrics:
    """Made once per bridge; `short` makes names of topics short."""

    def __init__(self, buffer: Buffer, broker: Service, short: Callable[[str], str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._short = short
        self._topics: set[str] = set()
        count = self._counter
        self._requests = count("requests", "Requests answered, by HTTP status.", "path", "status")
        self._refused = count("refused_requests", "Requests of which nothing was taken, by reason.", "reason")
        self._taken = count("taken_records", "Records that went into the queue.", "topic")
        self._delivered = count("delivered_records", "Records that the broker has acknowledged.", "topic")
        self._lost = count("undelivered_records", "Records given up after they were taken.", "topic", "reason")
        self._left_out = count("left_out_logs", "Log records that are no events, or cannot be read.", "reason")
        self._again = count("repeated_sends", "Records that were sent to the broker again after a failure.")
        self._seconds = Histogram(
            "bestbefore_bridge_delivery_seconds", "Time from taking a record to the broker's acknowledgement.",
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.registry.register(_Now(buffer, broker))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"bestbefore_bridge_{name}", text, labels, registry=self.registry)

    def text(self) -> bytes:
        """Everything in the text format of Prometheus."""
        return generate_latest(self.registry)

    def topic(self, name: str) -> str:
        """The topic as a label; of very many the later ones are one."""
        short = self._short(name)
        if short not in self._topics:
            if len(self._topics) >= MOST_TOPICS:
                return OTHER
            self._topics.add(short)
        return short

    def answered(self, path: str, status: int) -> None:
        """A request was answered."""
        self._requests.labels(path, str(status)).inc()

    def refused(self, reason: str) -> None:
        """A request was refused."""
        self._refused.labels(reason).inc()

    def taken(self, topic: str, n: int) -> None:
        """Records went into the queue."""
        self._taken.labels(self.topic(topic)).inc(n)

    def delivered(self, topic: str, seconds: float) -> None:
        """The broker has acknowledged a record."""
        self._delivered.labels(self.topic(topic)).inc()
        self._seconds.observe(seconds)

    def undelivered(self, topic: str, reason: str) -> None:
        """A record was given up."""
        self._lost.labels(self.topic(topic), reason).inc()

    def left_out(self, reason: str, n: int) -> None:
        """Log records were no events, or could not be read."""
        self._left_out.labels(reason).inc(n)

    def again(self, n: int) -> None:
        """Records are sent again."""
        self._again.inc(n)


class _Now:
    """What is so at the moment of asking."""

    def __init__(self, buffer: Buffer, broker: Service) -> None:
        self._buffer, self._broker = buffer, broker

    def collect(self) -> Iterable[Metric]:
        """Called at every scrape."""
        buffer = self._buffer
        yield GaugeMetricFamily("bestbefore_bridge_queue_records", "Records that wait for the broker.", buffer.records)
        yield GaugeMetricFamily("bestbefore_bridge_queue_bytes", "Bytes of these, and of bodies read.", buffer.bytes)
        up = float(self._broker.reachable(time.monotonic()))
        yield GaugeMetricFamily("bestbefore_bridge_broker_reachable", "1 where the broker answers, else 0.", up)
