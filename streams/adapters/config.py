"""sources.yaml: which adapter reads which topic, and where in its records model, version and all else stand.

    sources:
      - topics: "seldon.{namespace}.model.{model}.outputs"    # {name}: a part of the name without dots; *: anything
        adapter: open-inference
        model: topic.model                                    # a path, a list of paths, or {fixed: digits}
        version: [response.model_version, {fixed: "1"}]
        segment: {site: header.x-site}
        features: [age, income]
        output: {scores: probabilities, classes: [no, yes]}
        pair: {within: 10 minutes}

The first source whose pattern fits a topic is the one.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from models.descriptors.paths import join
from models.descriptors.problem import DescriptorProblem
from models.descriptors.text import parse
from models.units import duration_us
from streams.adapters.catalogue import ADAPTERS
from streams.adapters.contract import Adapter
from streams.adapters.pairing import MOST, WITHIN_US
from streams.adapters.plan import ROOTS, OutputPlan, Place, Places, Plan, TruthPlan, is_path, is_row_path
from streams.adapters.source import PairPlan, Source
from streams.errors import SettingsError

KEYS = (
    "topics", "adapter", "model", "version", "id", "time", "sampling", "latency_ms", "latency_s", "status", "digest",
    "segment", "features", "output", "truth", "pair", "schema", "registry",
)  # fmt: skip
_PLACES = ("model", "version", "id", "time", "sampling", "latency_ms", "latency_s", "status", "digest")
_OUTPUT_KEYS = ("label", "scores", "value", "classes")
_PAIR_KEYS = ("within", "most")
_MOST_SEGMENT = 8
_LONG = 100  # characters of what a message shows


class Pattern(NamedTuple):
    """A topic pattern as it is written, and as an expression."""

    text: str
    expression: re.Pattern[str]


class Entry(NamedTuple):
    """One source with the topics it is for."""

    where: str
    patterns: tuple[Pattern, ...]
    source: Source


class Sources:
    """All sources of a file, in its order."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries

    def expression(self, others: Iterable[str], never: Iterable[str]) -> str:
        """A regular expression for all topics of these sources and `others`, without those of `never`."""
        own = (re.sub(r"\(\?P<\w+>", "(?:", one.expression.pattern) for entry in self.entries for one in entry.patterns)
        kept_out = "|".join([r"__.*", *(re.escape(name) for name in sorted(never))])
        named = "|".join(re.escape(name) for name in sorted(others))
        return rf"(?s:(?:{named}|(?!(?:{kept_out})\Z)(?:{'|'.join(own)}))\Z)"

    def of(self, topic: str) -> tuple[Source, dict[str, str]] | None:
        """The source of a topic, and what the placeholders of its pattern stand for; None where there is none."""
        for entry in self.entries:
            for pattern in entry.patterns:
                found = pattern.expression.fullmatch(topic)
                if found is not None:
                    return entry.source, found.groupdict()
        return None


def read_sources(path: Path) -> Sources:
    """The sources of a file, and the files it names. Raises SettingsError with file, line and what to write instead."""
    return sources_of(_bytes_of(path, str(path)), path.name, lambda name: _bytes_of(path.parent / name, name))


def sources_of(content: bytes, name: str, fetch: Callable[[str], bytes]) -> Sources:
    """As `read_sources`, from the text; `fetch` gives the content of a file that it names."""
    try:
        tree, lines = parse(content)
    except DescriptorProblem as error:
        raise SettingsError(f"{name}:{error.line}: {error}" if error.line else f"{name} {error}") from None
    at = _Reader(name, lines)
    at.known("", tree, ("sources",))
    listed = tree.get("sources")
    if not isinstance(listed, list) or not listed:
        at.wrong("sources", "expected `sources:` with a list of sources, each with `topics` and `adapter`")
    return Sources([_entry(at, f"sources[{i}]", one, fetch) for i, one in enumerate(listed)])


def _bytes_of(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{name} cannot be read: {error.strerror or error}; write it as docs/sources.md shows, or correct its name"
        ) from None


