"""Joining the facts of several artefacts. Two that contradict each other are an error, unless one is preferred.

What people wrote is no part of this: the caller lays it over the result.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from models.descriptors.paths import join
from models.importers.part import Imported, Trees

# What makes two objects of a list the same one.
_NAMES = (("item_name",), ("field_name",), ("component_name",), ("property", "field"), ("metric", "other_metric"),
          ("label",), ("id",), ("name",), ("description", "location"), ("data_source", "other_source"))  # fmt: skip
# Lists that are complete: half of them from one artefact and half from another would describe no model.
_INTERFACES = ("data_pipeline.input_spec", "trained_model.output_spec",
               "trained_model.bestbefore.signature.inputs", "trained_model.bestbefore.signature.outputs")  # fmt: skip
_TENSORS = frozenset(("onnx_file", "inference_protocol"))


class _Fact(NamedTuple):
    """A value, its path in the artefact it is from, and that artefact."""

    value: Any
    path: str
    part: int


def merge(parts: Sequence[Imported], prefer: Sequence[str] = ()) -> Trees:
    """All facts of the parts as one set of trees; `bestbefore.provenance` names all tools that agree.

    Lists of objects are joined by their names, lists of texts as sets. Open axes of a shape agree with any size. Where
    one part describes the interface by columns and another by tensors, the columns stand: they are what callers send.
    `prefer` names formats (`onnx_file`) or files, most trusted first: their facts win over those of the others.
    Raises ValueError that names both paths and both origins of facts that contradict each other.
    """
    joined: dict[str, _Fact] = {}
    merger = _Merger(parts, prefer)
    for i, part in enumerate(parts):
        for kind, tree in part.trees.items():
            fact = _Fact(tree, kind, i)
            joined[kind] = merger.joined(joined[kind], fact, kind) if kind in joined else fact
    trees = {kind: _plain(fact) for kind, fact in joined.items()}
    for path, overruled in merger.overruled:
        _forget(trees, path, parts[overruled])
    return trees


def _forget(trees: Trees, path: str, part: Imported) -> None:
    """Takes the tool of an artefact from the provenance of an attribute whose value is another one's."""
    kind, _, place = path.partition(".")
    said = trees[kind].get("bestbefore", {}).get("provenance", {}).get(place)
    tool = part.trees[kind].get("bestbefore", {}).get("provenance", {}).get(place, {}).get("tool")
    if said and tool in (tools := str(said["tool"]).split(", ")) and len(tools) > 1:
        said["tool"] = ", ".join(one for one in tools if one != tool)


def _plain(fact: _Fact) -> Any:
    if isinstance(fact.value, Mapping):
        return {key: _plain(one) if isinstance(one, _Fact) else one for key, one in fact.value.items()}
    if isinstance(fact.value, list):
        return [_plain(one) if isinstance(one, _Fact) else one for one in fact.value]
    return fact.value


