"""What a worker counts, for Prometheus: a registry of its own, base units, labels of a bounded number of values.

Counters say what this worker has seen since it started; a record read again after a crash counts again in the worker
that reads it again. A model that nobody registered is `other`. docs/monitoring.md has a row for each metric.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from models.fixed_point import WEIGHT
from streams.model_metrics import ModelMetrics, Models
from streams.progress import Seen, Snapshot
from streams.services import Service, Services

OTHER, MAX_REASONS = "other", 16
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PLAIN = re.compile(r"[a-z][a-z0-9_-]{0,31}")
# Counts of a profile by the counter they go to; those of the second column are in units of WEIGHT.
EVENTS, WEIGHTS = ("n", "not_live", "n_input", "audit.n", "feedback.n"), ("weight", "input_weight", "audit.weight")
TOLD = (*EVENTS, *WEIGHTS, "late", "capped", "ids_sampled", "ids_repeated", "embedding_not_finite", "scores_unusable")


class Metrics:
    """Made once per worker. `registered` says of a model whether it may be a label; `prefix` is that of the topics."""

    def __init__(self, registered: Callable[[str], bool], prefix: str) -> None:
        # The library's only switch: the times of first use would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._registered, self._prefix = registered, prefix
        self._reasons: set[str] = set()
        self._taken: dict[str, Counter] = {}  # found again for every single record
        count = self._counter
        self._records = count("records", "Records taken from a topic.", "topic")
        self._events = count("events", "Events taken in: inferences, sampled inputs, joined labels.", "topic", "model")
        self._weight = count("event_weight", "The same, each as 1 / its sampling probability.", "topic", "model")
        self._late = count("late_events", "Events behind the lateness; they count as revisions.", "topic", "model")
        self._too_late = count("too_late_events", "Late events of windows no longer in any estimate.", "model")
        self._capped = count("capped_clocks", "Events whose time was not credible.", "topic", "model")
        self._sampled = count("ids_compared", "Ids that were compared with earlier ones, one in 64.", "model")
        self._repeated = count("ids_repeated", "Of those, ids that had come before in the window.", "model")
        self._unusable = count("unusable_outputs", "Scores or embeddings that are no numbers.", "topic", "model")
        self._missing = count("missing_records", "Offsets that do not exist at the broker.", "topic")
        self._lost = count("lost_records", "Records deleted from a topic before they were read.", "topic")
        self._dead = count("dead_letters", "Records put into the dead letters.", "topic", "stage")
        self._unpaired = count("unpaired_halves", "Requests and responses that stayed alone.", "topic", "side")
        self._commits = count("commits", "Commits of offsets by their end: done or failed.", "result")
        self._closed = count("windows_closed", "Windows of a source partition that were published.", "topic")
        self._assessed = count("windows_assessed", "Windows of subjects that were assessed.")
        self._predictions = count("predictions", "Predictions for late labels: kept, or over the limit.", "result")
        self._labels = count("labels", "Labels: joined, unmatched, repeated, or unsampled.", "result")
        self._recorded = count("client_recorded_events", "Events that clients say they recorded.", "model")
        self._left_out = count("client_sampled_out_events", "Events that clients left out by sampling.", "model")
        self._dropped = count("client_dropped_events", "Events that clients dropped.", "model", "reason")
        self._heartbeats = count("heartbeats", "Heartbeats of clients.", "model")
        self._skipped = count("heartbeats_missing", "Heartbeats skipped in the numbering of their recorder.", "model")
        self._embedded = count("embedded_inputs", "Sampled inputs that went through the model file.", "provider")
        self._embedding = self._timer("embed_batch_seconds", "Time of one batch in ONNX Runtime.", "provider")
        self._assessing = self._timer("assess_seconds", "Time of one transaction that applies profiles.")
        self._storing = self._timer("store_seconds", "Time of one call of the event store.", "call")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"bestbefore_{name}", text, labels, registry=self.registry)

    def _timer(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"bestbefore_{name}", text, labels, buckets=SECONDS, registry=self.registry)

    def watch(
        self, snapshot: Callable[[], Snapshot], services: Services, outbox: Callable[[], int], models: Models
    ) -> None:
        """Tell also what is so at the moment of asking."""
        self.registry.register(_Now(snapshot, services, outbox, self.topic))
        self.registry.register(ModelMetrics(models))

    def watch_process(self, ready: Callable[[], bool]) -> None:
        """Tell also of the process: whether it is ready, its memory, its time of CPU, its start."""
        gauge = Gauge("bestbefore_ready", "1 where /ready says so, else 0.", registry=self.registry)
        gauge.set_function(lambda: float(ready()))
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        """Everything in the text format of Prometheus."""
        return generate_latest(self.registry)

    def topic(self, name: str) -> str:
        """The short name of a topic."""
        return name.removeprefix(self._prefix)

    def model(self, name: str) -> str:
        """The model as a label."""
        return name if self._registered(name) else OTHER

    def reason(self, name: str) -> str:
        """A client's reason as a label: a plain word, and no more different ones than MAX_REASONS."""
        if name not in self._reasons:
            if not _PLAIN.fullmatch(name) or len(self._reasons) >= MAX_REASONS:
                return OTHER
            self._reasons.add(name)
        return name

    # -- what happens ----------------------------------------------------------------------------------------

    def records(self, topic: str, n: int, missing: int = 0) -> None:
        """So many records were taken, and `missing` offsets before and between them do not exist."""
        child = self._taken.get(topic)
        if child is None:
            child = self._taken[topic] = self._records.labels(self.topic(topic))
        child.inc(n)
        if missing:
            self._missing.labels(self.topic(topic)).inc(missing)

    def unpaired(self, topic: str, side: str) -> None:
        """A request without its response, or the other way round, was given up."""
        self._unpaired.labels(self.topic(topic), side).inc()

    def rows(self, topic: str, tally: Mapping[tuple[str, str], int]) -> None:
        """What rows added to the profiles: counts by model and name."""
        short = self.topic(topic)
        for (model, name), n in tally.items():
            label = self.model(model)
            if name in EVENTS:
                self._events.labels(short, label).inc(n)
            elif name in WEIGHTS:
                self._weight.labels(short, label).inc(n / WEIGHT)
            elif name in ("ids_sampled", "ids_repeated"):
                (self._sampled if name == "ids_sampled" else self._repeated).labels(label).inc(n)
            else:
                into = {"late": self._late, "capped": self._capped}.get(name, self._unusable)
                into.labels(short, label).inc(n)

    def too_late(self, model: str, n: int) -> None:
        """Late events of a window that no estimate holds any more."""
        self._too_late.labels(self.model(model)).inc(n)

    def dead_letter(self, topic: str, stage: str) -> None:
        """A record goes to the dead letters."""
        self._dead.labels(self.topic(topic), stage).inc()

    def dead_letters(self) -> list[tuple[str, str, int]]:
        """How many records went to the dead letters so far, by topic and stage."""
        samples = (sample for family in self._dead.collect() for sample in family.samples)
        return [(s.labels["topic"], s.labels["stage"], int(s.value)) for s in samples if s.name.endswith("_total")]

    def lost(self, topic: str, n: int) -> None:
        """Records were deleted from a topic before they were read."""
        self._lost.labels(self.topic(topic)).inc(n)

    def commit(self, *, done: bool) -> None:
        """A commit has ended."""
        self._commits.labels("done" if done else "failed").inc()

    def closed(self, topic: str, n: int) -> None:
        """Windows were published."""
        self._closed.labels(self.topic(topic)).inc(n)

    def assessed(self, windows: int, seconds: float) -> None:
        """A transaction of the assessor has ended."""
        self._assessing.observe(seconds)
        self._assessed.inc(windows)

    def stored(self, call: str, seconds: float) -> None:
        """A call of the store has ended; `call` is the name of a method."""
        self._storing.labels(call).observe(seconds)

    def kept(self, kept: int, over: int) -> None:
        """Predictions were kept for late labels, and others were not because of the limit."""
        self._predictions.labels("kept").inc(kept)
        self._predictions.labels("over_limit").inc(over)

    def labels(self, **results: int) -> None:
        """Labels by what became of them."""
        for result, n in results.items():
            self._labels.labels(result).inc(n)

    def heartbeat(self, model: str, recorded: int, sampled_out: int, dropped: Mapping[str, int], missing: int) -> None:
        """A client told of itself; `missing` heartbeats before this one did not come."""
        label = self.model(model)
        self._heartbeats.labels(label).inc()
        self._skipped.labels(label).inc(missing)
        self._recorded.labels(label).inc(recorded)
        self._left_out.labels(label).inc(sampled_out)
        for reason, n in dropped.items():
            self._dropped.labels(label, self.reason(reason)).inc(n)

    def embedded(self, provider: str, inputs: int, seconds: float) -> None:
        """A batch went through a model file."""
        self._embedding.labels(provider).observe(seconds)
        self._embedded.labels(provider).inc(inputs)


