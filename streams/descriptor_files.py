"""Reads and writes folders of descriptors: YAML or JSON, one file per kind (`trained_model.yaml`, …).

A file with another name is read too when its content is one of the eight, as TEC's exports are. Whatever is wrong is a
DescriptorError that names file, line and path. Nothing is imported, run or unpickled, and no link is followed in a
circle; sizes, depth and keys are bounded before anything is built.
"""

import hashlib
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec

from models.descriptors.fields import Finding
from models.descriptors.holder import Descriptors
from models.descriptors.kinds import kind_of, meant
from models.descriptors.paths import KINDS
from models.descriptors.problem import DescriptorProblem
from models.descriptors.text import Parsed, json_text, parse, yaml_text
from models.quality_estimator import PATH, bare
from models.reference import Reference, compile_reference
from streams.errors import DescriptorError

__all__ = [  # noqa: RUF022 -- sorted as strings sort
    "DescriptorSet", "KINDS", "MAX_BYTES", "SUFFIXES", "kind_of", "load_reference", "read_descriptor",
    "read_descriptors", "read_set", "reference_of", "write_descriptors",
]  # fmt: skip

SUFFIXES = (".yaml", ".yml", ".json")
MAX_MODEL_BYTES = 2 << 30
MAX_BYTES = 8 << 20
MAX_FILES = 1_000  # looked into in one folder: a set has eight, and each may be large
MAX_ESTIMATOR_BYTES = 32 << 20  # it travels with the reference
_PICKLES = (".pkl", ".pickle", ".joblib")
_LAST_STEP = re.compile(r"""(?:\.?[^.\[\]]+|\["[^"]*"\]|\[\d+\]|\.)$""")
_NAMED = re.compile(rf"(?:{'|'.join(KINDS)})(?:[.\[][^\s:]*)?")


class _File(NamedTuple):
    """A file that was read, and the kind it is."""

    path: Path
    kind: str
    parsed: Parsed


class DescriptorSet(Descriptors):
    """The descriptors of a folder, which know where every fact stands. Raises DescriptorError."""

    def __init__(self, folder: Path, files: Mapping[str, _File]) -> None:
        self.folder = folder
        self._files = files
        self.moved: dict[str, str] = {}
        try:
            super().__init__({kind: file.parsed.tree for kind, file in files.items()})
        except DescriptorProblem as problem:
            self._refuse(problem)

    def file(self, kind: str) -> Path | None:
        """The file of a kind, if there is one."""
        return self._files[kind].path if kind in self._files else None

    def place(self, path: str) -> str:
        """File and line of a fact, as `trained_model.yaml:31`; of what it stands in where it is absent.

        Only the file where no line can be told, empty where there is no file of the kind.
        """
        kind = re.split(r"[.\[]", path, maxsplit=1)[0]
        file = self._files.get(kind)
        if file is None:
            return ""
        line = self._line(file, path)
        return f"{file.path.name}:{line}" if line else file.path.name

    def _line(self, file: _File, path: str) -> int:
        while True:
            inner = self._as_written(path)[len(file.kind) :].removeprefix(".")
            if inner in file.parsed.lines:
                return file.parsed.lines[inner]
            path, tried = _LAST_STEP.sub("", path), path
            if path == tried:  # a key so odd that no path can name it
                return file.parsed.lines.get("", 0)

    def _as_written(self, path: str) -> str:
        """The path in the file, where an older schema version has the fact somewhere else."""
        moved = [new for new in self.moved if path == new or path.startswith((f"{new}.", f"{new}["))]
        longest = max(moved, key=len, default="")
        return self.moved[longest] + path[len(longest) :] if longest else path

    def _refuse(self, problem: DescriptorProblem) -> NoReturn:
        places = [f"{self.folder}/{place}" for place in map(self.place, problem.paths) if place]
        raise DescriptorError(f"{' and '.join(places) or self.folder}: {problem}") from None

    def refuse(self, error: Exception) -> NoReturn:
        """Raise DescriptorError for an error whose text begins with a path, with the place of that path."""
        found = _NAMED.match(str(error))
        self._refuse(DescriptorProblem(str(error), 0, *([found.group()] if found else [])))

    def note_lines(self) -> list[str]:
        """What was read in a way people should know of, one line each, with its place."""
        return [self._told(note) for note in self.notes]

    def _told(self, note: Finding) -> str:
        return f"{self.place(note.path)}: {note.path}: {note.message}"


