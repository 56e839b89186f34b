"""Targets that read what people and tools write: descriptors, artefacts of others, expressions, settings."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from infra.checking import as_json, check
from infra.describe_files import read_declared, read_folder, write_folder
from infra.exporting import export
from models import importers
from models.alarm_budget import parse_rate
from models.checks.predicate import judge
from models.checks.telemetry import asked
from models.checks.user_entries import predicates
from models.checks.verdict import Side
from models.class_tables import from_descriptor
from models.descriptors.fields import findings, instant_us
from models.descriptors.kinds import kind_of
from models.descriptors.paths import KINDS, value_at
from models.descriptors.text import json_text, parse, yaml_text
from models.domains import expected_values
from models.exporters.cyclonedx import cyclonedx
from models.exporters.odcs import odcs
from models.exporters.tec import tec
from models.importers.registry import IMPORTERS
from models.quality import Calibration
from models.quantities import number_of
from models.units import duration_us
from streams.descriptor_files import load_reference, read_descriptor, read_descriptors, read_set
from streams.settings import Settings, load
from streams.store_engine import parse_url
from tests.fuzz.damage import json_bytes, of_bytes, of_json, of_tree, structured
from tests.fuzz.target import ROOT, Target, tree_of
from tests.test_importers import ARTEFACTS, FORMATS, onnx_bytes

EXAMPLES = ROOT / "examples"
TEC = ROOT / "tests" / "data" / "tec"
NOW = 1_795_168_800_000_000
Trees = dict[str, dict[str, Any]]


@contextmanager
def folder_of(trees: Trees) -> Iterator[Path]:
    """A folder with these descriptors as JSON, whatever their values are."""
    with tempfile.TemporaryDirectory() as name:
        for kind, tree in trees.items():
            if kind in KINDS:
                text = json.dumps(tree)
                (Path(name) / f"{kind}.json").write_text(text, "utf-8")
        yield Path(name)


@cache
def sets() -> tuple[bytes, ...]:
    """Whole sets of descriptors, each as one JSON object by kind: the examples, and TEC's of every version."""
    loan = read_descriptors(EXAMPLES / "loan")
    digits = read_descriptors(EXAMPLES / "digits" / "descriptors")
    digits["trained_model"]["bestbefore"].pop("file", None)
    digits["training_data"]["bestbefore"].pop("quality_estimator", None)
    folders = [dict(_files(folder)) for folder in sorted(TEC.iterdir())]
    return tuple(json.dumps(one).encode() for one in (loan, digits, *folders))