class _Now:
    """What is so at the moment of asking."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        services: Services,
        outbox: Callable[[], int],
        short: Callable[[str], str],
    ) -> None:
        self._snapshot, self._services, self._outbox, self._short = snapshot, services, outbox, short

    def collect(self) -> Iterable[Metric]:
        """Called at every scrape."""
        found, now, wall = self._snapshot(), time.monotonic(), time.time()
        ages: dict[str, tuple[str, Callable[[Seen], float | None]]] = {
            "lag_records": ("Records that wait at the broker.", lambda s: float(s.lag)),
            "open_windows": ("Windows that are not complete yet.", lambda s: float(s.windows)),
            "commit_age_seconds": (
                "Since when offsets are due and not committed; 0 where none are.",
                lambda s: 0.0 if s.uncommitted_since is None else now - s.uncommitted_since,
            ),
            "event_age_seconds": ("Age of the newest event, by its own time.", lambda s: _age(wall, s.event_us)),
            "record_age_seconds": ("Age of the newest record, by the broker.", lambda s: _age(wall, s.received_us)),
            "watermark_age_seconds": ("Age of the watermark.", lambda s: _age(wall, s.watermark_us)),
        }
        for name, (text, value) in ages.items():
            family = GaugeMetricFamily(f"bestbefore_{name}", text, labels=("topic", "partition"))
            for seen in found.partitions:
                one = value(seen)
                if one is not None:
                    family.add_metric((self._short(seen.topic), str(seen.partition)), one)
            yield family
        yield GaugeMetricFamily("bestbefore_outbox_records", "Records in the outbox of the store.", self._outbox())
        snapshot = "Age of what these gauges tell; it grows when the event loop stands."
        yield GaugeMetricFamily("bestbefore_snapshot_age_seconds", snapshot, now - found.at)
        yield from self._of_services((self._services.store, self._services.broker), now)

    def _of_services(self, services: Iterable[Service], now: float) -> Iterable[Metric]:
        up = GaugeMetricFamily("bestbefore_reachable", "1 where the service answers, else 0.", labels=("service",))
        waits = CounterMetricFamily("bestbefore_waits", "Times that a call began to wait.", labels=("service",))
        waited = CounterMetricFamily("bestbefore_waiting_seconds", "Time that calls waited.", labels=("service",))
        for service in services:
            up.add_metric((service.name,), float(service.reachable(now)))
            waits.add_metric((service.name,), service.waits)
            waited.add_metric((service.name,), service.waited(now))
        yield from (up, waits, waited)


def _age(wall: float, time_us: int | None) -> float | None:
    return None if time_us is None else wall - time_us / 1e6