def read_set(folder: Path) -> DescriptorSet:
    """The descriptors of a folder with the places of their facts. Raises DescriptorError."""
    files = _files(folder)
    if "trained_model" not in files:
        names = ", ".join(f"{kind}.yaml" for kind in KINDS)
        raise DescriptorError(f"{folder} holds no trained_model.yaml; a folder of descriptors has: {names}")
    return DescriptorSet(folder, files)


def read_descriptors(folder: Path) -> dict[str, dict[str, Any]]:
    """The descriptors of a folder by kind, as they are written. Raises DescriptorError."""
    return {kind: dict(tree) for kind, tree in read_set(folder).original.items()}


def read_descriptor(path: Path) -> tuple[str, dict[str, Any]]:
    """Kind and tree of one file of any name: its name says the kind, or its content does. Raises DescriptorError."""
    parsed = _parsed(path)
    kind = path.stem if path.stem in KINDS else kind_of(parsed.tree)
    if kind is None:
        raise DescriptorError(
            f"{path}: neither the name nor the keys tell which descriptor this is; name it {KINDS[0]}.yaml or another "
            f"of the eight: {', '.join(KINDS)}"
        )
    return kind, parsed.tree


def write_descriptors(folder: Path, trees: Mapping[str, Mapping[str, Any]], suffix: str = ".yaml") -> list[Path]:
    """Write one file per kind, as the trees are; give `DescriptorSet.original` to write what was read, in its version.

    The folder is made if need be, files of the same name are replaced. Raises DescriptorError for an unknown kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, tree in trees.items():
        if kind not in KINDS or suffix not in SUFFIXES:
            raise DescriptorError(f"{kind}{suffix} is no name of a descriptor; the kinds are {', '.join(KINDS)}")
        text = json_text(dict(tree)) if suffix == ".json" else yaml_text(dict(tree))
        path = folder / f"{kind}{suffix}"
        path.write_text(text, "utf-8", newline="\n")
        written.append(path)
    return written


def _files(folder: Path) -> dict[str, _File]:
    if not folder.is_dir():
        raise DescriptorError(f"{folder} is not a folder; give the folder that holds trained_model.yaml and the others")
    found: dict[str, _File] = {}
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DescriptorError(f"{folder} cannot be listed: {error.strerror}; give a readable folder") from None
    paths = [path for path in paths if path.suffix.lower() in (*SUFFIXES, *_PICKLES)]
    if len(paths) > MAX_FILES:
        raise DescriptorError(
            f"{folder} holds {len(paths)} YAML and JSON files; give the folder of the descriptors alone"
        )
    for path in paths:
        file = _recognised(path)
        if file is None:
            continue
        if file.kind in found:
            _refuse_second(found[file.kind], file)
        found[file.kind] = file
    return {kind: found[kind] for kind in KINDS if kind in found}


def _recognised(path: Path) -> _File | None:
    """The descriptor in a file, by its name or its content; None for a file that is something else."""
    if path.stem in KINDS and path.suffix.lower() in _PICKLES:
        raise DescriptorError(f"{path} is pickled; a pickle runs code when it is read, so write it as YAML or JSON")
    if path.suffix.lower() not in SUFFIXES:
        return None
    if path.stem in KINDS:
        return _File(path, path.stem, _parsed(path))
    kind = meant(path.stem)
    if kind is not None:
        raise DescriptorError(
            f"{path} looks like {kind}{path.suffix} misspelt; rename it, or move it out of the folder if it is no part "
            "of these descriptors"
        )
    try:
        parsed = _parsed(path)
    except DescriptorError:
        return None  # not named as a descriptor, so what is wrong with it is not our business
    kind = kind_of(parsed.tree) if "version" in parsed.tree else None
    return _File(path, kind, parsed) if kind else None


def _refuse_second(first: _File, second: _File) -> NoReturn:
    said = ""
    if first.kind == "trained_model":
        versions = [file.parsed.tree.get("model_version") for file in (first, second)]
        said = f" (model_version {versions[0]!r} and {versions[1]!r})" if versions[0] != versions[1] else ""
    raise DescriptorError(f"{second.path}: {first.kind} is there twice, first in {first.path.name}{said}; keep one")


def _parsed(path: Path) -> Parsed:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DescriptorError(f"{path} is not a file; a descriptor is a text file")
        if status.st_size > MAX_BYTES:
            raise DescriptorError(
                f"{path} is larger than {MAX_BYTES >> 20} MiB; keep data out of descriptors, statistics in"
            )
        content = path.read_bytes()
    except (OSError, RuntimeError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise DescriptorError(f"{path} cannot be opened: {problem}; give a readable file") from None
    try:
        return parse(content, as_json=path.suffix.lower() == ".json")
    except DescriptorProblem as problem:
        raise DescriptorError(f"{path}{f':{problem.line}' if problem.line else ''}: {problem}") from None


def load_reference(folder: Path) -> Reference:
    """The compiled reference of a folder of descriptors. Raises DescriptorError."""
    return reference_of(read_set(folder))


def reference_of(descriptors: DescriptorSet, *, estimator: bool = True) -> Reference:
    """The compiled reference of a set, its ONNX file found and pinned. Raises DescriptorError.

    Without `estimator` the file of the estimator of quality is not read, because it is to be made.
    """
    try:
        reference = compile_reference(descriptors.trees, descriptors.digest())
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        descriptors.refuse(error)
    found = _with_file(reference, descriptors)
    return _with_estimator(found, descriptors) if estimator else found


def _with_estimator(reference: Reference, descriptors: DescriptorSet) -> Reference:
    """The estimator of quality is read once, here, and travels with the reference from then on."""
    known = reference.quality_estimator
    if known is None:
        return reference
    path = descriptors.folder / known.file
    where = f"{descriptors.folder}/{descriptors.place(f'{PATH}.file')}: {PATH}.file {known.file}"
    again = f"run `bestbefore induce {descriptors.folder} --data FILE` again, or remove {PATH}"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_ESTIMATOR_BYTES:
            raise DescriptorError(f"{where} is no regular file of at most {MAX_ESTIMATOR_BYTES >> 20} MiB; {again}")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise DescriptorError(
            f"{where} cannot be read ({getattr(error, 'strerror', None) or error}); {again}"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != known.digest:
        raise DescriptorError(
            f"{where} hashes to sha256:{digest}, but {PATH}.digest says sha256:{known.digest}; put that file back, or "
            f"{again}"
        )
    found = msgspec.structs.replace(known, content=content)
    try:
        fitted = found.unpacked().model
    except ValueError as error:
        raise DescriptorError(f"{where}: {error}; {again}") from None
    return msgspec.structs.replace(reference, quality_estimator=msgspec.structs.replace(found, model=bare(fitted)))


def _with_file(reference: Reference, descriptors: DescriptorSet) -> Reference:
    """The path of the ONNX file is relative to the descriptors; what it hashes to is checked here and at every load."""
    file = reference.file
    if file is None or "://" in file.path:
        return reference
    folder = descriptors.folder
    path = folder / file.path
    named = "trained_model.bestbefore.file"
    where = f"{folder}/{descriptors.place(named)}: {named} {file.path}"
    try:
        path = path.resolve()
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_MODEL_BYTES:
            raise DescriptorError(f"{where} is no regular file of at most 2 GiB; give the ONNX file itself")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, RuntimeError, ValueError):
        raise DescriptorError(f"{where} does not exist; give the ONNX file relative to the descriptors") from None
    if file.sha256 and file.sha256 != digest:
        raise DescriptorError(
            f"{where} hashes to sha256:{digest}, but bestbefore.digest says sha256:{file.sha256}; the file was "
            "swapped, or the descriptor is of another one"
        )
    pinned = msgspec.structs.replace(file, path=str(path), sha256=digest)
    return msgspec.structs.replace(reference, file=pinned)