class _Reader(NamedTuple):
    """Says where in the file something is wrong."""

    name: str
    lines: Mapping[str, int]

    def wrong(self, path: str, message: str) -> NoReturn:
        """Raises SettingsError with the line of `path`, or of what is around it."""
        shown = path if len(path) <= _LONG else f"{path[:_LONG]}…"
        raise SettingsError(f"{self.place(path)}: {shown}: {message}" if path else f"{self.name}: {message}")

    def place(self, path: str) -> str:
        """File and line of `path`, or of the nearest thing around it that has one."""
        path = path[:1000]
        ends = (end for end in range(len(path), 0, -1) if end == len(path) or path[end] in ".[")
        line = next((self.lines[path[:end]] for end in ends if path[:end] in self.lines), 1)
        return f"{self.name}:{line}"

    def known(self, path: str, found: Any, keys: tuple[str, ...]) -> dict[str, Any]:
        """The object, if it has no other keys."""
        if not isinstance(found, dict):
            self.wrong(path, f"expected an object with {', '.join(keys)}")
        for key in found:
            if key not in keys:
                near = difflib.get_close_matches(key[:_LONG], keys, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(keys)}"
                self.wrong(join(path, key) if path else key, f"no such key; {hint}")
        return found


# -- one source ----------------------------------------------------------------------------------------------


def _entry(at: _Reader, path: str, found: Any, fetch: Callable[[str], bytes]) -> Entry:
    fields = at.known(path, found, KEYS)
    for key in ("topics", "adapter"):
        if fields.get(key) is None:
            at.wrong(path, f"it needs `{key}`")
    adapter = _adapter(at, f"{path}.adapter", fields["adapter"])
    truth = _truth(at, f"{path}.truth", fields.get("truth"))
    _enough(at, path, fields, adapter, truth)
    where = f"{at.place(path)} ({path})"
    plan = Plan(
        where=where,
        **{key: _places(at, f"{path}.{key}", fields.get(key)) for key in _PLACES},
        segment=_segment(at, f"{path}.segment", fields.get("segment")),
        features=_features(at, f"{path}.features", fields.get("features")),
        output=_output(at, f"{path}.output", fields.get("output")),
        truth=truth,
    )
    pair = _pair(at, f"{path}.pair", fields.get("pair"), adapter)
    patterns = tuple(_pattern(at, f"{path}.topics", one) for one in _listed(fields["topics"]))
    return Entry(where, patterns, Source(adapter, plan, extra=_extra(at, path, fields, adapter, fetch), pair=pair))


def _enough(at: _Reader, path: str, fields: dict[str, Any], adapter: Adapter, truth: TruthPlan) -> None:
    """Whether the source says all that its adapter cannot find out."""
    if truth.said and fields.get("id") is None:
        at.wrong(path, "a truth is about an inference: say with `id:` where its id stands, as in id: record.order")
    for key in ("time",) if adapter.name == "json" else ():
        if fields.get(key) is None:
            at.wrong(path, f"say with `{key}:` where it stands, as in {key}: record.ts")
    for key in ("features", "output") if adapter.whole and not truth.said else ():
        if fields.get(key) is None:
            at.wrong(path, f"records of {adapter.name} hold question and answer side by side: name them with `{key}:`, "
                     "or say `truth:` if they tell what was true")  # fmt: skip


def _truth(at: _Reader, path: str, found: Any) -> TruthPlan:
    if found is None:
        return TruthPlan()
    fields = at.known(path, found, ("label", "value"))
    if len(fields) != 1:
        at.wrong(path, "expected the column with the class, {label: outcome}, or with the number, {value: minutes}")
    return TruthPlan(**{key: _row_path(at, f"{path}.{key}", one) for key, one in fields.items()})


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


