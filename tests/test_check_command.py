"""`bestbefore check` as people, build servers, code scanners and pre-commit meet it."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
import yaml
from click.testing import CliRunner, Result

from infra.cli import main
from models.checks.catalogue import CHECKS
from models.descriptors.paths import KINDS

ROOT = Path(__file__).parents[1]
LOAN, DIGITS = ROOT / "examples" / "loan", ROOT / "examples" / "digits"
STYLES = ("text", "json", "junit", "sarif")
THRESHOLD = "threshold: 0.85"


def check(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, words)])


def told(*words: str | Path, style: str = "json") -> Any:
    return json.loads(check(*words, "--format", style).stdout)


def edit(folder: Path, kind: str, old: str, new: str) -> int:
    """Change a text that stands once in a descriptor; its line."""
    path = folder / f"{kind}.yaml"
    text = path.read_text("utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new), "utf-8")
    return text[: text.index(old)].count("\n") + 1


@pytest.fixture
def loan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the coherent example, below the working folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(LOAN, tmp_path / "loan")
    return tmp_path / "loan"


@pytest.fixture
def broken(loan: Path) -> Path:
    """The example with a critical mismatch, a warning, and one that is only information."""
    edit(loan, "trained_model", THRESHOLD, "threshold: 0.99")
    edit(loan, "trained_model", "memory: 2,", "memory: 64,")
    environment = yaml.safe_load((loan / "development_environment.yaml").read_text())
    sent = environment["upstream_components"][0]["output_spec"]
    sent.append(dict(sent[0], item_name="colour"))
    (loan / "development_environment.yaml").write_text(yaml.safe_dump(environment))
    return loan


# -- text --------------------------------------------------------------------------------------------------------


def test_a_mismatch_is_told_with_both_sides_their_lines_the_owner_and_the_remedy(loan: Path) -> None:
    line = edit(loan, "trained_model", THRESHOLD, "threshold: 0.99")
    done = check(loan)
    assert done.exit_code == 1
    lines = [text.strip() for text in done.stdout.splitlines()]
    assert lines[0] == "critical  threshold-coherence  accuracy limit"
    assert f"declared  trained_model.algorithm_metrics[0].threshold = 0.99 (trained_model.yaml:{line})" in lines
    assert any(re.fullmatch(r"against  .*\.result = 0\.91 \(trained_model\.yaml:\d+\)", text) for text in lines)
    assert "owner  data scientist" in lines
    assert any(text.startswith("remedy  train until") for text in lines)
    assert lines[-1] == "loan 7: 1 mismatch, 94 ok, 8 unknown"


def test_what_is_unknown_is_grouped_by_check_and_named_once(loan: Path) -> None:
    short, full = check(loan).stdout, check(loan, "--all").stdout
    for text in (short, full):
        group = text.partition("unknown: there is no evidence")[2].partition("\n\n")[0]
        assert group.count("completeness-and-staleness") == 1
        assert not re.search(r"(\S+): \1 ", text), "the path stands twice"
    assert "more; --all lists them" in short
    assert "more; --all" not in full
    assert len(full.splitlines()) > 2 * len(short.splitlines())


def test_lines_have_no_blanks_at_their_ends(broken: Path) -> None:
    assert not [line for line in check(broken, "--all").stdout.splitlines() if line != line.rstrip()]


def test_words_of_descriptors_are_neither_markup_nor_commands_to_a_terminal(loan: Path) -> None:
    edit(loan, "trained_model", 'model_version: "7"', 'model_version: "[/b]\\e[2J\\u0007[red]7"')
    for style in STYLES:
        done = check(loan, "--all", "--format", style)
        assert done.exit_code == 1, done.output
        assert "\x1b" not in done.stdout
        assert "\a" not in done.stdout
        assert "[/b]" in done.stdout
        assert "[red]7" in done.stdout


def test_explain_needs_no_descriptors_and_names_what_there_is() -> None:
    done = check("--explain", "tec:12")
    assert done.exit_code == 0
    assert "capacity-and-deadline" in done.stdout
    wrong = check("--explain", "tec:99")
    assert wrong.exit_code == 2
    assert "no check 'tec:99'" in wrong.stderr


# -- json --------------------------------------------------------------------------------------------------------


def test_json_has_the_documented_shape(broken: Path) -> None:
    document = told(broken)
    assert document.keys() == {"model", "version", "verdicts", "summary", "missing"}
    assert (document["model"], document["version"]) == ("loan", "7")
    counts = {kind: sum(v["verdict"] == kind for v in document["verdicts"]) for kind in ("mismatch", "ok", "unknown")}
    assert document["summary"] == counts
    assert counts["mismatch"] == 3
    for verdict in document["verdicts"]:
        assert {
            "check",
            "verdict",
            "reason",
            "severity",
            "aliases",
            "subject",
            "left",
            "right",
            "message",
            "owner",
        } <= (verdict.keys())
        assert verdict["subject"].keys() == {"model", "version", "field"}
        assert verdict["severity"] in ("info", "warning", "critical")
        assert bool(verdict["message"]) == (verdict["verdict"] == "mismatch")
        assert verdict["reason"] or verdict["verdict"] != "unknown"
        for side in (verdict["left"], verdict["right"]):
            assert side is None or side["path"]
    worst = document["verdicts"][0]
    assert (worst["severity"], worst["check"], worst["left"]["value"]) == ("critical", "threshold-coherence", 0.99)


# -- junit -------------------------------------------------------------------------------------------------------


def suites(*words: str | Path) -> Xml.Element:
    return Xml.fromstring(check(*words, "--format", "junit").stdout.encode())  # noqa: S314 -- our own


def test_junit_adds_up(broken: Path) -> None:
    counts = told(broken)["summary"]
    root = suites(broken)
    assert root.tag == "testsuites"
    assert [int(root.get(key, "-1")) for key in ("tests", "failures", "skipped", "errors")] == [
        sum(counts.values()), counts["mismatch"], counts["unknown"], 0,
    ]  # fmt: skip
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.get("tests", "-1")) == len(cases) > 0
        assert int(suite.get("failures", "-1")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("skipped", "-1")) == len(suite.findall("testcase/skipped"))
        assert len({case.get("name") for case in cases}) == len(cases), "build servers merge cases of one name"
    failure = root.find("testsuite[@name='threshold-coherence']/testcase/failure")
    assert failure is not None
    assert failure.get("type") == "critical"
    assert "trained_model.yaml:" in (failure.text or "")
    assert all(case.get("message") for case in root.iter("skipped"))


# -- sarif -------------------------------------------------------------------------------------------------------


def require_sarif(document: Any) -> None:
    """The essentials of the schema of SARIF 2.1.0, and what code scanning asks for beyond it."""
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("sarif-schema-2.1.0.json")
    for run in document["runs"]:
        driver = run["tool"]["driver"]
        assert driver["name"] == "bestbefore"
        assert driver["version"]
        rules = driver["rules"]
        assert len({rule["id"] for rule in rules}) == len(rules)
        for rule in rules:
            assert rule["shortDescription"]["text"]
            assert rule["fullDescription"]["text"]
            assert rule["help"]["text"]
        for result in run["results"]:
            assert result["message"]["text"].endswith(".")
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
            assert result["kind"] in ("pass", "open", "informational", "notApplicable", "review", "fail")
            assert result["level"] in ("none", "note", "warning", "error")
            # 3.27.10: a level other than none is for failures only.
            assert (result["kind"] == "fail") == (result["level"] != "none")
            assert result["partialFingerprints"]
            assert result["locations"]
            for location in result["locations"]:
                require_location(location["physicalLocation"])
        known = [json.dumps(result["partialFingerprints"]) for result in run["results"]]
        assert len(set(known)) == len(known)


def require_location(physical: Any) -> None:
    uri = physical["artifactLocation"]["uri"]
    assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", uri), "a relative reference, quoted"
    path = Path(uri.replace("%20", " "))
    assert path.exists()
    if "region" in physical:
        assert 1 <= physical["region"]["startLine"] <= len(path.read_text("utf-8").splitlines())


def test_sarif_is_valid_and_points_at_lines(broken: Path) -> None:
    document = told(broken, style="sarif")
    require_sarif(document)
    (run,) = document["runs"]
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == {c.id for c in CHECKS if c.design}
    levels = [result["level"] for result in run["results"] if result["kind"] == "fail"]
    assert levels == ["error", "warning", "note"]
    assert len(run["results"]) == sum(told(broken)["summary"][kind] for kind in ("mismatch", "unknown"))
    first = run["results"][0]["locations"][0]
    assert first["logicalLocations"][0]["fullyQualifiedName"] == "trained_model.algorithm_metrics[0].threshold"
    assert first["physicalLocation"]["artifactLocation"]["uri"] == "loan/trained_model.yaml"


def test_sarif_of_a_folder_with_blanks_and_checks_of_ones_own(broken: Path) -> None:
    context = yaml.safe_load((broken / "system_context.yaml").read_text())
    context["bestbefore"]["checks"] = [
        {"id": "small", "left": "trained_model.computing_resource_reqs.memory", "operator": "<=", "right": 4},
        {"id": "odd", "left": "trained_model.computing_resource_reqs.memory", "operator": "=<", "right": 4},
    ]
    (broken / "system_context.yaml").write_text(yaml.safe_dump(context))
    moved = broken.rename(broken.with_name("my loan"))
    document = told(moved, style="sarif")
    require_sarif(document)
    (run,) = document["runs"]
    assert {r["ruleId"] for r in run["results"] if r["ruleId"].startswith("user:")} == {"user:small", "user:odd"}


# -- exit status -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("least", "status"), [("info", 1), ("warning", 1), ("critical", 0)])
def test_fail_on_is_the_least_severity_that_counts(loan: Path, least: str, status: int) -> None:
    edit(loan, "trained_model", "memory: 2,", "memory: 64,")
    for style in STYLES:
        assert check(loan, "--fail-on", least, "--format", style).exit_code == status


@pytest.mark.parametrize("folder", [LOAN, DIGITS / "descriptors"])
def test_nothing_wrong_is_exit_status_0(folder: Path) -> None:
    assert check(folder).exit_code == 0


def test_the_model_file_that_the_descriptors_name_is_loaded(tmp_path: Path) -> None:
    document = told(DIGITS / "descriptors")
    found = {v["subject"]["field"]: v for v in document["verdicts"] if v["check"] == "runtime-fingerprint"}
    assert found["digest"]["verdict"] == found["file"]["verdict"] == "ok"
    assert found["file"]["right"]["value"] == ["CPUExecutionProvider"]
    assert any(v["subject"]["field"].startswith("model file/") for v in document["verdicts"])
    shutil.copytree(DIGITS / "descriptors", tmp_path / "descriptors")
    (tmp_path / "digits.onnx").write_bytes((DIGITS / "digits.onnx").read_bytes() + b"\0")
    swapped = check(tmp_path / "descriptors")
    assert swapped.exit_code == 2
    assert "the file was swapped" in swapped.stderr


# -- bad input ---------------------------------------------------------------------------------------------------


def written(kind: str, text: str, suffix: str = ".yaml") -> Callable[[Path], None]:
    """The descriptor of a kind with another text."""

    def change(folder: Path) -> None:
        (folder / f"{kind}.yaml").unlink()
        (folder / f"{kind}{suffix}").write_text(text, "utf-8")

    return change


def pickled(folder: Path) -> None:
    (folder / "raw_data.pkl").write_bytes(b"\x80\x04]\x94.")


def twice(folder: Path) -> None:
    (folder / "trained_model.json").write_text('{"version": "1.2", "model_name": "loan", "model_version": "8"}')


def huge(folder: Path) -> None:
    with (folder / "raw_data.yaml").open("ab") as file:
        file.truncate(50 << 20)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "malformed JSON": (written("raw_data", '{"version": "1.2",\n "dataset_name": }\n', ".json"), r"raw_data\.json:2: "),
    "malformed YAML": (written("raw_data", 'version: "1.2"\nschema: [a, b\n'), r"raw_data\.yaml:[123]: "),
    "unknown version": (written("raw_data", 'version: "9.7"\n'), r"raw_data\.yaml:1: .*9\.7"),
    "contradiction": (twice, r"trained_model\.yaml: trained_model is there twice"),
    "cyclic reference": (written("raw_data", "a: &a\n  b: *a\n"), r"raw_data\.yaml:\d+: "),
    "50 MB": (huge, r"raw_data\.yaml is larger than 8 MiB"),
    "YAML bomb": (written("raw_data", BOMB), r"raw_data\.yaml:\d+: "),
    "tag": (written("raw_data", "version: !!python/object/apply:os.system [touch pwned]\n"), r"raw_data\.yaml:1: "),
    "pickle": (pickled, r"raw_data\.pkl is pickled"),
    "pickled content": (lambda f: (f / "raw_data.yaml").write_bytes(b"\x80\x04]\x94."), r"raw_data\.yaml"),
    "no model": (lambda folder: (folder / "trained_model.yaml").unlink(), "holds no trained_model.yaml"),
    "no folder": (shutil.rmtree, "is not a folder"),
}  # fmt: skip


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_line_with_its_place(loan: Path, name: str, style: str) -> None:
    change, place = BAD[name]
    change(loan)
    done = check(loan, "--format", style)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("bestbefore: ")
    assert re.search(place, line), line
    assert "Traceback" not in line
    assert not Path("pwned").exists()


# -- several folders, and pre-commit -----------------------------------------------------------------------------


@pytest.fixture
def two(broken: Path) -> tuple[Path, Path]:
    """The broken example, and one in which nothing is wrong."""
    whole = broken.with_name("whole")
    shutil.copytree(LOAN, whole)
    return broken, whole


def test_of_several_folders_each_is_checked_by_itself(two: tuple[Path, Path]) -> None:
    first, second = told(*two)
    assert (first["summary"]["mismatch"], second["summary"]["mismatch"]) == (3, 0)
    document = told(*two, style="sarif")
    require_sarif(document)
    assert len(document["runs"]) == 2
    root = suites(*two)
    assert int(root.get("tests", "0")) == sum(sum(one["summary"].values()) for one in (first, second))
    names = [suite.get("name") for suite in root]
    assert len(set(names)) == len(names)
    text = check(*two)
    assert text.exit_code == 1
    assert [line for line in text.stdout.splitlines() if line in map(str, two)] == [str(folder) for folder in two]
    assert check(two[1], two[1] / "raw_data.yaml").exit_code == 0
    (two[1] / "raw_data.yaml").write_text("version: [")
    unreadable = check(*two, "--format", "json")
    assert (unreadable.exit_code, unreadable.stdout) == (2, "")


def hook() -> dict[str, Any]:
    (found,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def test_the_hook_has_what_pre_commit_asks_for_and_takes_descriptors_only() -> None:
    found = hook()
    assert {"id", "name", "entry", "language"} <= found.keys()
    assert found["pass_filenames"]
    assert found["require_serial"], "several processes would check one folder at the same time"
    for kind in KINDS:
        for suffix in (".yaml", ".yml", ".json"):
            assert re.search(found["files"], f"models/loan/{kind}{suffix}")
            assert re.search(found["files"], f"{kind}{suffix}")
    for other in ("README.md", "untrained_model.yaml", "trained_model.yaml.bak", "trained_model/x.yaml"):
        assert not re.search(found["files"], other)


def test_the_hook_stops_a_commit_that_breaks_a_descriptor(two: tuple[Path, Path]) -> None:
    """Run as pre-commit does: the entry as a command, the changed files behind it, in the root of the repository."""
    found, root = hook(), two[0].parent
    words = shlex.split(found["entry"])
    program = Path(sys.executable).with_name(words[0])
    assert program.is_file(), "the command comes with the package"

    def run(*files: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *words[1:], *files], cwd=root, capture_output=True, text=True, check=False)

    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if re.search(found["files"], p.name))
    assert len(files) == 16
    good = run(*(name for name in files if name.startswith("whole")))
    assert good.returncode == 0, good.stderr
    assert good.stdout.count(" unknown\n") == 1
    bad = run(*files)
    assert bad.returncode == 1
    assert "threshold-coherence" in bad.stdout
