"""Reads a folder of descriptors: YAML or JSON, one file per kind (`trained_model.yaml`, `training_data.json`, …)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import yaml

from models.reference import Reference, compile_reference
from streams.errors import DescriptorError

KINDS = (
    "system_context", "raw_data", "training_data", "data_pipeline", "trained_model", "development_environment",
    "production_environment", "production_data",
)  # fmt: skip
SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 8 << 20


class _Loader(yaml.SafeLoader):
    """YAML without tags and aliases: an alias is how a small file becomes a large one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not read", event.start_mark)
        return super().compose_node(parent, index)


def read_descriptors(folder: Path) -> dict[str, dict[str, Any]]:
    """The descriptors of a folder by kind. Raises DescriptorError naming the file, and the line where it can."""
    if not folder.is_dir():
        raise DescriptorError(f"{folder} is not a folder; give the folder that holds trained_model.yaml and the others")
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.stem in KINDS):
        if path.stem in found:
            raise DescriptorError(f"{path}: {path.stem} is there twice, as YAML and as JSON; keep one")
        found[path.stem] = _read(path)
    if "trained_model" not in found:
        names = ", ".join(f"{kind}.yaml" for kind in KINDS)
        raise DescriptorError(f"{folder} holds no trained_model.yaml; a folder of descriptors has: {names}")
    return found


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_BYTES:
        raise DescriptorError(
            f"{path} is larger than {MAX_BYTES >> 20} MiB; keep data out of descriptors, statistics in"
        )
    try:
        text = path.read_text("utf-8")
        body = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_Loader)  # noqa: S506 -- a SafeLoader
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise DescriptorError(f"{path} cannot be read: {str(error).strip()[:500]}") from None
    if not isinstance(body, dict):
        raise DescriptorError(f"{path}: expected keys and values at the top, found {type(body).__name__}")
    return body


def load_reference(folder: Path) -> Reference:
    """The compiled reference of a folder of descriptors. Raises DescriptorError."""
    descriptors = read_descriptors(folder)
    canonical = json.dumps(descriptors, sort_keys=True, default=str, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    try:
        reference = compile_reference(descriptors, digest)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise DescriptorError(f"{folder}: {error}") from None
    return _with_file(reference, folder)


def _with_file(reference: Reference, folder: Path) -> Reference:
    """The path of the ONNX file is relative to the descriptors; what it hashes to is checked here and at every load."""
    file = reference.file
    if file is None or "://" in file.path:
        return reference
    path = (folder / file.path).resolve()
    where = f"{folder}/trained_model: bestbefore.file {file.path}"
    if not path.is_file():
        raise DescriptorError(f"{where} does not exist; give the ONNX file relative to the descriptors")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if file.sha256 and file.sha256 != digest:
        raise DescriptorError(
            f"{where} hashes to sha256:{digest}, but bestbefore.digest says sha256:{file.sha256}; the file was "
            "swapped, or the descriptor is of another one"
        )
    pinned = msgspec.structs.replace(file, path=str(path), sha256=digest)
    return msgspec.structs.replace(reference, file=pinned)
