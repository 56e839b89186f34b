"""Part of interface-compatibility: declared tensors of the model beside those of its file, and the image it is given."""

from collections.abc import Iterator, Sequence
from typing import Any

from models.checks.check import Check
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.inspection import TensorFact
from models.quantities import number_of
from models.shapes import Axis, record_shape, unify, written
from models.types_lattice import type_of

OWN = "trained_model.bestbefore"


def tensors(check: Check, at: Workplace) -> Iterator[Verdict]:
    """One verdict per tensor of the file that is declared, and per declared one that the file lacks."""
    declared = {kind: _declared(at, kind) for kind in ("inputs", "outputs")}
    file = at.inspection
    if file is None or file.error or not file.inputs:
        if declared["inputs"] or declared["outputs"] or at.value(f"{OWN}.file"):
            why = f": {file.error}" if file and file.error else ""
            yield check.unknown(f"the model file was not inspected{why}", field="model file")
    else:
        for kind, facts in (("inputs", file.inputs), ("outputs", file.outputs)):
            yield from _kind(check, at, kind, declared[kind], facts)
    yield from _image(check, at, declared["inputs"])


def _declared(at: Workplace, kind: str) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Path and tensor of every declaration, by the name of the tensor; a nameless one has the name ''."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    listed = [*at.items(f"{OWN}.signature.{kind}"), *at.items(f"{OWN}.{kind}")]
    single = at.value(f"{OWN}.input") if kind == "inputs" else None
    if isinstance(single, dict):
        listed.append((f"{OWN}.input", single))
    for path, tensor in listed:
        found.setdefault(str(tensor.get("name") or ""), []).append((path, dict(tensor)))
    return found


def _kind(
    check: Check, at: Workplace, kind: str, declared: dict[str, list[tuple[str, dict[str, Any]]]],
    facts: Sequence[TensorFact],
) -> Iterator[Verdict]:  # fmt: skip
    there = {fact.name: fact for fact in facts}
    if "" in declared and len(facts) == 1:
        declared = {facts[0].name: declared.pop("") + declared.get(facts[0].name, [])} | declared
    for name, places in declared.items():
        if name in there:
            yield _tensor(check, at, there[name], places, kind)
        elif name:
            given = ", ".join(repr(other) for other in there)
            yield check.mismatch(
                f"{places[0][0]} names the tensor {name!r}; the {kind} of the model file are {given}",
                field=f"model file/{kind}.{name}", left=at.side(f"{places[0][0]}.name"),
            )  # fmt: skip
    asked = kind == "inputs" and bool(at.value(f"{OWN}.signature.inputs") or at.value(f"{OWN}.inputs"))
    lost = [name for name in there if name not in declared]
    # A renamed one was already told above.
    for name in lost[sum(bool(other) and other not in there for other in declared) :] if asked else ():
        yield check.mismatch(
            f"the model file takes {name!r}, which {OWN}.signature does not declare", field=f"model file/{kind}.{name}"
        )


def _tensor(
    check: Check, at: Workplace, fact: TensorFact, places: list[tuple[str, dict[str, Any]]], kind: str
) -> Verdict:
    told = {path: reasons for path, tensor in places if (reasons := _differs(tensor, fact))}
    field = f"model file/{kind}.{fact.name}"
    path = next(iter(told), places[0][0])
    left = at.side(path)
    if not told:
        return check.ok(field=field, left=left)
    also = f", as does {list(told)[1]}" if len(told) > 1 else ""
    return check.mismatch(
        f"{path} declares {fact.name!r} otherwise than the model file has it{also}: {'; '.join(told[path])}",
        field=field, left=left,
    )  # fmt: skip


def _differs(tensor: dict[str, Any], fact: TensorFact) -> list[str]:
    """What is declared otherwise. Types must be the same: a runtime converts nothing."""
    found = []
    given, taken = type_of(tensor.get("dtype")), type_of(fact.dtype)
    if given and taken and given.name != taken.name and not (given.family == taken.family and not given.bits):
        found.append(f"{given.name} is declared, the file has {taken.name}")
    shape = tensor.get("shape")
    if isinstance(shape, list | tuple):
        judged = unify(shape, record_shape(fact.shape, len(shape)))
        if judged.outcome == "mismatch":
            found.append(f"{judged.reason} ({written(fact.shape)} in the file)")
    return found


def _image(check: Check, at: Workplace, declared: dict[str, list[tuple[str, dict[str, Any]]]]) -> Iterator[Verdict]:
    """The one image that the pipeline takes, or what it is resized to, beside the model's one input of three axes."""
    images = [(path, item) for path, item in at.items("data_pipeline.input_spec") if item.get("item_type") == "Image"]
    shape = _input_shape(at, declared)
    if len(images) != 1 or shape is None:
        return
    path, item = images[0]
    size, where = _image_size(at, f"{path}.item_specification", item.get("item_specification"))
    if size is None:
        yield check.unknown(f"{path} does not say its resolution and channels", field="model input")
        return
    axes = record_shape(shape, 3) if len(shape) == 4 else shape  # batch, channels, rows, columns
    if len(axes) != len(size):
        axes = record_shape(axes, 2)  # grey images may lack the axis of channels
    height, width, channels = size
    layouts: list[list[Axis]] = [[channels, height, width], [height, width, channels]]
    if channels in (1, None):
        layouts.append([height, width])
    sides = {"field": "model input", "left": at.side(where), "right": at.side(f"{OWN}.input", written(shape))}
    if any(unify(layout, axes).outcome == "ok" for layout in layouts):
        yield check.ok(**sides)
    else:
        image = f"{width} x {height}, {channels or 'any number of'} channels"
        yield check.mismatch(f"{where} gives an image of {image}, the model takes {written(shape)}", **sides)


def _input_shape(at: Workplace, declared: dict[str, list[tuple[str, dict[str, Any]]]]) -> Sequence[Axis] | None:
    """Of the file, where it was inspected; what is declared otherwise is another verdict's."""
    facts = at.inspection.inputs if at.inspection else ()
    if facts:
        return facts[0].shape if len(facts) == 1 else None
    shapes = [tensor.get("shape") for places in declared.values() for _, tensor in places[:1]]
    return shapes[0] if len(shapes) == 1 and isinstance(shapes[0], list) else None


def _image_size(at: Workplace, path: str, inner: Any) -> tuple[tuple[Axis, Axis, Axis] | None, str]:
    """Height, width and channels, and where they stand."""
    spec = inner if isinstance(inner, dict) else {}
    numbers = [number_of(spec.get(key)) for key in ("resolution_y", "resolution_x", "channels")]
    height, width, channels = (int(number[0]) if number else None for number in numbers)
    resize = at.value("data_pipeline.bestbefore.preprocessing.resize")
    if isinstance(resize, int) and not isinstance(resize, bool):
        height = width = resize
    elif isinstance(resize, list) and len(resize) == 2:
        height, width = resize
    elif height is None or width is None:
        return None, path
    else:
        return (height, width, channels), path
    return (height, width, channels), "data_pipeline.bestbefore.preprocessing.resize"
