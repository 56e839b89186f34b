"""The streams that drift estimators follow: distances that the checks measured, of embeddings too, and confidence."""

from collections.abc import Mapping, Sequence

from models.checks.verdict import Verdict
from models.drift import DriftEstimator
from models.kernel_streams import kernel_streams, remember_usual
from models.newma import Newma
from models.profile import UNIT, WEIGHT, Profile
from models.reference import Reference
from models.usual_segments import Usual

DIVERGENCE = "jensen-shannon"  # what most of the drift streams are made of


def drift_streams(
    verdicts: list[Verdict], block: Profile | None, reference: Reference, usual: Usual, newma: Newma
) -> dict[str, float]:
    """One value per stream of the block, none where it is not complete."""
    if block is None:
        return {}
    remember_usual(usual, verdicts, block, reference)
    return _streams(verdicts, block) | kernel_streams(newma, block, reference)


def followed_by(
    known: Mapping[str, DriftEstimator], streams: Mapping[str, float], detectors: Sequence[str]
) -> dict[str, DriftEstimator]:
    """The estimators by stream/detector, fed with the streams of a block; those no longer selected are forgotten."""
    found = {name: estimator for name, estimator in known.items() if estimator.name in detectors}
    for stream, value in streams.items():
        for name in detectors:
            found.setdefault(f"{stream}/{name}", DriftEstimator(name)).update(value)
    return found


def _streams(verdicts: list[Verdict], block: Profile) -> dict[str, float]:
    """One value per window and stream for the drift estimators."""
    names = {"covariate-drift": "inputs", "label-and-prediction-shift": "outputs", "embedding-drift": "embedding"}
    values: dict[str, float] = {}
    for verdict in verdicts:
        stream, effect = names.get(verdict.check), verdict.effect
        if stream is not None and effect is not None:
            # Divergences and shifts have other units: each is a stream of its own.
            stream = stream if effect.statistic == DIVERGENCE else f"{stream}/{effect.statistic}"
            values[stream] = max(values.get(stream, 0.0), effect.estimate)
    scored = block.counts.get("scored", 0)
    if scored:
        values["confidence"] = float(block.sums["confidence"][0]) / UNIT / (scored / WEIGHT)
    return values
