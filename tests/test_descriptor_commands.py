"""`bestbefore describe`, `export` and `register` from the command line, one after the other as people use them."""

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from infra.cli import main
from infra.demo.images import image_features, load
from models.descriptors.paths import KINDS
from models.embedder import Embedder
from streams.descriptor_files import read_descriptors, read_set
from streams.event_store import EventStore
from streams.inspecting import decode_inspection
from tests.describe_rig import START, write_lines

ROOT = Path(__file__).parents[1]
LOAN, DIGITS = ROOT / "examples" / "loan", ROOT / "examples" / "digits"
STYLES = ("tec", "tec-extended", "odcs", "cyclonedx")


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], env={"BESTBEFORE_CONFIG": None})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an empty event store and copies of both examples."""
    monkeypatch.chdir(tmp_path)
    assert command("migrate").exit_code == 0
    shutil.copytree(LOAN, tmp_path / "loan")
    shutil.copytree(DIGITS, tmp_path / "digits")
    return tmp_path


def edit(folder: Path, kind: str, old: str, new: str) -> None:
    path = folder / f"{kind}.yaml"
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


def stored(here: Path) -> tuple[list[tuple[str, str]], dict[tuple[str, str], Any], int]:
    """Registrations, inspections and the number of events."""
    store = EventStore(f"sqlite:///{here}/.bestbefore/bestbefore.db")
    rows = [(row.model, row.version) for row in store.registrations()]
    found = {key: decode_inspection(body) for key, body in store.inspections().items()}
    events = len(store.events(limit=100))
    store.close()
    return rows, found, events


# -- describe ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a server of the digits model would have recorded of 300 images."""
    data = load().reference
    content = (DIGITS / "digits.onnx").read_bytes()
    model = Embedder.load(content, sha256=None, embedding="embedding", scores="scores")
    scores, _ = model.outputs(data.images[:300, None])
    assert scores is not None
    features = image_features(data.images[:300])
    rows: list[dict[str, Any]] = []
    for i in range(300):
        time = (START + timedelta(seconds=20 * i)).isoformat()
        output = {"scores": {str(k): float(p) for k, p in enumerate(scores[i])}}
        values = {name: float(column[i]) for name, column in features.items()}
        rows += [
            {"id": f"d{i}", "time": time, "model": "digits", "version": "1", "features": values, "output": output},
            {"inference_id": f"d{i}", "time": time, "label": str(data.labels[i])},
        ]
    return write_lines(tmp_path_factory.mktemp("recorded") / "events.jsonl", rows)


def described(here: Path, recording: Path, *more: str | Path) -> Result:
    artefact = here / "digits" / "digits.onnx"
    return command("describe", artefact, "--events", recording, "--declared", "digits/declared.yaml",
                   "--out", "own", *more)  # fmt: skip


def test_from_artefacts_and_events_to_a_registered_model(here: Path, recording: Path) -> None:
    done = described(here, recording)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("wrote ")] == [f"wrote own/{kind}.yaml" for kind in KINDS]
    assert lines[-1] == "Next: bestbefore check own"
    left = lines[lines.index("Left for people, who alone know it:") + 1 : -1]
    assert "owner" in left[0], "what a forecast rests on comes first, then who is told"
    assert all("for example" in line for line in left[:-1])
    assert left[-1].endswith("--all lists them")
    trees = read_set(here / "own").trees
    assert trees["training_data"]["bestbefore"]["features"]["brightness"]["n"] == 300
    assert trees["system_context"]["goals"][0]["id"] == "G1"
    checked = command("check", "own", "--format", "json")
    assert checked.exit_code in (0, 1), checked.stderr
    assert json.loads(checked.stdout)["summary"]["ok"] > 80
    assert command("register", "own", "--accept-mismatches").exit_code == 0
    assert stored(here)[0] == [("digits", "1")]


def test_describe_says_what_it_cannot_use(here: Path, recording: Path) -> None:
    nothing = command("describe", "--out", "own")
    assert nothing.exit_code == 2
    assert "give artefacts, --events, or both" in nothing.stderr
    other = described(here, recording, "--version", "2")
    assert other.exit_code == 2
    (line,) = other.stderr.splitlines()
    assert line.startswith("bestbefore: ")
    assert not (here / "own").exists()


# -- export ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["loan", "digits/descriptors"])
@pytest.mark.parametrize("style", STYLES)
def test_export_writes_what_it_names(here: Path, style: str, name: str) -> None:
    done = command("export", name, "--format", style, "--out", "out/new")
    assert done.exit_code == 0, done.output
    files = [here / line.removeprefix("wrote ") for line in done.stdout.splitlines()]
    assert sorted(files) == sorted((here / "out" / "new").iterdir())
    for file in files:
        text = file.read_text("utf-8")
        assert yaml.safe_load(text) if file.suffix == ".yaml" else json.loads(text)


def test_what_is_exported_as_tec_is_read_again(here: Path) -> None:
    for style, keys in (("tec", False), ("tec-extended", True)):
        command("export", "loan", "--format", style, "--out", style)
        found, own = read_descriptors(here / style), read_descriptors(here / "loan")
        assert any("bestbefore" in tree for tree in found.values()) == keys
        assert found["trained_model"]["algorithm_metrics"] == own["trained_model"]["algorithm_metrics"]
        assert [path.name for path in sorted((here / style).iterdir())] == sorted(f"{kind}.json" for kind in KINDS)


