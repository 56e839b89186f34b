"""`bestbefore describe`: descriptors from artefacts and recorded events, so that people write only what people decide.

What stands in the files already stays, comments included; only what is missing is filled in. Written is all or nothing.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from infra.describe_events import Recorded, recorded
from infra.describe_files import Trees, read_declared, read_folder, write_folder
from infra.describe_model import ModelArtefact, examined, load_model
from models import importers
from models.describing import TOOL, day_of, measure, without_empty
from models.describing_merge import joined_trees
from models.describing_people import Left, left_for_people
from models.descriptors.paths import KINDS, value_at
from models.reference import compile_reference
from streams.adapters.config import Sources
from streams.errors import DescriptorError

_STEP = re.compile(r"""\.?[^.\[\]]+|\["[^"]*"\]""")
_NAMES = ("model_name", "model_version")
MAX_ARTEFACT = 2 << 30  # bytes; ONNX files end there


class Described(NamedTuple):
    """What came of it: files written, paths that were filled, what is absent and why, and what is left for people."""

    files: list[Path]
    filled: list[str]
    notes: list[str]
    left: list[Left]


def describe(
    artefacts: Sequence[Path],
    events: Sequence[Path],
    out: Path,
    *,
    model: str | None = None,
    version: str | None = None,
    declared: Path | None = None,
    force: bool = False,
    sources: Sources | None = None,
    first_us: int | None = None,
) -> Described:
    """Write the eight descriptors of one model version into the folder `out`, from artefacts and recorded events.

    `sources` tell how logs of one's own are read; of the events, only the first `first_us` microseconds count.
    `declared` is a folder of descriptors, or one YAML file with the kinds as keys. What `out` holds counts most, then
    `declared`, artefacts, measurements; with `force`, `declared`, measurements and artefacts count more than `out`.
    Raises DescriptorError and RecordingError; nothing was written then.
    """
    existing = read_folder(out) if out.is_dir() else {}
    said = read_declared(declared) if declared else {}
    notes: list[str] = []
    files = _artefacts(artefacts)
    imported, origins = _imported(files, notes)
    people, _ = joined_trees({"existing": existing, "declared": said})
    known, _ = joined_trees({"people": people, "imported": imported})
    name = _name(people, model, version)
    seen = recorded(events, *name, notes, sources=sources, first_us=first_us) if events else None
    artefact = _model(files, known, said if force else people, out)
    measured = _measured(seen, artefact, known, notes)
    layers = {"existing": existing, "declared": said, "imported": imported, "measured": measured}
    order = ("declared", "measured", "imported", "existing") if force else tuple(layers)
    trees, given = joined_trees({layer: layers[layer] for layer in order})
    # An exporter's name for the file is not the one that events carry.
    name = name if seen is None else (seen.columns.model, seen.columns.version)
    trees.setdefault("trained_model", {}).update({k: v for k, v in zip(_NAMES, name, strict=True) if v})
    _note_origin(trees, given["imported"], origins)
    _note_origin(trees, given["measured"], {}, {} if seen is None else {"observed": day_of(seen.columns)})
    trees = {kind: {"version": "1.2"} | trees.get(kind, {}) for kind in KINDS}
    _compiles(trees, out)
    written = write_folder(trees, existing, out)
    left = left_for_people(trees, inputs=seen is not None and bool(seen.inputs))
    return Described(written, sorted(given["imported"] + given["measured"]), notes, left)


# -- what is known already ---------------------------------------------------------------------------------------


def _artefacts(paths: Sequence[Path]) -> dict[Path, bytes]:
    found = {}
    for path in paths:
        try:
            if path.stat().st_size > MAX_ARTEFACT:
                raise DescriptorError(
                    f"{path} is larger than {MAX_ARTEFACT >> 30} GiB, where ONNX files end; is it the right file?"
                )
            found[path] = path.read_bytes()
        except OSError as error:
            raise DescriptorError(f"{path} cannot be read: {error}") from None
    return found


