"""CBPE beside NannyML on the data sets NannyML brings along: a table of `benchmarks.audits`."""

import math
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.cbpe import Calibrator, Cbpe, fit
from models.concept import ConceptWatch
from models.distance import Z90

Floats = NDArray[np.float64]


def cbpe(peer: str) -> None:
    """Print accuracy errors per data set beside NannyML, and labels until California is flagged."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "peer.npz"
        script = Path(__file__).with_name("nannyml_peer.py")
        quietly = os.environ | {"NML_DISABLE_USAGE_LOGGING": "1"}
        subprocess.run([peer, str(script), str(out)], check=True, env=quietly, stdout=subprocess.DEVNULL)
        with np.load(out, allow_pickle=False) as archive:
            data = dict(archive)
    print("\nCBPE on NannyML's four sets: mean absolute error of accuracy per chunk, points; target .31, .51, 3.74")
    for name in dict.fromkeys(key.split("/")[0] for key in data):
        mine = {key.split("/")[1]: value for key, value in data.items() if key.startswith(f"{name}/")}
        scores, predicted, truth = (mine[f"analysis {k}"] for k in ("scores", "predicted", "truth"))
        reference = [mine[f"reference {k}"] for k in ("scores", "predicted", "truth")]
        calibrator = fit(*reference)
        theirs, size = mine["estimate"], int(mine["chunk"])
        constant = float((reference[1] == reference[2]).mean())
        errors, seconds = [], 0.0
        for k, estimate in enumerate(theirs):
            rows = slice(k * size, (k + 1) * size if k + 1 < len(theirs) else None)
            window, started = Cbpe(calibrator), time.perf_counter()
            window.update(scores[rows], predicted[rows])
            found = window.accuracy.estimate
            seconds += time.perf_counter() - started
            real = float((predicted[rows] == truth[rows]).mean())
            errors.append([abs(v - real) for v in (math.nan if found is None else found, estimate, constant)])
        us, other = 1e6 * seconds / len(scores), float(mine["us"])
        own, nannyml, still = 100 * np.mean(errors, axis=0)
        verdict = "tie" if abs(own - nannyml) < 0.005 else "better" if own < nannyml else "worse"
        print(
            f"{name:11s} chunks of {size}: ours {own:6.3f}  NannyML {nannyml:6.3f} ({verdict})  constant {still:6.3f}  "
            f"us per row: ours {us:.3f}, NannyML {other:.2f}"
        )
        if name == "California":
            parts = [reference[1] == reference[2], calibrated_right(calibrator, reference[0], reference[1])]
            chunks = len(parts[0]) // size
            errors_there = np.subtract(*(p[: chunks * size].reshape(chunks, size).mean(axis=1) for p in parts))
            for what, sd in (("sd of its chunks", float(errors_there.std(ddof=1))), ("residual", calibrator.residual)):
                california(what, Z90 * sd, size, theirs, predicted == truth)


def calibrated_right(calibrator: Calibrator, scores: Floats, predicted: NDArray[np.int64]) -> Floats:
    """P(right) of each answer of a two-class model."""
    positive = calibrator(scores)
    return np.where(predicted == 1, positive, 1 - positive)


def california(
    what: str, tolerance: float, size: int, estimates: Floats, correct: NDArray[np.bool_], runs: int = 200
) -> None:
    """Print labels until the wrong CBPE of California is flagged, 7.3% of its rows audited at random."""
    needed = []
    for run in range(runs):
        rng = np.random.default_rng((17, run))
        watch = ConceptWatch(10_000)
        for labels, row in enumerate(np.flatnonzero(rng.random(len(correct)) < 0.073).tolist(), start=1):
            watch.update(bool(correct[row]), float(estimates[min(row // size, len(estimates) - 1)]) - tolerance)
            if watch.flagged:
                needed.append(labels)
                break
    found = np.array(needed + [math.inf] * (runs - len(needed)))
    print(
        f"  flagged by audits, tolerance {100 * tolerance:.1f} points from the {what}, 7.3% audited, {runs} runs: "
        f"median {np.median(found):.0f} labels, 95% {np.quantile(found, 0.95, method='higher'):.0f}, in "
        f"{100 * len(needed) / runs:.1f}% of runs; target 200"
    )