def _files(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        tree = json.loads(path.read_text("utf-8"))
        kind = path.stem if path.stem in KINDS else kind_of(tree)
        if kind:
            yield kind, tree


@cache
def texts() -> tuple[bytes, ...]:
    """Single files, as they are."""
    folders = [EXAMPLES / "loan", *TEC.iterdir()]
    return tuple(
        path.read_bytes()
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.suffix in (".yaml", ".json")
    )


def descriptors(content: bytes) -> None:
    """A set of descriptors: read, compiled, checked, exported in every form, written and read again."""
    trees = tree_of(content)
    with folder_of(trees if isinstance(trees, dict) else {}) as folder:
        report = check(folder, _settings(), NOW)
        json.dumps(as_json(report), allow_nan=False)
        found = read_set(folder)
        load_reference(folder)
        for kind in found:
            found.typed(kind)
            found.identity(kind)
        found.valid_at(NOW)
        for style in ("tec", "tec-extended", "odcs"):
            export(folder, style, folder / style)
        if value_at(found.trees, "trained_model.model_name"):
            export(folder, "cyclonedx", folder / "bom")
        assert read_descriptors(folder / "tec-extended").keys() == found.trees.keys()


@cache
def _settings() -> Settings:
    return load({}, Path("/"))


def text(content: bytes) -> None:
    """A text of keys and values, in whichever of the two forms it begins like; written, it is read again."""
    tree = parse(content, as_json=content.lstrip()[:1] in (b"{", b"[")).tree
    for as_one, write in ((True, json_text), (False, yaml_text)):
        assert parse(write(tree).encode(), as_json=as_one).tree == tree
    kind = kind_of(tree)
    if kind is not None:
        list(findings(kind, tree))


def declared(content: bytes) -> None:
    """A file that `describe` takes as declared, and one that it edits in place."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "trained_model.yaml"
        path.write_bytes(content)
        folder = Path(name)
        read_descriptor(path)
        trees = read_folder(folder)
        changed = {
            kind: {**tree, "model_name": "other", "bestbefore": {"minimum_n": 5}} for kind, tree in trees.items()
        }
        write_folder(changed, trees, folder)
        assert read_folder(folder) == changed == read_declared(folder)
        whole = Path(name) / "people.yaml"
        whole.write_text(yaml_text(changed), "utf-8")
        assert read_declared(whole) == changed


def artefact(content: bytes) -> None:
    """A file of another tool: its first line is its name. Importers give what descriptors may hold, or a reason."""
    name, _, body = content.partition(b"\n")
    part = importers.read(name.decode("utf-8", "replace")[:255], body)
    for kind, tree in importers.merge([part]).items():
        wrong = [one for one in findings(kind, tree) if not one.note]
        assert not wrong, wrong
    json.dumps(part.trees, allow_nan=False)


def importer(content: bytes) -> None:
    """The same, handed to every importer in turn whatever it is."""
    _, _, body = content.partition(b"\n")
    refused = 0
    for read in IMPORTERS.values():
        try:
            json.dumps(read(body, []), allow_nan=False)
        except ValueError:
            refused += 1
            if refused == len(IMPORTERS):
                raise


def contract(content: bytes) -> None:
    """A set of descriptors as other tools' files, and the contract read back."""
    trees = tree_of(content)
    with folder_of(trees if isinstance(trees, dict) else {}) as folder:
        known = read_set(folder).trees
    json.dumps(tec(known), allow_nan=False)
    json.dumps(cyclonedx(known), allow_nan=False)
    document = odcs(known)
    json.dumps(document, allow_nan=False)
    importers.read("contract.yaml", yaml.safe_dump(document, allow_unicode=True).encode())


def checks(content: bytes) -> None:
    """Checks of users, and every operator on any two values."""
    entries = tree_of(content)
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        left, right = Side("left", entry.get("left")), Side("right", entry.get("right"), low=None)
        for operator in ("==", "!=", "<", "<=", ">", ">=", "in", "contains", "subset", "within"):
            assert judge(left, operator, right).outcome in ("ok", "mismatch", "unknown")
    predicates({"system_context": {"bestbefore": {"checks": entries, "window": "1 hour"}}})


def words(content: bytes) -> None:
    """The small languages: durations, times, rates, numbers with units, domains, statistics."""
    said = content.decode("utf-8", "replace")
    number_of(said)
    expected_values(said)
    refused: list[ValueError] = []
    for read in (duration_us, instant_us, parse_rate, asked):
        try:
            read(said)
        except ValueError as error:
            refused.append(error)
            if type(error) is not ValueError:
                raise
    if len(refused) == 4:
        raise refused[-1]


def sections(content: bytes) -> None:
    """Sections of descriptors that become tables of numbers."""
    tree = tree_of(content)
    if isinstance(tree, dict):
        from_descriptor(tree)
        Calibration.from_descriptor(tree)


def settings(content: bytes) -> None:
    """Settings: a file in TOML, and the same words as environment variables and as the URL of a store."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "bestbefore.toml").write_bytes(content)
        lines = [line.partition("=") for line in content.decode("utf-8", "replace").replace("\x00", "").splitlines()]
        environment = {
            f"BESTBEFORE_{key.strip().upper()}": value.strip(" \"'")
            for key, _, value in lines
            if key.strip() and not key.strip().endswith("_file")
        }
        try:
            found = load({}, Path(name))
        finally:
            found = load(environment, Path("/"))
        for field in ("watchdog_after", "idle_after"):
            found.seconds(field)
        parse_url(found.store)


# -- seeds and damage ----------------------------------------------------------------------------------------


def named(content: bytes, random: Random) -> bytes:
    """An artefact: its tree is damaged where it has one, else its bytes; its name at times."""
    name, gap, body = content.partition(b"\n")
    if random.random() < 0.05:
        name = random.choice((b"model.onnx", b"a.pkl", b"", b"README.md", b"\xff", b"x" * 300))
    style = _STYLES.get(name.decode("latin-1"))
    if style is None:
        return name + gap + of_bytes(body, random)
    return name + gap + structured(lambda text, chance: _rewritten(style(text), name, chance))(body, random)


def _rewritten(tree: Any, name: bytes, random: Random) -> bytes:
    text = json_bytes(of_tree(tree, random), random)
    return b"---\n" + text + b"\n---\n" if name == b"README.md" else text


def _card(body: bytes) -> Any:
    return yaml.safe_load(body.split(b"---")[1])


def _model(body: bytes) -> Any:
    tree = yaml.safe_load(body)
    for side in ("inputs", "outputs"):
        tree["signature"][side] = json.loads(tree["signature"][side])
    return tree


_STYLES: dict[str, Callable[[bytes], Any]] = {
    "README.md": _card,
    "columns_MLmodel": _model,
    "tensors_MLmodel": _model,
    "contract.odcs.yaml": yaml.safe_load,
    "card.json": json.loads,
    "croissant.json": json.loads,
    "inference_protocol.json": json.loads,
}


def artefacts() -> list[bytes]:
    """One artefact of each format, and an ONNX file."""
    found = [name.encode() + b"\n" + (ARTEFACTS / name).read_bytes() for name in FORMATS]
    return [*found, b"model.onnx\n" + onnx_bytes(doc_string="a network")]


@structured
def as_yaml(content: bytes, random: Random) -> bytes:
    """A text whose tree is damaged and written in one of the two forms."""
    tree = of_tree(yaml.safe_load(content), random)
    if random.random() < 0.5:
        return json_bytes(tree, random)
    return yaml.safe_dump(tree, allow_unicode=random.random() < 0.5).encode("utf-8", "surrogatepass")


@structured
def _one_kind(content: bytes, random: Random) -> bytes:
    """Damage in `bestbefore` or elsewhere of one kind: what is otherwise sound reaches the checks."""
    trees = json.loads(content)
    kind = random.choice(sorted(trees))
    own = trees[kind].get("bestbefore")
    if own and random.random() < 0.6:
        key = random.choice(sorted(own))
        own[key] = of_tree({"x": own[key]}, random).get("x")
    else:
        trees[kind] = of_tree(trees[kind], random)
    return json_bytes(trees, random)


def entries() -> list[bytes]:
    """Checks as people write them."""
    one = {
        "id": "fast",
        "left": "telemetry.latency.p99",
        "operator": "<=",
        "right": "50 ms",
        "tolerance": 1,
        "window": "1 day",
    }
    two = {
        "id": "sizes",
        "left": "trained_model.output_spec",
        "operator": "subset",
        "right": ["a", "b"],
        "severity": "info",
    }
    three = {
        "id": "range",
        "left": "training_data.bestbefore.n",
        "operator": "within",
        "right": [0, 1e9],
        "minimum_n": 3,
    }
    return [json.dumps([one, two, three]).encode()]


def phrases() -> list[bytes]:
    """Words of the small languages."""
    said = (
        "90 s",
        "2.5 days",
        "2026-11-20T10:00:00Z",
        "1 per 90 days",
        "2/week",
        "50 ms",
        "33.3 %",
        "100/minute",
        "36.6 degC",
        "telemetry.latency.p99",
        'telemetry.features["a.b"].missing',
        "0..100",
        "1, 2, 3",
        "a|b|c",
        ">= 0",
        "between 0 and 1",
        "[0, 1)",
        "1_000.5e3 kg*m/s^2",
        "0.5 in 30 days",
    )
    return [one.encode() for one in said]


SECTION = {
    "classes": ["a", "b"],
    "knots": [[0.1, 0.5]],
    "values": [[0.2, 0.6]],
    "residual": 0.01,
    "n": 500,
    "accuracy": 0.9,
    "temperature": 1.2,
    "atc_threshold": 0.7,
    "residuals": {"low": -0.1, "high": 0.1, "families": ["blur"], "level": 0.9},
}
TOML = (
    'broker = "localhost:9092"\nstore = "sqlite:///a.db"\ndefault_window = "1 hour"\npartitions = 3\nkeep_rate = 0.5\n'
    'dataref_prefixes = ["s3://a"]\nembed_batch = 8\nprovider_policy = "cpu"\n'
    'web_token_file = "bestbefore.toml"\n'
)


TARGETS = (
    Target("descriptor-set", descriptors, sets, _one_kind, (), 60),
    Target("text", text, texts, as_yaml, (ValueError,), 300),
    Target("declared", declared, texts, as_yaml, (), 40),
    Target("artefact", artefact, artefacts, named, (ValueError,), 300),
    Target("importer", importer, artefacts, named, (ValueError,), 60),
    Target("contract", contract, sets, _one_kind, (ValueError,), 60),
    Target("checks", checks, entries, of_json, (ValueError,), 300),
    Target("words", words, phrases, of_bytes, (ValueError,), 400),
    Target("sections", sections, lambda: [json.dumps(SECTION).encode()], of_json, (ValueError,), 100),
    Target("settings", settings, lambda: [TOML.encode()], of_bytes, (), 200),
)
