"""Drift of embeddings over time: values for the change layer, and the share of inputs that the reference supports."""

from collections.abc import Sequence
from typing import Any

from models.checks.kernel_shift import kernel_shift, support_of
from models.checks.verdict import Verdict
from models.newma import Newma
from models.notes import rounded
from models.profile import Profile
from models.profile_kernel import SEGMENT, kernel_sums, parts
from models.reference import Reference
from models.usual_segments import Usual

SUPPORTED = 0.95  # of the reference's own inputs, each compared with the others


def kernel_streams(newma: Newma, block: Profile, reference: Reference) -> dict[str, float]:
    """Add a block to `newma`; its distance from the reference and from what was, in sd under no change.

    Both have mean 0 while nothing changes, whatever the number of inputs; `embedding/newma` begins with the second
    block that has inputs.
    """
    known = reference.embedding.kernel if reference.embedding is not None else None
    whole = kernel_sums(block, known.features) if known is not None else None
    if known is None or whole is None or whole.rows < 2:
        return {}
    shift = kernel_shift(known, whole, block, factor=1.0, alpha=0.05, mix=0.0)
    newma.update(whole.mean, whole.n, known.identity)
    recent = newma.score(known.traces)
    return {"embedding/mmd": shift.score} | ({} if recent is None else {"embedding/newma": recent})


def remember_usual(usual: Usual, verdicts: Sequence[Verdict], block: Profile, reference: Reference) -> None:
    """Add the segments of a block to what is usual, where the kernel mean was judged and is as declared."""
    known = reference.embedding.kernel if reference.embedding is not None else None
    whole = kernel_sums(block, known.features) if known is not None else None
    fine = any(v.check == "embedding-drift" and v.field == "mmd" and v.verdict == "ok" for v in verdicts)
    if known is not None and whole is not None and fine:
        usual.update(whole, parts(block, SEGMENT, whole), known.identity)


def support_fields(reference: Reference, window: Profile) -> dict[str, Any]:
    """`support` of the status line: no number without its interval, and why there is none."""
    known = reference.embedding.kernel if reference.embedding is not None else None
    found = support_of(known, window) if known is not None else None
    if found is None:
        declared = known is not None and known.support is not None
        reason = "no sampled inputs in this window" if declared else "the reference has no support of embeddings"
        return {"share": None, "low": None, "high": None, "expected": SUPPORTED, "n": 0, "reason": reason}
    return {
        "share": rounded(found.share), "low": rounded(found.low), "high": rounded(found.high), "expected": SUPPORTED,
        "n": rounded(found.n), "reason": "",
    }  # fmt: skip