class _Merger:
    """The rules; `path` is that of the joined trees, the facts keep their own."""

    def __init__(self, parts: Sequence[Imported], prefer: Sequence[str]) -> None:
        self._parts = parts
        self._ranks = [
            min((i for i, name in enumerate(prefer) if name in (part.format, part.name)), default=len(prefer))
            for part in parts
        ]
        self.overruled: list[tuple[str, int]] = []  # whose fact gave way, by path

    def joined(self, known: _Fact, other: _Fact, path: str) -> _Fact:
        """Both facts as one. Raises ValueError where they contradict each other."""
        if isinstance(known.value, Mapping) and isinstance(other.value, Mapping):
            return self._objects(known, other, path)
        if isinstance(known.value, list) and isinstance(other.value, list):
            return self._lists(known, other, path)
        same = type(known.value) is type(other.value) or not isinstance(known.value, bool | str)
        return known if same and known.value == other.value else self._preferred(known, other, path)

    def _objects(self, known: _Fact, other: _Fact, path: str) -> _Fact:
        body = {key: self._part(known, join(known.path, key), one) for key, one in known.value.items()}
        for key, one in other.value.items():
            fact, place = self._part(other, join(other.path, key), one), join(path, key)
            if key not in body:
                body[key] = fact
            elif path.endswith(".bestbefore.provenance"):
                body[key] = body[key]._replace(value=_both(_plain(body[key]), one))
            else:
                body[key] = self.joined(body[key], fact, place)
        return known._replace(value=body)

    def _lists(self, known: _Fact, other: _Fact, path: str) -> _Fact:
        mine, yours = ([self._part(f, f"{f.path}[{i}]", one) for i, one in enumerate(f.value)] for f in (known, other))
        if path.endswith(".shape"):
            return self._shapes(known, other, path)
        names = [[_name(fact) for fact in facts] for facts in (mine, yours)]
        if path in _INTERFACES and set(names[0]) != set(names[1]):
            return self._interface(known, other, path)
        if None in (*names[0], *names[1]):
            texts = [fact for fact in mine if isinstance(fact.value, str)]
            if len(texts) == len(mine) and all(isinstance(fact.value, str) for fact in yours):
                return known._replace(value=mine + [f for f in yours if f.value not in {t.value for t in texts}])
            same = [_plain(fact) for fact in mine] == [_plain(fact) for fact in yours]
            return known if same else self._preferred(known, other, path)
        by_name = dict(zip(names[0], mine, strict=True))
        for name, fact in zip(names[1], yours, strict=True):
            by_name[name] = self.joined(by_name[name], fact, f"{path}[]") if name in by_name else fact
        return known._replace(value=list(by_name.values()))

    def _shapes(self, known: _Fact, other: _Fact, path: str) -> _Fact:
        """Axis by axis: a size says more than a name, a name more than -1."""
        mine, yours = _plain(known), _plain(other)
        if len(mine) != len(yours):
            return self._preferred(known, other, path)
        axes = []
        for one, two in zip(mine, yours, strict=True):
            if _size(one) and _size(two) and one != two:
                return self._preferred(known, other, path)
            axes.append(max((one, two), key=lambda axis: (_size(axis), axis != -1)))
        return known._replace(value=axes)

    def _interface(self, known: _Fact, other: _Fact, path: str) -> _Fact:
        tensors = [self._parts[fact.part].format in _TENSORS for fact in (known, other)]
        if tensors[0] != tensors[1] and self._ranks[known.part] == self._ranks[other.part]:
            return self._chosen(other, known, path) if tensors[0] else self._chosen(known, other, path)
        return self._preferred(known, other, path)

    def _preferred(self, known: _Fact, other: _Fact, path: str) -> _Fact:
        ranks = self._ranks[known.part], self._ranks[other.part]
        if ranks[0] != ranks[1]:
            return self._chosen(*((known, other) if ranks[0] < ranks[1] else (other, known)), path)
        said = " and ".join(f"{fact.path} is {_short(fact)} in {self._origin(fact.part)}" for fact in (known, other))
        raise ValueError(f"{said}; correct one, leave one file out, or say which to prefer")

    def _chosen(self, kept: _Fact, dropped: _Fact, path: str) -> _Fact:
        self.overruled.append((path, dropped.part))
        return kept

    def _origin(self, part: int) -> str:
        found = self._parts[part]
        return f"{found.name} ({found.format})" if found.name else f"part {part + 1} ({found.format})"

    def _part(self, whole: _Fact, path: str, value: Any) -> _Fact:
        """A part of a fact; one that is joined already keeps where it is from."""
        return value if isinstance(value, _Fact) else _Fact(value, path, whole.part)


def _both(known: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance of a fact that two tools gave."""
    tools = [str(one.get("tool") or "") for one in (known, other)]
    new = [tool for tool in tools[1].split(", ") if tool not in tools[0].split(", ")]
    return {**other, **known, "tool": ", ".join(filter(None, [tools[0], *new]))}


def _name(fact: _Fact) -> tuple[str, ...] | None:
    if not isinstance(fact.value, Mapping):
        return None
    keys = next((keys for keys in _NAMES if keys[0] in fact.value), ())
    values = [fact.value.get(key) for key in keys]
    return (*keys, *(str(one.value if isinstance(one, _Fact) else one) for one in values)) if keys else None


def _size(axis: object) -> bool:
    return isinstance(axis, int) and axis >= 0


def _short(fact: _Fact) -> str:
    plain = _plain(fact)
    if isinstance(plain, list) and plain and all(isinstance(one, Mapping) for one in plain):
        names = [str(one.get("name") or one.get("item_name") or one.get("field_name")) for one in plain]
        plain = f"a list of {', '.join(names)}"
    return repr(plain)[:80]
