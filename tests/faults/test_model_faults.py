"""ONNX files that go bad under a running worker, and a GPU that has no memory left."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from faust.types import TP
from onnx import numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as native

from agents.embed import Embed, Loaded
from infra.dead_letters import read, resend
from infra.worker import create_worker
from models.embedder import Embedder
from models.reference import ModelFile
from models.window_book import Clock
from streams.app import create_app
from streams.descriptor_files import load_reference
from streams.event_store import EventStore
from streams.inspecting import decode_inspection
from streams.lane import Lane
from streams.registry import encode_reference
from streams.runtime import Runtime
from streams.settings import Settings
from tests.broker_rig import BASE, fresh_settings, started, until
from tests.faults.bad_records import Sent, Wire
from tests.faults.crew import ROOT
from tests.faults.traffic import HOUR_US, text

CONTENT = (ROOT / "examples" / "digits" / "digits.onnx").read_bytes()
IMAGE = np.full((1, 16, 16), 0.25, np.float32)


def other_model() -> bytes:
    """A valid file with the same tensors and other weights: only its digest tells."""
    model = onnx.load_model_from_string(CONTENT)
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 2, weight.name))
    return bytes(model.SerializeToString())


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(CONTENT[: len(CONTENT) // 2]),
    "random": lambda path: path.write_bytes(np.random.default_rng(1).bytes(len(CONTENT))),
    "other": lambda path: path.write_bytes(other_model()),
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.fixture
def settings(broker: str, store_url: str) -> Settings:
    """Idle partitions close their windows after a second; files are inspected when they become known, and often."""
    made = fresh_settings(broker, store_url)
    return msgspec.structs.replace(
        made, idle_after="1 s", assess_grace="1 s", inspect_every="1 s", provider_policy="cpu"
    )


@pytest.fixture
def files(settings: Settings, tmp_path: Path) -> Iterator[dict[str, Path]]:
    """One model version for each kind of damage, and one that was loaded before: all registered with good files."""
    store = EventStore(settings.store)
    declared = load_reference(ROOT / "examples" / "digits" / "descriptors")
    paths = {version: tmp_path / f"{version}.onnx" for version in ("loaded", *DAMAGE)}
    for version, path in paths.items():
        path.write_bytes(CONTENT)
        file = ModelFile(path=str(path), sha256=hashlib.sha256(CONTENT).hexdigest(), embedding="embedding")
        mine = msgspec.structs.replace(declared, version=version, file=file, window_us=HOUR_US, digest=version)
        store.register("digits", version, version, encode_reference(mine))
    yield paths
    store.close()


def headers(name: str, version: str) -> list[tuple[str, bytes | None]]:
    """Of a sampled input."""
    fields = {"inference_id": name, "model": "digits", "version": version, "time": text(BASE), "dtype": "float32"}
    return [(key, value.encode()) for key, value in (fields | {"shape": "[1, 16, 16]"}).items()]


def test_a_file_swapped_under_a_running_worker_spoils_no_embedding(settings: Settings, files: dict[str, Path]) -> None:
    """What was loaded goes on; what cannot be loaded lies apart until the file is put right."""
    store, wire = EventStore(settings.store), Wire(settings)

    def send(version: str, number: int) -> None:
        for i in range(number):
            wire.send(Sent("inputs", b"k", IMAGE.tobytes(), headers(f"{version}-{i}", version)), 0)
        wire.flush()

    def embedded(version: str) -> int:
        return sum(window.n_input for window in store.windows("digits", version))

    def inspected() -> str:
        return decode_inspection(store.inspections()["digits", "loaded"]).digest

    async def play() -> None:
        app, runtime = create_worker(settings, ["embed", "assess"])
        runtime.registry.load([row.body for row in store.registrations()])
        async with started(app):
            await asyncio.to_thread(send, "loaded", 3)
            await until(lambda: embedded("loaded") == 3)
            for version, damage in DAMAGE.items():
                damage(files[version])
                await asyncio.to_thread(send, version, 2)
            DAMAGE["other"](files["loaded"])
            await asyncio.to_thread(send, "loaded", 2)  # what was loaded, and hashed, goes on
            await until(lambda: embedded("loaded") == 5)
            await until(lambda: len(read(settings, None)) == 2 * len(DAMAGE))
            letters = read(settings, None)
            assert {letter.stage for letter in letters} == {"EMBED"}
            for version in DAMAGE:
                assert embedded(version) == 0
                files[version].write_bytes(CONTENT)
            assert await asyncio.to_thread(resend, settings, letters) == len(letters)
            await until(lambda: all(embedded(version) == 2 for version in DAMAGE))
            await until(lambda: inspected() == f"sha256:{hashlib.sha256(other_model()).hexdigest()}")

    asyncio.run(play())
    wire.close()
    assert len(read(settings, None)) == 2 * len(DAMAGE)
    store.close()


# -- memory of a GPU -----------------------------------------------------------------------------------------


class StarvedSession:
    """A session on a GPU that has memory for `room` inputs at once; `asked` has the sizes that were tried."""

    def __init__(self, session: Any, error: Exception) -> None:
        self._session, self._error = session, error
        self.room, self.asked = 1 << 30, list[int]()

    def get_providers(self) -> list[str]:
        """Those of the session."""
        return list(self._session.get_providers())

    def run(self, names: list[str], inputs: dict[str, Any]) -> Any:
        """What the session makes of them, or what ONNX Runtime raises when CUDA finds no memory."""
        (batch,) = inputs.values()
        self.asked.append(len(batch))
        if len(batch) > self.room:
            raise type(self._error)(*self._error.args)
        return self._session.run(names, inputs)


class Deaf(Runtime):
    """A worker without a broker: it remembers what it would bury."""

    buried: list[tuple[int, str]]

    async def bury(self, message: Any, error: Exception, agent: str) -> None:
        """Remember."""
        self.buried.append((message.offset, getattr(error, "stage", "")))

    async def send(self, *args: Any, **kwargs: Any) -> None:
        """Nobody hears of it."""

    def end(self, reason: str, error: BaseException | None = None) -> None:
        """The test ends, not its process."""
        raise AssertionError(reason) from error


OUT_OF_MEMORY = [
    native.RuntimeException(
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
        "Status Message: bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 1073741824"
    ),
    native.Fail("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc(&p, size);"),
    RuntimeError("cuda_call.cc:123 CudaCall CUDA failure 2: out of memory ; GPU=0 ; file=cuda_allocator.cc"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_a_gpu_without_memory_embeds_in_halves_and_buries_what_it_cannot(error: Exception, tmp_path: Path) -> None:
    """And the next batch is tried whole again."""
    settings = Settings(store=f"sqlite:///{tmp_path}/store.db", embed_batch=64)
    embedder = Embedder.load(CONTENT, sha256=None, embedding="embedding", max_batch=64)
    starved = StarvedSession(embedder._session, error)
    embedder._session = starved
    reference = load_reference(ROOT / "examples" / "digits" / "descriptors")
    assert reference.file is not None

    async def play() -> None:
        runtime = Deaf(settings, create_app(settings, loop=asyncio.get_running_loop()), EventStore(settings.store))
        runtime.buried = []
        runtime.registry.load([encode_reference(reference)])
        agent = Embed(runtime)
        for known in runtime.registry:
            assert known.file is not None
            agent._models[known.file] = Loaded(embedder, "", 0.0)
        lane = Lane(runtime, TP("inputs", 0), 1, 0, Clock())
        agent.lanes[lane.tp] = lane

        async def embed(first: int) -> None:
            for offset in range(first, first + 64):
                tensor = (IMAGE * offset / 192).astype(np.float32).tobytes()
                given = headers(f"i-{offset}", reference.version)
                message = SimpleNamespace(
                    topic="inputs", partition=0, offset=offset, key=None, value=tensor, headers=given,
                    timestamp=BASE // 1000,
                )  # fmt: skip
                await agent.digest(lane, message, agent.decode(message))
            await agent.flush()
            await asyncio.sleep(0)

        starved.room = 8
        await embed(0)
        assert starved.asked[:4] == [64, 32, 16, 8]
        assert (agent.embedded, runtime.buried) == (64, [])
        starved.room = 0
        await embed(64)
        assert (agent.embedded, runtime.buried) == (64, [(offset, "embed") for offset in range(64, 128)])
        starved.room, starved.asked = 1 << 30, []
        await embed(128)
        assert (agent.embedded, len(runtime.buried), starved.asked) == (128, 64, [64])
        assert lane.book.newest_offset == 191

    asyncio.run(play())
