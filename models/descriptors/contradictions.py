"""Facts of one set of descriptors that cannot both be true, and references that go in a circle.

These are mistakes in the files, found before any check: no verdict about a system can rest on them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from models.descriptors.fields import instant_us
from models.descriptors.paths import Trees, items_at, value_at
from models.descriptors.problem import DescriptorProblem

_IDENTIFIERS = {
    "raw_data": "dataset_identifier",
    "training_data": "dataset_identifier",
    "data_pipeline": "pipeline_identifier",
}
_REFERENCES = {
    "raw_data_identifier": "raw_data",
    "training_data_identifier": "training_data",
    "data_pipeline_identifier": "data_pipeline",
}
_TENSORS = ("signature.inputs", "signature.outputs", "inputs")


def contradictions(trees: Trees) -> Iterator[DescriptorProblem]:
    """Each contradiction with the paths of both facts. The types of the trees are as `findings` asks for."""
    yield from _digests(trees)
    yield from _tensors(trees)
    yield from _deployments(trees)
    yield from _periods(trees)
    yield from _circles(trees)


def _differ(what: str, one: str, a: object, other: str, b: object) -> DescriptorProblem:
    return DescriptorProblem(f"{what}: {one} says {a!r}, {other} says {b!r}; keep the true one", 0, one, other)


def _digests(trees: Trees) -> Iterator[DescriptorProblem]:
    one, other = "trained_model.bestbefore.digest", "trained_model.bestbefore.signature.digest"
    a, b = (str(value_at(trees, path) or "").removeprefix("sha256:").casefold() for path in (one, other))
    if a and b and a != b:
        yield _differ("two digests of one model file", one, value_at(trees, one), other, value_at(trees, other))


def _tensors(trees: Trees) -> Iterator[DescriptorProblem]:
    """The input is described at up to three places; where they name the same tensor they must agree."""
    root = "trained_model.bestbefore"
    declared = [(f"{root}.input", value_at(trees, f"{root}.input") or {})]
    declared += [found for key in _TENSORS for found in items_at(trees, f"{root}.{key}")]
    seen: dict[tuple[bool, str], tuple[str, Mapping[str, Any]]] = {}
    for path, tensor in declared:
        name = tensor.get("name")
        if not name:
            continue
        known_path, known = seen.setdefault((".outputs" in path, name), (path, tensor))
        for key in ("dtype", "shape"):
            a, b = known.get(key), tensor.get(key)
            if a is not None and b is not None and not _same(a, b):
                yield _differ(f"two kinds of tensor {name!r}", f"{known_path}.{key}", a, f"{path}.{key}", b)


def _same(a: Any, b: Any) -> bool:
    """Equal, or shapes that differ by open axes, or by a leading axis for the batch that only one of them gives."""
    if not isinstance(a, list) or not isinstance(b, list):
        return bool(a == b)
    short, long = sorted((a, b), key=len)
    if len(long) == len(short) + 1:
        long = long[1:]
    if len(short) != len(long):
        return False
    return all(
        x == y or isinstance(x, str) or isinstance(y, str) or -1 in (x, y) for x, y in zip(short, long, strict=True)
    )


def _deployments(trees: Trees) -> Iterator[DescriptorProblem]:
    """A set is about one deployment. Development and training may have their own; production may not have two."""
    one, other = (f"{kind}.bestbefore.deployment_id" for kind in ("production_environment", "production_data"))
    a, b = value_at(trees, one), value_at(trees, other)
    if a and b and a != b:
        yield _differ("two deployments in one set", one, a, other, b)


def _periods(trees: Trees) -> Iterator[DescriptorProblem]:
    for kind in trees:
        one, other = (f"{kind}.bestbefore.{key}" for key in ("valid_from", "valid_to"))
        a, b = value_at(trees, one), value_at(trees, other)
        if a and b and instant_us(a) >= instant_us(b):
            yield _differ("a period that ends before it begins", one, a, other, b)


def _circles(trees: Trees) -> Iterator[DescriptorProblem]:
    """References between data sets and pipelines that lead back to where they began."""
    arrows = {kind: list(_arrows(trees, kind)) for kind in _IDENTIFIERS}
    for start in _IDENTIFIERS:
        paths = _way_back(arrows, start, start, ())
        if paths:
            told = ", ".join(f"{path} is {value_at(trees, path)!r}" for path in paths)
            message = f"identifiers go in a circle: {told}; a data set comes from another one, not from itself"
            yield DescriptorProblem(message, 0, *paths)
            return


def _way_back(
    arrows: Mapping[str, list[tuple[str, str]]], kind: str, start: str, taken: tuple[str, ...]
) -> tuple[str, ...]:
    """The paths of the references from `kind` to `start`; empty where none leads there."""
    for target, path in arrows[kind]:
        if path in taken:
            continue
        found = (*taken, path) if target == start else _way_back(arrows, target, start, (*taken, path))
        if found:
            return found
    return ()


def _arrows(trees: Trees, kind: str) -> Iterator[tuple[str, str]]:
    """Kinds that this one refers to, and the path that says so."""
    for key, named in _REFERENCES.items():
        reference = value_at(trees, f"{kind}.{key}")
        if not reference or (key.removesuffix("_identifier") == kind):
            continue
        holders = [k for k, own in _IDENTIFIERS.items() if value_at(trees, f"{k}.{own}") == reference]
        if holders:
            yield (named if named in holders else holders[0]), f"{kind}.{key}"
