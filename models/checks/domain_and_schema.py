"""Do production values stay within what was declared about them?

| | |
|---|---|
| left | `data_pipeline.input_spec[].item_specification` (min, max, lengths) and `production_data.schema[].expected_values` (`0..100`, `N,S,E,W`) |
| right | share of events whose value is of another type, out of range, no member of the set, or of another length |
| statistic | share of violating events with its 90% interval, per feature |
| mismatch | any violation: a declared domain holds for all events or is declared wrongly |
| unknown | the feature is declared and no event carries it, or fewer than `minimum_n` events |

A missing value is no violation; `missing-and-special-values` looks at those. A value that is not finite is one.
"""

from collections.abc import Iterator
from typing import Any

from models.checks.check import Check
from models.checks.distribution import observed_n
from models.checks.observed import Observed
from models.checks.shares import at_most
from models.checks.verdict import Side, Verdict
from models.domains import Domain, domains
from models.profile import MISSING, Profile, short_name
from models.reference import NUMBERS

KINDS = {
    "type": "of another type",
    "range": "out of range",
    "category": "not among the allowed values",
    "length": "of another length",
    "finite": "not finite",
}


def live(seen: Observed) -> Iterator[Verdict]:
    """One verdict per field with a declared domain."""
    reference, block = seen.reference, seen.block
    features = {*reference.numeric, *reference.categorical}
    known = {k: d for k, d in sorted(domains(reference.descriptors).items()) if k in features and _says(d)}
    if not known:
        yield CHECK.unknown("no domain is declared in data_pipeline.input_spec or production_data.schema")
    for name, domain in known.items():
        left = Side(domain.paths[-1] if domain.paths else name, _told(domain))
        if block is None:
            yield CHECK.unknown(seen.filling, field=name, left=left)
            continue
        carried, found = _violations(block, name, domain)
        if not carried:
            yield CHECK.unknown("the events do not carry it", field=name, left=left)
            continue
        kinds = ", ".join(f"{KINDS.get(kind, kind)} {w / carried:.3g}" for kind, w in sorted(found.items()))
        yield at_most(
            CHECK, name, left, f"telemetry.features.{name}.violations", min(sum(found.values()) / carried, 1.0),
            observed_n(block, float(carried)), 0.0, f"values of {name} are not as declared: {kinds}",
            enough=reference.minimum_n, evidence=block.evidence(f"violations.{name}"),
        )  # fmt: skip


def _says(domain: Domain) -> bool:
    bounds = (domain.low, domain.high, domain.min_length, domain.max_length)
    return bool(domain.allowed) or domain.kind == "integer" or any(bound is not None for bound in bounds)


def _told(domain: Domain) -> dict[str, Any]:
    facts = {
        "type": domain.kind, "low": domain.low, "high": domain.high, "allowed": list(domain.allowed)[:20],
        "min_length": domain.min_length, "max_length": domain.max_length,
    }  # fmt: skip
    return {key: value for key, value in facts.items() if value not in (None, [], "")}


def _violations(block: Profile, name: str, domain: Domain) -> tuple[int, dict[str, int]]:
    """Weight of the events that carry the field, and of those that violate its domain, by kind."""
    short = short_name(name)
    counts, table = block.histograms.get(f"feature.{short}"), block.categories.get(f"feature.{short}") or {}
    found = dict(block.categories.get(f"violations.{short}") or {})
    carried = sum(w for value, w in table.items() if value != MISSING)
    if counts is not None:
        # The two last bins: null, and present but not finite.
        carried += int(counts.sum() - counts[-2])
        if counts[-1]:
            found["finite"] = int(counts[-1])
    if domain.kind in NUMBERS and table:
        found.setdefault("type", sum(w for value, w in table.items() if value != MISSING))
    return carried, found


CHECK = Check(
    id="domain-and-schema",
    title="Values within their domain",
    owner="data engineer",
    remedy="find out which source sends them; refuse them at the door, or declare the domain anew",
    action="fix-pipeline",
    live=live,
)