def _imported(files: Mapping[Path, bytes], notes: list[str]) -> tuple[Trees, Trees]:
    """What artefacts say, and by kind the provenance of it, kept apart: people's words may stand in its place."""
    parts = []
    for path, content in files.items():
        try:
            part = importers.read(path.name, content)
        except ValueError as error:
            raise DescriptorError(f"{path}: {error}") from None
        notes += [f"{path.name}: {note}" for note in part.notes]
        parts.append(part)
    try:
        trees = importers.merge(parts)
    except ValueError as error:
        raise DescriptorError(f"{', '.join(map(str, files))}: {error}") from None
    origins = {kind: dict(value_at(trees, f"{kind}.bestbefore.provenance") or {}) for kind in trees}
    for tree in trees.values():
        tree["bestbefore"] = {k: v for k, v in (tree.get("bestbefore") or {}).items() if k != "provenance"}
    return {kind: without_empty(tree) for kind, tree in trees.items()}, origins


def _name(people: Trees, *asked: str | None) -> tuple[str, str]:
    """Model and version asked for, else those that people wrote, else empty; the two must not contradict."""
    names = []
    for key, given in zip(_NAMES, asked, strict=True):
        written = value_at(people, f"trained_model.{key}")
        if given and written not in (None, "") and str(written) != given:
            raise DescriptorError(
                f"trained_model.{key} is {written!r}, but {given!r} was asked for; describe it in another folder"
            )
        names.append(given or str(written or ""))
    return names[0], names[1]


# -- what is measured --------------------------------------------------------------------------------------------


def _model(files: Mapping[Path, bytes], known: Trees, stating: Trees, out: Path) -> ModelArtefact | None:
    """The ONNX file among the artefacts; its digest must be the one that `stating` says, if any."""
    found = {path: content for path, content in files.items() if path.suffix == ".onnx"}
    if not found:
        return None
    if len(found) > 1:
        raise DescriptorError(f"{', '.join(map(str, found))}: one set of descriptors is of one ONNX file; give one")
    ((path, content),) = found.items()
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    stated = value_at(stating, "trained_model.bestbefore.digest")
    if stated and str(stated).removeprefix("sha256:") != digest.removeprefix("sha256:"):
        raise DescriptorError(
            f"{path} hashes to {digest}, but trained_model.bestbefore.digest says {stated}; describe a new version in "
            "another folder, or measure again with --force"
        )
    relative = Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()
    return load_model(path, content, relative, digest, known)


def _measured(seen: Recorded | None, artefact: ModelArtefact | None, known: Trees, notes: list[str]) -> Trees:
    own = examined(artefact, seen, notes) if artefact else {}
    trees: Trees = {}
    if seen is not None:
        found = measure(seen.columns, known)
        notes += found.notes
        trees = found.trees
    if own:
        section = trees.setdefault("trained_model", {}).setdefault("bestbefore", {})
        section |= own
    return {kind: without_empty(tree) for kind, tree in trees.items()}


def _note_origin(trees: Trees, paths: Sequence[str], origins: Trees, when: Mapping[str, str] | None = None) -> None:
    """`bestbefore.provenance` of what was filled in: the tools of `origins`, by kind and attribute, else this one."""
    for path in paths:
        kind, *steps = _STEP.findall(path)
        depths = (3, 2) if steps[0] == ".bestbefore" else (1,)
        place, coarse = ("".join(steps[:depth]).removeprefix(".") for depth in (depths[0], depths[-1]))
        if coarse == "bestbefore.provenance":
            continue
        told = origins.get(kind, {}).get(coarse) or {"tool": TOOL, **(when or {})}
        own = dict(trees[kind].get("bestbefore") or {})
        own["provenance"] = {**(own.get("provenance") or {}), place: told}
        trees[kind]["bestbefore"] = own


def _compiles(trees: Trees, out: Path) -> None:
    if not trees["trained_model"].get("model_name"):
        return
    try:
        compile_reference(trees)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise DescriptorError(f"{out}: what is known does not fit together: {error}; correct it there") from None
