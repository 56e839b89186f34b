"""Is what one side gives what the other side takes: type, unit, range, set, lengths, image, shape?

| | |
|---|---|
| left | what is given: outputs of upstream components, outputs of the model, fields of production and of the raw data, the declared tensors of the model |
| right | what is taken: `data_pipeline.input_spec`, inputs of downstream components, `training_data.schema`, the tensors of the model file |
| statistic | none: every value that may be given is one that may be taken, or not |
| mismatch | a type that loses values (int64 -> int32, float64 -> float32, int32 -> float32), a range or set that is wider than the taken one, another unit, shape, resolution or number of channels |
| ok | int32 -> int64, float32 -> float64, int32 -> float64, a narrower range |
| unknown | the taking side bounds what the giving side does not say; a reference leads nowhere; `Integer` without range for a type with a width; the model file was not inspected |

Pairs follow `component_mapping` and `mapping_production_data`. A unit may stand as `unit` beside an item or behind its
range (`0..5 m`); another one fits only if the taking side says `converted_from`. Raw data are compared where no
`preparation_process` is declared, as its steps may change them. A field of the training data that fits neither raw
data nor production is one mismatch. `Integer` -> `Float` loses nothing and is ok, where TEC wants equal texts.

Open axes (-1 or a name) of a shape fit any size; a declared record may lack the batch axis of the file.

What to do: change the narrower side, or convert in the pipeline and declare it.

Aliases: `tec:3A`, `tec:4A`, `tec:5A`, `tec:14A`. Sources: TEC rules 3, 4, 5, 14; numpy and ONNX data types.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from models.checks.check import Check
from models.checks.predicate import Judgement
from models.checks.reference_closure import outputs_of
from models.checks.tensors import tensors
from models.checks.verdict import Side, Verdict
from models.checks.workplace import Workplace
from models.interfaces import Spec, fits, spec_of

TRAINED, PRODUCED, RAW = "training_data.schema", "production_data.schema", "raw_data.schema"


class Pair(NamedTuple):
    """What is given, what is taken; a missing one is named by the path that should lead to it."""

    name: str
    given: Spec | None
    taken: Spec | None
    lost: str = ""


def design(at: Workplace) -> Iterator[Verdict]:
    """One verdict per pair."""
    upstream, downstream = (
        "development_environment.upstream_components",
        "development_environment.downstream_components",
    )
    inputs, outputs = "data_pipeline.input_spec", outputs_of(at)
    rule = "tec:4A" if outputs.endswith("final_output_spec") else "tec:3A"
    yield from _pairs(at, inputs, upstream, _mapped(at, inputs, upstream, "output_spec", given=False), ("tec:5A",))
    yield from _pairs(at, outputs, downstream, _mapped(at, outputs, downstream, "input_spec", given=True), (rule,))
    yield from _schema(at)
    yield from tensors(CHECK, at)


def _pairs(at: Workplace, left: str, right: str, pairs: list[Pair], aliases: tuple[str, ...]) -> Iterator[Verdict]:
    absent = [path for path in (left, right) if not at.value(path)]
    if absent:
        yield CHECK.unknown(
            f"{' and '.join(absent)} {'are' if len(absent) > 1 else 'is'} not declared", field=left, aliases=aliases
        )
        return
    for pair in pairs:
        yield _verdict(at, pair, aliases)


def _mapped(at: Workplace, spec: str, side: str, items: str, *, given: bool) -> list[Pair]:
    """Items of the pipeline or model with those of the components; `given`: ours is the giving side."""
    known = {
        (str(component.get("component_name")), str(item.get("item_name"))): spec_of(path, item)
        for where, component in at.items(side)
        for path, item in at.items(f"{where}.{items}")
    }
    pairs = []
    for path, item in at.items(spec):
        mapping = item.get("component_mapping")
        parts = mapping if isinstance(mapping, dict) else {}
        other = known.get((str(parts.get("component")), str(parts.get("data_item"))))
        ours, lost = spec_of(path, item), "" if other else f"{path}.component_mapping"
        pairs.append(Pair(path, ours if given else other, other if given else ours, lost))
    return pairs


def _schema(at: Workplace) -> Iterator[Verdict]:
    """Fields of training with those of production and of the raw data."""
    absent = [path for path in (PRODUCED, TRAINED) if not at.value(path)]
    if absent:
        yield CHECK.unknown(
            f"{' and '.join(absent)} {'are' if len(absent) > 1 else 'is'} not declared",
            field="schema",
            aliases=("tec:14A",),
        )
    produced, raw = (
        {str(item.get("field_name")): spec_of(path, item) for path, item in at.items(where)}
        for where in (PRODUCED, RAW)
    )
    for path, item in at.items(TRAINED):
        taken, broken = spec_of(path, item), None
        target = str(item.get("mapping_production_data") or "")
        if produced and (target or item.get("label_field") is not True):
            lost = "" if target in produced else f"{path}.mapping_production_data"
            pair = Pair(path, produced.get(target), taken, lost)
            verdict = _verdict(at, pair, ("tec:14A",))
            broken = pair if verdict.verdict == "mismatch" else None
            yield verdict
        collected = raw.get(str(item.get("field_name")))
        if collected:
            yield from _collected(at, Pair(f"{path} of raw data", collected, taken), broken)


def _collected(at: Workplace, pair: Pair, broken: Pair | None) -> Iterator[Verdict]:
    """A field of the raw data. Nothing where training differs from production and raw data alike: that is one fact."""
    verdict = _verdict(at, pair, ())
    if verdict.verdict == "mismatch" and at.value("training_data.preparation_process"):
        told = f"{verdict.message}; training_data.preparation_process may change that"
        yield CHECK.unknown(told, field=pair.name, left=verdict.left, right=verdict.right)
    elif not (
        verdict.verdict == "mismatch" and broken and broken.given and pair.given and _alike(broken.given, pair.given)
    ):
        yield verdict


def _alike(one: Spec, other: Spec) -> bool:
    return fits(one, other).outcome == fits(other, one).outcome == "ok"


def _verdict(at: Workplace, pair: Pair, aliases: tuple[str, ...]) -> Verdict:
    if pair.given is None or pair.taken is None:
        ours = pair.given or pair.taken
        side = {"left" if pair.given else "right": at.side(ours.path)} if ours else {}
        return CHECK.unknown(f"{pair.lost} leads to nothing that is declared", field=pair.name, aliases=aliases, **side)
    found: Judgement = fits(pair.given, pair.taken)
    sides: dict[str, Any] = {
        "field": pair.name, "left": _side(at, pair.given), "right": _side(at, pair.taken), "aliases": aliases,
    }  # fmt: skip
    if found.outcome == "ok":
        return CHECK.ok(**sides)
    if found.outcome == "unknown":
        return CHECK.unknown(found.reason, **sides)
    return CHECK.mismatch(f"{pair.given.path} does not fit {pair.taken.path}: {found.reason}", **sides)


def _side(at: Workplace, spec: Spec) -> Side:
    return at.side(spec.path, spec.type or None, spec.unit)


CHECK = Check(
    id="interface-compatibility",
    title="What is given can be taken",
    owner="software engineer",
    remedy="change the narrower side, or convert in the pipeline and declare it",
    action="fix-pipeline",
    aliases=("tec:3A", "tec:4A", "tec:5A", "tec:14A"),
    design=design,
)
