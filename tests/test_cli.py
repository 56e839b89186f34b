"""What a person meets who types a command in an empty folder, or the wrong one."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infra.cli import main

DESCRIPTORS = Path(__file__).parents[1] / "examples" / "digits" / "descriptors"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(main, words, env={"BESTBEFORE_CONFIG": None, **environment})


@pytest.mark.parametrize(
    "words", [("status",), ("events",), ("triggers",), ("worker",), ("register", str(DESCRIPTORS))]
)
def test_without_a_store_every_command_says_how_to_get_one(here: Path, words: tuple[str, ...]) -> None:
    told = command(*words)
    assert told.exit_code == 2
    assert "there is no event store at .bestbefore/bestbefore.db yet; run `bestbefore up`" in told.stderr


def test_from_an_empty_folder_to_a_registered_model(here: Path) -> None:
    assert "is at revision" in command("migrate").output
    assert "digits 1 registered" in command("register", str(DESCRIPTORS)).output
    assert "was registered already" in command("register", str(DESCRIPTORS)).output
    assert json.loads(command("status", "--format", "json").output) == []
    events = json.loads(command("events", "--format", "json").output)
    assert [(e["kind"], e["model"], e["version"]) for e in events] == [("registration", "digits", "1")]


@pytest.mark.parametrize(
    ("words", "environment", "told"),
    [
        (("--store", "foo", "migrate"), {}, "the store URL cannot be read"),
        (("status",), {"BESTBEFORE_KEEP_RATE": "often"}, "setting keep_rate = 'often' in environment"),
        (("status",), {"BESTBEFORE_KEPT_RATE": "1"}, "unknown setting 'kept_rate'"),
        (("register", "nowhere"), {}, "nowhere is not a folder"),
        (("worker", "--agents", "ingest,guess"), {}, "no agent guess"),
        (("events", "--limit", "0"), {}, "0 is not in the range"),
        (("--broker", "127.0.0.1:1", "topics", "check"), {}, "no Kafka broker answers at 127.0.0.1:1"),
    ],
)
def test_a_mistake_is_one_clear_line(
    here: Path, words: tuple[str, ...], environment: dict[str, str], told: str
) -> None:
    result = command(*words, **environment)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.output
