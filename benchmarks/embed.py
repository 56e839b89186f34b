"""Embedded inputs per second of the agent, from a real topic, beside the bare ONNX Runtime loop in the same process.

    python -m benchmarks.embed [--seconds 10]

Three models. Two encoders of 64 x 64 colour images (50 kB an input), a small one of ordinary size, about a quarter of a
ResNet-18 in arithmetic, and a thin one with a fortieth of that; and the digits CNN of a few microseconds, where the
delivery of single records is all there is. The bare loop runs alone, at its best batch size; both use one thread.
"""

import argparse
import asyncio
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from aiokafka import AIOKafkaProducer
from onnx import TensorProto, helper, numpy_helper

from agents.embed import Embed
from benchmarks.embed_bare import best_bare
from infra.local.services import ephemeral
from infra.migrate import upgrade
from infra.topic_admin import create_topics
from infra.worker import create_worker
from models.embedder import missing_cuda
from models.reference import ModelFile, Reference
from streams.records import time_text
from streams.settings import Settings, load
from streams.topics import INPUTS

ROOT = Path(__file__).parents[1]
START_US = (time.time_ns() // 86_400_000_000_000 - 100) * 86_400_000_000


class Model(NamedTuple):
    """A model to measure: its file, the tensor to read, the shape of an input."""

    name: str
    content: bytes
    shape: tuple[int, ...]


def encoder(*widths: int) -> bytes:
    """Convolutions, halving the side from the second on, a mean over the image, a dense layer: 256 numbers."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "image"
    for i, (into, out) in enumerate(pairwise((3, *widths))):
        weights.append(numpy_helper.from_array((rng.normal(size=(out, into, 3, 3)) / into).astype(np.float32), f"w{i}"))
        nodes.append(
            helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], strides=[2, 2] if i else [1, 1], pads=[1, 1, 1, 1])
        )
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        last = f"r{i}"
    weights.append(numpy_helper.from_array((rng.normal(size=(widths[-1], 256)) / 11).astype(np.float32), "dense"))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["embedding"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 64, 64])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 256])
    graph = helper.make_graph(nodes, "encoder", [image], [embedding], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


async def produce(settings: Settings, model: Model, inputs: int) -> None:
    """Fill the inputs topic."""
    rng = np.random.default_rng(3)
    values = [rng.random(model.shape, dtype=np.float32).tobytes() for _ in range(64)]
    async with AIOKafkaProducer(bootstrap_servers=settings.broker, max_batch_size=1 << 20, linger_ms=5) as producer:
        waiting: list[Any] = []
        for number in range(inputs):
            text = {
                "inference_id": f"i-{number}", "model": model.name, "version": "1", "dtype": "float32",
                "time": time_text(START_US + number * 1_000_000), "shape": str(list(model.shape)),
            }  # fmt: skip
            headers = [(key, value.encode()) for key, value in text.items()]
            send = producer.send(settings.topic(INPUTS), values[number % 64], partition=number % 4, headers=headers)
            waiting.append(await send)
            if len(waiting) == 256:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)


async def drain(settings: Settings, model: Model, path: Path, inputs: int) -> float:
    """Inputs per second of the agent, between 10% and 95% of them; the model is loaded and warm by then."""
    app, runtime = create_worker(settings, ["embed"])
    file = ModelFile(path=str(path), sha256="", embedding="embedding")
    runtime.registry.put(Reference(model=model.name, version="1", file=file))
    agent = next(a.fun.__self__ for a in app.agents.values() if isinstance(a.fun.__self__, Embed))
    await app.start()
    try:
        marks: list[tuple[float, int]] = []
        while agent.embedded < inputs:
            if not marks or agent.embedded != marks[-1][1]:
                marks.append((time.perf_counter(), agent.embedded))
            await asyncio.sleep(0.01)
        marks.append((time.perf_counter(), agent.embedded))
    finally:
        await app.stop()
    first = next(mark for mark in marks if mark[1] >= 0.1 * inputs)
    last = next(mark for mark in marks if mark[1] >= 0.95 * inputs)
    return (last[1] - first[1]) / (last[0] - first[0])


def measure(model: Model, seconds: float) -> tuple[int, float, float]:
    """Best batch and rate of the bare loop, and the agent's rate."""
    batch, bare = best_bare(model.content)
    inputs = int(min(max(bare * seconds, 1_000), 60_000))
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.content)
        with ephemeral(Path(folder) / "services") as services:
            settings = load(
                {}, Path(folder), broker=services.broker, store=services.store, group="bench", provider_policy="prefer",
                embed_batch=max(batch, 64), buffer_records=1024,
            )  # fmt: skip
            upgrade(settings.store)
            create_topics(settings)
            asyncio.run(produce(settings, model, inputs))
            return batch, bare, asyncio.run(drain(settings, model, path, inputs))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    digits = (ROOT / "examples" / "digits" / "digits.onnx").read_bytes()
    print(f"GPU: {missing_cuda() or 'CUDA is there'}")
    print(f"{'model':<14}{'bare loop, inputs/s':>22}{'best batch':>12}{'agent, inputs/s':>18}{'share':>8}")
    for model in (
        Model("encoder", encoder(64, 128, 256, 256), (3, 64, 64)),
        Model("thin encoder", encoder(8, 32, 64, 64), (3, 64, 64)),
        Model("digits", digits, (1, 16, 16)),
    ):
        batch, bare, agent = measure(model, seconds)
        print(f"{model.name:<14}{bare:>22,.0f}{batch:>12}{agent:>18,.0f}{agent / bare:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
