"""Loads model files again from time to time: still the file that was described, on the runtime that was declared?"""

import asyncio
import logging
import stat
import time
from pathlib import Path

import msgspec

from models.inspecting import inspect
from models.inspection import Inspection
from models.reference import ModelFile, Reference
from streams.claim_check import fetch
from streams.errors import BadInput, ModelError, StoreError
from streams.records import UNREADABLE
from streams.runtime import Runtime
from streams.settings import Settings

log = logging.getLogger(__name__)
MAX_MODEL_BYTES = 2 << 30
LOOK = 5.0  # seconds between looks for a model that was registered since


def model_bytes(file: ModelFile, prefixes: tuple[str, ...]) -> bytes:
    """The bytes of the ONNX file: from the folder it was registered from, or from an allowed prefix.

    Raises BadInput, ModelError and OSError.
    """
    if "://" not in file.path:
        status = Path(file.path).stat()
        # Since it was registered it may have become another, a pipe or a device, which would never end.
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_MODEL_BYTES:
            raise ModelError(f"{file.path} is no regular file of at most {MAX_MODEL_BYTES >> 30} GiB; put it back")
        return Path(file.path).read_bytes()
    return fetch(file.path, sha256=file.sha256 or None, size=None, allowed=prefixes, max_bytes=MAX_MODEL_BYTES)


def inspection_of(reference: Reference, settings: Settings) -> Inspection | None:
    """What is found when the reference's file is loaded now; None where it has none. A failure is a finding."""
    file = reference.file
    if file is None:
        return None
    declared = reference.descriptors.get("trained_model", {}).get("bestbefore") or {}
    try:
        content = model_bytes(file, settings.model_prefixes)
    except (BadInput, ModelError, OSError) as error:
        return Inspection(fetched=False, error=f"the file cannot be read: {error}")
    outputs = {"scores": file.scores, "embedding": file.embedding}
    return inspect(
        content, golden_records=declared.get("golden_records") or (), outputs=outputs, policy=settings.provider_policy
    )


def encode_inspection(inspection: Inspection) -> bytes:
    """The inspection as the event store keeps it."""
    return msgspec.json.encode(inspection)


def decode_inspection(body: bytes) -> Inspection:
    """The inverse of `encode_inspection`. Raises StoreError."""
    try:
        return msgspec.json.decode(body, type=Inspection)
    except UNREADABLE as error:
        raise StoreError(
            f"an inspection in the event store cannot be read: {str(error)[:300]!a}; register the model version again"
        ) from None


async def inspect_forever(runtime: Runtime) -> None:
    """Inspect every registered file when it becomes known and then every `inspect_every`; store what has changed."""
    due: dict[tuple[str, str, str], float] = {}
    every, loop = runtime.settings.seconds("inspect_every"), asyncio.get_running_loop()
    while not runtime.app.should_stop:
        for reference in runtime.registry:
            key = (reference.model, reference.version, reference.digest)
            if due.get(key, 0.0) > time.monotonic():
                continue
            due[key] = time.monotonic() + every
            found = await loop.run_in_executor(None, inspection_of, reference, runtime.settings)
            if found is not None and found != runtime.inspections.get(key[:2]):
                runtime.inspections[key[:2]] = found
                body = encode_inspection(found)
                await runtime.stored(runtime.store.save_inspection, reference.model, reference.version, body)
                log.info("inspected the file of %s %s: %s", *key[:2], found.error or "it runs")
        await asyncio.sleep(LOOK)
