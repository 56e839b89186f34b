"""Values of persons stay where they belong: a canary in every private field shows in nothing that is told to others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.replay import replay
from models.checks.catalogue import CHECKS
from models.checks.catalogue import live as every_check
from models.checks.observed import Memory
from models.profile import Profile
from models.reference import CategoricalFeature, Reference
from streams.claim_check import fetch
from streams.errors import BadInput, BadRecord
from streams.frames import decode_frame
from streams.records import RESERVED_FIELDS, decode_inference, decode_input, decode_label, decode_lifecycle
from streams.runtime import _reason, told
from streams.settings import Settings
from tests.observing import labelled, normal_feature, observed, profile_of, small_reference
from tests.test_frames import frame

CANARY, NUMBER = "xq7canary", 48151623.0
MEASURED = {f"{CANARY}0": 0.5, f"{CANARY}1": 0.3, "c": 0.2}  # categories that `describe` found in training data
LOAN = Path("examples/loan")
HOURS, PER_HOUR, BAD_FROM = 16, 60, 6


def quotes(text: str) -> bool:
    return CANARY in text or "48151623" in text or "4.81516" in text


# -- what checks say -------------------------------------------------------------------------------------------------


def reference() -> Reference:
    shares = {"a": 0.5, "b": 0.3, "c": 0.2}
    return small_reference(
        minimum_n=20, n=5000, classes={"0": 0.5, "1": 0.5}, numeric={"x": normal_feature(), "y": normal_feature()},
        categorical={"open": CategoricalFeature(shares=shares, n=5000, allowed=tuple(shares)),
                     "private": CategoricalFeature(shares=MEASURED, n=5000)},
    )  # fmt: skip


def column(rng: np.random.Generator, known: list[str], share: float, n: int) -> list[str | None]:
    canaries = [f"{CANARY}{i}" for i in range(3)]
    return [str(rng.choice(canaries if rng.random() < share else known)) for _ in range(n)]


def window(known: Reference, rng: np.random.Generator, share: float, n: int = 60) -> tuple[Profile, Profile]:
    """Events and labels of an hour in which this share of all private values are canaries."""
    few = rng.random(n) < min(share, 0.3)  # the mean of a constant is its value
    numeric = {name: np.where(few, NUMBER, rng.normal(size=n)) for name in ("x", "y")}
    categorical = {name: column(rng, ["a", "b", "c"], share, n) for name in ("open", "private", "y", "new")}
    made = profile_of(known, numeric=numeric, categorical=categorical, label=column(rng, ["0", "1"], share, n))
    truth = [value or "" for value in column(rng, ["0", "1"], share, n)]
    return made, labelled(known, truth, rng.random(n) < 0.5)


@given(st.integers(0, 1 << 30), st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=2, max_size=6))
@settings(max_examples=25, deadline=None)
def test_no_check_quotes_a_private_value(seed: int, shares: list[float]) -> None:
    rng, known, memory = np.random.default_rng(seed), reference(), Memory()
    for index, share in enumerate(shares):
        events, labels = window(known, rng, share)
        for verdict in every_check(observed(events, known, index=index, memory=memory, labels=labels)):
            assert not quotes(repr(verdict)), verdict


def test_the_property_sees_what_it_looks_for() -> None:
    """With the field made public, the same traffic names its categories."""
    known = reference()
    assert {check.id for check in CHECKS if check.live} >= {"covariate-drift", "failure-and-default-output"}
    known.descriptors["system_context"] = {"bestbefore": {"public_fields": ["private"]}}
    rng, memory, found = np.random.default_rng(0), Memory(), []
    for index in range(4):
        events, _ = window(known, rng, 1.0)
        found += [repr(v) for v in every_check(observed(events, known, index=index, memory=memory))]
    assert any(quotes(text) for text in found)


# -- what a whole run says -------------------------------------------------------------------------------------------


def lines() -> Iterator[dict[str, Any]]:
    """Inferences and labels of a loan model; from the seventh hour on every private field holds a canary."""
    rng = np.random.default_rng(7)
    for i in range(HOURS * PER_HOUR):
        second, bad = i * 3600 // PER_HOUR, i >= BAD_FROM * PER_HOUR
        moment = str(np.datetime64("2026-11-20T00:00:00", "s") + second) + "Z"
        label = str(rng.choice(["0", "1", "1", "1"]))
        event: dict[str, Any] = {
            "id": f"e{i}", "time": moment, "model": "loan", "version": "7", "latency_ms": 5.0,
            "features": {"income": rng.normal(3000, 800), "term": 36, "region": "N", "job": "c"},
            "output": {"label": label, "scores": {"0": 0.1, "1": 0.9} if label == "1" else {"0": 0.9, "1": 0.1}},
        }  # fmt: skip
        if bad:
            event["features"] |= {"region": CANARY, "job": f"{CANARY}{i % 3}", "new": CANARY}
            event["features"] |= {"income": NUMBER, "term": CANARY} if i % 4 == 0 else {}
            event["output"] = {"label": CANARY, "scores": {CANARY: 0.9, "1": 0.1}} if i % 2 else {"label": CANARY}
            event |= {name: NUMBER if name == "cost" else CANARY for name in RESERVED_FIELDS if name != "served"}
        yield event
        yield {
            "inference_id": f"e{i}", "model": "loan", "version": "7", "time": moment, "label": CANARY if bad else label,
            "annotator": CANARY, "tags": [CANARY], "channel": CANARY, "part": CANARY, "severity": CANARY,
        }  # fmt: skip


def test_nothing_that_is_published_quotes_a_private_value(tmp_path: Path) -> None:
    folder = tmp_path / "loan"
    folder.mkdir()
    for path in LOAN.glob("*.yaml"):
        tree = yaml.safe_load(path.read_text())
        if path.stem == "training_data":
            tree["bestbefore"]["features"]["job"] = {"type": "category", "n": 50000, "categories": MEASURED}
            tree["schema"] = [field for field in tree["schema"] if field["field_name"] != "region"]
        if path.stem == "production_data":
            tree["bestbefore"]["labels"]["budget"] = {"share": 0.2}
        (folder / path.name).write_text(yaml.safe_dump(tree, sort_keys=False))
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, lines())))
    result = replay([tmp_path / "events.jsonl"], [folder], tmp_path / "out", Settings(keep_rate=1.0))
    assert result.mismatches >= 3
    assert result.requests
    told_of = [path for path in (tmp_path / "out").iterdir() if path.suffix in (".jsonl", ".txt")]
    assert len(told_of) >= 4
    found = [line[:300] for path in told_of for line in path.read_text().splitlines() if quotes(line)]
    assert not found, found


# -- what dead letters and log lines say -----------------------------------------------------------------------------


def refusal(decode: Any, *given: Any) -> str:
    """What is said of a record that is refused; nothing of one that is read."""
    try:
        decode(*given)
    except BadRecord as error:
        return str(error)
    return ""


def test_the_reason_of_a_dead_letter_quotes_no_value() -> None:
    """In whatever place of a record something unfit stands."""
    sound: dict[str, Any] = {"id": "e", "time": "2026-11-20T10:00:00Z", "model": "m", "version": "1"}
    unfit: list[Any] = [CANARY * 30, NUMBER, {CANARY: CANARY}, [CANARY], {"x": {CANARY: NUMBER}}, True, CANARY + "\0"]
    names = ("segment", "features", "output", "embedding", "digest", "latency_ms", "status", "time", *RESERVED_FIELDS)
    records = [{**sound, name: value} for name in names for value in unfit]
    records += [{**sound, "features": {"x": value}} for value in unfit]
    records += [{**sound, "output": {name: value}} for name in ("label", "scores", "value") for value in unfit]
    records += [{**sound, "segment": {"user": CANARY * i}} for i in (1, 22, 23, 50)]
    records += [{**sound, "segment": {f"k{i}": CANARY * 20 for i in range(4)}}]
    bodies = [json.dumps(r).encode() for r in records]
    bodies += [body[:-3] for body in bodies] + [body.replace(b'"e"', b"NaN") for body in bodies]
    bodies += [f'{{"segment": {{"u": "{CANARY}\\ud800"}}}}'.encode()]
    decoders: list[Any] = [decode_inference, decode_label, decode_lifecycle]
    told_of = [refusal(decode, body, ()) for body in bodies for decode in decoders]
    assert len([text for text in told_of if text]) > 300
    assert [text for text in told_of if quotes(text)] == []


def test_nor_that_of_a_frame_or_a_sampled_input() -> None:
    texts = pa.array([CANARY, CANARY * 40])
    for name in ("features.x", "label", "segment.user", "latency_ms", "status", "scores", "sampling", "time", "served",
                 "abstained", "digest", "version", *RESERVED_FIELDS):  # fmt: skip
        for values in (texts, texts.dictionary_encode(), pa.array([[CANARY]] * 2), pa.array([{"a": CANARY}] * 2)):
            said = refusal(decode_frame, frame(2, **{name: values}), 0)
            assert not quotes(said), (name, said)
    headers = {"inference_id": "i", "model": "m", "version": "1", "time": "2026-11-20T10:00:00Z", "dtype": "float32"}
    for name in ("shape", "segment", "embedding", "propensity", "size", "time", "batch_size"):
        for text in (CANARY, f'{{"user": "{CANARY * 60}"}}', f'["{CANARY}"]'):
            changed = {**headers, "shape": "[1]", name: text}
            with pytest.raises(BadRecord) as caught:
                decode_input([(key, value.encode()) for key, value in changed.items()])
            assert not quotes(str(caught.value)), (name, caught.value)


class Message:
    """A record, as far as its dead letter tells where it came from."""

    topic, partition, offset = "inference", 0, 7


def test_a_defect_tells_where_it_was_and_not_what_it_met() -> None:
    with pytest.raises(ValueError, match=CANARY) as caught:
        float(CANARY)
    headers = dict(_reason(Message, caught.value, "ingest", "unexpected"))
    assert not quotes(repr(headers) + told(caught.value))
    assert b"test_canary.py" in (headers["__connect.errors.exception.stacktrace"] or b"")
    assert headers["__connect.errors.exception.class.name"] == b"ValueError"


@pytest.mark.parametrize(
    "uri",
    [
        f"https://store.example/a?X-Amz-Signature={CANARY}", f"https://me:{CANARY}@store.example/a",
        f"s3://bucket/a?sig={CANARY}", f"http://127.0.0.1:1/a?token={CANARY}", f"file:///a?x={CANARY}",
        f"https://store.example/a b?{CANARY}", f"http://[{CANARY}?x={CANARY}",
    ],
)  # fmt: skip
def test_a_signed_address_is_told_without_its_signature(uri: str) -> None:
    with pytest.raises(BadInput) as caught:
        fetch(uri, sha256=None, size=None, allowed=["http://127.0.0.1:1", "https://other.example"], max_bytes=10)
    assert "token=" not in str(caught.value)
    assert CANARY not in str(caught.value).replace(f"[{CANARY}", "")
    assert caught.value.__cause__ is None
