"""What a person meets who types a command in an empty folder, or the wrong one."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infra.cli import main
from infra.registering import outlasting
from models.reference import Reference
from streams.event_store import EventStore

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
        (("--broker", "127.0.0.1:1", "lifecycle", "deployed", "m", "2"), {}, "no Kafka broker answers at 127.0.0.1:1"),
        (("lifecycle", "deployed", "m", "2", "--time", "2026-11-20"), {}, "is no time with an offset; write it as"),
        (("lifecycle", "exploded", "m", "2"), {}, "'exploded' is not one of"),
    ],
)
def test_a_mistake_is_one_clear_line(
    here: Path, words: tuple[str, ...], environment: dict[str, str], told: str
) -> None:
    result = command(*words, **environment)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_a_version_keeps_its_windows(here: Path) -> None:
    command("migrate")
    command("register", str(DESCRIPTORS))
    changed = here / "changed"
    shutil.copytree(DESCRIPTORS, changed)
    shutil.copy(DESCRIPTORS.parent / "digits.onnx", here)
    context = changed / "system_context.yaml"
    text = context.read_text()
    context.write_text(text.replace("window: 1 day", "window: 2 days"))
    refused = command("register", str(changed))
    assert refused.exit_code == 2, refused.output
    assert "register it under a new version" in refused.stderr
    store = EventStore(f"sqlite:///{here}/.bestbefore/bestbefore.db")
    assert len(store.registrations()) == 1
    store.close()


def test_a_window_that_outlasts_the_topic_is_noted() -> None:
    hour = 3_600_000_000
    assert outlasting(Reference("m", "1", window_us=30 * hour, lateness_us=6 * hour)) == []
    (note,) = outlasting(Reference("m", "1", window_us=30 * hour, lateness_us=7 * hour))
    assert "37 h, more than half of the 3 days" in note
