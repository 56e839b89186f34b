"""Do sampled inputs look to the model like those of the training data?

| | |
|---|---|
| left | `training_data.bestbefore.embedding`: mean, sd and distance quantiles of reference embeddings, their `classes`, and the `kernel` means of both |
| right | embeddings recomputed from sampled inputs, in all and by predicted class |
| statistic | field `embedding`: root mean square shift of the mean per dimension, in sd; field `distances`: Jensen-Shannon divergence of the distances from the reference mean, with the classes weighted as in the reference; field `mmd`: distance of the kernel means (random Fourier features), each input beside its predicted class |
| mismatch | the shift exceeds its noise, 0.2 sd, and all that the change of the class mix can explain; the divergence exceeds its noise and its lower end 0.02 nats; the distance of kernel means exceeds its noise and its lower end that which a shift by 0.2 sd makes |
| ok | none of these, with at least 20 sampled inputs |
| unknown | no embedding reference, no sampled inputs, or fewer than 20 of them |

Another mix of the same classes is no drift of embeddings: `label-and-prediction-shift` tells it. So distances are
compared class by class, and weighted as in the reference. What of a shift the mix explains is known where
`training_data.bestbefore.embedding.classes.<class>.mean` is declared; otherwise it is bounded: by Cauchy and Schwarz
it is at most the root of the chi-square distance of the two mixes, whatever the classes look like. Without distances
by class all inputs are compared as one, and the message says so.

The field `mmd` also sees what keeps mean, spread and distances: modes that split or move about the middle. Its message
tells the predicted classes and segments that make most of it (segments by what has changed since all was last as
declared), and the share of inputs within the support of the reference, where 0.95 are expected.

What to do: look at the sampled inputs; a sensor or its surroundings may have changed. Level of the tests:
`system_context.bestbefore.false_alarms`. Sources: Lin 1991; Szekely and Bakirov 2003 (tail of a quadratic form whose
correlations are unknown); Rahimi and Recht 2007 (random features); Gretton et al. 2012 (MMD).
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from models.checks.check import Check
from models.checks.covariate_drift import normal_scores
from models.checks.distribution import TOLERANCE, Array, effect_of, observed_n, too_little
from models.checks.kernel_shift import kernel_shift, support_of, told
from models.checks.label_and_prediction_shift import predicted_shares
from models.checks.observed import Observed
from models.checks.promise import inflation, level
from models.checks.verdict import Effect, Side, Verdict
from models.distance import Z90, Distance, jensen_shannon
from models.profile import MISSING, UNIT, WEIGHT, Profile, short_name
from models.profile_kernel import kernel_sums
from models.random_features import KernelReference
from models.reference import EmbeddingReference

ENOUGH_INPUTS = 20  # embeddings are sampled, so fewer of them than of events must do
ENOUGH_OF_CLASS = 5
EMBEDDING = "training_data.bestbefore.embedding"
SMALLEST_SHIFT = 0.2  # sd per dimension, root mean square
STATISTICS = 3


class Shift(NamedTuple):
    """Shift of the mean per dimension (root mean square, sd): interval, noise level, and what the mix explains."""

    estimate: float
    low: float
    high: float
    noise: float
    mix: float

    @property
    def limit(self) -> float:
        """From where it matters."""
        return SMALLEST_SHIFT + self.mix

    @property
    def drifted(self) -> bool:
        """Is it beyond chance, the mix and the tolerance?"""
        return self.estimate > self.noise + self.mix and self.low > self.limit


def live(seen: Observed) -> Iterator[Verdict]:
    """One verdict about the mean of all embeddings of the block, and one about their distances from the reference's."""
    known, block = seen.reference.embedding, seen.block
    if known is None:
        yield CHECK.unknown(f"{EMBEDDING} is not declared")
        return
    if block is None:
        yield CHECK.unknown(seen.filling)
        return
    counts = block.histograms.get("embedding")
    if counts is None or counts.sum() == 0:
        failed = block.counts.get("embedding_without_reference", 0)
        yield CHECK.unknown(
            f"{failed} sampled inputs could not be embedded" if failed else "no sampled inputs in this window"
        )
        return
    if len(counts) != len(known.shares):
        yield CHECK.unknown(f"the distances were counted on another grid than {EMBEDDING}")
        return
    yield from _verdicts(seen, known, block, counts.astype(np.float64))


