"""What a profile observes of everything but inference events: sampled inputs, audited labels, versions
side by side, and what clients did not send."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.columns import Categories, Embedded, Floats, Ints, Losses, Outcomes, Served
from models.fixed_point import CLIP, WEIGHT, fixed, some, squares, total, weights
from models.induced_evidence import add_induced
from models.profile_audits import add_cells
from models.profile_kernel import add_kernel, finite
from models.profile_outputs import CONFIDENCE_EDGES, add_present
from models.reference import EmbeddingReference, Reference
from models.tables import Tables, short_name

AUDIT_BINS = 20  # equal bins of confidence in which audited predictions are right or wrong
# Relative error of served embeddings, four bins per decade from 1e-7 to 10.
SKEW_EDGES = np.array([10.0 ** (k / 4) for k in range(-28, 5)])


def standardised(embedding: NDArray[np.float32], known: EmbeddingReference) -> Floats:
    """(n, d) embeddings in units of the reference's spread, clipped."""
    sd = np.array(known.sd)
    scale = np.maximum(sd, 1e-3 * sd.max() if len(sd) and sd.max() > 0 else 1.0)
    z: Floats = np.clip((embedding - np.array(known.mean)) / scale, -CLIP, CLIP)
    return z


def add_embedded(into: Tables, rows: Embedded, reference: Reference) -> None:
    """Sampled inputs: distances of their embeddings, and how far the server's own are from them."""
    into.count("n_input", len(rows))
    if rows.capped is not None:
        into.count("capped", int(rows.capped.sum()))
    weight = weights(rows.weight)
    into.count("input_weight", total(weight, len(rows)))
    into.count("input_weight_squared", squares(rows.weight, len(rows)))
    _add_skew(into, rows, weight)
    add_induced(into, rows, reference)
    known = reference.embedding
    if known is None or len(known.mean) != rows.embedding.shape[1]:
        into.count("embedding_without_reference", len(rows))
        return
    rows = finite(into, rows)
    if not len(rows):
        return
    weight = weights(rows.weight)
    z = standardised(rows.embedding, known)
    into.sum("embedding", fixed(z.T, weight))
    bins = np.asarray(np.searchsorted(known.edges, np.sqrt(np.mean(z * z, axis=1))))
    into.histogram("embedding", bins, len(known.edges) + 1, weight)
    if known.kernel is not None:
        add_kernel(into, rows, z, weight, known.kernel)
    if rows.label is None:
        return
    for code, name in enumerate(rows.label.values):
        found = (rows.label.codes == code).nonzero()[0]
        if len(found) and name in known.classes:
            into.histogram(f"embedding.{short_name(name)}", bins[found], len(known.edges) + 1, some(weight, found))


def _add_skew(into: Tables, rows: Embedded, weight: Ints | None) -> None:
    if rows.misfit is not None:
        into.count("skew_dimension", int(rows.misfit.sum()))
    if rows.skew is None or rows.cosine is None or rows.origin is None:
        return
    for code, origin in enumerate(rows.origin.values):
        found = ((rows.origin.codes == code) & ~np.isnan(rows.skew)).nonzero()[0]
        if len(found):
            mine, short = some(weight, found), short_name(origin)
            bins = np.asarray(np.searchsorted(SKEW_EDGES, rows.skew[found]))
            into.histogram(f"skew.{short}", bins, len(SKEW_EDGES) + 1, mine)
            into.sum(f"cosine.{short}", np.array([total(mine, len(found)), fixed(rows.cosine[found], mine)]))
    into.join_groups()


