"""What trace contexts cost: decoding and profiling of frames without any, with one a frame, with one in every row.

    python -m benchmarks.traces [--frames 200] [--rounds 7]

Frames of 1 000 events with 10 features and 10 scores, as in `benchmarks.throughput`; single events as JSON, decoded
with and without a `traceparent` among their headers. The three run in turns, in CPU time; the best round counts.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from bestbefore_client import Repeated, encode_frame

from benchmarks.throughput import CLASSES, FEATURES, ROWS, START_US, reference
from models.profile import Profile
from streams.frames import decode_frame
from streams.records import decode_inference
from streams.traces import of_record


def parent(number: int) -> str:
    """A sampled trace context."""
    return f"00-{number + 1:032x}-{number + 1:016x}-01"


def frame(rng: np.random.Generator, number: int, *, traced: bool) -> bytes:
    """One frame, with a trace context in every row or without any."""
    columns: dict[str, Any] = {
        "id": [f"e-{number:06d}-{i:04d}" for i in range(ROWS)],
        "time": START_US + number * 1_000_000 + np.arange(ROWS) * 1_000,
        "model": Repeated("bench"), "version": Repeated("1"),
        "scores": rng.dirichlet(np.ones(CLASSES) * 0.3, ROWS).astype(np.float32),
        **{f"features.f{i}": rng.normal(0.0, 1.0, ROWS) for i in range(FEATURES)},
    }  # fmt: skip
    if traced:
        columns["traceparent"] = [parent(number * ROWS + i) for i in range(ROWS)]
    return encode_frame(columns)


def work(frames: list[bytes], headers: list[tuple[str, bytes]]) -> float:
    """CPU us per event of decoding and profiling."""
    known, profile = reference(), Profile()
    began = time.process_time()
    for i, body in enumerate(frames):
        decoded = decode_frame(body, i)
        if decoded.rows.traces is None:
            decoded.rows.traces = of_record(headers, len(decoded.rows))
        profile.add(decoded.rows, known)
    return (time.process_time() - began) / (len(frames) * ROWS) * 1e6


def singles(headers: list[tuple[str, bytes]], n: int = 20_000) -> float:
    """CPU us per single event of decoding."""
    event = {
        "id": "e-1", "time": "2026-11-20T10:00:00Z", "model": "m", "version": "1", "latency_ms": 3.2,
        "features": {f"f{i}": 0.5 for i in range(FEATURES)}, "output": {"label": "7"},
    }  # fmt: skip
    body = msgspec.json.encode(event)
    began = time.process_time()
    for _ in range(n):
        decode_inference(body, headers)
    return (time.process_time() - began) / n * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    plain, traced = ([frame(np.random.default_rng(i), i, traced=t) for i in range(given.frames)] for t in (False, True))
    one = [("traceparent", parent(7).encode())]
    kind = [("content-type", b"application/json")]
    cases: dict[str, Callable[[], float]] = {
        "frames without traces": lambda: work(plain, []),
        "frames with one in the headers": lambda: work(plain, one),
        "frames with one in every row": lambda: work(traced, []),
        "single events without": lambda: singles(kind),
        "single events with one in the headers": lambda: singles([*kind, *one]),
    }
    best = dict.fromkeys(cases, np.inf)
    for _ in range(given.rounds):
        for name, case in cases.items():
            best[name] = min(best[name], case())
    for name, us in best.items():
        base = best["frames without traces" if name.startswith("frames") else "single events without"]
        print(f"{name:40} {us:8.3f} us an event   {us / base:5.2f} times")


if __name__ == "__main__":
    main()
