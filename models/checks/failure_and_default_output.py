"""Does the model answer at all, and with more than its default?

| | |
|---|---|
| left | `production_environment.bestbefore.error_rate` (0.01 where nothing is said), `trained_model.bestbefore.abstention_rate`, `trained_model.default_model_output`, `training_data.bestbefore.classes` |
| right | share of failed answers (status 400 and above, or an output announced and absent), of abstentions, of the default output, of the commonest output; features that are the same in every event |
| statistic | shares with their 90% intervals |
| mismatch | more failures or abstentions than declared; the default output far above its share in training; one single output where training had many; no feature that varies although all did in training |
| unknown | no event in the window, or fewer than `minimum_n` |

Failed and abstained answers count as wrong in every figure of quality. A pipeline that sends zeros makes every input
the same, and a stuck model every output: both look healthy to a monitor that counts answers.
"""

from collections.abc import Iterator

from models.checks.check import Check
from models.checks.distribution import observed_n
from models.checks.label_and_prediction_shift import predicted_shares
from models.checks.observed import Observed
from models.checks.shares import at_most
from models.checks.verdict import Side, Verdict
from models.profile import MISSING, Profile, moments, short_name, value_moments
from models.reference import NumericFeature

ERRORS = "production_environment.bestbefore.error_rate"
ABSTAINS = "trained_model.bestbefore.abstention_rate"
DEFAULT = "trained_model.default_model_output"
CLASSES = "training_data.bestbefore.classes"
ERROR_RATE = 0.01
LEAST_RATE = 0.001  # a rate measured as zero is not a promise that nothing ever fails
CONSTANT = 1e-5  # in sd of the reference: less spread than any change of scale leaves
FLOOR = 0.1  # by how much a share of outputs must exceed that of training
ALL = 0.999  # one output this often is the only one
VARIED = 0.9  # what was less common than this in training is the only one by chance in few windows


def live(seen: Observed) -> Iterator[Verdict]:
    """Failures, abstentions, default, stuck outputs and constant inputs."""
    if seen.window.n == 0:
        yield CHECK.unknown("no events in this window: nobody asked, or nobody could", field="status")
        return
    block = seen.block
    if block is None:
        yield CHECK.unknown(seen.filling, field="status")
        return
    yield _failed(seen, block)
    yield _abstained(seen, block)
    yield from _outputs(seen, block)
    yield from _inputs(seen, block)


def _failed(seen: Observed, block: Profile) -> Verdict:
    limit = seen.value(ERRORS)
    allowed = ERROR_RATE if limit is None else max(float(limit), LEAST_RATE)
    share = _share(block, "failed")
    severity = "critical" if share > 0.5 else CHECK.severity
    return at_most(
        CHECK, "status", Side(ERRORS, allowed), "telemetry.failed", share, block.n, allowed,
        "answers fail more often than declared", enough=seen.reference.minimum_n, severity=severity,
        evidence=block.evidence("failed"),
    )  # fmt: skip


def _share(block: Profile, name: str) -> float:
    """Share of the events, sampled ones weighted; profiles of earlier versions have only the count."""
    weight = block.counts.get(f"{name}_weight")
    return block.counts.get(name, 0) / block.n if weight is None else weight / max(block.counts.get("weight", 0), 1)


def _abstained(seen: Observed, block: Profile) -> Verdict:
    limit, share = seen.value(ABSTAINS), _share(block, "abstained")
    if limit is None and seen.value("trained_model.bestbefore.abstains") is None and share > 0:
        return CHECK.unknown(f"the model abstains in {100 * share:.3g}%; {ABSTAINS} is not declared", field="abstained")
    allowed = ERROR_RATE if limit is None else max(float(limit), LEAST_RATE)
    return at_most(
        CHECK, "abstained", Side(ABSTAINS, allowed), "telemetry.abstained", share, block.n, allowed,
        "the model abstains more often than declared", enough=seen.reference.minimum_n,
    )  # fmt: skip


def _outputs(seen: Observed, block: Profile) -> Iterator[Verdict]:
    """The default output, and an output that never changes."""
    table = {name: w for name, w in (block.categories.get("label") or {}).items() if name != MISSING}
    total = sum(table.values())
    if total:
        n, expected = observed_n(block, float(total)), predicted_shares(seen.reference)
        default = str(seen.value(DEFAULT) or "")
        if default and default in (expected or {default: 0.0}):
            usual = expected.get(default, 0.0)
            yield at_most(
                CHECK, "default", Side(DEFAULT, default), f"telemetry.label.{default}.share",
                table.get(short_name(default), 0) / total, n, min(usual + FLOOR, 1.0),
                f"the default output {default!r} is far commoner than in training ({usual:.3g})",
                enough=seen.reference.minimum_n,
            )  # fmt: skip
        top = max(table, key=lambda name: table[name])
        if expected and max(expected.values()) < VARIED:
            usual = expected.get(top, 0.0)
            named = repr(top) if top in expected else "one that is no declared class"  # it may be a person's
            yield at_most(
                CHECK, "output", Side(CLASSES, round(usual, 4)), "telemetry.label.commonest", table[top] / total, n,
                _limit(table[top] / total), f"every output is {named}: the model is stuck, or what feeds it",
                enough=seen.reference.minimum_n, severity="critical",
            )  # fmt: skip
    values = value_moments(block)
    if values is not None:
        count, mean, spread = values
        stuck = spread <= 1e-6 * max(abs(mean), 1e-3)
        yield at_most(
            CHECK, "output", Side("trained_model.output_spec", "varies"), "telemetry.value.same", float(stuck), count,
            _limit(float(stuck)), f"every output is {mean:.6g}: the model is stuck, or what feeds it",
            enough=seen.reference.minimum_n, severity="critical",
        )  # fmt: skip


def _limit(share: float) -> float:
    """What a share of "the same" may be: anything below ALL, and only by chance above it."""
    return VARIED if share >= ALL else 1.0


def _inputs(seen: Observed, block: Profile) -> Iterator[Verdict]:
    """Features with one single value where training had many."""
    watched = {
        name: counts
        for name, feature in sorted(seen.reference.numeric.items())
        if feature.shares and feature.sd > 0 and max(feature.shares) < VARIED
        and (counts := block.histograms.get(f"feature.{short_name(name)}")) is not None and counts[:-2].sum() > 0
    }  # fmt: skip
    if not watched:
        return
    # One alone may well be constant for a while: the month, the version of a form.
    dead = all(_constant(block, name, seen.reference.numeric[name]) for name in watched)
    n = observed_n(block, float(sum(int(c[:-2].sum()) for c in watched.values())) / len(watched))
    yield at_most(
        CHECK, "inputs", Side("training_data.bestbefore.features", sorted(watched)), "telemetry.features.constant",
        float(dead), n, _limit(float(dead)), f"{', '.join(sorted(watched)[:5])} {'has' if len(watched) == 1 else 'have'} "
        "one single value in every event: is the source upstream alive?", enough=seen.reference.minimum_n,
        severity="critical",
    )  # fmt: skip


def _constant(block: Profile, name: str, feature: NumericFeature) -> bool:
    """No spread at all, not even that of values on another scale."""
    found = moments(block, name, feature)
    return found is not None and found[2] <= CONSTANT * feature.sd


CHECK = Check(
    id="failure-and-default-output",
    title="Real answers",
    owner="operations",
    remedy="look at the server and at what feeds it before anybody retrains",
    action="fix-pipeline",
    live=live,
)
