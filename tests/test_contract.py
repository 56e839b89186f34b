"""The AsyncAPI document and the JSON Schemas: valid, complete, fresh, no break of what the last release promised."""

import gzip
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator, Draft202012Validator

from infra.cli import main
from models.policy import Trigger
from streams.asyncapi import document
from streams.conformity import examine
from streams.contract import BY_NAME, MESSAGES, SCHEMAS
from streams.envelopes import attributes
from streams.records import RESERVED_FIELDS, STRUCTURED
from streams.schemas import examples, published, texts_of
from streams.settings import Settings
from streams.topics import TOPICS
from tests import told_lines
from tests.previous import ROOT, python, unpacked
from tests.schema_checks import checked, problems

FOLDER = ROOT / "docs" / "reference" / "schemas"
RENEW = "bestbefore asyncapi --schemas docs/reference/schemas"
DOCUMENT = document(Settings(), "0")


@pytest.fixture(scope="module")
def meta() -> Draft7Validator:
    """The official schema of AsyncAPI 3.0.0."""
    body = gzip.decompress((ROOT / "tests/data/asyncapi/3.0.0.json.gz").read_bytes())
    return Draft7Validator(json.loads(body))


# -- the document --------------------------------------------------------------------------------------------


def test_the_document_is_valid(meta: Draft7Validator) -> None:
    assert [error.message for error in meta.iter_errors(DOCUMENT)] == []
    broken = json.loads(json.dumps(DOCUMENT))
    broken["channels"]["status"]["bindings"]["kafka"]["partitions"] = "many"
    assert not meta.is_valid(broken), "the schema sees into bindings"


