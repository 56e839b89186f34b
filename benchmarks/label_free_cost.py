"""What quality without labels costs: microseconds per event and per window, beside the model's own time.

    python -m benchmarks.label_free_cost

Batches of 256 events, one thread, processor time, the median of 30 repetitions. The model is the
digits' network of the examples, run by ONNX Runtime.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.digit_model import INDUCED, Network, digits
from models import induction_images
from models.induced_quality import Answers, fit, inducer

BATCH, REPEATS = 256, 30
MODEL = Path(__file__).parents[1] / "examples/digits/digits.onnx"


def main() -> None:
    """Register, then time each step."""
    rng = np.random.default_rng(0)
    split = digits(rng)
    network = Network(split.train, split.train_labels, 0, epochs=10)
    train = Answers(*network(split.train), split.train_labels)
    held_out = Answers(*network(split.reference), split.reference_labels)
    shifts = induction_images.shifts(families=INDUCED)
    started = time.process_time()
    induce = inducer(shifts, split.reference, split.reference_labels, network)
    quality = fit(train, held_out, induce, INDUCED)
    print(f"registration, {len(INDUCED)} families: {time.process_time() - started:.1f} s; "
          f"{len(quality.pack()) / 1024:.0f} KiB packed; {quality.size * 8} bytes of sums per window")  # fmt: skip
    scores, embedding = network(split.test[:BATCH])
    session = ort.InferenceSession(MODEL, _single(), providers=["CPUExecutionProvider"])
    name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape
    images = split.test[:BATCH].reshape(BATCH, *shape[1:])
    sums = quality.sums(scores, embedding)
    own = _timed(lambda: session.run(None, {name: images})) / BATCH
    for what, one in (
        ("features and r(x)", lambda: quality.correct_probability(quality.features(scores, embedding))),
        ("all sums of a window", lambda: quality.sums(scores, embedding)),
    ):
        each = _timed(one) / BATCH
        print(f"{what}: {each:.2f} us per sampled event; the model itself {own:.2f}; ratio {each / own:.2f}")
    print(f"reading a window: {_timed(lambda: quality.read(sums, n=BATCH)):.0f} us")


def _timed(one: Callable[[], object]) -> float:
    """Median microseconds of a call."""
    found = []
    for _ in range(REPEATS):
        started = time.process_time()
        one()
        found.append(time.process_time() - started)
    return 1e6 * float(np.median(found))


def _single() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


if __name__ == "__main__":
    main()
