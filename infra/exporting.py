"""`bestbefore export`: descriptors in the formats of other tools."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from models.descriptors.paths import Trees
from models.exporters import cyclonedx, odcs, tec
from streams.descriptor_files import read_set
from streams.errors import DescriptorError


def export(folder: Path, style: str, out: Path) -> list[Path]:
    """Write the descriptors of `folder` into `out`; returns the files. Raises DescriptorError.

    Not into the folder itself: a folder with each descriptor twice can no longer be read.
    """
    trees = read_set(folder).trees
    if out.resolve() == folder.resolve():
        raise DescriptorError(f"{out} holds the descriptors themselves; give another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _STYLES[style](trees, out)
    except OSError as error:
        where = error.filename or out
        raise DescriptorError(f"{where} cannot be written: {error.strerror}; give another folder with --out") from None


def _tec(trees: Trees, out: Path, *, extended: bool = False) -> list[Path]:
    return [_json(out / f"{kind}.json", tree) for kind, tree in tec.tec(trees, extended=extended).items()]


def _tec_extended(trees: Trees, out: Path) -> list[Path]:
    return _tec(trees, out, extended=True)


def _odcs(trees: Trees, out: Path) -> list[Path]:
    path = out / "contract.odcs.yaml"
    path.write_text(yaml.safe_dump(odcs.odcs(trees), sort_keys=False, allow_unicode=True), "utf-8")
    return [path]


def _cyclonedx(trees: Trees, out: Path) -> list[Path]:
    return [_json(out / "model.cdx.json", cyclonedx.cyclonedx(trees))]


def _json(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return path


_STYLES: dict[str, Callable[[Trees, Path], list[Path]]] = {
    "tec": _tec, "tec-extended": _tec_extended, "odcs": _odcs, "cyclonedx": _cyclonedx,
}  # fmt: skip
