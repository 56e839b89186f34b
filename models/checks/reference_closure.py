"""Does every name by which one descriptor refers to another stand there, and is everything referred to that should be?

| | |
|---|---|
| left | the reference: `*_identifier`, `goal_mapping`, `component_mapping`, `mapping_production_data`, `statistics.field`, names of labels, tensors, metrics and versions |
| right | the list of names it must be in |
| statistic | none: names are equal or not |
| mismatch | a reference that leads nowhere; a goal that no metric shows; an input or output of a component, a field or a label of production that nothing maps to; data derived from itself |
| ok | each reference that holds |
| unknown | one side declares nothing, or a metric names no goal |

A name changed on one side leaves a loose end on both. That is one mismatch: it names the reference, and what is
likely meant. Names of metrics, logs and feedback between model and production are left to observability-coverage.

Inputs and outputs are compared both ways; outputs of upstream components that the pipeline does not take are only
information. With `trained_model.post_processing` the outputs are those of `final_output_spec`. Labels named by
`training_data.distribution`, `bestbefore.classes` and `bestbefore.confusion` must be the same; where two of three
agree, the third is wrong.

An estimator of quality (`training_data.bestbefore.quality_estimator`) names the digest of the model file it was fitted
on, which must be the one described.

What to do: correct the name, or declare what it names.

Aliases: `tec:1` (goals), `tec:3B` `tec:3C` `tec:4B` `tec:4C` (outputs), `tec:5B` `tec:5C` (inputs), `tec:14B` `tec:14C`
(schema). Sources: TEC rules 1, 3 to 5, 14; the relationship diagram of the mismatch descriptors.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from models.checks.check import Check
from models.checks.fitted_on import fitted_on
from models.checks.identifiers import identifiers
from models.checks.label_names import labels
from models.checks.predicate import plain
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.closure import Closure, Dangling, Name, Reference, closure
from models.descriptors.paths import join

TRAINED, PRODUCED = "training_data.schema", "production_data.schema"


class Link(NamedTuple):
    """References and names of one kind. `places` gives the path of a name, `what` the words for it."""

    field: str
    left: str
    right: str
    what: str
    references: list[Reference]
    places: dict[Name, str]
    dangling: tuple[str, ...] = ()  # aliases of a reference that leads nowhere
    unused: tuple[str, ...] | None = None  # aliases of a name that nobody refers to; None: that is no mismatch
    severity: Any = "warning"
    optional: bool = False  # says nothing where one side is absent


def design(at: Workplace) -> Iterator[Verdict]:
    """One verdict per reference that holds, and one per fact that does not."""
    yield from identifiers(CHECK, at)
    for link in (_goals(at), _inputs(at), _outputs(at), _fields(at), _trained_fields(at), _shares(at)):
        yield from _linked(at, link)
    for link in (_traffic(at), _polarity(at), *_tensors(at)):
        yield from _linked(at, link)
    yield from labels(CHECK, at)
    yield from fitted_on(CHECK, at)


def _linked(at: Workplace, link: Link) -> Iterator[Verdict]:
    if not link.references or not link.places:
        absent = [path for path, there in ((link.left, link.references), (link.right, link.places)) if not there]
        if not link.optional:
            yield CHECK.unknown(
                f"{' and '.join(absent)} {'are' if len(absent) > 1 else 'is'} not declared", field=link.field
            )
        return
    found = closure((ref for ref in link.references if not _silent(ref)), link.places)
    yield from (
        CHECK.unknown(f"{ref.path} names no {link.what}", field=f"{link.field}/{ref.path}", severity="info")
        for ref in link.references if _silent(ref)
    )  # fmt: skip
    yield from _verdicts(at, link, found)


def _silent(ref: Reference) -> bool:
    return not any(ref.target) and not ref.covers


def _verdicts(at: Workplace, link: Link, found: Closure) -> Iterator[Verdict]:
    for ref in found.held:
        sides = {"left": at.side(ref.path), "right": at.side(link.places[ref.target])}
        yield CHECK.ok(field=f"{link.field}/{ref.path}", **sides)
    for loose in found.dangling:
        yield _loose(at, link, loose)
    for name in found.unused:
        if link.unused is not None:
            yield CHECK.mismatch(
                f"nothing in {link.left} refers to the {link.what} {'.'.join(name)!r} of {link.places[name]}",
                field=f"{link.field}/{link.places[name]}", right=at.side(link.places[name]), aliases=link.unused,
                severity=link.severity,
            )  # fmt: skip


def _loose(at: Workplace, link: Link, loose: Dangling) -> Verdict:
    first, *others = loose.references
    named = ".".join(loose.target)
    says = (
        f"{first.path} names the {link.what} {named!r}" if any(loose.target) else f"{first.path} names no {link.what}"
    )
    also = f", as do {len(others)} more ({others[0].path}{', …' if len(others) > 1 else ''})" if others else ""
    missing = f"; {link.right} has no such" if any(loose.target) else ""
    meant = ", ".join(repr(".".join(name)) for name in loose.meant)
    rest = f"; nothing refers to {meant}: is that meant?" if meant else ""
    aliases = tuple(dict.fromkeys((*link.dangling, *(link.unused or () if loose.meant else ()))))
    place = link.places[loose.meant[0]] if loose.meant else link.right
    return CHECK.mismatch(
        f"{says}{also}{missing}{rest}", field=f"{link.field}/{first.path}", left=at.side(first.path, named),
        right=at.side(place) if loose.meant else None, aliases=aliases,
    )  # fmt: skip


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _places(at: Workplace, path: str, key: str, spelt: Callable[[Any], str] = _text) -> dict[Name, str]:
    """Names in the list at `path`, with their paths."""
    named = ((spelt(item.get(key)), f"{where}.{key}") for where, item in at.items(path))
    return {(name,): where for name, where in named if name}


def _goals(at: Workplace) -> Link:
    # That a metric names no goal is no mistake, as long as each goal has one that does.
    references = [
        Reference(f"{path}.goal_mapping", (_text(item.get("goal_mapping")),), bool(_text(item.get("goal_mapping"))))
        for kind in ("algorithm_metrics", "business_metrics")
        for path, item in at.items(f"trained_model.{kind}")
    ]
    left, right = "trained_model.algorithm_metrics and business_metrics", "system_context.goals"
    return Link("goals", left, right, "goal", references, _places(at, right, "id"), ("tec:1",), ("tec:1",))


def _mapped(at: Workplace, spec: str) -> list[Reference]:
    found = []
    for path, item in at.items(spec):
        mapping = item.get("component_mapping")
        parts = mapping if isinstance(mapping, dict) else {}
        target = (_text(parts.get("component")), _text(parts.get("data_item")))
        found.append(Reference(f"{path}.component_mapping", target, guess=_text(item.get("item_name"))))
    return found


def _components(at: Workplace, side: str, spec: str) -> dict[Name, str]:
    return {
        (_text(component.get("component_name")), _text(item.get("item_name"))): f"{path}.item_name"
        for where, component in at.items(f"development_environment.{side}")
        for path, item in at.items(f"{where}.{spec}")
    }


def _inputs(at: Workplace) -> Link:
    left, right = "data_pipeline.input_spec", "development_environment.upstream_components"
    places = _components(at, "upstream_components", "output_spec")
    return Link("inputs", left, right, "item", _mapped(at, left), places, ("tec:5B",), ("tec:5C",), "info")


def outputs_of(at: Workplace) -> str:
    """Where the outputs stand that the other components see."""
    return (
        "trained_model.final_output_spec"
        if at.value("trained_model.post_processing") is True
        else "trained_model.output_spec"
    )


def _outputs(at: Workplace) -> Link:
    left, right = outputs_of(at), "development_environment.downstream_components"
    rule = "tec:4" if left.endswith("final_output_spec") else "tec:3"
    places = _components(at, "downstream_components", "input_spec")
    return Link("outputs", left, right, "item", _mapped(at, left), places, (f"{rule}B",), (f"{rule}C",))


def _fields(at: Workplace) -> Link:
    """Fields of production: named by those of training, and by its own statistics."""
    references = []
    for path, item in at.items(TRAINED):
        target = _text(item.get("mapping_production_data"))
        if target or item.get("label_field") is not True:  # the truth comes later, not with the data
            name = f"{path}.mapping_production_data"
            references.append(Reference(name, (target,), guess=_text(item.get("field_name"))))
    if references:
        references += _statistics(at, "production_data")
    return Link(
        "schema",
        TRAINED,
        PRODUCED,
        "field",
        references,
        _places(at, PRODUCED, "field_name"),
        ("tec:14B",),
        ("tec:14C",),
    )


def _statistics(at: Workplace, kind: str) -> list[Reference]:
    found = [
        Reference(f"{path}.field", (_text(item.get("field")),), covers=False)
        for path, item in at.items(f"{kind}.statistics")
    ]
    return found + [Reference(path, (key,), covers=False) for path, key, _ in at.entries(f"{kind}.bestbefore.features")]


def _trained_fields(at: Workplace) -> Link:
    """Fields of training: named by its statistics. What was measured may bear the name of production instead."""
    mapped = {_text(item.get("mapping_production_data")) for _, item in at.items(TRAINED)}
    references = [
        ref for ref in _statistics(at, "training_data")
        if not (ref.target[0] in mapped and ref.path.startswith("training_data.bestbefore"))
    ]  # fmt: skip
    places = _places(at, TRAINED, "field_name")
    # Without statistics nothing refers to a field; that they are absent is completeness-and-staleness's.
    return Link("statistics", "training_data.statistics", TRAINED, "field", references, places, optional=not references)


def _shares(at: Workplace) -> Link:
    left, right = "training_data.distribution", "production_data.distribution"
    references = [
        Reference(f"{path}.mapping_production_data", (plain(item.get("mapping_production_data") or ""),), guess=plain(item.get("label")))
        for path, item in at.items(left)
    ]  # fmt: skip
    return Link("distribution", left, right, "label", references, _places(at, right, "label", plain), (), ())


def _traffic(at: Workplace) -> Link:
    path, right = "trained_model.model_version", "production_environment.bestbefore.traffic"
    version = _text(at.value(path))
    references = [Reference(path, (version,))] if version else []
    places: dict[Name, str] = {(key,): where for where, key, _ in at.entries(right)}
    return Link("traffic", path, right, "version", references, places, optional=True)


def _polarity(at: Workplace) -> Link:
    left, right = "trained_model.bestbefore.metric_polarity", "trained_model.algorithm_metrics"
    references = [Reference(path, (plain(key),)) for path, key, _ in at.entries(left)]
    places: dict[Name, str] = {}
    for kind in ("evaluation_metrics", "test_metrics", "algorithm_metrics", "business_metrics"):
        for key in ("other_metric", "metric"):
            places |= _places(at, f"trained_model.{kind}", key, plain)
    places.pop(("none",), None)
    return Link("metrics", left, right, "metric", references, places, optional=True)


def _tensors(at: Workplace) -> Iterator[Link]:
    """Tensors that are read, in the file where it was inspected, else in the declared signature."""
    left, right = "trained_model.bestbefore.outputs", "trained_model.bestbefore.signature.outputs"
    references = [Reference(path, (_text(name),)) for path, _, name in at.entries(left) if _text(name)]
    file: dict[Name, str] = (
        {(fact.name,): join(left, fact.name) for fact in at.inspection.outputs} if at.inspection else {}
    )
    yield Link("tensors", left, right, "tensor", references, file or _places(at, right, "name"), optional=True)
    if at.inspection and at.inspection.inputs:
        return  # interface-compatibility compares inputs with the file
    left, right = "trained_model.bestbefore.input.name", "trained_model.bestbefore.signature.inputs"
    name = _text(at.value(left))
    given = [Reference(left, (name,))] if name else []
    yield Link("tensors", left, right, "tensor", given, _places(at, right, "name"), optional=True)


CHECK = Check(
    id="reference-closure",
    title="Every name leads somewhere",
    owner="system owner",
    remedy="correct the name, or declare what it names",
    aliases=("tec:1", "tec:3B", "tec:3C", "tec:4B", "tec:4C", "tec:5B", "tec:5C", "tec:14B", "tec:14C"),
    design=design,
)
