"""Logs with names of one's own: what sources.yaml must say, and how files of them are read."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.recording import RecordingError, read_recording
from streams.adapters.config import Sources, sources_of
from streams.adapters.contract import Record
from streams.errors import SettingsError, Unadaptable

DAY_US = 86_400_000_000
ASKED = (
    "  - {topics: 'asked*', adapter: json, model: {fixed: m}, version: {fixed: '1'}, id: record.no, time: record.at,\n"
    "     features: {x: x}, output: {scores: p, classes: [no, yes]}}\n"
)
KNOWN = "  - {topics: known, adapter: json, id: record.no, time: record.at, truth: {label: was}}\n"


def sources(*entries: str) -> Sources:
    return sources_of(("sources:\n" + "".join(entries)).encode(), "sources.yaml", lambda _: b"")


def lines(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (ASKED.replace(" time: record.at,", ""), "say with `time:` where it stands"),
        (ASKED.replace("features: {x: x}, ", ""), "name them with `features:`, or say `truth:`"),
        (KNOWN.replace(" id: record.no,", ""), "a truth is about an inference: say with `id:`"),
        (KNOWN.replace("{label: was}", "{label: was, value: was}"), "the column with the class, {label: outcome}, or"),
        (KNOWN.replace("{label: was}", "{lable: was}"), "did you mean `label`?"),
        (ASKED.replace("record.no", "no"), "one begins with envelope, header, key, record, request"),
    ],
)
def test_what_is_not_said_is_asked_for(changed: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        sources(changed)
    assert said in str(caught.value)
    assert str(caught.value).startswith("sources.yaml:2: ")


@pytest.mark.parametrize(
    ("entry", "row", "said"),
    [
        (ASKED, {"no": 1, "at": "yesterday", "p": 0.5}, "is no time"),
        (ASKED, {"no": 1, "p": 0.5}, "no time: nothing at record.at"),
        (ASKED, {"no": 1, "at": 1795168800, "p": 1.5}, "for the probability of one class out of two say `classes:"),
        (ASKED.replace("[no, yes]", "[no, yes, maybe]"), {"no": 1, "at": 1795168800, "p": 0.5}, "scores are a float"),
        (KNOWN, {"no": 1, "at": 1795168800}, "no truth at was"),
        (KNOWN, {"at": 1795168800, "was": "yes"}, "no id: nothing at record.no"),
    ],
)
def test_a_line_that_lacks_what_was_said_is_refused(entry: str, row: dict[str, Any], said: str) -> None:
    (one,) = sources(entry).entries
    with pytest.raises(Unadaptable) as caught:
        one.source.adapt(Record("t", json.dumps(row).encode()))
    assert said in str(caught.value)


def test_a_folder_of_logs_is_read_by_the_names_of_its_files(tmp_path: Path) -> None:
    """Rotated files, other endings, own events beside them; what does not fit is told with its line."""
    lines(tmp_path / "asked-1.log", {"no": 1, "at": "2026-11-20T10:00:00Z", "x": 2, "p": 0.25})
    lines(tmp_path / "asked-2.jsonl", {"no": 2, "at": "2026-11-22T10:00:00Z", "x": 3, "p": 1}, {"no": 3})
    lines(tmp_path / "known.json", {"no": 1, "at": "2026-11-23T10:00:00Z", "was": True})
    lines(tmp_path / "own.jsonl", {"inference_id": "2", "time": "2026-11-24T10:00:00Z", "label": "yes"})
    found = read_recording([tmp_path], sources(ASKED, KNOWN))
    assert [(event.id, event.output and event.output.scores) for event in found.events] == [
        ("1", {"no": 0.75, "yes": 0.25}), ("2", {"no": 0.0, "yes": 1.0}),
    ]  # fmt: skip
    assert [(label.inference_id, label.label) for label in found.labels] == [("1", "true"), ("2", "yes")]
    (refused,) = found.rejected
    assert refused.startswith(f"{tmp_path}/asked-2.jsonl:2: no time")
    first = found.first(DAY_US)
    assert [event.id for event in first.events] == ["1"]
    assert [label.inference_id for label in first.labels] == ["1"], "whenever it came"


def test_logs_that_nobody_explained_are_told_how_to_be(tmp_path: Path) -> None:
    lines(tmp_path / "served.jsonl", {"no": 1, "at": "2026-11-20T10:00:00Z", "p": 0.25})
    with pytest.raises(RecordingError, match=r"say what their fields are with --sources sources\.yaml"):
        read_recording([tmp_path])
    with pytest.raises(RecordingError, match=r"must be a topic of sources\.yaml, which has asked\*, known"):
        read_recording([tmp_path], sources(ASKED, KNOWN))
