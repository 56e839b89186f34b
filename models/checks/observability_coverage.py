"""Is everything that somebody relies on really measured, logged and sent?

| | |
|---|---|
| left | metrics, logs and feedback in `trained_model` (`algorithm_metrics`, `business_metrics`, `log_data`, `user_system_feedback`), the `metric` of each goal; at run time `production_environment.bestbefore.coverage` {field: share}, 1 where nothing is said, `expected_error_rate`, and `production_data.bestbefore.labels.share` |
| right | what `production_environment` says it implements; the share of events that have each field, the share of predictions that got a label, what clients say they dropped |
| statistic | share of events without the field, with its 90% interval |
| mismatch | a name that production does not implement; a field missing in more events than declared, by a point and beyond chance; a declared feature that no event has; errors are declared, and not one of so many events failed; fewer labels than declared; clients dropped more events than declared under `events` |
| unknown | one side is not declared, too few events, or no error and no declared error rate |

Names are compared without case and punctuation, metrics by their usual synonyms, and a metric may stand in any list of
production. Scores, label and value are expected of events that were answered, all else of every event: scores where
they are declared, `latency_ms` where a limit is, `digest` where one is declared (never sent is only worth a note), an
embedding once one was sent. If errors are declared to be returned and none is ever seen, the gateway probably keeps them
from the log: n events without one have probability (1 - `expected_error_rate`)^n. Labels are awaited for the declared delay.
What clients dropped before it was sent counts as missing, in the window in which they tell it.
"""

from collections.abc import Iterator
from typing import Any

from models.checks.check import Check
from models.checks.coverage_rates import error_coverage, field_coverage, label_coverage, loss_coverage
from models.checks.observed import Observed
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.metric_names import metric_name, plain_name

MODEL, ENVIRONMENT = "trained_model", "production_environment"
# What asks, its key, what gives, their keys, alias.
_METRICS = (
    ("trained_model.algorithm_metrics", "metric", "tec:10"),
    ("trained_model.business_metrics", "metric", "tec:9"),
    ("system_context.goals", "metric", ""),
)
_MEASURED = tuple(f"{ENVIRONMENT}.{key}" for key in ("algorithm_metrics", "business_metrics", "other_metrics"))
_OTHERS = (
    ("log", "trained_model.log_data", "log", ("model_logs", "other_logs"), "log", "tec:11"),
    ("feedback", "trained_model.user_system_feedback", "short_name", ("user_system_feedback",), "feedback", "tec:13"),
)


def design(at: Workplace) -> Iterator[Verdict]:
    """One verdict per metric, log and feedback."""
    needed: dict[str, tuple[str, str]] = {}
    for path, key, alias in _METRICS:
        if at.value(path) is None:
            yield CHECK.unknown(f"{path} is not declared", field=path.split(".")[1], **_alias(alias))
        for where, item in at.items(path):
            if metric_name(item.get(key)):
                needed.setdefault(metric_name(item[key]), (f"{where}.{key}", alias))
    given = {metric_name(i.get("metric")): f"{w}.metric" for path in _MEASURED for w, i in at.items(path)}
    yield from _compared(at, "metric", needed, given, _MEASURED)
    for kind, path, key, places, name, alias in _OTHERS:
        if at.value(path) is None:
            yield CHECK.unknown(f"{path} is not declared", field=kind, **_alias(alias))
            continue
        needed = {plain_name(i.get(key)): (f"{w}.{key}", alias) for w, i in at.items(path) if plain_name(i.get(key))}
        wheres = tuple(f"{ENVIRONMENT}.{place}" for place in places)
        given = {plain_name(i.get(name)): f"{w}.{name}" for where in wheres for w, i in at.items(where)}
        yield from _compared(at, kind, needed, given, wheres)


def _alias(alias: str) -> dict[str, Any]:
    return {"aliases": (alias,)} if alias else {}


def _compared(
    at: Workplace, kind: str, needed: dict[str, tuple[str, str]], given: dict[str, str], places: tuple[str, ...]
) -> Iterator[Verdict]:
    declared = [place for place in places if at.value(place) is not None]
    for name, (source, alias) in needed.items():
        sides: dict[str, Any] = {"field": f"{kind} {name}", "left": at.side(source), **_alias(alias)}
        if name in given:
            yield CHECK.ok(right=at.side(given[name]), **sides)
        elif not declared:
            yield CHECK.unknown(f"{places[0]} is not declared", **sides)
        else:
            yield CHECK.mismatch(
                f"the {kind} {at.value(source)!r} is asked for ({source}), and production does not implement it "
                f"({', '.join(places)})",
                right=at.side(declared[0]), remedy="implement it in production, or take it out of the descriptor", **sides,
            )  # fmt: skip


def live(seen: Observed) -> Iterator[Verdict]:
    """What the events of a block have, which errors were seen, and how many predictions got a label."""
    yield from field_coverage(CHECK, seen)
    yield from error_coverage(CHECK, seen)
    yield from label_coverage(CHECK, seen)
    yield from loss_coverage(CHECK, seen)


CHECK = Check(
    id="observability-coverage",
    title="Measured, logged and sent",
    owner="operations",
    remedy="send the field with every event, or declare the share that has it",
    action="fix-pipeline",
    aliases=("tec:9", "tec:10", "tec:11", "tec:13"),
    design=design,
    live=live,
)
