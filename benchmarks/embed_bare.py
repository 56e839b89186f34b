"""The bare ONNX Runtime loop: how many inputs a second one session embeds with nothing around it."""

import time
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def bare_rate(
    content: bytes, batch: int, seconds: float, *, threads: int = 1, provider: str = "CPUExecutionProvider"
) -> float:
    """Inputs per second of `session.run` on one batch size, all outputs, over at least `seconds`; the first runs are
    not counted."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(content, options, providers=[provider])
    only = session.get_inputs()[0]
    sides = [side if isinstance(side, int) else 1 for side in only.shape[1:]]
    values = np.random.default_rng(0).random((batch, *sides)).astype(DTYPES[only.type])
    for _ in range(5):
        session.run(None, {only.name: values})
    runs, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        session.run(None, {only.name: values})
        runs += 1
    return runs * batch / spent


def best_bare(
    content: bytes, batches: Sequence[int] = BATCHES, seconds: float = 0.5, *, threads: int = 1
) -> tuple[int, float]:
    """The batch size with the highest `bare_rate`, and that rate in inputs per second."""
    rates = {batch: bare_rate(content, batch, seconds, threads=threads) for batch in batches}
    best = max(rates, key=lambda batch: rates[batch])
    return best, rates[best]
