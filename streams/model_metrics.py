"""What Prometheus is told of every model: gauges of an overview of the store.

One worker of a group tells it, the one that holds partition 0 of `profiles`, so that nothing is told twice for longer
than a rebalance takes; rules and boards take the maximum over workers all the same.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from streams.overview import Overview, Standing, seconds

Models = Callable[[], tuple[Overview, float] | None]
VERSION = ("model", "version")
# name, what it is, and where it stands; a model without an honest number has no series.
_GAUGES: tuple[tuple[str, str, Callable[[Standing], float | None]], ...] = (
    ("quality", "Estimated quality of a model version.", lambda s: s.estimate),
    ("quality_low", "Lower end of its 90% interval.", lambda s: s.low),
    ("quality_high", "Upper end of its 90% interval.", lambda s: s.high),
    ("quality_threshold", "Quality below which the version is past its best.", lambda s: s.threshold),
    ("quality_known", "1 where its quality is known, else 0.", lambda s: float(s.estimate is not None)),
    ("window_end_timestamp_seconds", "End of the newest window that was assessed.", lambda s: s.window_end),
    ("window_seconds", "Length of its windows.", lambda s: s.window_end - s.window_start),
    ("window_events", "Inferences in the newest window.", lambda s: float(s.n)),
    ("good_until_timestamp_seconds", "Until then the version is good with 90% confidence.", lambda s: s.good_until),
    ("best_before_timestamp_seconds", "Its best-before date.", lambda s: s.best_before),
    ("due_probability", "Probability that it is past its best within one lead time.", lambda s: s.probability),
)
SEVERITIES = ("info", "warning", "critical")


class ModelMetrics:
    """A collector; `read` gives the newest overview and when it was read, or None where another worker tells it."""

    def __init__(self, read: Models) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Called at every scrape."""
        told = self._read()
        found = Overview() if told is None else told[0]
        read = _family("bestbefore_models_read_timestamp_seconds", "When the figures of models were read.", ())
        if told is not None:
            read.add_metric((), told[1])
        yield read
        for name, text, value in _GAUGES:
            labels = (*VERSION, "metric") if name.startswith("quality") and name != "quality_known" else VERSION
            family = _family(f"bestbefore_model_{name}", text, labels)
            for one in found.models:
                number = value(one)
                if number is not None:
                    family.add_metric(tuple(getattr(one, label) for label in labels), number)
            yield family
        yield from (_mismatches(found), _triggers(found), _deadlines(found))


def _family(name: str, text: str, labels: Sequence[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)


def _mismatches(found: Overview) -> GaugeMetricFamily:
    """A zero for every version and severity: what closes goes back to zero instead of going away."""
    text = "Open mismatches of a model version, over all segments."
    family = _family("bestbefore_model_open_mismatches", text, (*VERSION, "severity"))
    counted = Counter((event.model, event.version, event.severity or "info") for event in found.mismatches)
    for one in found.models:
        for severity in SEVERITIES:
            family.add_metric((one.model, one.version, severity), counted[one.model, one.version, severity])
    return family


def _triggers(found: Overview) -> GaugeMetricFamily:
    text = "Triggers of a model version that nobody has answered and nothing has resolved."
    family = _family("bestbefore_model_open_triggers", text, (*VERSION, "action"))
    counted = Counter((event.model, event.version, str(event.body.get("action"))) for event in found.triggers)
    for labels, n in sorted(counted.items()):
        family.add_metric(labels, n)
    return family


def _deadlines(found: Overview) -> GaugeMetricFamily:
    text = "Until when an open trigger wants to be answered; the earliest of its action."
    family = _family("bestbefore_model_retrain_by_timestamp_seconds", text, (*VERSION, "action"))
    earliest: dict[tuple[str, str, str], float] = {}
    for event in found.triggers:
        by, key = seconds(event.body.get("retrain_by")), (event.model, event.version, str(event.body.get("action")))
        if by is not None:
            earliest[key] = min(by, earliest.get(key, by))
    for labels, by in sorted(earliest.items()):
        family.add_metric(labels, by)
    return family
