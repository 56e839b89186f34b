"""The whole line, as a user runs it: the demo on real services, and a replay of what it recorded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.recorded_lines import read_lines

ROOT = Path(__file__).parents[1]
LINES = ("status.jsonl", "mismatches.jsonl", "retrain-triggers.jsonl", "lifecycle.jsonl")
DAYS = 44


def run(*arguments: str, **environment: str) -> str:
    """A command of the command line; returns what it prints."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240,
        env={**os.environ, "PYTHONPATH": path, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo of six weeks in half a minute, and what it printed."""
    out = tmp_path_factory.mktemp("demo")
    return out, run("demo", "--out", str(out), "--days", str(DAYS), "--seconds", "26")


def test_the_demo_counts_everything_and_triggers_once_before_the_crossing(played: tuple[Path, str]) -> None:
    out, printed = played
    status, triggers = read_lines(out / LINES[0]), read_lines(out / LINES[2])
    assert [line["window"]["n"] for line in status] == [2000] * DAYS
    assert len(triggers) == 1
    assert "88,000 of 88,000" in printed
    assert triggers[0]["created_at"] < "2026-02-14"  # the day on which the true accuracy falls below the threshold
    assert triggers[0]["trigger_id"] in printed
    assert (out / "digits-1.png").read_bytes().startswith(b"\x89PNG")
    assert "retrain trigger" in (out / "digits-1.svg").read_text()
    assert not (out / "services").exists()


def test_every_status_has_an_interval_or_a_reason(played: tuple[Path, str]) -> None:
    for line in read_lines(played[0] / LINES[0]):
        quality, forecast = line["quality"], line["forecast"]
        assert (quality["low"] <= quality["estimate"] <= quality["high"]) if quality["estimate"] else quality["reason"]
        assert forecast["low"] or forecast["censored"] or forecast["reason"]


def test_a_replay_of_the_recording_says_the_same(played: tuple[Path, str]) -> None:
    out, _ = played
    descriptors = str(ROOT / "examples" / "digits" / "descriptors")
    arguments = ("replay", str(out / "recording"), "--descriptors", descriptors, "--out", str(out / "again"))
    run(*arguments, BESTBEFORE_KEEP_RATE="0.05")
    for name in LINES:
        assert read_lines(out / "again" / name) == read_lines(out / name), name