def references(part: Any) -> Iterator[str]:
    """Every `$ref` in a document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def resolved(path: str) -> Any:
    """What a reference within the document points to; KeyError where there is nothing."""
    part: Any = DOCUMENT
    for name in path.removeprefix("#/").split("/"):
        part = part[name]
    return part


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 50
    for path in found:
        resolved(path)


def test_every_topic_and_message_is_there() -> None:
    assert list(DOCUMENT["channels"]) == [topic.name for topic in TOPICS]
    told = {name for operation in DOCUMENT["operations"].values() for name in map(last, operation["messages"])}
    assert told == {m.name for m in MESSAGES} == set(DOCUMENT["components"]["messages"])
    assert {o["action"] for o in DOCUMENT["operations"].values()} == {"send", "receive"}


def last(reference: dict[str, str]) -> str:
    """The name that a reference ends with."""
    return reference["$ref"].rpartition("/")[2]


@pytest.mark.parametrize("name", BY_NAME)
def test_examples_of_the_document_fit(name: str) -> None:
    """Payload and headers, with the trait merged in."""
    message = DOCUMENT["components"]["messages"][name]
    parts = {"components": DOCUMENT["components"]}
    for example in message.get("examples", ()):
        if "payload" in example:
            assert not list(checked({**message["payload"], **parts}).iter_errors(example["payload"]))
        if "headers" in example:
            assert not list(checked(message["headers"]).iter_errors(example["headers"]))
    assert message.get("examples") or BY_NAME[name].schema in (None, "profile")


def test_the_document_follows_the_settings(meta: Draft7Validator) -> None:
    given = Settings(
        broker="a:9093, b:9093", broker_security="SASL_SSL", broker_sasl_mechanism="SCRAM-SHA-512", broker_user="u",
        broker_password="secret", topic_prefix="shop.", group="shop", partitions=12, replication=3,  # noqa: S106
    )  # fmt: skip
    made = document(given, "1")
    assert [s["host"] for s in made["servers"].values()] == ["a:9093", "b:9093"]
    assert {s["protocol"] for s in made["servers"].values()} == {"kafka-secure"}
    assert [last(one) for one in made["servers"]["kafka"]["security"]] == ["scramSha512"]
    kafka = made["channels"]["status"]["bindings"]["kafka"]
    assert (kafka["topic"], kafka["partitions"], kafka["replicas"]) == ("shop.status", 12, 3)
    assert made["operations"]["receiveInference"]["bindings"]["kafka"]["groupId"]["enum"] == ["shop"]
    assert "secret" not in json.dumps(made)
    assert meta.is_valid(made)


@pytest.mark.parametrize("style", ["yaml", "json"])
def test_the_command_prints_it(style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner(env={}).invoke(main, ["asyncapi", "--format", style])
    assert done.exit_code == 0, done.output
    read = yaml.safe_load(done.stdout) if style == "yaml" else json.loads(done.stdout)
    assert read == document(Settings(), version("bestbefore"))
    assert "&id" not in done.stdout


# -- the schemas ---------------------------------------------------------------------------------------------


def test_published_schemas_are_fresh() -> None:
    """Made by the command that `RENEW` says."""
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}
    assert found == published(), f"the schemas are stale: run `{RENEW}`"


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_sound_and_its_examples_fit(name: str) -> None:
    body = published()[name]
    Draft202012Validator.check_schema(body)
    assert name == "profile" or examples()[name], "a schema has an example"
    for example in examples().get(name, ()):
        assert not problems(name, example, closed=True)


@pytest.mark.parametrize("name", sorted(set(SCHEMAS) - {"profile"}))
def test_every_field_has_a_text(name: str) -> None:
    body = published()[name]
    for part in (body, *body.get("$defs", {}).values()):
        told = part.get("properties", {})
        lacking = [field for field, about in told.items() if "description" not in about and field != "kind"]
        assert not lacking, f"{name}: write what {lacking} of {part.get('title')} mean, below the field"


def test_our_reader_takes_every_example() -> None:
    """And refuses it without any one of the fields that the schema requires."""
    for message in MESSAGES:
        if message.payload is None or message.schema == "profile" or message.content_type == STRUCTURED:
            continue
        for example in examples()[str(message.schema)]:
            assert judged(message.name, example) == "", message.name
            body = published()[str(message.schema)]
            for field in body.get("required", ()):
                less = {k: v for k, v in example.items() if k != field}
                assert judged(message.name, less), (message.name, field)
                assert problems(str(message.schema), less)


def judged(name: str, value: Any) -> str:
    """What our reader says of an example."""
    message = BY_NAME[name]
    headers = {"content-type": message.content_type}
    if message.kind is not None:
        own = value.get("trigger_id") if name == "retrain-trigger" else value.get("id")
        headers = attributes(message.kind, own or "1", group="g", time="2026-01-01T00:00:00Z", subject="m")
    sent = [(k, v.encode()) for k, v in headers.items()]
    return examine(message.topic, b"m", msgspec.json.encode(value), sent).problem


def test_lines_of_the_models_have_exactly_the_fields_of_their_schema() -> None:
    """Of situations that the live pipeline of the tests does not come into."""
    found = told_lines.every()
    assert {name for name, _ in found} >= {"retrain-trigger", "lifecycle", "mismatch", "status"}
    for name, line in found:
        told = problems(name, json.loads(msgspec.json.encode(line)), closed=True)
        assert not told, (name, line, told)
    assert {*Trigger.__struct_fields__, "traces"} == set(SCHEMAS["retrain-trigger"].__struct_fields__)


def test_texts_stand_below_fields_of_bases_too() -> None:
    assert set(RESERVED_FIELDS) <= texts_of(SCHEMAS["inference-event"]).keys()


# -- what the last release promised --------------------------------------------------------------------------

OUTPUTS = ("mismatch", "retrain-trigger", "label-request", "status", "lifecycle")


BOUNDS = ("format", "enum", "pattern", "minimum", "maximum", "maxLength", "minLength", "maxProperties")


def narrowed(old: Any, new: Any, path: str, words: tuple[str, ...] = BOUNDS) -> Iterator[str]:
    """Where a new schema of an input refuses, or of an output breaks, what an old one allowed: types and bounds alike.

    A property may be added; if it is required, only to an output.
    """
    output = path.split("/", maxsplit=1)[0] in OUTPUTS
    for name, part in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{path}/{name} is gone"
        else:
            yield from narrowed(meant(part), meant(new["properties"][name]), f"{path}/{name}", words)
    fewer, more = set(old.get("required", ())), set(new.get("required", ()))
    if output and fewer - more:
        yield f"{path}: {sorted(fewer - more)} may be missing now"
    if not output and more - fewer:
        yield f"{path}: {sorted(more - fewer)} must be given now"
    for word in ("type", *words):
        before, now = old.get(word), new.get(word)
        grown = word == "enum" and isinstance(before, list) and isinstance(now, list) and set(before) <= set(now)
        if before != now and not grown:
            yield f"{path}: {word} was {before}, is {now}"
    for name, part in old.get("$defs", {}).items():
        yield from narrowed(part, new.get("$defs", {}).get(name, {}), f"{path}/$defs/{name}", words)


def meant(part: Any) -> Any:
    """A property without the wrapping that a description needs, and without null."""
    inner = part.get("allOf", [part])[0]
    kinds = [one for one in inner.get("anyOf", ()) if one.get("type") != "null"]
    return kinds[0] if len(kinds) == 1 else inner


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> str:
    return unpacked(tmp_path_factory.mktemp("previous"))


def test_nothing_breaks_what_the_last_release_took_or_told(home: str, tmp_path: Path) -> None:
    """By the schemas of both versions; of a version that published none, those of its inputs."""
    theirs = json.loads(python(home, str(ROOT / "tests" / "published_schemas.py"), folder=tmp_path))
    assert {"inference-event", "label-event", "lifecycle-event"} <= theirs.keys()
    words = BOUNDS if "status" in theirs else ()  # whoever published no schema promised no bounds
    found = [line for name, old in theirs.items() for line in narrowed(old, published()[name], name, words)]
    assert not found, "\n".join(found)


def test_lines_that_the_last_release_wrote_still_fit(home: str, tmp_path: Path) -> None:
    """It runs beside this one and tells its own lines."""
    said = json.loads(python(home, str(ROOT / "tests" / "told_lines.py"), str(ROOT), folder=tmp_path))
    assert {name for name, _ in said} >= {"retrain-trigger", "lifecycle", "mismatch", "status"}
    for name, line in said:
        assert not problems(name, line), (name, line)


def test_a_break_is_seen() -> None:
    old = published()["mismatch"]
    new = json.loads(json.dumps(old))
    assert not list(narrowed(old, new, "mismatch"))
    new["properties"]["severity"]["enum"] = ["grave"]
    del new["properties"]["owner"]
    new["required"].remove("check")
    new["$defs"]["Effect"]["properties"]["estimate"] = {"type": "string"}
    told = list(narrowed(old, new, "mismatch"))
    assert [line.split()[0].rstrip(":") for line in told] == [
        "mismatch/severity", "mismatch/owner", "mismatch", "mismatch/$defs/Effect/estimate",
    ]  # fmt: skip
    more = json.loads(json.dumps(published()["label-event"]))
    more["required"].append("source")
    assert list(narrowed(published()["label-event"], more, "label-event"))
