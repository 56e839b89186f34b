"""What recording costs a web server: latency of a FastAPI service with and without the recorder, broker up and down.

    python -m benchmarks.server [--rounds 3] [--seconds 20] [--rate 150]

The service is uvicorn with one handler that runs the example's CNN (ONNX Runtime, one thread) on an image and gives ten
scores; with the recorder it also records image features, scores and latency through the middleware. Requests come at a
fixed rate, whether earlier ones are answered or not, from another process on the same machine; latency is counted from
when a request was due. The arms take turns, so that what else the machine does falls on all of them. Printed are the
median and the range over the rounds of each percentile, and the median of the paired ratios to the arm without.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from infra.local.kafka import Broker
from infra.local.machine import HOST, free_port
from infra.local.services import ephemeral
from infra.topic_admin import create_topics
from streams.settings import Settings

ROOT = Path(__file__).parents[1]
NOWHERE = "127.0.0.1:1"
ARMS = ("without", "broker up", "broker killed", "broker never there")
WARM_UP = 1.5  # seconds of requests that are not counted


def serve(port: int, broker: str) -> None:
    """The service, until it is told to end; an empty `broker` is the arm without a recorder."""
    import onnxruntime  # noqa: PLC0415 -- only this process needs the server's packages
    import uvicorn  # noqa: PLC0415
    from bestbefore_client import Recorder, RecorderMiddleware, note  # noqa: PLC0415
    from fastapi import FastAPI  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        (ROOT / "examples" / "digits" / "digits.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    app = FastAPI()
    if broker:
        recorder = Recorder(broker, model="bench", version="1")
        app.add_middleware(RecorderMiddleware, recorder=recorder)

    @app.post("/predict")
    def predict(body: dict[str, Any]) -> dict[str, Any]:
        image = np.asarray(body["image"], np.float32).reshape(1, 1, 16, 16)
        scores = session.run(["scores"], {"image": image})[0][0]
        note(
            features={"ink": float(image.mean()), "spread": float(image.std()), "site": body["site"]},
            scores={str(i): float(score) for i, score in enumerate(scores)},
        )
        return {"scores": scores.tolist()}

    uvicorn.run(app, host=HOST, port=port, log_level="error", access_log=False)


async def load(port: int, seconds: float, rate: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Latencies in ms of the requests that were due after the warm-up."""
    image = np.random.default_rng(0).random(256).round(3).tolist()
    body = json.dumps({"image": image, "site": "A"}).encode()
    took: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:

        async def ask(due: float, counted: bool) -> None:
            headers = {"content-type": "application/json"}
            async with session.post(f"http://{HOST}:{port}/predict", data=body, headers=headers) as answer:
                await answer.read()
                assert answer.status == 200
            if counted:
                took.append(1e3 * (time.perf_counter() - due))

        began, asked = time.perf_counter(), []
        for i in range(int((seconds + WARM_UP) * rate)):
            due = began + i / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked.append(asyncio.ensure_future(ask(due, i > WARM_UP * rate)))
        await asyncio.gather(*asked)
    return np.asarray(took)


def measured(broker: str, seconds: float, rate: float) -> dict[str, float]:
    """Percentiles of one arm in ms."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.server", "--serve", str(port), "--broker", broker]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_for(port)
        took = asyncio.run(load(port, seconds, rate))
    finally:
        process.terminate()
        process.wait(30)
    return {f"p{p:g}": float(np.percentile(took, p)) for p in (50, 99, 99.9)}


def wait_for(port: int) -> None:
    """Until the service listens."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        try:
            asyncio.run(load(port, 0.1 - WARM_UP, 10))
        except aiohttp.ClientError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the service did not start")


def told(values: list[float], unit: str = "") -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f}{unit} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    """Measure all arms in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=150.0)
    parser.add_argument("--serve", type=int)
    parser.add_argument("--broker", default="")
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.broker)
        return
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory(prefix="bestbefore-server-") as folder, ephemeral(Path(folder)) as services:
        create_topics(Settings(broker=services.broker, store=services.store))
        brokers = {"without": "", "broker up": services.broker, "broker killed": services.broker}
        for number in range(given.rounds):
            for arm in ARMS:
                if arm == "broker killed":
                    Broker(Path(folder)).kill()
                found[arm].append(measured(brokers.get(arm, NOWHERE), given.seconds, given.rate))
                print(f"round {number + 1}, {arm}: {found[arm][-1]}", file=sys.stderr)
            Broker(Path(folder)).start()
    print(f"{given.rate:g} requests/s, {given.rounds} rounds of {given.seconds:g} s an arm; ms, median (range)")
    for arm in ARMS:
        ratio = [mine["p99"] / plain["p99"] for mine, plain in zip(found[arm], found["without"], strict=True)]
        line = "  ".join(f"{p} {told([r[p] for r in found[arm]])}" for p in ("p50", "p99", "p99.9"))
        print(f"{arm:18}  {line}  p99 beside without {told(ratio)}")


if __name__ == "__main__":
    main()
