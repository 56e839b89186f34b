"""Is the model as good as it must be, and until when?

| | |
|---|---|
| left | the threshold in `trained_model.algorithm_metrics` |
| right | the current quality with its 90% interval, from labels, confidences or both |
| mismatch | the whole interval lies below the threshold |
| ok | the whole interval lies above it |
| unknown | the interval includes the threshold, or there is no honest number; the reason says which |

The forecast of the time at which the threshold is crossed stands in the status line beside this verdict.
"""

from collections.abc import Iterator

from models.checks.check import Check
from models.checks.observed import Observed
from models.checks.predicate import judge
from models.checks.verdict import Effect, Side, Verdict
from models.quality import Estimate
from models.reference import Reference


def live(seen: Observed) -> Iterator[Verdict]:
    """One verdict: only an interval that lies on one side of the threshold says something."""
    estimate, threshold, metric = seen.estimate or Estimate(), seen.reference.threshold, seen.reference.metric
    if threshold is None:
        yield CHECK.unknown(estimate.reason or without_threshold(seen.reference))
        return
    left = Side(path_of(seen), threshold)
    if not seen.window.n:
        yield CHECK.unknown("no events in this window", field=metric, left=left)
        return
    if estimate.estimate is None or estimate.low is None or estimate.high is None:
        yield CHECK.unknown(estimate.reason or "there is no estimate with an interval", field=metric, left=left)
        return
    value = float(f"{estimate.estimate:.6g}")
    right = Side(f"telemetry.quality.{metric}", value, low=estimate.low, high=estimate.high, n=estimate.n)
    effect = Effect(
        statistic=metric, estimate=value, low=estimate.low, high=estimate.high, threshold=threshold, n=estimate.n
    )
    sides = {"field": metric, "left": left, "right": right, "effect": effect}
    interval = f"90% interval {estimate.low:.3f} to {estimate.high:.3f}"
    # A sole boundary case counts as good: the declared operator is `greater or equal`.
    outcome = judge(right, ">=", left).outcome
    if outcome == "ok":
        yield CHECK.ok(**sides)
    elif outcome == "unknown":
        yield CHECK.unknown(f"the {interval} includes the threshold {threshold}", **sides)
    else:
        yield CHECK.mismatch(
            f"{metric} is {value:.3f} ({interval}, {estimate.basis}), below the declared {threshold}", **sides
        )


def path_of(seen: Observed) -> str:
    """Where the threshold of the assessed metric stands."""
    for path, metric in seen.items("trained_model.algorithm_metrics"):
        if str(metric.get("metric", "")).lower() == seen.reference.metric:
            return f"{path}.threshold"
    return "trained_model.algorithm_metrics[0].threshold"


def without_threshold(reference: Reference) -> str:
    """Why there is no threshold to compare with."""
    if reference.metric != "accuracy":
        return f"only accuracy is assessed, trained_model.algorithm_metrics declares {reference.metric}"
    return "no threshold is declared in trained_model.algorithm_metrics"


CHECK = Check(
    id="quality-and-time-to-threshold",
    title="Good enough, and for how long",
    owner="data scientist",
    remedy="retrain, unless an open mismatch names another cause",
    action="retrain",
    severity="critical",
    live=live,
)
