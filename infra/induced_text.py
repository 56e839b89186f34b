"""What `bestbefore induce` prints: files, figures with what they rest on, and what the estimator does not see."""

from collections.abc import Iterator

import numpy as np

from infra.inducing import Done
from models.family_interval import ENOUGH
from models.induced_report import SIZE


def lines_of(done: Done) -> Iterator[str]:
    """The lines, one after the other."""
    fitted = done.fitted
    for path in done.files:
        yield f"wrote {path}"
    yield f"of {fitted.n:,} inputs as they are the model gets {100 * fitted.accuracy:.1f}% right; is that as expected?"
    families = [one.family for one in fitted.left_out]
    yield f"{len(families)} families of drift were induced on {fitted.n:,} inputs: {', '.join(families)}"
    worst = max(fitted.left_out, key=lambda one: one.error)
    yield (
        f"read without the family they are of, windows are off by {100 * fitted.mean('error'):.1f} points in the mean; "
        f"worst: {worst.family}, {100 * worst.error:.1f}"
    )
    if np.isfinite(fitted.mean("coverage")):
        lowest = min(fitted.left_out, key=lambda one: one.coverage)
        yield (
            f"the 90% interval holds {100 * fitted.mean('coverage'):.1f}% of them; least: {lowest.family}, "
            f"{100 * lowest.coverage:.0f}%; it is {100 * fitted.mean('width'):.1f} points wide at n = {SIZE}"
        )
    else:
        yield f"  note: {len(families)} families are too few for a 90% interval, which needs {ENOUGH}: it stays silent"
    if done.outside:
        told = ", ".join(f"{name} {100 * share:.0f}%" for name, share in sorted(done.outside.items()))
        yield f"windows of contents that are no drift, each not shown before, that read unknown: {told}"
    for note in done.notes:
        yield f"  note: {note}"
    yield "  note: a change of what is right for the same input is invisible to it; only labels show that"
    yield f"took {done.seconds:.0f} s"
