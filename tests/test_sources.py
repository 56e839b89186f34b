"""sources.yaml, what it makes of rows, pairing in bounded memory, and `bestbefore sources test`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cloudevents.core.bindings.kafka import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from infra.cli import main
from infra.source_samples import records_of
from models.checks.catalogue import BY_ID
from models.checks.needs import NEEDS
from streams.adapters.catalogue import ADAPTERS
from streams.adapters.config import KEYS, Sources, sources_of
from streams.adapters.contract import Part, Record, Unpaired
from streams.adapters.mapping import features_of
from streams.adapters.outputs import output_of
from streams.adapters.pairing import Pairing
from streams.adapters.payloads import body_of
from streams.adapters.plan import OutputPlan, Plan
from streams.adapters.tensors import Tensor, from_raw, rows
from streams.adapters.times import moment
from streams.errors import SettingsError, Unadaptable
from streams.records import InferenceEvent, Output
from tests.sources_rig import CONFIG, FOLDER, SAMPLES

NOON = 1_795_168_800_000_000


def read(text: str) -> Sources:
    """Sources of a text that names no other file."""
    return sources_of(text.encode(), "sources.yaml", lambda name: (FOLDER / name).read_bytes())


# -- configuration -------------------------------------------------------------------------------------------

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEAD = "sources:\n  - topics: a\n    adapter: kserve\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: []\n", "sources.yaml:1: sources: expected `sources:` with a list"),
        ("sorces: []\n", "sources.yaml:1: sorces: no such key; did you mean `sources`?"),
        ("sources:\n  - a: 1\n  b: 2\n", "sources.yaml:3: cannot be read"),
        ("sources:\n  - topics: a\n", "sources.yaml:2: sources[0]: it needs `adapter`"),
        (
            HEAD.replace("kserve", "kserv"),
            "sources.yaml:3: sources[0].adapter: no adapter 'kserv'; did you mean kserve?",
        ),
        (HEAD + "    modle: key\n", "sources.yaml:4: sources[0].modle: no such key; did you mean `model`?"),
        (HEAD + "    model: digits\n", "sources.yaml:4: sources[0].model: 'digits' is no path"),
        (HEAD + "    version:\n      - key\n      - header..x\n", "sources.yaml:6: sources[0].version[1]: 'header..x'"),
        (HEAD + "    model: {fixd: x}\n", "sources.yaml:4: sources[0].model.fixd: no such key; did you mean `fixed`?"),
        (HEAD + "    model: {fixed: }\n", "`fixed` needs text or a number"),
        (HEAD + "    features: [a, a]\n", "sources.yaml:4: sources[0].features: a feature is there twice"),
        (HEAD + "    features: {age: 3}\n", "sources.yaml:4: sources[0].features.age: '3' is no path in a row"),
        (HEAD + "    features: age\n", "expected names in the order of the row"),
        (HEAD + "    output: {labl: x}\n", "did you mean `label`?"),
        (HEAD + "    output: {classes: []}\n", "expected the names of the classes"),
        (HEAD + "    segment: [a]\n", "expected at most 8 names"),
        (HEAD + "    pair: {within: soon}\n", "sources.yaml:4: sources[0].pair.within: 'soon' is not a duration"),
        (HEAD + "    pair: {most: 0}\n", "at least 1"),
        (HEAD + "    schema: x\n", "the adapter kserve reads no schema; leave it out"),
        (HEAD.replace("kserve", "vertex") + "    pair: no\n", "hold request and response; leave `pair` out"),
        (HEAD.replace("kserve", "confluent-avro"), "name them with `features:`"),
        (HEAD.replace("kserve", "bentoml") + "    schema: sources.yaml\n", "is no schema of BentoML's monitor"),
        (
            HEAD.replace("kserve", "confluent-avro")
            + "    features: {a: a}\n    output: {label: b}\n    registry: sources.yaml\n",
            "sources.yaml:6: sources[0].registry: the file is no registry of Avro schemas",
        ),
        (HEAD.replace("topics: a", 'topics: "{x}.{x}"'), "has a placeholder twice"),
    ],
)
def test_mistakes_are_told_with_their_line(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        read(text)
    assert said in str(error.value)


def test_the_first_pattern_that_fits_is_the_one() -> None:
    found = read('sources:\n- {topics: ["a.{model}.x", b], adapter: kserve}\n- {topics: a.*, adapter: vertex}\n')
    assert [found.of(t) and found.of(t)[0].adapter.name for t in ("a.m.x", "b", "a.m.y.x", "c")] == [  # type: ignore[index]
        "kserve", "kserve", "vertex", None,
    ]  # fmt: skip
    assert found.of("a.digits.x") == (found.entries[0].source, {"model": "digits"})
    assert found.of("a.d/i.x") == (found.entries[1].source, {})


@given(st.text(max_size=60))
def test_any_text_is_sources_or_a_clear_error(text: str) -> None:
    try:
        read(text)
    except SettingsError as error:
        assert str(error).startswith("sources.yaml")  # noqa: PT017 -- most texts are errors, some may not be


# -- rows to features and outputs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "plan", "wanted"),
    [
        ({"a": 1, "b": True, "c": None, "d": "x"}, Plan(), {"a": 1.0, "b": True, "c": None, "d": "x"}),
        ({"a": [1], "b": [1, 2], "c": [[1]], "d": b"\xff"}, Plan(), {"a": 1.0, "b[0]": 1.0, "b[1]": 2.0}),
        ({"a": {"b": 1, "c": [2]}}, Plan(), {"a.b": 1.0}),
        ({"image": [0.0] * 65}, Plan(), {}),
        ({"a": float("nan"), "b": float("inf")}, Plan(), {"a": None, "b": None}),
        ({"input": [1, "x"]}, Plan(features=("age", "site")), {"age": 1.0, "site": "x"}),
        ({"age": 1, "site": "x", "more": 2}, Plan(features=("age", "site")), {"age": 1.0, "site": "x"}),
        ({"p": {"age": 1}, "a.b": 2}, Plan(features={"x": "p.age", "y": '["a.b"]'}), {"x": 1.0, "y": 2.0}),
    ],
)
def test_features_of_a_row(row: dict[str, Any], plan: Plan, wanted: dict[str, Any]) -> None:
    assert features_of(row, plan) == wanted


@pytest.mark.parametrize(
    ("row", "plan", "wanted"),
    [
        ({"output": "yes"}, OutputPlan(), Output(label="yes")),
        ({"output": [True]}, OutputPlan(), Output(label="true")),
        ({"output": 0.5}, OutputPlan(), Output(value=0.5)),
        ({"output": [0.5, 0.5]}, OutputPlan(), Output(scores={"0": 0.5, "1": 0.5})),
        ({"output": [1, 0]}, OutputPlan(classes=("no", "yes")), Output(scores={"no": 1.0, "yes": 0.0})),
        ({"predict": 1, "proba": [0.2, 0.8]}, OutputPlan(), Output(label="1", scores={"0": 0.2, "1": 0.8})),
        ({"predict": 1, "proba": [0.2, 0.8]}, OutputPlan(label="predict", classes=("a", "b")), Output(label="b")),
        ({"r": {"best": 7.0}}, OutputPlan(label="r.best"), Output(label="7")),
        ({"picture": [[0, 1], [1, 0]]}, OutputPlan(), None),
        ({"output": float("nan")}, OutputPlan(), None),
        ({}, OutputPlan(), None),
    ],
)
def test_output_of_a_row(row: dict[str, Any], plan: OutputPlan, wanted: Output | None) -> None:
    assert output_of(row, plan) == wanted


@pytest.mark.parametrize(
    ("row", "plan", "said"),
    [
        ({"label": "a", "reason": "b"}, OutputPlan(), "with `output:`"),
        ({"label": "a", "p": 0.5}, OutputPlan(), "the columns label, p"),
        ({"x": 1}, OutputPlan(label="y"), "the answer has no y, but the columns x"),
        ({"x": [1, 2]}, OutputPlan(scores="x", classes=("a",)), "2 scores, and `output.classes` names 1"),
        ({"x": 10**400}, OutputPlan(), "beyond 1e308"),
        ({"x": {"a": "b"}}, OutputPlan(scores="x"), "the score is a str"),
    ],
)
def test_outputs_that_are_refused(row: dict[str, Any], plan: OutputPlan, said: str) -> None:
    with pytest.raises(Unadaptable, match=said):
        output_of(row, plan, "sources.yaml:2")


def test_raw_tensors_of_every_kind() -> None:
    assert from_raw("x", "BF16", [2], b"\x80\x3f\x00\xc0").values == [1.0, -2.0]
    assert from_raw("x", "FP16", [1], b"\x00\x3c").values == [1.0]
    assert from_raw("x", "BOOL", [2], b"\x01\x00").values == [True, False]
    assert from_raw("x", "UINT64", [1], b"\xff" * 8).values == [2**64 - 1]
    assert from_raw("x", "BYTES", [2], b"\x02\0\0\0hi\x01\0\0\0\xff").values == ["hi", b"\xff"]
    assert rows([Tensor("a", [2, 2], [1, 2, 3, 4]), Tensor("b", [2], ["x", "y"])]) == [
        {"a": [1, 2], "b": "x"}, {"a": [3, 4], "b": "y"},
    ]  # fmt: skip
    for datatype, raw in (("FP32", b"\0\0\0"), ("BYTES", b"\xff\xff\xff\xff"), ("BYTES", b"\1\0"), ("FP8", b"")):
        with pytest.raises(Unadaptable):
            from_raw("x", datatype, [1], raw)
    with pytest.raises(Unadaptable, match="different lengths"):
        rows([Tensor("a", [2], [1, 2]), Tensor("b", [3], [1, 2, 3])])


def test_tensors_behind_the_json_of_a_body() -> None:
    head = {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]}
    text = json.dumps(head).encode()
    assert body_of(text + b"\0\0\x80\x3f\0\0\0\x40", "request", len(text))[1] == [{"x": 1.0}, {"x": 2.0}]
    with pytest.raises(Unadaptable, match="8 bytes of binary data, and 4 are there"):
        body_of(text + b"\0\0\x80\x3f", "request", len(text))


@pytest.mark.parametrize(
    "value",
    ["2026-11-20T10:00:00Z", "2026-11-20 10:00:00 UTC", "2026-11-20T11:00:00+01:00", "1795168800", 1795168800.0,
     1795168800000, "1795168800000000", 1795168800000000000, "2026-11-20T10:00:00.000000000Z"],
)  # fmt: skip
def test_times_as_servers_write_them(value: Any) -> None:
    assert moment(value) == NOON


@given(st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.booleans(), st.none()))
def test_any_time_is_one_or_refused(value: Any) -> None:
    try:
        assert isinstance(moment(value), int)
    except Unadaptable as error:
        assert "time" in str(error)  # noqa: PT017 -- most are refused


# -- pairing -------------------------------------------------------------------------------------------------


def test_memory_for_halves_is_bounded_by_number_and_bytes() -> None:
    few, small = Pairing(most=3), Pairing(most_bytes=100)
    given_up = [one for i in range(10) for one in few.take(Part("request", str(i)), 1, NOON)]
    assert (len(few), [one.id for one in given_up if isinstance(one, Unpaired)]) == (3, list("0123456"))
    given_up = [one for i in range(10) for one in small.take(Part("response", str(i)), 40, NOON)]
    assert (len(small), len(given_up)) == (2, 8)
    assert "too many others wait; its request had not come" in given_up[0].reason  # type: ignore[union-attr]
    assert list(small.take(Part("request", "x"), 10**9, NOON))[-1] == Unpaired(
        "x", "request", "too many others wait; its response had not come"
    )
    assert len(small) == 0


def test_clocks_that_go_back_give_nothing_up() -> None:
    pairing = Pairing(within_us=1000)
    assert not list(pairing.take(Part("request", "a", time=NOON), 1, NOON))
    assert not list(pairing.take(Part("request", "b", time=NOON), 1, NOON - 10**9))
    (joined,) = pairing.take(Part("response", "a", time=NOON - 5), 1, NOON)
    assert isinstance(joined, Part)
    assert joined.latency_ms is None  # the response is said to be older: a clock is wrong


def test_the_same_id_of_two_senders_is_two_requests() -> None:
    pairing = Pairing()
    assert not list(pairing.take(Part("request", "a", source="one"), 1, NOON))
    assert not list(pairing.take(Part("response", "a", source="two"), 1, NOON))
    assert len(list(pairing.rest())) == 2


def test_halves_given_up_beside_a_refused_record_are_told_with_the_next() -> None:
    (source, _) = read(HEAD + "    version: {fixed: 1}\n    pair: {within: 1 s}\n").of("a") or pytest.fail("no source")
    half, bad = SAMPLES["kserve"][0], SAMPLES["kserve"][1]
    assert source.adapt(half) == []
    assert source.adapt(bad._replace(timestamp=half.timestamp + 2_000_000))[0].id == "k-1"  # type: ignore[union-attr]
    assert source.adapt(half._replace(timestamp=half.timestamp + 2_000_000)) == []
    with pytest.raises(Unadaptable):
        source.adapt(bad._replace(value=b"{}"))
    assert len(source.rest()) == 2


def test_the_other_half_of_a_pair_that_is_refused_is_told() -> None:
    (source, _) = read(HEAD + "    version: {fixed: 1}\n").of("a") or pytest.fail("no source")
    request, response = SAMPLES["kserve"][0], SAMPLES["kserve"][3]
    assert source.adapt(request) == []
    with pytest.raises(Unadaptable, match=r"\[1, 2\] rows in request and response"):
        source.adapt(response._replace(value=b'{"predictions": [1, 2]}'))
    (told,) = source.rest()
    assert (told.id, told.side) == ("k-1", "request")
    assert "of no use" in told.reason


# -- the real emitter ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("structured", [True, False])
def test_what_the_cloudevents_sdk_writes_is_read(structured: bool) -> None:
    (source, _) = read(HEAD + "    version: {fixed: 1}\n    features: [age]\n").of("a") or pytest.fail("no source")
    things = []
    for side, body in (("request", {"instances": [[41]]}), ("response", {"predictions": ["yes"]})):
        attributes = {
            "id": "r-1", "source": "http://localhost:9081/", "type": f"org.kubeflow.serving.inference.{side}",
            "time": moment_of(side), "datacontenttype": "application/json", "inferenceservicename": "loan",
            "traceparent": TRACEPARENT,
        }  # fmt: skip
        event = CloudEvent(attributes=attributes, data=body)
        sent = (to_structured if structured else to_binary)(event, JSONFormat())
        headers = [(k, v if isinstance(v, bytes) else str(v).encode()) for k, v in sent.headers.items()]
        value = sent.value if isinstance(sent.value, bytes) else str(sent.value).encode()
        things += source.adapt(Record("a", value, headers=headers, timestamp=NOON))
    (event_,) = things
    assert isinstance(event_, InferenceEvent)
    assert (event_.id, event_.model, event_.latency_ms) == ("r-1", "loan", 4.0)
    assert event_.traceparent == TRACEPARENT
    assert (event_.features, event_.output) == ({"age": 41.0}, Output(label="yes"))


def moment_of(side: str) -> Any:
    """Request and response, 4 ms apart."""
    from datetime import UTC, datetime  # noqa: PLC0415 -- for this one place

    return datetime(2026, 11, 20, 10, 0, 0, 4000 if side == "response" else 0, tzinfo=UTC)


# -- the command ---------------------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    """`bestbefore sources test`."""
    return CliRunner().invoke(main, ["sources", "test", *arguments])


def test_the_report_shows_fields_and_what_is_missing_for_which_check() -> None:
    done = run(str(FOLDER / "kserve.jsonl"), "--config", str(CONFIG))
    assert done.exit_code == 0, done.output
    assert "4 records: 3 inferences, 0 labels, 0 halves unpaired, 0 refused" in done.output
    assert "features.income  3 of 3  2000.5" in done.output
    assert "digest" in done.output
    assert "model-identity" in done.output


def test_the_json_document_has_all_of_it(tmp_path: Path) -> None:
    sample = tmp_path / "sample.jsonl"
    good = (FOLDER / "kserve.jsonl").read_text("utf-8").splitlines()
    bad = json.dumps({"topic": "kserve.x", "payload": "{}"})
    sample.write_text("\n".join([good[0], good[1], good[2], bad, json.dumps({"topic": "y", "payload": "x"})]))
    done = run(str(sample), "--config", str(CONFIG), "--format", "json")
    assert done.exit_code == 1
    found = json.loads(done.output)
    assert (found["records"], found["inferences"], len(found["events"])) == (5, 2, 2)
    assert found["unpaired"] == [
        {"id": "k-1", "side": "request", "reason": "the records ended before its response came"}
    ]
    assert [(one["line"], one["stage"]) for one in found["refused"]] == [(4, "ADAPT"), (5, "ADAPT")]
    assert "there are kserve.*, seldon." in found["refused"][1]["reason"]
    assert {"field": "features.age", "filled": 2, "example": 30.0} in found["fields"]
    assert [one["field"] for one in found["missing"]] == ["digest", "labels", "sampled inputs"]


def test_unreadable_files_end_with_status_2(tmp_path: Path) -> None:
    empty, config = tmp_path / "empty", tmp_path / "sources.yaml"
    empty.write_text("\n")
    done = run(str(empty), "--config", str(CONFIG), "--topic", "x")
    assert done.exit_code == 2
    assert "is empty; record some of the topic, as in: kcat" in done.output
    config.write_text(HEAD + "    modle: key\n")
    done = run(str(FOLDER / "kserve.jsonl"), "--config", str(config))
    assert (done.exit_code, "sources.yaml:4" in done.output) == (2, True)
    bare = tmp_path / "bare.json"
    bare.write_bytes(SAMPLES["vertex"][0].value or b"")
    assert "say it with --topic" in run(str(bare), "--config", str(CONFIG)).output
    assert run(str(bare), "--config", str(CONFIG), "--topic", "vertex.loan").exit_code == 0


def test_a_file_is_one_record_or_one_in_each_line(tmp_path: Path) -> None:
    path = tmp_path / "sample"
    path.write_bytes(SAMPLES["triton"][0].value or b"")
    assert [record.topic for _, record in records_of(path, "t")] == ["t"]
    path.write_text(
        '{"a": 1}\n\n{"topic": "x", "payload": "v", "headers": ["k", "1", "k2", null], "key": "q", "ts": 5}\n{'
    )
    assert [line for line, _ in records_of(path, "t")] == [1, 3, 4]
    (_, _), (_, kcat), (_, cut) = records_of(path, "t")
    assert kcat == Record("t", b"v", b"q", [("k", b"1"), ("k2", None)], 5000)
    assert cut.value == b"{"


def test_every_adapter_and_key_has_its_row() -> None:
    page = (Path(__file__).parent.parent / "docs" / "sources.md").read_text("utf-8")
    for adapter in ADAPTERS.values():
        assert f"| `{adapter.name}` | {adapter.title} | " in page
    assert [key for key in KEYS if f"`{key}`" not in page] == []


def test_checks_that_need_a_field_exist_and_look_at_traffic() -> None:
    named = {check for need in NEEDS for check in need.checks}
    assert all(BY_ID[name].live is not None for name in named)
    without = {name for name, check in BY_ID.items() if check.live is not None} - named
    assert without == {
        "observability-coverage", "runtime-fingerprint", "completeness-and-staleness", "user-defined",
    }  # fmt: skip
