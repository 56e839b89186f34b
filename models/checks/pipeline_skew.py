"""Does the server compute the same embedding from an input as the model file does?

| | |
|---|---|
| left | `data_pipeline.bestbefore.tolerance` {relative_error, share}: 0.01 and 0.01 where nothing is said |
| right | embedding the server sent with a sampled input, beside the one recomputed from that input with ONNX Runtime |
| statistic | share of inputs whose relative error `|served - recomputed| / |recomputed|` exceeds the tolerance, per provider and batch size of the server |
| mismatch | significantly more inputs differ than the tolerated share |
| unknown | no input came with an embedding of the server, or fewer than 20 for a group |

It tells a changed world from a broken pipeline: drift moves both embeddings, a missing normalisation, another resize
or an export that depends on the batch size moves only one. Half precision stays within the default tolerance.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from models.checks.check import Check
from models.checks.observed import Observed
from models.checks.shares import at_most
from models.checks.verdict import Side, Verdict
from models.profile import SKEW_EDGES

TOLERANCE = "data_pipeline.bestbefore.tolerance"
RELATIVE_ERROR, SHARE, ENOUGH = 0.01, 0.01, 20
PREFIX = "skew."


def live(seen: Observed) -> Iterator[Verdict]:
    """One verdict per group of served embeddings."""
    declared: Any = seen.value(TOLERANCE)
    declared = declared if isinstance(declared, dict) else {}
    error = float(declared.get("relative_error", RELATIVE_ERROR))
    share = float(declared.get("share", SHARE))
    groups = {} if seen.block is None else {k: v for k, v in seen.block.histograms.items() if k.startswith(PREFIX)}
    wrong = 0 if seen.block is None else seen.block.counts.get("skew_dimension", 0)
    left = Side(TOLERANCE, {"relative_error": error, "share": share})
    if not groups and not wrong:
        reason = seen.filling if seen.block is None else "no sampled input came with the server's embedding"
        yield CHECK.unknown(reason, left=left)
    if wrong:
        yield CHECK.mismatch(
            f"{wrong} embeddings of the server have another length than the model file's: another model is served, or "
            "another layer is taken", field="dimension", left=left,
        )  # fmt: skip
    # Bins above the one in which the tolerance lies hold only errors that exceed it.
    cut = int(np.searchsorted(SKEW_EDGES, error)) + 1
    for name, counts in sorted(groups.items()):
        n = float(counts.sum()) / _weight_of(seen)
        group = name.removeprefix(PREFIX)
        provider, _, batch = group.partition("|")
        far = float(counts[cut:].sum() / counts.sum()) if counts.sum() else 0.0
        yield at_most(
            CHECK, group, left, "telemetry.embedding.skew", far, n, share,
            f"embeddings served by {provider} in batches of {batch} are not those the model file gives for the same "
            f"inputs (relative error above {error:g})", enough=ENOUGH,
        )  # fmt: skip


def _weight_of(seen: Observed) -> float:
    """Mean weight of a sampled input in fixed point: what turns weights back into inputs."""
    if seen.block is None:
        return 1.0
    return max(seen.block.counts.get("input_weight", 0) / max(seen.block.counts.get("n_input", 0), 1), 1.0)


CHECK = Check(
    id="pipeline-skew",
    title="The same preprocessing in training and serving",
    owner="data engineer",
    remedy="compare resize, normalisation, channel order and batch handling of the server with the pipeline's",
    action="fix-pipeline",
    severity="critical",
    live=live,
)
