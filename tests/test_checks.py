"""What holds for every check: no evidence is never ok, a replay says the same, each has its page."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from infra.check_pages import pages
from infra.cli import main
from models.assessor import assess
from models.checks.catalogue import BY_ID, CHECKS, design, fleet, live, with_alias
from models.checks.check import Check
from models.checks.observed import Observed
from models.checks.workplace import Workplace
from models.columns import Inferences, Subject
from models.profile import Profile
from models.reference import Reference
from models.subject_state import State, fresh

ROOT = Path(__file__).parents[1]
HOUR = 3_600_000_000
TWENTY = (
    "reference-closure", "interface-compatibility", "capacity-and-deadline", "runtime-fingerprint",
    "observability-coverage", "threshold-coherence", "completeness-and-staleness", "domain-and-schema",
    "missing-and-special-values", "unit-scale-encoding", "pipeline-skew", "model-identity", "covariate-drift",
    "embedding-drift", "label-and-prediction-shift", "quality-and-time-to-threshold", "calibration-and-concept",
    "latency-rate-buffering", "failure-and-default-output", "cause-and-cure",
)  # fmt: skip
TEC = [
    "tec:1", "tec:2", "tec:3A", "tec:3B", "tec:3C", "tec:4A", "tec:4B", "tec:4C", "tec:5A", "tec:5B", "tec:5C", "tec:6",
    "tec:7", "tec:8", "tec:9", "tec:10", "tec:11", "tec:12", "tec:13", "tec:14A", "tec:14B", "tec:14C", "tec:15",
    "tec:16",
]  # fmt: skip
REFERENCE = Reference("m", "1", window_us=HOUR)


def empty(window: Profile | None = None) -> Observed:
    return Observed(
        reference=REFERENCE, subject=Subject("m", "1"), window=window or Profile(), block=None, start_us=0, end_us=HOUR
    )


def test_the_twenty_are_there_in_their_order() -> None:
    assert tuple(check.id for check in CHECKS if not check.id.startswith("user")) == TWENTY


@pytest.mark.parametrize("alias", TEC)
def test_every_rule_of_tec_has_its_check(alias: str) -> None:
    assert with_alias(alias) is not None


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_without_data_a_check_is_unknown_and_says_why(check: Check) -> None:
    if check.id.startswith("user"):
        return  # only what was declared is checked
    told = [
        *(check.design(Workplace({})) if check.design else ()),
        *(check.live(empty()) if check.live else ()),
        *(check.fleet(empty()) if check.fleet else ()),
    ]
    assert told
    assert {v.verdict for v in told} == {"unknown"}
    assert all(v.reason for v in told)


def test_nothing_is_said_about_a_model_nobody_described() -> None:
    stranger = msgspec.structs.replace(REFERENCE, registered=False)
    seen = msgspec.structs.replace(stranger)
    observed = Observed(
        reference=seen, subject=Subject("m", "1"), window=Profile(), block=Profile(), start_us=0, end_us=HOUR
    )
    assert live(observed) == fleet(observed) == []


def test_a_check_that_fails_is_unknown_and_the_others_go_on() -> None:
    trees = {"production_environment": {"computing_resources": 5, "bestbefore": {"latency": [1]}}}
    verdicts = design(Workplace(trees))
    assert {v.check for v in verdicts} >= {"reference-closure", "completeness-and-staleness"}
    assert not any(v.verdict == "ok" for v in verdicts)


def hours(seed: int, reference: Reference) -> list[Profile]:
    rng = np.random.default_rng(seed)
    made = []
    for hour in range(20):
        profile = Profile()
        n = 300
        columns = {"income": rng.normal(3.0 if hour > 12 else 0.0, 1, n)}
        profile.add(Inferences(offset=np.arange(n), time=np.arange(n), numeric=columns), reference)
        made.append(profile)
    return made


def test_the_same_stream_gives_the_same_ids() -> None:
    from models.reference import NumericFeature  # noqa: PLC0415 -- only here

    feature = NumericFeature(edges=(-1.0, 0.0, 1.0), shares=(0.16, 0.34, 0.34, 0.16), n=5000)
    seasonless = {"system_context": {"bestbefore": {"season": "1 hour"}}}
    reference = msgspec.structs.replace(REFERENCE, numeric={"income": feature}, descriptors=seasonless)
    runs = []
    for _ in range(2):
        state, notes = fresh(reference, ["s/0"]), []
        for hour, profile in enumerate(hours(1, reference)):
            state.assembly.add(hour * HOUR, hour * HOUR, Profile.unpack(profile.pack()))
            state.assembly.heard("s/0", (hour + 1) * HOUR)
            notes += assess(state, Subject("m", "1"), reference)[0]
            state = State.decode(state.encode())
        runs.append(notes)
    assert runs[0] == runs[1]
    assert [n for n in runs[0] if n.kind == "mismatch"]


def test_pages_are_those_of_the_checks_and_complete() -> None:
    for name, text in pages().items():
        path = ROOT / "docs" / "reference" / name
        assert path.is_file(), f"write the pages anew: python -m infra.check_pages ({name} is missing)"
        assert path.read_text("utf-8") == text, f"write the pages anew: python -m infra.check_pages ({name})"
    stray = {p.stem for p in (ROOT / "docs" / "reference" / "checks").glob("*.md")} - BY_ID.keys()
    assert not stray
    for check in CHECKS:
        lines = check.page.splitlines()
        assert lines[0].endswith("?"), f"{check.id}: the first line asks what the check answers"
        assert all(f"| {row} |" in check.page for row in ("left", "right", "mismatch", "unknown")), check.id
        assert check.owner
        assert check.remedy


def test_explain_shows_the_page_by_name_and_by_the_rule_of_tec() -> None:
    for name in ("capacity-and-deadline", "tec:12"):
        done = CliRunner().invoke(main, ["check", "--explain", name])
        assert done.exit_code == 0, done.output
        assert "capacity-and-deadline" in done.output
    done = CliRunner().invoke(main, ["check", "--explain", "nonsense"])
    assert done.exit_code == 2
    assert "there are reference-closure" in done.output


def test_check_of_the_example_finds_nothing_and_says_what_is_missing() -> None:
    folder = str(ROOT / "examples" / "loan")
    done = CliRunner().invoke(main, ["check", folder, "--format", "json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["summary"]["mismatch"] == 0
    assert told["summary"]["ok"] > 20
    assert told["missing"]
