"""Is the model that serves the one that was described, and does it get the declared share of the traffic?

| | |
|---|---|
| left | `trained_model.bestbefore.digest` and `golden_records`, `production_environment.bestbefore.traffic` {version: share} |
| right | digests that events carry, golden records replayed through ONNX Runtime, versions that events carry |
| statistic | share of events with another digest; largest relative error of each golden record; share of traffic per version with its 90% interval |
| mismatch | any event with another digest; a golden record beyond its tolerance or with another label; a version's share more than 5 points from the declared one and beyond chance; a version nobody declared |
| unknown | no digest in the events, no golden records, a model file that cannot be fetched, no declared traffic |

Golden records are replayed when the model is registered, and by every worker that embeds as often as `inspect_every`
says. They find weights that were exchanged under the same version; the digest in the events finds a server that loads
another file.
"""

from collections.abc import Iterator

from models.checks.check import Check
from models.checks.distribution import observed_n
from models.checks.observed import Observed
from models.checks.shares import above, at_most, below, share_side
from models.checks.verdict import Effect, Side, Verdict
from models.profile import MISSING

DIGEST = "trained_model.bestbefore.digest"
GOLDEN = "trained_model.bestbefore.golden_records"
TRAFFIC = "production_environment.bestbefore.traffic"
FLOOR = 0.05  # points of share that a split may be off


def live(seen: Observed) -> Iterator[Verdict]:
    """Digest of the events and golden records of one version."""
    yield from _digest(seen)
    yield from _golden(seen)


def _digest(seen: Observed) -> Iterator[Verdict]:
    declared = str(seen.value(DIGEST) or "")
    table = {} if seen.block is None else seen.block.categories.get("digest") or {}
    known = {name: w for name, w in table.items() if name != MISSING}
    if not declared or not known or seen.block is None:
        reason = f"{DIGEST} is not declared" if not declared else "the events carry no digest"
        yield CHECK.unknown(seen.filling if declared and seen.block is None else reason, field="digest")
        return
    total = sum(known.values())
    n = observed_n(seen.block, float(total))
    other = sum(w for name, w in known.items() if _bare(name) != _bare(declared))
    strange = next((name for name in sorted(known) if _bare(name) != _bare(declared)), "")
    yield at_most(
        CHECK, "digest", Side(DIGEST, declared), "telemetry.digest.other", other / total, n, 0.0,
        f"events were served by a file with digest {strange[:23]}, not by the one described", enough=1,
    )  # fmt: skip


def _golden(seen: Observed) -> Iterator[Verdict]:
    found = seen.inspection
    left = Side(GOLDEN, len(seen.value(GOLDEN) or ()))
    if found is None or (not found.golden and not found.error):
        yield CHECK.unknown("no golden record was replayed", field="golden", left=left)
        return
    if not found.fetched:
        yield CHECK.unknown(found.error, field="golden", left=left)
        return
    if found.error:
        yield CHECK.mismatch(f"the model file cannot be used: {found.error}", field="golden", left=left)
        return
    replayed = [g for g in found.golden if not g.reason]
    if not replayed:
        yield CHECK.unknown(
            f"golden records could not be replayed: {found.golden[0].reason}", field="golden", left=left
        )
        return
    wrong = [g for g in replayed if (g.error is not None and g.error > g.tolerance) or g.label != g.expected]
    worst = max((g.error for g in replayed if g.error is not None), default=0.0)
    tolerance = min(g.tolerance for g in replayed)
    right = Side("inspection.golden", float(f"{worst:.6g}"), n=len(replayed))
    effect = Effect(statistic="largest relative error", estimate=worst, threshold=tolerance, n=len(replayed))
    if wrong:
        yield CHECK.mismatch(
            f"{len(wrong)} of {len(replayed)} golden records give another output than declared (largest relative error "
            f"{worst:.3g}, tolerance {tolerance:g}): other weights under the same version",
            field="golden", left=left, right=right, effect=effect,
        )  # fmt: skip
    else:
        yield CHECK.ok(field="golden", left=left, right=right, effect=effect)


def fleet(seen: Observed) -> Iterator[Verdict]:
    """Shares of traffic of all versions of a model."""
    declared = seen.value(TRAFFIC)
    if not isinstance(declared, dict) or not declared:
        yield CHECK.unknown(f"{TRAFFIC} is not declared", field="traffic")
        return
    if seen.block is None:
        yield CHECK.unknown(seen.filling, field="traffic")
        return
    table = {name: w for name, w in (seen.block.categories.get("version") or {}).items() if name != MISSING}
    total = sum(table.values())
    if not total:
        yield CHECK.unknown("no version was seen", field="traffic")
        return
    n = observed_n(seen.block, float(total))
    for version in sorted({*table, *map(str, declared)}):
        yield _share(version, declared.get(version), table.get(version, 0) / total, n)


def _share(version: str, declared: float | None, share: float, n: float) -> Verdict:
    left = Side(f'{TRAFFIC}["{version}"]', declared)
    right = share_side(f'telemetry.version["{version}"]', share, n)
    expected = float(declared or 0.0)
    effect = Effect(
        statistic="share of traffic", estimate=share, low=right.low, high=right.high, threshold=expected, n=n
    )
    sides = {"field": f"traffic {version}", "left": left, "right": right, "effect": effect}
    if abs(share - expected) > FLOOR and (above(share, n, expected) or below(share, n, expected)):
        told = f"{expected:.3g} is declared" if declared is not None else "no share is declared"
        return CHECK.mismatch(
            f"version {version} serves {share:.3g} of the traffic (90% interval {right.low:.3g} to {right.high:.3g}, "
            f"{n:.6g} events), {told}",
            severity="warning", action="review", **sides,
        )  # fmt: skip
    return CHECK.ok(**sides)


def _bare(digest: str) -> str:
    return digest.strip().lower().removeprefix("sha256:")


CHECK = Check(
    id="model-identity",
    title="The model that was described",
    owner="operations",
    remedy="roll back to the file with the declared digest, or register the one that serves",
    action="roll-back",
    severity="critical",
    live=live,
    fleet=fleet,
)