def _verdicts(seen: Observed, known: EmbeddingReference, block: Profile, counts: Array) -> Iterator[Verdict]:
    n = _n(block, counts)
    scores, _ = normal_scores(np.array(known.shares))
    sizes = seen.remember(f"{CHECK.id}/sizes", n)
    means = seen.remember(f"{CHECK.id}/means", float(counts @ scores / counts.sum()))
    spread = inflation(np.array(means), np.array(sizes))
    alpha = level(seen, seen.end_us - seen.block_start_us, STATISTICS)
    factor = spread.shown(alpha)  # inputs are sampled, hence far apart
    enough = min(seen.reference.minimum_n, ENOUGH_INPUTS)
    if round(n) < enough:
        reason = f"{n:.4g} observed values in effect, {enough} are needed"
        yield CHECK.unknown(reason, field="embedding", left=Side(f"{EMBEDDING}.mean", n=known.n))
        return
    shift = _shift(seen, known, block, counts, n / factor, alpha)
    if shift is not None:
        yield _of_mean(known, block, shift, n)
    yield _of_distances(known, block, counts, factor, alpha)
    if known.kernel is not None:
        yield _of_kernel(seen, known.kernel, block, factor, alpha)


def _of_mean(known: EmbeddingReference, block: Profile, shift: Shift, n: float) -> Verdict:
    left = Side(f"{EMBEDDING}.mean", 0.0, "sd", n=known.n)
    right = Side("telemetry.embedding.shift", _six(shift.estimate), "sd", _six(shift.low), _six(shift.high), _six(n))
    effect = Effect(
        statistic="mean-shift", estimate=shift.estimate, low=shift.low, high=shift.high,
        threshold=max(shift.limit, shift.noise + shift.mix), n=n,
    )  # fmt: skip
    sides = {"field": "embedding", "left": left, "right": right, "effect": effect}
    if not shift.drifted:
        return CHECK.ok(**sides)
    explained = f", of which the class mix explains at most {shift.mix:.2g}" if shift.mix else ""
    message = (
        f"sampled inputs no longer look to the model as declared: their mean moved by {shift.estimate:.2g} sd per "
        f"dimension (90% interval {shift.low:.2g} to {shift.high:.2g}, {SMALLEST_SHIFT} tolerated{explained}) in "
        f"{n:.4g} inputs"
    )
    return CHECK.mismatch(message, **sides, evidence=block.evidence())


def _of_distances(known: EmbeddingReference, block: Profile, counts: Array, factor: float, alpha: float) -> Verdict:
    distance, told = _distance(known, block, counts, factor, alpha)
    far = _six(counts[-1] / counts.sum())
    left = Side(f"{EMBEDDING}.distance_quantiles", known.shares[-1], n=known.n)
    right = Side("telemetry.embedding.beyond", far, n=_six(distance.n))
    reason = too_little(distance, known.n, factor)
    if reason:
        return CHECK.unknown(reason, field="distances", left=left)
    sides = {"field": "distances", "left": left, "right": right, "effect": effect_of(distance)}
    if not (distance.significant and distance.low > TOLERANCE):
        return CHECK.ok(**sides)
    message = (
        f"sampled inputs lie at other distances from the reference's middle than declared: Jensen-Shannon divergence "
        f"{distance.estimate:.3g} nats (90% interval {distance.low:.3g} to {distance.high:.3g}, tolerance {TOLERANCE}); "
        f"a share of {far:.3g} lies beyond the outermost quantile, declared {known.shares[-1]:.3g}{told}"
    )
    return CHECK.mismatch(message, **sides, evidence=block.evidence())


