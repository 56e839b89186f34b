"""inputs -> profiles: recompute embeddings of sampled inputs, batched over partitions, in ONNX Runtime's own thread."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.embedder import Embedder, EmbedError, ModelLoadError, decode_tensor
from models.reference import ModelFile
from streams.batches import Stamped
from streams.claim_check import fetch
from streams.embedded import NOTHING, Recomputed, embedded_batch, recomputed
from streams.errors import BadInput, ModelError
from streams.inspecting import model_bytes
from streams.intake import Intake
from streams.lane import Lane
from streams.records import InputSample, decode_input
from streams.runtime import Runtime
from streams.topics import INPUTS

log = logging.getLogger(__name__)
RETRY_AFTER = 30.0  # seconds before a model that could not be loaded is tried again


Stamp = tuple[int, int, int] | None  # of a local file: when it was changed, its size, its number


class Waiting(NamedTuple):
    """A sampled input on its way to the embedder."""

    lane: Lane
    stamped: Stamped
    message: Any


class Loaded(NamedTuple):
    """An embedder, or why there is none, from a file that looked like `stamp`."""

    embedder: Embedder | None
    error: str
    at: float
    stamp: Stamp = None


class Embed(Intake):
    """Reads the inputs topic."""

    name, topic = "embed", INPUTS

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.flush_every = runtime.settings.seconds("embed_delay")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="onnxruntime")
        self._models: dict[ModelFile, Loaded] = {}
        self.embedded = 0  # inputs since the start
        self._waiting = 0
        self._running: asyncio.Task[None] | None = None

    def decode(self, message: Any) -> InputSample:
        """The metadata; the tensor is checked once its model is known."""
        sample = decode_input(message.headers)
        if not message.value and not sample.dataref:
            raise BadInput(f"sampled input {sample.inference_id!r} has neither a tensor nor a dataref")
        self.runtime.registry.admit(sample.model, sample.version)
        return sample

    async def digest(self, lane: Lane, message: Any, record: InputSample) -> None:
        """Wait for a full batch; while one is computed the next one fills."""
        lane.queued(Stamped(message.offset, message.timestamp * 1000, (record, message)))
        self._waiting += 1
        if self._waiting >= self.runtime.settings.embed_batch:
            await self._launch()

    async def flush(self) -> None:
        """Embed what waits, also a small batch, and wait for it."""
        if self._waiting:
            await self._launch()
        if self._running is not None:
            await self._running

    async def _launch(self) -> None:
        # More than one caller may wait here: two batches under way could reach the book in the wrong order.
        while self._running is not None and not self._running.done():
            await self._running
        self._waiting = 0
        waiting = [
            Waiting(lane, Stamped(s.offset, s.received, s.event[0]), s.event[1])
            for lane in list(self.lanes.values())
            for s in lane.unqueue()
        ]
        if waiting:
            self._running = asyncio.ensure_future(self._embed(waiting))

    async def _embed(self, waiting: list[Waiting]) -> None:
        try:
            found: dict[int, Recomputed] = {}
            by_model: dict[ModelFile | None, list[int]] = {}
            for i, item in enumerate(waiting):
                sample: InputSample = item.stamped.event
                by_model.setdefault(self.runtime.registry.get(sample.model, sample.version).file, []).append(i)
            for file, rows in by_model.items():
                found |= await self._of_model(file, [(i, waiting[i]) for i in rows])
            await self._add(waiting, found)
        except Exception as error:  # noqa: BLE001 -- a task of its own: nobody else would see it
            self.runtime.end("embedding failed", error)

    async def _of_model(self, file: ModelFile | None, items: list[tuple[int, Waiting]]) -> dict[int, Recomputed]:
        """What the model makes of them, by row number; rows that cannot be embedded are buried."""
        if file is None:
            return dict.fromkeys((i for i, _ in items), NOTHING)
        loaded = await self._model(file)
        if loaded.embedder is None:
            for _, item in items:
                item.lane.bury(item.message, BadInput(loaded.error), self.name)
            return {}
        tensors, kept = [], []
        for i, item in items:
            try:
                tensors.append(await self._tensor(item, loaded.embedder))
                kept.append((i, item))
            except BadInput as error:
                item.lane.bury(item.message, error, self.name)
        return await self._computed(loaded.embedder, kept, tensors)

    async def _computed(
        self, embedder: Embedder, items: list[tuple[int, Waiting]], tensors: list[NDArray[Any]]
    ) -> dict[int, Recomputed]:
        """A batch the model fails on, perhaps for want of memory, is tried in halves; an input that fails is buried."""
        if not items:
            return {}
        try:
            began = time.monotonic()
            rows = await self._in_thread(recomputed, embedder, np.stack(tensors))
            self.runtime.metrics.embedded(embedder.provider, len(rows), time.monotonic() - began)
        except (EmbedError, ValueError, MemoryError) as error:
            if len(items) == 1:
                items[0][1].lane.bury(items[0][1].message, BadInput(str(error)), self.name)
                return {}
            half = len(items) // 2
            log.warning("a batch of %s is embedded in halves: %s", len(items), error)
            first = await self._computed(embedder, items[:half], tensors[:half])
            return first | await self._computed(embedder, items[half:], tensors[half:])
        return {i: row for (i, _), row in zip(items, rows, strict=True)}

    async def _tensor(self, item: Waiting, embedder: Embedder) -> NDArray[Any]:
        sample: InputSample = item.stamped.event
        value = item.message.value
        settings = self.runtime.settings
        if sample.dataref:
            loop = asyncio.get_running_loop()
            value = await loop.run_in_executor(
                None,
                lambda: fetch(
                    str(sample.dataref), sha256=sample.sha256, size=sample.size, allowed=settings.dataref_prefixes,
                    max_bytes=settings.max_record_bytes,
                ),
            )  # fmt: skip
        try:
            return as_taken(decode_tensor(value, sample.dtype, sample.shape, embedder.input_shape), embedder.dtype)
        except ValueError as error:
            raise BadInput(f"sampled input {sample.inference_id!r}: {error}") from None

    async def _add(self, waiting: list[Waiting], found: dict[int, Recomputed]) -> None:
        by_lane: dict[int, list[int]] = {}
        for i, item in enumerate(waiting):
            by_lane.setdefault(id(item.lane), []).append(i)
        for rows in by_lane.values():
            lane = waiting[rows[0]].lane
            kept = [i for i in rows if i in found]
            last = waiting[rows[-1]].stamped.offset
            self.embedded += len(kept)
            stamped, mine = [waiting[i].stamped for i in kept], [found[i] for i in kept]
            await lane.add(embedded_batch(stamped, mine, last, self.runtime.registry.get))

    # -- models ------------------------------------------------------------------------------------------

    async def _model(self, file: ModelFile) -> Loaded:
        loaded = self._models.get(file)
        failed = loaded is not None and loaded.embedder is None
        # A file that was put right is read at once: what is replayed then must not be buried once more.
        if loaded is None or (failed and (time.monotonic() - loaded.at > RETRY_AFTER or _stamp(file) != loaded.stamp)):
            loaded = await self._in_thread(self._load, file)
            self._models[file] = loaded
        return loaded

    def _load(self, file: ModelFile) -> Loaded:
        settings, stamp = self.runtime.settings, _stamp(file)
        try:
            content = model_bytes(file, settings.model_prefixes)
            embedder = Embedder.load(
                content, sha256=file.sha256 or None, embedding=file.embedding, scores=file.scores or None,
                policy=settings.provider_policy, max_batch=settings.embed_batch,
            )  # fmt: skip
        except (ModelLoadError, ModelError, BadInput, OSError) as error:
            return Loaded(None, f"the model's ONNX file cannot be used: {error}", time.monotonic(), stamp)
        return Loaded(embedder, "", time.monotonic())

    async def _in_thread(self, call: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)


def as_taken(tensor: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """One input in the type that the model takes, so that no input decides the type of a batch.

    Raises ValueError where that would change the values.
    """
    if not np.can_cast(tensor.dtype, dtype, "same_kind"):
        raise ValueError(
            f"input is {tensor.dtype}, the model takes {dtype}: send {dtype} or a type that converts to it"
        )
    return tensor.astype(dtype, copy=False)


def _stamp(file: ModelFile) -> Stamp:
    """None where there is no such file here."""
    try:
        found = Path(file.path).stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