@pytest.mark.parametrize(
    ("folder", "out", "told"),
    [
        ("nowhere", "out", "nowhere is not a folder"),
        ("loan", "loan", "holds the descriptors themselves"),
        ("loan", "loan/trained_model.yaml", "cannot be written"),
    ],
)
def test_export_refuses_with_one_line(here: Path, folder: str, out: str, told: str) -> None:
    done = command("export", folder, "--format", "tec", "--out", out)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert told in line
    assert done.stdout == ""
    assert len(list((here / "loan").iterdir())) == len(KINDS)


# -- register ----------------------------------------------------------------------------------------------------


def test_register_stores_an_inspection_with_golden_results(here: Path) -> None:
    done = command("register", "digits/descriptors")
    assert done.exit_code == 0, done.output
    rows, found, _ = stored(here)
    assert rows == [("digits", "1")]
    inspection = found["digits", "1"]
    assert inspection.error == ""
    assert len(inspection.golden) == len(
        yaml.safe_load((here / "digits/descriptors/trained_model.yaml").read_text())["bestbefore"]["golden_records"]
    )
    assert all(one.label == one.expected and (one.error or 0) < one.tolerance for one in inspection.golden)


def test_register_again_says_so_and_changes_nothing(here: Path) -> None:
    first, before = command("register", "loan"), stored(here)
    again = command("register", "loan")
    assert "loan 7 registered (digest " in first.stdout
    assert "loan 7 was registered already (digest " in again.stdout
    assert again.exit_code == 0
    assert stored(here) == before
    edit(here / "loan", "system_context", "risk_fn:", "risk_fn: still")
    assert "loan 7 registered" in command("register", "loan").stdout
    assert stored(here)[0] == [("loan", "7")]


def test_a_critical_mismatch_registers_nothing(here: Path) -> None:
    edit(here / "loan", "trained_model", "threshold: 0.85", "threshold: 0.99")
    before = stored(here)
    done = command("register", "loan")
    assert done.exit_code == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == "loan 7 is not registered: 1 critical mismatch"
    assert lines[1].startswith("  critical: threshold-coherence: accuracy must be >= 0.99")
    assert lines[2].startswith("    data scientist: train until the limit is met")
    assert "trained_model.yaml:" in lines[2]
    assert "--accept-mismatches" in lines[-1]
    assert stored(here) == before == ([], {}, 0)


def test_a_critical_mismatch_does_not_even_need_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(LOAN, tmp_path / "loan")
    edit(tmp_path / "loan", "trained_model", "threshold: 0.85", "threshold: 0.99")
    assert command("register", "loan").exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["loan"]


def test_accepted_mismatches_are_registered_and_still_told(here: Path) -> None:
    edit(here / "loan", "trained_model", "threshold: 0.85", "threshold: 0.99")
    done = command("register", "loan", "--accept-mismatches")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0].endswith("despite 1 critical mismatch")
    assert "  critical: threshold-coherence:" in done.stdout
    assert stored(here)[0] == [("loan", "7")]


def test_a_mismatch_that_is_not_critical_is_told_and_registered(here: Path) -> None:
    edit(here / "loan", "trained_model", "memory: 2,", "memory: 64,")
    done = command("register", "loan")
    assert done.exit_code == 0
    assert "  warning: capacity-and-deadline: the model needs 64 GB of memory" in done.stdout
    assert "despite" not in done.stdout
    assert stored(here)[0] == [("loan", "7")]


def test_words_of_descriptors_are_no_commands_to_a_terminal(here: Path) -> None:
    edit(here / "loan", "trained_model", 'model_version: "7"', 'model_version: "7\\e[2J"')
    done = command("register", "loan")
    assert "loan 7\\x1b[2J registered" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_model_need_not_be_known_before(here: Path) -> None:
    """Descriptors come before the first event: of a model, and of a version that nobody has served."""
    for version in ("7", "8"):
        done = command("register", "loan")
        assert f"loan {version} registered" in done.stdout
        path = here / "loan" / "trained_model.yaml"
        path.write_text(path.read_text().replace('model_version: "7"', 'model_version: "8"'))
        path = here / "loan" / "production_environment.yaml"
        path.write_text(path.read_text().replace('"7":', '"8":'))
    assert stored(here)[0] == [("loan", "7"), ("loan", "8")]
    assert json.loads(command("status", "--format", "json").stdout) == []


@pytest.mark.parametrize("name", ["system_context.yaml", "production_data.yaml"])
def test_what_cannot_be_read_is_not_half_registered(here: Path, name: str) -> None:
    (here / "loan" / name).write_text("version: [", "utf-8")
    for words in (("register", "loan"), ("register", "loan", "--accept-mismatches")):
        done = command(*words)
        assert done.exit_code == 2
        (line,) = done.stderr.splitlines()
        assert f"loan/{name}:" in line
        assert done.stdout == ""
    assert stored(here) == ([], {}, 0)


def test_a_model_file_that_was_swapped_is_not_half_registered(here: Path) -> None:
    path = here / "digits" / "digits.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    done = command("register", "digits/descriptors", "--accept-mismatches")
    assert done.exit_code == 2
    assert "the file was swapped" in done.stderr
    assert stored(here) == ([], {}, 0)
