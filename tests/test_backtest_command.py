"""`bestbefore backtest` from the file to the plot: a series of quality, a table to retrain on, a recording."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from infra.cli import main

START = datetime(2026, 1, 1, tzinfo=UTC)
DESCRIPTORS = Path(__file__).parents[1] / "examples" / "digits" / "descriptors"
QUICK = ("--policies", "never,periodic,ours,oracle")


def command(*words: object) -> Result:
    return CliRunner().invoke(main, ["backtest", *map(str, words)], env={"BESTBEFORE_CONFIG": None})


def series(path: Path, versions: int = 2, windows: int = 24) -> Path:
    """Quality per window of some versions that each decay after ten windows."""
    rng = np.random.default_rng(4)
    rows = ["window,version,n,accuracy"]
    for version in range(versions):
        for age in range(windows):
            quality = 0.93 - 0.008 * max(age - 10 - 2 * version, 0)
            rows.append(f"{version * windows + age},{version + 1},300,{rng.binomial(300, quality) / 300:.4f}")
    path.write_text("\n".join(rows) + "\n")
    return path


def table(rows: int = 5000) -> pa.Table:
    """A concept that turns slowly; every fifty minutes a row."""
    rng = np.random.default_rng(5)
    x, turn = rng.normal(size=(rows, 3)), 2 * np.arange(rows) / rows
    y = x[:, 0] * np.cos(turn) + x[:, 1] * np.sin(turn) + 0.3 * rng.normal(size=rows) > 0
    return pa.table(
        {
            "at": [START + timedelta(minutes=50 * i) for i in range(rows)],
            **{name: x[:, k] for k, name in enumerate("abc")},
            "colour": pa.array(["red", None, "green"] * rows).slice(0, rows),
            "bought": ["yes" if v else "no" for v in y],
        }
    )


def recording(folder: Path, days: int = 40, per_day: int = 15) -> Path:
    """Two versions of a model, twenty days each, whose labels come five days late."""
    rng, lines = np.random.default_rng(6), []
    for i in range(days * per_day):
        time, version = START + timedelta(days=i / per_day), "12"[i >= days * per_day // 2]
        age = (i / per_day) % (days / 2)
        right = rng.random() < 0.95 - 0.01 * max(age - 5, 0)
        event = {"id": f"r{i}", "time": stamp(time), "model": "digits", "version": version, "output": {"label": "7"}}
        label = {"inference_id": f"r{i}", "time": stamp(time + timedelta(days=5)), "label": "7" if right else "1"}
        lines += [json.dumps(event), json.dumps(label)]
    path = folder / "events.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def stamp(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_series_of_quality(tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = command(
        series(tmp_path / "quality.csv"), "--threshold", 0.86, "--lead-time", "3 windows", "--label-delay", "2 windows",
        "--cost-retrain", 3, "--format", "json", "--out", out, *QUICK,
    )  # fmt: skip
    found = document(told)
    assert "ages as the 2 of the history did" in found["assumed"]
    assert found["setting"] == {
        "threshold": 0.86, "lead": 3, "delay": 2, "cost_retrain": 3.0, "cost_degraded_per_day": 1.0, "cost_error": 0.0,
        "window_days": 1.0,
    }  # fmt: skip
    assert found["windows"] == {"tuned_on": 48, "compared": 96}
    assert list(found["policies"]) == ["never", "periodic", "ours", "oracle"]
    mine = found["policies"]["ours"]
    assert mine["cost"] < found["policies"]["never"]["cost"]
    assert len(mine["quality"]) == 96
    assert {r["serves"] - r["asked"] for r in mine["retrainings"]} == {4}
    assert [d["against"] for d in found["ours"]] == ["never", "periodic"]
    assert found["ours"][0]["verdict"] == "wins"
    assert json.loads((out / "backtest.json").read_text()) == found
    png = (out / "backtest.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 20_000


def test_a_table_is_retrained_on(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "rows.parquet")
    words = (
        tmp_path / "rows.parquet", "--target", "bought", "--time", "at", "--window", "4 days", "--lead-time", "5 days",
        "--label-delay", "4 days", "--cost-error", 1, "--cost-retrain", 40, "--memory", 1000, *QUICK,
    )  # fmt: skip
    found = document(command(*words, "--format", "json"))
    assert (found["setting"]["lead"], found["setting"]["delay"]) == (2, 1)
    assert "hist-gradient-boosting on the last 1000 labelled rows" in found["assumed"]
    assert found["policies"]["oracle"]["regret"] == 0
    assert found["policies"]["never"]["error"] > found["policies"]["oracle"]["error"] + 0.05
    text = command(*words, "--model", "logistic")
    assert text.exit_code == 0
    assert "logistic on the last 1000" in text.stdout
    assert "cost difference" in text.stdout


def test_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(table(2000), tmp_path / "rows.parquet")
    (tmp_path / "my_own_stand_in.py").write_text(
        "class Yes:\n    def fit(self, x, y): ...\n    def predict(self, x): return [1] * len(x)\n"
    )
    found = document(
        command("rows.parquet", "--target", "bought", "--time", "at", "--window", "100", "--cost-error", 1,
                "--model", "my_own_stand_in:Yes", "--memory", 500, "--format", "json", *QUICK)
    )  # fmt: skip
    assert found["policies"]["never"]["error"] == pytest.approx(0.5, abs=0.05)
    assert found["policies"]["oracle"]["retrains"] == 0


def test_a_recording_with_descriptors(tmp_path: Path) -> None:
    found = document(command(recording(tmp_path), "--descriptors", DESCRIPTORS, "--format", "json", *QUICK))
    setting = found["setting"]
    assert (setting["threshold"], setting["lead"], setting["delay"]) == (0.85, 7, 5)
    assert (setting["cost_retrain"], setting["cost_degraded_per_day"]) == (1.0, 0.5)
    assert "ages as the 2 of the history did, up to 20 windows old" in found["assumed"]
    assert "600 labels, nine in ten within 5.0 days" in found["assumed"]


def test_without_the_extra_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "sklearn.ensemble"):
        monkeypatch.setitem(sys.modules, name, None)
    words = ("--threshold", 0.86, "--policies", "never,oracle", "--out", tmp_path / "out")
    drawn = command(series(tmp_path / "quality.csv"), *words)
    assert drawn.exit_code == 0
    assert "no plot: matplotlib is not installed; pip install 'bestbefore[demo]'" in drawn.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["backtest.json"]
    pq.write_table(table(2000), tmp_path / "rows.parquet")
    fitted = command(tmp_path / "rows.parquet", "--target", "bought", "--window", 100, "--memory", 500, *words)
    assert fitted.exit_code == 2
    assert "needs scikit-learn: pip install 'bestbefore[demo]'" in fitted.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("q.csv",), "nothing says what bad quality costs"),
        (("q.csv", "--threshold", 0.9, "--policies", "never,often"), "no policy often; there are never, periodic"),
        (("q.csv", "--threshold", 0.9, "--lead-time", "3 moons"), "--lead-time: '3 moons' is not a duration"),
        (("q.csv", "--threshold", 0.9, "--lead-time", "3 days"), "how long a window is, nobody says"),
        (("q.csv", "--threshold", 0.9, "--label-delay", "40 windows"), "labels come 40 windows late"),
        (("q.csv", "--threshold", 0.9, "--lead-time", "60 windows"), "no retraining could take effect"),
        (("q.csv", "--target", "truth", "--threshold", 0.9), "no column 'truth' for --target; there are window"),
        (("rows.csv", "--threshold", 0.9), "no column `accuracy`. Name the column of the truth with --target"),
        (("rows.csv", "--target", "y", "--time", "when", "--threshold", 0.9), "no column 'when' for --time"),
        (("rows.csv", "--target", "y", "--time", "a", "--threshold", 0.9), "column 'a' holds no times"),
        (("rows.csv", "--target", "y", "--threshold", 0.9), "0 windows to compare in, at least 12"),
        (("rows.csv", "--target", "y", "--threshold", 0.9, "--window", "1 day"), "needs the column of times"),
        (("rows.csv", "--target", "y", "--threshold", 0.9, "--window", "2", "--model", "best"), "is none of hist"),
        (("rows.csv", "--target", "y", "--threshold", 0.9, "--window", "2", "--model", "no:such"), "cannot be used"),
        (("percent.csv", "--threshold", 0.9), "accuracy must lie between 0 and 1"),
        (("words.csv", "--threshold", 0.9), "column `accuracy` must hold numbers"),
        (("gaps.csv", "--threshold", 0.9), "column `window` must hold whole numbers"),
        (("silent.jsonl", "--threshold", 0.9), "no label is about a recorded inference"),
        (("broken.parquet", "--threshold", 0.9), "broken.parquet cannot be read"),
        (("nowhere.csv", "--threshold", 0.9), "does not exist"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    series(tmp_path / "q.csv", versions=1, windows=30)
    (tmp_path / "rows.csv").write_text("a,y\n" + "1.5,0\n2.5,1\n" * 50)
    (tmp_path / "percent.csv").write_text("window,accuracy\n" + "".join(f"{k},93\n" for k in range(20)))
    (tmp_path / "words.csv").write_text("window,accuracy\n1,good\n2,bad\n")
    (tmp_path / "gaps.csv").write_text("window,accuracy\n1.5,0.9\n2,0.9\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    event = {"id": "r1", "time": stamp(START), "model": "m", "version": "1", "output": {"label": "7"}}
    (tmp_path / "silent.jsonl").write_text(json.dumps(event) + "\n")
    result = command(*words)
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