def _of_kernel(seen: Observed, kernel: KernelReference, block: Profile, factor: float, alpha: float) -> Verdict:
    left = Side(f"{EMBEDDING}.kernel.mean", 0.0, n=kernel.n)
    whole = kernel_sums(block, kernel.features)
    if whole is None or whole.rows < 2:
        return CHECK.unknown("no random features of inputs in this window", field="mmd", left=left)
    known = seen.reference.embedding
    mix = _chi(*_shares(seen, known, block)[1:], whole.n, kernel.n) if known is not None else 0.0
    shift = kernel_shift(kernel, whole, block, factor, alpha, mix)
    n = _six(shift.n)
    right = Side("telemetry.embedding.mmd", _six(shift.estimate), "", _six(shift.low), _six(shift.high), n)
    effect = Effect(
        statistic="mmd", estimate=shift.estimate, low=shift.low, high=shift.high, n=n,
        threshold=max(shift.limit, shift.noise),
    )  # fmt: skip
    sides = {"field": "mmd", "left": left, "right": right, "effect": effect}
    if not shift.drifted:
        return CHECK.ok(**sides)
    message = (
        f"sampled inputs are distributed otherwise than declared, as the model sees them: their kernel mean is "
        f"{shift.estimate:.2g} from the reference's (90% interval {shift.low:.2g} to {shift.high:.2g}; "
        f"{shift.limit:.2g} tolerated, as a shift of the mean by {SMALLEST_SHIFT} sd makes"
        f"{'' if shift.by_class else ', and the class mix may'}) in {shift.n:.4g} inputs"
        f"{told(block, whole, seen.usual, kernel.identity)}{_supported(kernel, block)}"
    )
    return CHECK.mismatch(message, **sides, evidence=block.evidence())


def _supported(kernel: KernelReference, block: Profile) -> str:
    found = support_of(kernel, block)
    if found is None:
        return ""
    return (
        f"; a share of {found.share:.3g} of them lies within the reference's support (90% interval {found.low:.3g} to "
        f"{found.high:.3g}, 0.95 expected)"
    )


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _n(block: Profile, counts: Array) -> float:
    return observed_n(block, float(counts.sum()), of="n_input", weight="input_weight")


def _distance(
    known: EmbeddingReference, block: Profile, counts: Array, factor: float, alpha: float
) -> tuple[Distance, str]:
    """Divergence of the distances with the classes weighted as in the reference, and how it was made, in words."""
    found = _by_class(known, block)
    weight = sum(known.classes[label][0] for label in found)
    if sum(table.sum() for table in found.values()) < 0.5 * counts.sum():  # the class of most inputs is not known
        whole = jensen_shannon(
            counts, np.array(known.shares), n=max(_n(block, counts) / factor, 1e-3), m=max(known.n, 1), alpha=alpha
        )
        return whole, "; another class mix is not excluded, as there are no distances by class"
    p, q, spent = np.zeros(len(counts)), np.zeros(len(counts)), 0.0
    for label, table in found.items():
        share = known.classes[label][0] / weight
        p += share * table / table.sum()
        q += share * np.array(known.classes[label][1])
        spent += share**2 / _n(block, table)
    distance = jensen_shannon(p, q, n=max(1 / spent / factor, 1e-3), m=max(known.n * weight, 1.0), alpha=alpha)
    return distance, "; by class, weighted as in the reference"


def _by_class(known: EmbeddingReference, block: Profile) -> dict[str, Array]:
    """Distances of the predicted classes that have a reference and inputs enough."""
    found = {}
    for label, (share, shares) in known.classes.items():
        table = block.histograms.get(f"embedding.{short_name(label)}", np.zeros(0)).astype(np.float64)
        if len(table) == len(shares) and _n(block, table) >= ENOUGH_OF_CLASS and share > 0 and sum(shares) > 0:
            found[label] = table
    return found


