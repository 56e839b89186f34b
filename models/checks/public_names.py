"""Whether the names of a feature's categories may stand in an event, and neutral names where they may not.

Categories are measured values, which may be personal data. Their names are told only where people made them public:
the feature is in `system_context.bestbefore.public_fields`, or its allowed values are declared, so people wrote them.
"""

from collections.abc import Mapping

from models.checks.distribution import most_moved
from models.checks.observed import Observed
from models.profile import OTHER

PUBLIC_FIELDS = "system_context.bestbefore.public_fields"
Shares = dict[str, float]


def may_be_named(seen: Observed, name: str) -> bool:
    """Whether the categories of feature `name` may be named."""
    feature, public = seen.reference.categorical.get(name), seen.value(PUBLIC_FIELDS)
    return bool(feature and feature.allowed) or (isinstance(public, list | tuple) and name in public)


def told_shares(seen: Observed, name: str, now: Shares, declared: Shares) -> tuple[Shares, Shares, str]:
    """Shares observed and declared as they may be told, and in words the one that moved most."""
    if may_be_named(seen, name):
        return now, declared, most_moved(now, declared)
    names = neutral_names(now, declared)
    hidden, known = ({names[k]: table[k] for k in names if k in table} for table in (now, declared))
    moved = max(now, key=lambda k: abs(now[k] - declared.get(k, 0.0)))
    told = f"one category moved from {declared.get(moved, 0.0):.3g} to {now[moved]:.3g}"
    return hidden, known, told


def neutral_names(now: Mapping[str, float], declared: Mapping[str, float]) -> dict[str, str]:
    """`category 1`, `category 2`, ... by declared share, the largest first; what is joined keeps its name."""
    order = sorted({*now, *declared} - {OTHER}, key=lambda k: (-declared.get(k, 0.0), -now.get(k, 0.0), k))
    names = {k: f"category {i}" for i, k in enumerate(order, 1)}
    return names | {OTHER: OTHER}