def add_outcomes(into: Tables, rows: Outcomes) -> None:
    """Audited labels, and feedback apart from them."""
    if rows.capped is not None:
        into.count("capped", int(rows.capped.sum()))
    weight = np.ones(len(rows)) if rows.weight is None else rows.weight
    for kind, mask in (("audit", ~rows.feedback), ("feedback", rows.feedback)):
        chosen = mask.nonzero()[0]
        if not len(chosen):
            continue
        w = np.rint(weight[chosen] * WEIGHT).astype(np.int64)
        right = rows.correct[chosen]
        into.count(f"{kind}.n", len(chosen))
        into.count(f"{kind}.n_correct", int(right.sum()))
        into.count(f"{kind}.weight", int(w.sum()))
        into.count(f"{kind}.weight_correct", int(w[right].sum()))
        into.count(f"{kind}.weight_squared", int(np.rint((weight[chosen] ** 2) * WEIGHT).sum()))
        if kind == "audit":
            kept = np.ones(len(chosen)) if rows.kept is None else rows.kept[chosen]
            into.count("audit.expanded", int(np.rint(WEIGHT / kept).sum()))
            _add_audited(into, rows.take(chosen), w)
            add_cells(into, rows.take(chosen))


def _add_audited(into: Tables, rows: Outcomes, weight: Ints) -> None:
    into.sum("audit.confidence", np.array([fixed(np.nan_to_num(rows.confidence), weight)]))
    into.tally("truth", rows.truth, weight)
    if rows.predicted is not None:
        into.tally("audit.label", rows.predicted, weight)
    known = np.isfinite(rows.confidence).nonzero()[0]
    if not len(known):
        return
    confidence, right, weight = np.clip(rows.confidence[known], 0.0, 1.0), rows.correct[known], weight[known]
    into.count("audit.confident", len(known))
    moments = [fixed(confidence, weight), fixed(confidence * confidence, weight)]
    into.sum("audit.confident", np.array([weight.sum(), weight[right].sum(), *moments], dtype=np.int64))
    bins = np.searchsorted(CONFIDENCE_EDGES, confidence)
    into.histogram("audit.confidence", np.asarray(bins), len(CONFIDENCE_EDGES) + 1, weight)
    into.sum("audit.bins", _audit_bins(confidence, right, weight))


def _audit_bins(confidence: Floats, right: NDArray[np.bool_], weight: Ints) -> Ints:
    """Per bin of confidence: weight, weight of right ones, weight times confidence; shape (3 * AUDIT_BINS,)."""
    bins = np.minimum((confidence * AUDIT_BINS).astype(np.intp), AUDIT_BINS - 1)
    sums = np.zeros((3, AUDIT_BINS), np.int64)
    each: tuple[Any, ...] = (weight, weight * right, np.rint(confidence * weight).astype(np.int64))
    for row, values in zip(sums, each, strict=True):
        np.add.at(row, bins, values)
    return sums.ravel()


def add_served(into: Tables, rows: Served) -> None:
    """Live events of all versions of a model: how many of each version, and of each file that served."""
    weight = weights(rows.weight)
    into.count("n", len(rows))
    into.count("weight", total(weight, len(rows)))
    into.count("weight_squared", squares(rows.weight, len(rows)))
    for name in ("failed", "capped"):
        flags = getattr(rows, name)
        if flags is not None:
            into.count(name, int(flags.sum()))
    into.tally("version", rows.version, weight)
    if rows.digest is None:
        return
    for code, version in enumerate(rows.version.values):
        found = (rows.version.codes == code).nonzero()[0]
        if len(found):
            digest = Categories(rows.digest.codes[found], rows.digest.values)
            add_present(into, f"digest.{short_name(version)}", digest, some(weight, found))
    into.join_groups()


def add_losses(into: Tables, rows: Losses) -> None:
    """Events that clients did not send: left out by sampling, or dropped. They are no inferences and count as none."""
    into.count("sampled_out", int(rows.sampled_out.sum()))
    weight = [1.0] * len(rows) if rows.weight is None else rows.weight.tolist()
    for reason, lost in rows.dropped.items():
        listed = lost.tolist()
        into.count("dropped", sum(listed))
        into.count("dropped_weight", sum(round(n * w * WEIGHT) for n, w in zip(listed, weight, strict=True)))
        into.category("dropped", short_name(reason), sum(listed))
