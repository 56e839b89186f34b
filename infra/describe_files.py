"""Descriptors as `describe` reads and writes them: partial folders, one declared file, edits that keep comments."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString
from yaml.resolver import Resolver

from models.descriptors.paths import KINDS
from streams.descriptor_files import MAX_BYTES, SUFFIXES
from streams.errors import DescriptorError

Trees = dict[str, dict[str, Any]]
_TEXT = "tag:yaml.org,2002:str"
_FLOAT = "tag:yaml.org,2002:float"


# -- reading -----------------------------------------------------------------------------------------------------


def read_folder(folder: Path) -> Trees:
    """The descriptors that are there, be it none. Raises DescriptorError naming the file."""
    found: Trees = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.stem in KINDS):
        if path.stem in found:
            raise DescriptorError(f"{path}: {path.stem} is there twice, as YAML and as JSON; keep one")
        found[path.stem] = _read(path)
    return found


def read_declared(path: Path) -> Trees:
    """What people declare: a folder of descriptors, or one YAML file with kinds as keys. Raises DescriptorError."""
    if path.is_dir():
        return read_folder(path)
    trees = _read(path)
    odd = [kind for kind, tree in trees.items() if kind not in KINDS or not isinstance(tree, dict)]
    if odd:
        raise DescriptorError(f"{path}: {odd[0]!r} is no descriptor with keys; use {', '.join(KINDS)}")
    return trees


def _read(path: Path) -> dict[str, Any]:
    """One file of keys and values, without tags and aliases."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DescriptorError(f"{path} is larger than {MAX_BYTES >> 20} MiB; keep data out of descriptors")
        text = path.read_text("utf-8")
        body = json.loads(text) if path.suffix == ".json" else _yaml(text, path)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DescriptorError(f"{path} cannot be read: {str(error).strip()[:500]}") from None
    if not isinstance(body, dict):
        raise DescriptorError(f"{path}: expected keys and values at the top, found {type(body).__name__}")
    return body


def _yaml(text: str, path: Path) -> Any:
    alias: Any = next((e for e in yaml.parse(text, yaml.SafeLoader) if isinstance(e, yaml.AliasEvent)), None)
    if alias is not None:
        raise DescriptorError(f"{path}:{alias.start_mark.line + 1}: aliases (*name) are not read; write it out")
    return yaml.safe_load(text)


# -- writing -----------------------------------------------------------------------------------------------------


def write_folder(trees: Trees, existing: Trees, out: Path) -> list[Path]:
    """Write the trees that differ from `existing`, each into the file it came from; returns these files.

    Everything is put into text before the first byte is written. Raises DescriptorError.
    """
    texts: dict[Path, str] = {}
    for kind, tree in trees.items():
        if tree == existing.get(kind):
            continue
        path = next((out / f"{kind}{s}" for s in SUFFIXES if (out / f"{kind}{s}").is_file()), out / f"{kind}.yaml")
        texts[path] = _text(path, tree, existing.get(kind))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, "utf-8")
    except OSError as error:
        raise DescriptorError(f"{out} cannot be written: {error}") from None
    return list(texts)


def _text(path: Path, tree: dict[str, Any], was: dict[str, Any] | None) -> str:
    if path.suffix == ".json":
        return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
    if was is None:
        return str(
            yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=120, default_flow_style=None, allow_unicode=True)
        )
    try:
        text = _edited(path.read_text("utf-8"), tree, was)
    except (OSError, YAMLError) as error:
        raise DescriptorError(f"{path} cannot be edited in place: {str(error).strip()[:500]}") from None
    if yaml.safe_load(text) != tree:
        raise DescriptorError(f"{path} cannot be edited in place; write it in plain block style, or move it away")
    return text


class _Dumper(yaml.SafeDumper):
    """Writes what stands in two places twice: descriptors are read without aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 -- of the interface
        """True: no value is written as an alias."""
        return True


class _Representer(RoundTripRepresenter):
    """Numbers as YAML 1.1 has them: descriptors are read as such, where `1e-05` is a text."""

    def represent_float(self, data: float) -> Any:
        """The scalar of a number."""
        return self.represent_scalar(_FLOAT, yaml.safe_dump(data).split("\n")[0])


_Representer.add_representer(float, _Representer.represent_float)


def _edited(text: str, tree: Mapping[str, Any], was: Mapping[str, Any]) -> str:
    """The YAML text with what differs from `was` set in place, so that comments, quotes and order stay."""
    editor = YAML(typ="rt")
    editor.Representer = _Representer
    editor.width, editor.preserve_quotes, editor.allow_unicode = 120, True, True
    document = editor.load(text)
    _set(document, tree, was)
    sink = io.StringIO()
    editor.dump(document, sink)
    return sink.getvalue()


def _set(node: Any, tree: Mapping[str, Any], was: Mapping[str, Any]) -> None:
    for key, value in tree.items():
        before = was.get(key)
        if key in was and before == value:
            continue
        if isinstance(before, Mapping) and before and isinstance(value, Mapping):
            _set(node[key], value, before)
        else:
            node[_node(key)] = _node(value)


def _node(value: Any) -> Any:
    """A value as the editor writes it: leaves in one line, and texts quoted that YAML 1.1 takes for something else."""
    if isinstance(value, str):
        plain = Resolver().resolve(yaml.ScalarNode, value, (True, False)) == _TEXT  # type: ignore[no-untyped-call]
        return value if plain else DoubleQuotedScalarString(value)
    if not isinstance(value, Mapping | list):
        return value
    flat = not any(isinstance(v, Mapping | list) for v in (value.values() if isinstance(value, Mapping) else value))
    if isinstance(value, Mapping):
        made: Any = CommentedMap((_node(k), _node(v)) for k, v in value.items())
    else:
        made = CommentedSeq(_node(v) for v in value)
    if flat:
        made.fa.set_flow_style()
    return made
