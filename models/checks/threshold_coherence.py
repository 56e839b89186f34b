"""Does the model meet its own limits, and do the limits make sense?

| | |
|---|---|
| left | `trained_model.algorithm_metrics` {metric, operator, threshold} |
| right | `trained_model.evaluation_metrics` and `test_metrics` of the same metric, `system_context.goals` with their `baseline`, the accuracy of `training_data.bestbefore.confusion` and `calibration` |
| statistic | the declared numbers; for `results` the difference of two accuracies beside what n leaves open |
| mismatch | `limit`: a result violates the limit the model ships with. `direction`: the operator points against the metric (accuracy `less than`). `unit`: one number is a share, another a percentage (0.85 and 85). `results`: the evaluation result is not the accuracy of the confusion matrix or calibration. `baseline`: a model at its limit is worse than no model |
| unknown | no threshold, no result of that metric, a metric whose better direction is not known |

A number with the wrong unit is reported as such and left out of the other comparisons, and so is an evaluation result
that the confusion matrix contradicts: one wrong number is one finding. Directions are known for the usual metrics;
`trained_model.bestbefore.metric_polarity` {metric: higher or lower} adds others and has the last word. An evaluation
result is taken to rest on as many cases as the confusion matrix it is compared with.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from models.checks.check import Check
from models.checks.predicate import judge
from models.checks.verdict import Effect, Side, Verdict
from models.checks.workplace import Workplace
from models.metric_names import is_share, metric_name, polarity
from models.quality import wilson
from models.quantities import number_of

LIMITS, GOALS = "trained_model.algorithm_metrics", "system_context.goals"
EVALUATED, TESTED = "trained_model.evaluation_metrics", "trained_model.test_metrics"
POLARITY = "trained_model.bestbefore.metric_polarity"
CONFUSION, CALIBRATION = "training_data.bestbefore.confusion", "training_data.bestbefore.calibration"
FLOOR, Z_ALPHA = 0.01, 3.29  # one point; once in a thousand
_WORDS = {
    "greater than": ">", "greater or equal than": ">=", "greater than or equal to": ">=", "less than": "<",
    "less or equal than": "<=", "less than or equal to": "<=", "equal to": "==", "different than": "!=",
}  # fmt: skip
_POINTS_TO = {">": "higher", ">=": "higher", "<": "lower", "<=": "lower"}


class Fact(NamedTuple):
    """One declared number of a metric. `percent`: it is written with a percent sign, so its unit is beyond doubt."""

    metric: str
    path: str
    value: float
    percent: bool = False

    @property
    def scale(self) -> int:
        """1 for a share, 100 for a percentage, 0 where the number could be either."""
        if self.percent or not is_share(self.metric) or self.value <= 0:
            return 0
        return 100 if self.value > 1 else 1


class Limit(NamedTuple):
    """A threshold with its operator, and the paths of all limits that say the same."""

    fact: Fact
    operator: str
    paths: tuple[str, ...]
    goals: tuple[str, ...]


def design(at: Workplace) -> Iterator[Verdict]:
    """One verdict per distinct limit and kind of comparison."""
    limits = _limits(at)
    if not limits:
        yield CHECK.unknown(f"{LIMITS} has no threshold")
        return
    results = [*_results(at, EVALUATED), *_results(at, TESTED)]
    baselines = _baselines(at)
    clashes = _clashes([limit.fact for limit in limits], results, [fact for _, fact in baselines])
    for fact, other in clashes:
        yield CHECK.mismatch(
            f"{fact.metric} is {fact.value:g} at {fact.path} and {other.value:g} at {other.path}: one is a share, the "
            "other a percentage",
            field=f"{fact.metric} unit {fact.path}", left=at.side(fact.path), right=at.side(other.path),
            remedy="write every number of a metric in the same unit",
        )  # fmt: skip
    wrong = {fact.path for fact, _ in clashes}
    agreement = list(_agreement(at, [fact for fact in results if fact.path not in wrong]))
    wrong |= {v.left.path for v in agreement if v.verdict == "mismatch" and v.left is not None}
    yield from agreement
    for limit in limits:
        if limit.fact.path not in wrong:
            yield from _limit(at, limit, limits, results, baselines, wrong)


# -- what is declared --------------------------------------------------------------------------------------------


def _limits(at: Workplace) -> list[Limit]:
    found: dict[tuple[str, str, float], Limit] = {}
    for path, item in at.items(LIMITS):
        fact = _fact(metric_name(item.get("metric")), f"{path}.threshold", item.get("threshold"))
        if fact is None:
            continue
        operator = _operator(item.get("operator"))
        key = (fact.metric, operator, fact.value)
        goal = (str(item["goal_mapping"]),) if item.get("goal_mapping") else ()
        known = found.get(key, Limit(fact, operator, (), ()))
        found[key] = known._replace(paths=(*known.paths, path), goals=known.goals + goal)
    return list(found.values())


def _operator(text: object) -> str:
    word = " ".join(str(text or "").casefold().split())
    return word if word in _POINTS_TO or word in ("==", "!=") else _WORDS.get(word, "")


def _fact(metric: str, path: str, value: Any) -> Fact | None:
    number = number_of(value)
    if not metric or number is None or not math.isfinite(number[0]):
        return None
    return Fact(metric, path, number[0], isinstance(value, str) and "%" in value)


def _results(at: Workplace, where: str) -> list[Fact]:
    found = []
    for path, item in at.items(where):
        name = metric_name(item.get("metric"))
        if name in ("", "other"):
            name = metric_name(item.get("other_metric"))
        found.append(_fact(name, f"{path}.result", item.get("result")))
    return [fact for fact in found if fact is not None]


def _baselines(at: Workplace) -> list[tuple[str, Fact]]:
    """Goal and baseline; prose is no baseline that can be compared."""
    found = []
    for path, item in at.items(GOALS):
        fact = _fact(metric_name(item.get("metric")), f"{path}.baseline", item.get("baseline"))
        if fact is not None:
            found.append((str(item.get("id") or path), fact))
    return found


def _clashes(*groups: list[Fact]) -> list[tuple[Fact, Fact]]:
    """Numbers in another unit than most of their metric, each with one of the others; thresholds first."""
    found = []
    facts = [fact for group in groups for fact in group if fact.scale]
    for metric in dict.fromkeys(fact.metric for fact in facts):
        shares, percentages = (
            [fact for fact in facts if fact.metric == metric and fact.scale == scale] for scale in (1, 100)
        )
        if shares and percentages:
            # Where neither is in the majority, the threshold is the one to look at.
            few, many = sorted((shares, percentages), key=lambda g: (len(g), facts.index(g[0])))
            found += [(fact, many[0]) for fact in few]
    return found


def _comparable(fact: Fact, to: Fact) -> float:
    """The number of `fact` in the unit of `to`."""
    if fact.percent == to.percent:
        return fact.value
    if fact.percent:
        return fact.value * (100 if to.scale == 100 else 1)
    return fact.value / (100 if fact.scale == 100 else 1)


# -- comparisons -------------------------------------------------------------------------------------------------


def _agreement(at: Workplace, results: list[Fact]) -> Iterator[Verdict]:
    """Evaluated accuracy beside that of the confusion matrix and of the calibration, which stem from the hold-out."""
    measured = {path: found for path, found in _measured(at).items() if found is not None}
    for fact in (f for f in results if f.metric == "accuracy" and f.path.startswith(EVALUATED)):
        share = fact.value / (100 if fact.scale == 100 else 1)
        field, left = "accuracy results", at.side(fact.path)
        if not measured:
            yield CHECK.unknown(f"neither {CONFUSION} nor {CALIBRATION} is declared", field=field, left=left)
            continue
        # The one that is farther from the result, in units of what is allowed.
        path = max(measured, key=lambda p: abs(measured[p][0] - share) / _allowed(*measured[p]))
        accuracy, n = measured[path]
        low, high = wilson(accuracy, n) if n else (None, None)
        sides: dict[str, Any] = {
            "field": field, "left": left, "right": Side(path, round(accuracy, 6), "", low, high, n, at.place(path)),
            "effect": Effect(
                statistic="difference of accuracies", estimate=round(accuracy - share, 6),
                threshold=round(_allowed(accuracy, n), 6), n=n,
            ),
        }  # fmt: skip
        if abs(accuracy - share) > _allowed(accuracy, n):
            size = f"n = {n:g}" if n else "n is not known"
            yield CHECK.mismatch(
                f"accuracy was {fact.value:g} in the evaluation ({fact.path}), but {path} gives {accuracy:.4g} ({size})",
                remedy="evaluate again, and declare what was measured", **sides,
            )  # fmt: skip
        else:
            yield CHECK.ok(**sides)


def _allowed(accuracy: float, n: float | None) -> float:
    """How far two samples of n may differ; a point where n is not known."""
    return max(FLOOR, Z_ALPHA * math.sqrt(2 * max(accuracy * (1 - accuracy), 1 / n) / n) if n else FLOOR)


def _measured(at: Workplace) -> dict[str, tuple[float, float | None] | None]:
    """Accuracy and number of cases by the path that tells them."""
    confusion, calibration = at.value(CONFUSION), at.value(CALIBRATION)
    found: dict[str, tuple[float, float | None] | None] = {}
    if isinstance(confusion, Mapping) and confusion:
        rows = {str(t): {str(p): float(c) for p, c in row.items()} for t, row in confusion.items()}
        total = sum(sum(row.values()) for row in rows.values())
        right = sum(row.get(truth, 0.0) for truth, row in rows.items())
        # Rows of shares say nothing about how common a class is, nor rows whose class no column has about what is right.
        named = rows.keys() <= {predicted for row in rows.values() for predicted in row}
        found[CONFUSION] = (right / total, total) if named and total > 1.5 * len(rows) else None
    if isinstance(calibration, Mapping) and calibration.get("accuracy") is not None:
        n = number_of(calibration.get("n"))
        found[f"{CALIBRATION}.accuracy"] = (float(calibration["accuracy"]), n[0] if n and n[0] > 0 else None)
    return found


def _limit(
    at: Workplace, limit: Limit, limits: list[Limit], results: list[Fact], baselines: list[tuple[str, Fact]],
    wrong: set[str],
) -> Iterator[Verdict]:  # fmt: skip
    metric, several = limit.fact.metric, sum(one.fact.metric == limit.fact.metric for one in limits) > 1
    name = f"{metric} {limit.operator} {limit.fact.value:g}" if several else metric
    left = at.side(limit.fact.path)
    if not limit.operator:
        yield CHECK.unknown(f"{limit.paths[0]}.operator is not declared", field=f"{name} limit", left=left)
        return
    better = _better(at, metric)
    direction = _POINTS_TO.get(limit.operator)
    side = at.side(f"{limit.paths[0]}.operator")
    if better is None or direction is None:
        reason = f"{POLARITY} does not say whether more {metric} is better" if better is None else "it has no direction"
        yield CHECK.unknown(reason, field=f"{name} direction", left=side)
    elif better != direction:
        yield CHECK.mismatch(
            f"{side.path} asks for {metric} {limit.operator} {limit.fact.value:g}, but {better} is better",
            field=f"{name} direction", left=side, right=Side(POLARITY, better),
            remedy="turn the operator round: a limit says what must hold",
        )  # fmt: skip
        return  # a limit that is the wrong way round is violated by every good model
    else:
        yield CHECK.ok(field=f"{name} direction", left=side, right=Side(POLARITY, better))
    yield _result(at, limit, [f for f in results if f.metric == metric and f.path not in wrong], f"{name} limit")
    if better is not None:
        for goal, fact in baselines:
            if fact.metric == metric and fact.path not in wrong and (goal in limit.goals or not limit.goals):
                yield _baseline(at, limit, better, goal, fact)


def _better(at: Workplace, metric: str) -> str | None:
    declared = at.value(POLARITY)
    if isinstance(declared, Mapping):
        for name, better in declared.items():
            if metric_name(name) == metric and str(better) in ("higher", "lower"):
                return str(better)
    return polarity(metric)


def _result(at: Workplace, limit: Limit, results: list[Fact], field: str) -> Verdict:
    left = at.side(limit.fact.path)
    if not results:
        return CHECK.unknown(
            f"neither {EVALUATED} nor {TESTED} has a sound result of {limit.fact.metric}", field=field, left=left
        )
    threshold = Side(limit.fact.path, limit.fact.value)
    judged = [(f, judge(Side(f.path, _comparable(f, limit.fact)), limit.operator, threshold)) for f in results]
    broken = [fact for fact, found in judged if found.outcome == "mismatch"]
    shown = broken[0] if broken else results[0]
    sides: dict[str, Any] = {"field": field, "left": left, "right": at.side(shown.path)}
    if not broken:
        return CHECK.ok(**sides)
    told = ", ".join(f"{fact.value:g} ({fact.path})" for fact in broken)
    return CHECK.mismatch(
        f"{limit.fact.metric} must be {limit.operator} {limit.fact.value:g} ({limit.fact.path}) and was {told} before "
        "the model was shipped",
        severity="critical", **sides,
    )  # fmt: skip


def _baseline(at: Workplace, limit: Limit, better: str, goal: str, fact: Fact) -> Verdict:
    threshold = Side(limit.fact.path, limit.fact.value)
    operator = ">=" if better == "higher" else "<="
    found = judge(threshold, operator, Side(fact.path, _comparable(fact, limit.fact)))
    sides: dict[str, Any] = {
        "field": f"{limit.fact.metric} baseline {goal}", "left": at.side(limit.fact.path), "right": at.side(fact.path),
    }  # fmt: skip
    if found.outcome == "ok":
        return CHECK.ok(**sides)
    return CHECK.mismatch(
        f"the limit of {limit.fact.metric} is {limit.fact.value:g} ({limit.fact.path}), the baseline of goal {goal} is "
        f"{fact.value:g} ({fact.path}): a model may become worse than no model before anybody is told",
        owner="system owner", remedy="set the limit on the better side of the baseline", **sides,
    )  # fmt: skip


CHECK = Check(
    id="threshold-coherence",
    title="Limits that hold and make sense",
    owner="data scientist",
    remedy="train until the limit is met, or declare one that the model can keep",
    action="review",
    design=design,
)
