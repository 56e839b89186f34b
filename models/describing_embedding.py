"""The reference of embeddings: moments per dimension, and how far from the middle they lie, in all and by class."""

from typing import Any

import numpy as np

from models.describing_columns import Embeddings
from models.describing_features import quantiles, rounded, share
from models.describing_kernel import kernel_profile
from models.profile import standardised
from models.reference import EmbeddingReference

LEAST_INPUTS = 20  # the check of embeddings asks for as many


def embedding_profile(seen: Embeddings) -> dict[str, Any]:
    """`training_data.bestbefore.embedding` of sampled inputs: mean, sd, n, distance quantiles, kernel, classes, digest.

    `distance_shares` of a predicted class lie between the same distance quantiles. Raises ValueError that says why
    there is no reference: too few inputs, values that are not finite, or no spread in any dimension.
    """
    e, weight = seen.embedding.astype(np.float64), seen.weight
    if len(e) < LEAST_INPUTS:
        raise ValueError(f"{len(e)} sampled inputs are recorded, {LEAST_INPUTS} are needed")
    if not np.isfinite(e).all():
        raise ValueError("the model computes embeddings that are not finite")
    total = np.ones(len(e)) if weight is None else weight
    centre = np.average(e, axis=0, weights=total)
    left = total.sum() - (total**2).sum() / total.sum()
    mean = tuple(rounded(v) for v in centre)
    sd = tuple(rounded(v) for v in np.sqrt(total @ (e - centre) ** 2 / left))
    if not max(sd, default=0.0) > 0:
        raise ValueError("the embeddings of all sampled inputs are the same")
    known = EmbeddingReference(mean=mean, sd=sd, n=len(e), edges=(), shares=())
    z = standardised(seen.embedding, known)
    distance = np.sqrt(np.mean(z**2, axis=1))
    points = quantiles(distance, weight)
    found = {"mean": list(mean), "sd": list(sd), "n": len(e), "distance_quantiles": points}
    bins = np.searchsorted(np.unique(list(points.values())), distance)
    classes = _classes(seen, bins, len(set(points.values())) + 1)
    kernel = kernel_profile(z, seen.predicted, weight)
    if kernel is not None:
        found["kernel"] = kernel.kernel
        for name, features in kernel.classes.items():
            classes[name]["kernel"] = features
    digest = seen.origin.get("sha256", "")
    return found | ({"classes": classes} if classes else {}) | ({"digest": f"sha256:{digest}"} if digest else {})


def _classes(seen: Embeddings, bins: Any, size: int) -> dict[str, Any]:
    codes, names = seen.predicted
    known = codes >= 0
    weight = None if seen.weight is None else seen.weight[known]
    found = {}
    for code in np.unique(codes[known]).tolist():
        mine = codes == code
        mass = np.bincount(bins[mine], weights=None if seen.weight is None else seen.weight[mine], minlength=size)
        shares = [rounded(m / mass.sum()) for m in mass]
        found[names[code]] = {"share": share(codes[known] == code, weight), "distance_shares": shares}
    return dict(sorted(found.items()))