def _shift(
    seen: Observed, known: EmbeddingReference, block: Profile, counts: Array, n: float, alpha: float
) -> Shift | None:
    """The shift of the mean, debiased; None where the window has no sums.

    Under no change its square is a quadratic form of normals with mean `noise`^2; whatever the correlations of the
    dimensions, its upper tail is no heavier than if all were one (Szekely and Bakirov 2003).
    """
    sums = block.sums.get("embedding")
    if sums is None or len(sums) != len(known.mean):
        return None
    mean = sums / UNIT / (float(counts.sum()) / WEIGHT)
    mix, expected = _mix(seen, known, block, n)
    raw = float(np.sqrt(np.mean((mean - expected) ** 2)))
    # Embeddings that spread wider than the reference's have a noisier mean.
    width = max(1.0, float(counts @ _middles(known) ** 2 / counts.sum()) - raw**2)
    noise = math.sqrt(width * (1 / max(n, 1e-3) + 1 / max(known.n, 1)))
    return Shift(
        estimate=math.sqrt(max(raw**2 - noise**2, 0.0)), low=max(raw - Z90 * noise, 0.0), high=raw + Z90 * noise,
        noise=-float(ndtri(alpha / 2)) * noise, mix=mix,
    )  # fmt: skip


def _middles(known: EmbeddingReference) -> Array:
    edges = np.array(known.edges)
    return np.concatenate((edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]))


def _mix(seen: Observed, known: EmbeddingReference, block: Profile, n: float) -> tuple[float, Array]:
    """How far the mean may move by the class mix alone, and where it should be, as far as the means are declared."""
    expected = np.zeros(len(known.mean))
    labels, p, q = _shares(seen, known, block)
    if not labels:
        return 0.0, expected
    means = _class_means(seen, known, labels)
    if means is not None:
        return 0.0, (p - q) @ means
    return _chi(p, q, n, known.n), expected


def _shares(seen: Observed, known: EmbeddingReference, block: Profile) -> tuple[list[str], Array, Array]:
    """Predicted classes with their shares now and in the reference; none where they are not known."""
    now = {
        label: float(table.sum()) for label in known.classes
        if (table := block.histograms.get(f"embedding.{short_name(label)}")) is not None
    }  # fmt: skip
    declared: Mapping[str, float] = {label: share for label, (share, _) in known.classes.items()}
    if not sum(now.values()):
        labels_now = block.categories.get("label", {})
        now = {label: float(weight) for label, weight in labels_now.items() if label != MISSING}
        declared = predicted_shares(seen.reference) if seen.reference.classes else {}
    total, whole = sum(now.values()), sum(declared.values())
    if total <= 0 or whole <= 0:
        return [], np.zeros(0), np.zeros(0)
    labels = sorted({*now, *declared})
    p = np.array([now.get(label, 0.0) / total for label in labels])
    q = np.array([declared.get(label, 0.0) / whole for label in labels])
    return labels, p, q


def _chi(p: Array, q: Array, n: float, m: float) -> float:
    """Root of the chi-square distance of two mixes, less what chance makes of it."""
    if not len(p):
        return 0.0
    q = np.maximum(q, 0.5 / max(m, 1))
    by_chance = (len(p) - 1) * (1 / max(n, 1.0) + 1 / max(m, 1))
    return math.sqrt(max(float(((p - q) ** 2 / q).sum()) - by_chance, 0.0))


def _class_means(seen: Observed, known: EmbeddingReference, labels: list[str]) -> Array | None:
    """Declared means of the classes in units of the reference's spread, (classes, d); None where one is absent."""
    declared = {key: entry for _, key, entry in seen.entries(f"{EMBEDDING}.classes") if isinstance(entry, Mapping)}
    means = [declared.get(label, {}).get("mean") for label in labels]
    if not all(isinstance(mean, list) and len(mean) == len(known.mean) for mean in means):
        return None
    sd = np.array(known.sd)
    scale = np.maximum(sd, 1e-3 * sd.max() if sd.max() > 0 else 1.0)
    z: Array = (np.array(means, dtype=np.float64) - np.array(known.mean)) / scale
    return z


CHECK = Check(
    id="embedding-drift",
    title="Inputs as the model knows them",
    owner="data scientist",
    remedy="look at the sampled inputs; a sensor or its surroundings may have changed",
    live=live,
)
