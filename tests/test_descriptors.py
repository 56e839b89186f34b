"""Descriptors from files: what they compile to, and what is said of those that cannot be read."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.reference import GENERIC_EDGES, compile_reference, unregistered
from models.units import DAY_US, duration_text, duration_us
from streams.descriptor_files import MAX_BYTES, load_reference, read_descriptors, read_set
from streams.errors import DescriptorError
from streams.registry import Registry, decode_reference, encode_reference

HOUR_US = 3_600_000_000
TRAINED_MODEL: dict[str, Any] = {
    "version": "1.2",
    "model_name": "loan",
    "model_version": "7",
    "algorithm_metrics": [
        {"metric": "Recall", "threshold": 0.7},
        {"metric": "Accuracy", "operator": "greater or equal than", "threshold": 85, "goal_mapping": "G1"},
    ],
    "bestbefore": {"minimum_n": 80},
}
TRAINING_DATA: dict[str, Any] = {
    "dataset_name": "Closed loans",
    "bestbefore": {
        "features": {
            "income": {
                "type": "number", "unit": "EUR", "n": 900, "mean": 3000, "sd": 800,
                "quantiles": {"0.25": 2460, "0.5": 3000, "0.75": 3540, "0.9": 3540},
            },
            "term": {"type": "number", "mean": 36.1},
            "region": {"type": "category", "n": 900, "categories": {"N": 0.4, "S": 0.6}},
        },
        "classes": {"0": 0.2, "1": 0.8},
        "confusion": {"0": {"0": 91, "1": 9}},
        "calibration": {"temperature": 1.3, "n": 400, "residuals": {"low": -0.5, "high": 0.25}},
        "embedding": {"mean": [0, 1], "sd": [1, 2], "n": 50, "distance_quantiles": {"0.5": 1.0, "0.99": 2.0}},
    },
}  # fmt: skip
SYSTEM: dict[str, Any] = {
    "task": "Will the loan be repaid?",
    "bestbefore": {"window": "1 hour", "lateness": "5 minutes", "lead_time": "3 days", "owner": "lending"},
}
PICKLED = b"\x80\x04}\x94(K\x01K\x02u."  # a small dict
ALL = {"trained_model": TRAINED_MODEL, "training_data": TRAINING_DATA, "system_context": SYSTEM}


def folder_of(path: Path, **texts: str) -> Path:
    """A folder with a sound trained_model and these files; `__` in a name stands for the dot."""
    (path / "trained_model.yaml").write_text(yaml.safe_dump(TRAINED_MODEL), "utf-8")
    for name, text in texts.items():
        (path / name.replace("__", ".")).write_text(text, "utf-8")
    return path


# -- what they compile to --------------------------------------------------------------------------------------


def test_the_facts_become_numbers(tmp_path: Path) -> None:
    for kind, body in ALL.items():
        (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(body), "utf-8")
    found = load_reference(tmp_path)
    assert (found.model, found.version, found.metric, found.threshold) == ("loan", "7", "accuracy", 0.85)
    assert (found.window_us, found.lateness_us, found.lead_time_us) == (HOUR_US, HOUR_US // 12, 3 * DAY_US)
    assert (found.minimum_n, found.owner, found.n) == (80, "lending", 400)
    income = found.numeric["income"]
    assert (income.edges, income.mean, income.sd) == ((2460.0, 3000.0, 3540.0), 3000.0, 800.0)
    assert income.shares == pytest.approx((0.25, 0.25, 0.4, 0.1))
    assert found.numeric["term"].edges == GENERIC_EDGES
    assert found.categorical["region"].shares == {"N": 0.4, "S": 0.6}
    assert found.calibration is not None
    assert (found.calibration.temperature, found.calibration.residual_high) == (1.3, 0.25)
    assert found.embedding is not None
    assert found.embedding.shares == pytest.approx((0.5, 0.49, 0.01))
    assert decode_reference(encode_reference(found)) == found
    assert len(found.digest) == 64


def test_the_digest_follows_the_facts_not_the_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        folder_of(folder, **{"system_context__yaml": "bestbefore:\n  window: 1 hour  # a comment\n"})
    (two / "system_context.yaml").unlink()
    (two / "system_context.json").write_text('{"bestbefore": {"window": "1 hour"}}')
    assert load_reference(one).digest == load_reference(two).digest
    (two / "system_context.json").write_text('{"bestbefore": {"window": "2 hours"}}')
    assert load_reference(one).digest != load_reference(two).digest


def test_absent_facts_stay_unknown() -> None:
    found = compile_reference({"trained_model": {"model_name": "m", "model_version": 2}})
    assert (found.version, found.threshold, found.calibration, found.embedding, found.file) == ("2", *[None] * 4)
    assert (found.window_us, found.lateness_us) == (HOUR_US, HOUR_US // 12)
    assert found.registered


def metrics_of(*metrics: dict[str, Any]) -> dict[str, Any]:
    return {"trained_model": {"model_name": "m", "model_version": "1", "algorithm_metrics": list(metrics)}}


@pytest.mark.parametrize(
    ("declared", "read"), [(0, 0.0), (0.85, 0.85), (1, 1.0), (1.5, 0.015), (85, 0.85), (100, 1.0), (None, None)]
)
def test_an_accuracy_threshold_is_a_share_or_a_percentage(declared: float | None, read: float | None) -> None:
    assert compile_reference(metrics_of({"metric": "Accuracy", "threshold": declared})).threshold == read


def test_the_threshold_of_another_metric_is_not_compared_with_accuracy() -> None:
    found = compile_reference(metrics_of({"metric": "RMSE", "threshold": 3.2}))
    assert (found.metric, found.threshold) == ("rmse", None)


@pytest.mark.parametrize("declared", ["0.85", True, [0.85], 100.5, -0.1, float("nan")])
def test_a_threshold_that_is_no_share_is_named(declared: object) -> None:
    with pytest.raises(ValueError, match=r"trained_model\.algorithm_metrics\.threshold: "):
        compile_reference(metrics_of({"metric": "accuracy", "threshold": declared}))


def test_a_model_nobody_described_gets_a_stand_in() -> None:
    registry = Registry(window_us=60, lateness_us=5)
    stand_in = registry.get("m", "1")
    assert stand_in == unregistered("m", "1", window_us=60, lateness_us=5)
    assert not stand_in.registered
    known = compile_reference({"trained_model": {"model_name": "m", "model_version": "1"}})
    assert registry.load([encode_reference(known)]) == [known]
    assert registry.load([encode_reference(known)]) == []
    assert registry.get("m", "1") == known


# -- what is wrong with the facts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("trained_model", {"model_name": "m"}, "trained_model: model_name and model_version are needed"),
        ("trained_model", {"bestbefore": [1]}, "trained_model.bestbefore: expected keys and values, found list"),
        (
            "system_context",
            {"bestbefore": {"window": "1 fortnight"}},
            "system_context.bestbefore.window: '1 fortnight'",
        ),
        ("system_context", {"bestbefore": {"window": 60}}, "system_context.bestbefore.window: 60 is not a duration"),
        ("system_context", {"bestbefore": {"window": "0 s"}}, "window: must be longer than zero"),
        ("system_context", {"bestbefore": {"lead_time": "-3 days"}}, "lead_time: '-3 days' is not a duration"),
        ("training_data", {"bestbefore": {"features": "all"}}, "features: expected keys and values, found str"),
        (
            "training_data",
            {"bestbefore": {"features": {"x": {"type": "number", "quantiles": {"0.1": 5, "0.5": 3}}}}},
            "training_data.bestbefore.features.x.quantiles: quantiles must not decrease",
        ),
        (
            "training_data",
            {"bestbefore": {"calibration": {"temperature": "hot"}}},
            r"yaml:3: training_data\.bestbefore\.calibration\.temperature: expected a number, found 'hot'",
        ),
        (
            "training_data",
            {"bestbefore": {"embedding": {"mean": [1, 2], "sd": [1]}}},
            "training_data.bestbefore.embedding: mean has 2 dimensions and sd 1",
        ),
    ],
)
def test_a_fact_that_is_wrong_is_named(tmp_path: Path, kind: str, body: dict[str, Any], message: str) -> None:
    base = TRAINED_MODEL if kind == "trained_model" and "bestbefore" in body else {}
    folder_of(tmp_path, **{f"{kind}__yaml": yaml.safe_dump(base | body)})
    with pytest.raises(DescriptorError, match=message):
        load_reference(tmp_path)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("system_context", {"bestbefore": {"cost_retrain": "much"}}),
        ("training_data", {"bestbefore": {"features": {"x": 5}}}),
        ("training_data", {"bestbefore": {"features": {"x": {"type": "number", "mean": [1]}}}}),
        ("training_data", {"bestbefore": {"classes": ["0", "1"]}}),
        ("training_data", {"bestbefore": {"confusion": {"0": 5}}}),
        ("training_data", {"bestbefore": {"embedding": {"mean": "abc", "sd": "abc"}}}),
        ("trained_model", {"algorithm_metrics": 5}),
        ("trained_model", {"bestbefore": {"minimum_n": "few"}}),
        ("trained_model", {"bestbefore": {"file": "m.onnx", "outputs": 5}}),
    ],
)
def test_a_fact_of_another_type_is_an_error_of_ours(tmp_path: Path, kind: str, body: dict[str, Any]) -> None:
    base = TRAINED_MODEL if kind == "trained_model" else {}
    folder_of(tmp_path, **{f"{kind}__yaml": yaml.safe_dump(base | body)})
    with pytest.raises(DescriptorError, match=tmp_path.name):
        load_reference(tmp_path)


# -- what is wrong with the files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "training_data__yaml",
            "a: 1\nb: [1, 2\nc: 3\n",
            r"training_data\.yaml:3: cannot be read: .*expected ',' or '\]'",
        ),
        ("training_data__yaml", "a: 1\n\tb: 2\n", r"yaml:2: cannot be read: .*tab"),
        (
            "training_data__json",
            '{"a": 1,\n "b": }',
            r"training_data\.json:2: cannot be read: expected a value, found '}'",
        ),
        ("training_data__json", '{"a": 1,\n "b": 2', r"json:2: cannot be read: expected ',' or '}', found the end of"),
        ("training_data__json", '{"a": [1,\n]}', r"json:2: cannot be read: expected a value, found '\]}'"),
        ("training_data__json", '{"a": 1}\n{"b": 2}', r"json:2: cannot be read: expected the end of the file"),
        ("training_data__json", '{"a": 01}', r"json:1: cannot be read: expected ',' or '}'"),
        ("training_data__json", '{"a":\n NaN}', r"json:2: cannot be read: expected JSON, found 'NaN}'"),
        ("training_data__json", '{"a": "\\x"}', "json:1: cannot be read: .* is no JSON text"),
        ("training_data__json", '{"a":\n "\\ud800"}', "json:2: half a surrogate pair is no text"),
        ("training_data__json", '{"a": 1e999}', "json:1: 1e999 is too large for a number"),
        ("training_data__yaml", "a: 1e999", "yaml:1: 1e999 is too large for a number"),
        ("training_data__yaml", f"a: {'9' * 5000}", "yaml:1: 9{40}[^\n]* is too large for a number"),
        ("training_data__yaml", "a:\n  b: .inf", r"yaml:2: \.inf is no number to compare with; leave the key out"),
        (
            "training_data__yaml",
            "a:\n  b: 1\n  c: 2\n  b: 3",
            r"yaml:4: a\.b is there twice, first on line 2; keep one",
        ),
        ("training_data__json", '{"a": {"b": 1,\n"b": 2}}', r"json:2: a\.b is there twice, first on line 1; keep one"),
        (
            "training_data__yaml",
            "a: !!python/object/apply:os.system [ls]",
            r"yaml:1: tags \(.*os\.system\) are not read",
        ),
        ("training_data__yaml", "a: !secret x", r"yaml:1: tags \(!secret\) are not read; write the plain value"),
        ("training_data__yaml", "a: &x [1]\nb: [*x, *x]", r"yaml:2: aliases \(\*name\) are not read; write the value"),
        ("training_data__yaml", "a:\n  <<: {b: 1}", r"yaml:2: merge keys \(<<\) are not read"),
        ("training_data__yaml", "? [a]\n: b", "yaml:1: a list or object stands where a key is expected"),
        ("training_data__yaml", "- a\n- b\n", "yaml:1: expected keys and values at the top, found list"),
        ("training_data__json", "5", "json:1: expected keys and values at the top, found int"),
        ("training_data__yaml", "", "expected keys and values at the top, found NoneType"),
        ("training_data__yaml", "[" * 5000, "yaml:1: .* is nested deeper than 64 levels"),
        ("training_data__json", "[" * 200_000, "json:1: .* is nested deeper than 64 levels"),
        ("training_data__yaml", "a: 1\n---\nb: 2\n", "yaml:2: a second document"),
        ("trained_model__json", '{"model_name": "m"}', "trained_model is there twice, first in trained_model.json"),
        ("trained_model__yml", "model_version: '8'", r"trained_model is there twice.*\(model_version '7' and '8'\)"),
        ("training-data__yaml", "a: 1", "training-data.yaml looks like training_data.yaml misspelt; rename it"),
        ("TrainedModel__json", "{}", "TrainedModel.json looks like trained_model.json misspelt"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    folder_of(tmp_path, **{name: text})
    with pytest.raises(DescriptorError, match=f"(?s){message}"):
        read_descriptors(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("training_data.yaml", b"a: 1\nb: \xff\xfe", r"training_data\.yaml:2: is not UTF-8 text: byte 8 is 0xff"),
        ("training_data.json", '{"a": 1}'.encode("utf-16"), r"training_data\.json:1: is not UTF-8 text"),
        ("training_data.yaml", b"#" * (MAX_BYTES + 1), "is larger than 8 MiB; keep data out of descriptors"),
        ("training_data.json", b" " * (50 << 20), "is larger than 8 MiB"),
        ("training_data.yaml", PICKLED, "training_data.yaml: is pickled; a pickle runs code when it is read"),
        ("training_data.pkl", PICKLED, "training_data.pkl is pickled; a pickle runs code"),
        ("training_data.joblib", b"anything", "training_data.joblib is pickled"),
        ("training_data.yaml", b"(dp0\nS'a'\np1\nI1\ns.", "training_data.yaml:1: "),
        ("training_data.yaml", b"a: \x00", "training_data.yaml.*cannot be read"),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (folder_of(tmp_path) / name).write_bytes(content)
    with pytest.raises(DescriptorError, match=message):
        read_descriptors(tmp_path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    path = folder_of(tmp_path) / "training_data.yaml"
    path.symlink_to(path)
    with pytest.raises(
        DescriptorError, match=r"training_data\.yaml cannot be opened: Too many levels of symbolic links"
    ):
        read_set(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(DescriptorError, match=r"training_data\.yaml cannot be opened: No such file"):
        read_set(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DescriptorError, match=r"training_data\.yaml is not a file"):
        read_set(tmp_path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(DescriptorError, match=r"training_data\.yaml is not a file"):
        read_set(tmp_path)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(DescriptorError, match="loop is not a folder"):
        read_set(loop)


def test_a_long_file_is_read(tmp_path: Path) -> None:
    row = "- [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]\n"
    (folder_of(tmp_path) / "raw_data.yaml").write_text("rows:\n" + row * 20_000, "utf-8")
    assert len(read_set(tmp_path).of("raw_data")["rows"]) == 20_000


def test_words_of_yaml_mean_what_they_look_like(tmp_path: Path) -> None:
    """Country codes are no booleans, dates and times of day stay text, exponents need no dot."""
    text = "a: {NO: NO, on: yes, 1: 12:30, 2026-08-01: 2026-08-01, 0.50: 1e-3, t: true, n: ~, x: 0x10, q: '5'}"
    found = read_set(folder_of(tmp_path, **{"raw_data__yaml": text})).of("raw_data")["a"]
    assert found == {
        "NO": "NO", "on": "yes", "1": "12:30", "2026-08-01": "2026-08-01", "0.50": 0.001, "t": True, "n": None, "x": 16,
        "q": "5",
    }  # fmt: skip


def test_a_folder_without_a_model_says_what_belongs_there(tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text("- anything")
    with pytest.raises(DescriptorError, match=r"holds no trained_model\.yaml.*training_data\.yaml"):
        read_descriptors(tmp_path)
    with pytest.raises(DescriptorError, match="is not a folder"):
        read_descriptors(tmp_path / "gone")
    with pytest.raises(DescriptorError, match="is not a folder"):
        read_descriptors(tmp_path / "notes.yaml")


# -- the ONNX file ------------------------------------------------------------------------------------------------


def with_file(path: Path, file: str, digest: str) -> Path:
    body = TRAINED_MODEL | {"bestbefore": {"file": file, "digest": digest, "outputs": {"embedding": "dense"}}}
    (path / "trained_model.yaml").write_text(yaml.safe_dump(body), "utf-8")
    return path


def test_the_onnx_file_is_found_beside_the_descriptors_and_pinned(tmp_path: Path) -> None:
    content = b"not read here"
    (tmp_path / "m.onnx").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    for declared in (f"sha256:{digest}", digest, ""):
        file = load_reference(with_file(tmp_path, "m.onnx", declared)).file
        assert file is not None
        assert (file.path, file.sha256, file.embedding) == (str((tmp_path / "m.onnx").resolve()), digest, "dense")


def test_a_swapped_or_absent_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"another one")
    with pytest.raises(DescriptorError, match=r"m\.onnx hashes to sha256:.*the file was swapped"):
        load_reference(with_file(tmp_path, "m.onnx", "sha256:" + "0" * 64))
    with pytest.raises(DescriptorError, match=r"gone\.onnx does not exist"):
        load_reference(with_file(tmp_path, "gone.onnx", ""))
    with pytest.raises(DescriptorError, match="no regular file"):
        load_reference(with_file(tmp_path, ".", ""))


def test_a_remote_onnx_file_is_left_to_the_worker(tmp_path: Path) -> None:
    file = load_reference(with_file(tmp_path, "s3://models/m.onnx", "sha256:" + "0" * 64)).file
    assert file is not None
    assert (file.path, file.sha256) == ("s3://models/m.onnx", "0" * 64)


# -- durations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "us"),
    [("90 s", 90_000_000), ("1 hour", HOUR_US), ("2.5days", 2.5 * DAY_US), (" 20 ms ", 20_000),
     ("3 Weeks", 21 * DAY_US), ("5 mins", 300_000_000), (".5 min", 30_000_000), ("7 us", 7)],
)  # fmt: skip
def test_durations_are_read_as_people_write_them(text: str, us: float) -> None:
    assert duration_us(text) == us


@pytest.mark.parametrize("text", ["", "90", "s", "1 month", "1 h 30 m", "-1 s", "1e3 s", "nan s", "٣ s", None, 5, True])
def test_what_is_no_duration_is_shown_with_a_sound_one(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration; write a number and a unit, as in '90 s'"):
        duration_us(text)


def test_durations_are_told_in_their_largest_unit() -> None:
    told = [duration_text(us) for us in (9.5 * DAY_US, 3 * HOUR_US, 40_000_000, -2 * HOUR_US)]
    assert told == ["9.5 days", "3.0 hours", "40 s", "-2.0 hours"]
