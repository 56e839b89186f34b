"""Part of reference-closure: the model file that the estimator of quality was fitted on is the one described."""

from collections.abc import Iterator

from models.checks.check import Check
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.quality_estimator import PATH, bare

FITTED, DIGEST = f"{PATH}.model", "trained_model.bestbefore.digest"


def fitted_on(check: Check, at: Workplace) -> Iterator[Verdict]:
    """One verdict where an estimator is registered, unknown where neither a digest nor the file itself is at hand."""
    if not at.value(PATH):
        return
    fitted, declared = at.value(FITTED), at.value(DIGEST)
    found = declared or (at.inspection.digest if at.inspection is not None else "")
    field = "estimator"
    if not fitted or not found:
        missing = FITTED if not fitted else DIGEST
        yield check.unknown(f"{missing} is not declared", field=field)
        return
    sides = {"left": at.side(FITTED), "right": at.side(DIGEST, found)}
    if bare(str(fitted)) == bare(str(found)):
        yield check.ok(field=field, **sides)
        return
    yield check.mismatch(
        f"the estimator of quality without labels was fitted on the model file {str(fitted)[:23]}…, this is "
        f"{str(found)[:23]}…: it is not used, and confidences are read instead; run `bestbefore induce` for this file",
        field=field, **sides,
    )  # fmt: skip