def _adapter(at: _Reader, path: str, found: Any) -> Adapter:
    if not isinstance(found, str) or found not in ADAPTERS:
        near = difflib.get_close_matches(str(found)[:_LONG], ADAPTERS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        at.wrong(path, f"no adapter {str(found)[:_LONG]!r}; {hint}There are {', '.join(ADAPTERS)}")
    return ADAPTERS[found]


def _pattern(at: _Reader, path: str, found: Any) -> Pattern:
    if not isinstance(found, str) or not found:
        at.wrong(path, "expected the name of a topic, or a pattern with * and {name}")
    expression = "".join(
        ".*"
        if part == "*"
        else f"(?P<{part[1:-1]}>[^/.]+)"
        if re.fullmatch(r"\{[a-z_]\w*\}", part)
        else re.escape(part)
        for part in re.split(r"(\*|\{[a-z_]\w*\})", found)
    )
    try:
        return Pattern(found, re.compile(expression, re.DOTALL))
    except re.error:
        at.wrong(path, f"{found[:_LONG]!r} has a placeholder twice")


def _places(at: _Reader, path: str, found: Any) -> Places:
    if found is None:
        return ()
    places = []
    for i, one in enumerate(_listed(found)):
        here = f"{path}[{i}]" if isinstance(found, list) else path
        if isinstance(one, dict):
            value = at.known(here, one, ("fixed",)).get("fixed")
            if not isinstance(value, str | int | float) or value == "":
                at.wrong(here, "`fixed` needs text or a number")
            places.append(Place(fixed=value))
        elif isinstance(one, str) and is_path(one):
            places.append(Place(path=one.lower() if one.startswith("header") else one))
        else:
            at.wrong(here, f"{str(one)[:_LONG]!r} is no path; one begins with {', '.join(ROOTS)}, as in header.x-site; "
                     f"for a value of all records write {{fixed: {str(one)[:_LONG]}}}")  # fmt: skip
    return tuple(places)


def _segment(at: _Reader, path: str, found: Any) -> dict[str, Places]:
    if found is None:
        return {}
    if not isinstance(found, dict) or len(found) > _MOST_SEGMENT:
        at.wrong(path, f"expected at most {_MOST_SEGMENT} names, each with a path, as in {{site: header.x-site}}")
    return {name: _places(at, f"{path}.{name}", one) for name, one in found.items()}


def _features(at: _Reader, path: str, found: Any) -> tuple[str, ...] | dict[str, str] | None:
    if found is None:
        return None
    if isinstance(found, list) and found and all(isinstance(one, str) and one for one in found):
        if len(set(found)) < len(found):
            at.wrong(path, "a feature is there twice")
        return tuple(found)
    if isinstance(found, dict) and found:
        for name, one in found.items():
            _row_path(at, f"{path}.{name}", one)
        return dict(found)
    at.wrong(path, "expected names in the order of the row, [age, income], or name: path in the row, {age: person.age}")


def _row_path(at: _Reader, path: str, found: Any) -> str:
    if not isinstance(found, str) or not is_row_path(found):
        at.wrong(path, f'{str(found)[:_LONG]!r} is no path in a row; write a column, as in age, person.age or ["a.b"]')
    return found


def _output(at: _Reader, path: str, found: Any) -> OutputPlan:
    if found is None:
        return OutputPlan()
    fields = at.known(path, found, _OUTPUT_KEYS)
    classes = fields.get("classes")
    if classes is not None and (not isinstance(classes, list) or not classes):
        at.wrong(f"{path}.classes", "expected the names of the classes in the order of the scores")
    columns = {key: _row_path(at, f"{path}.{key}", one) for key, one in fields.items() if key != "classes"}
    return OutputPlan(**columns, classes=tuple(str(one) for one in classes or ()))


def _pair(at: _Reader, path: str, found: Any, adapter: Adapter) -> PairPlan:
    if found is None:
        return PairPlan()
    if not adapter.pairs:
        at.wrong(path, f"records of {adapter.name} hold request and response; leave `pair` out")
    if isinstance(found, bool):
        return PairPlan(on=found)
    fields = at.known(path, found, _PAIR_KEYS)
    try:
        within = duration_us(fields["within"]) if "within" in fields else WITHIN_US
    except ValueError as error:
        at.wrong(f"{path}.within", str(error))
    most = fields.get("most", MOST)
    if type(most) is not int or most < 1:
        at.wrong(f"{path}.most", "expected how many halves may wait, at least 1")
    return PairPlan(True, within, most)


def _extra(at: _Reader, path: str, fields: dict[str, Any], adapter: Adapter, fetch: Callable[[str], bytes]) -> Any:
    for key in ("schema", "registry"):
        if fields.get(key) is not None and key != adapter.option:
            at.wrong(f"{path}.{key}", f"the adapter {adapter.name} reads no {key}; leave it out")
    name = fields.get(adapter.option) if adapter.option else None
    if adapter.needs_option and not isinstance(name, str):
        at.wrong(path, f"the adapter {adapter.name} needs `{adapter.option}:`, the name of a file")
    if not isinstance(name, str) or adapter.load is None:
        return None
    try:
        return adapter.load(fetch(name))
    except SettingsError as error:
        at.wrong(f"{path}.{adapter.option}", str(error))
