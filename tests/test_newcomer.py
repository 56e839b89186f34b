"""README.md, "Your own model, in ten minutes", done by somebody who has read nothing else.

A new virtual environment, a model and logs of the newcomer's own, the commands of the page. Only names of fields are
changed in the files that the page shows, as it says. uv stands in for pip, which does the same in five times the time.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from uv import find_uv_bin

from tests.test_docs import ROOT, blocks

SECTION = re.compile(r"^## Your own model, in ten minutes\n(.*?)^## ", re.M | re.S)
MOST = 10  # commands from nothing to a forecast, live included
DAYS, A_DAY, START = 50, 150, datetime(2026, 7, 1, tzinfo=UTC)
NEEDED = ("client", "streams", "agents", "models", "infra", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")

# What the page tells the newcomer to change: the names of the fields, in the files that it shows.
EDITS = {
    "sources.yaml": (
        ("topics: predictions ", "topics: triage "),
        ("{fixed: parcel}", "record.model.name"),
        ("record.release", "record.model.build"),
        ("id: record.parcel               #", "id: record.ticket.no            #"),
        ("record.ts ", "record.timestamp "),
        ("latency_ms: record.took_ms", "latency_s: record.seconds"),
        (
            "{distance_km: input.distance_km, stops: input.stops}",
            "{words: ticket.words, age_days: ticket.age, customers: ticket.customers}",
        ),
        ("label: eta.verdict, scores: eta.p_late, classes: [on-time, late]",
         "label: answer, scores: urgency, classes: [can-wait, urgent]"),
        ("topics: deliveries ", "topics: closed-tickets "),
        ("id: record.parcel\n", "id: record.no\n"),
        ("record.at", "record.closed"),
        ("{label: arrived}", "{label: it_was}"),
    ),
    "people.yaml": (("parcels@example.org", "desk@example.org"), ("threshold: 0.78", "threshold: 0.8")),
}  # fmt: skip


def tickets(rng: np.random.Generator, n: int, change: float = 0.0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Support tickets and whether they were urgent; with `change`, long ones are less and less so."""
    words, age, customers = rng.gamma(2, 60, n), rng.gamma(1.5, 2, n), rng.poisson(3, n)
    score = (0.02 - 0.035 * change) * (words - 110) + 0.7 * (customers - 3) + 0.3 * (age - 3)
    table = np.stack([words, age, customers], 1).astype(np.float32)
    return table, rng.random(n) < 1 / (1 + np.exp(-2.5 * score))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a clone that an installation needs, and in it the newcomer's own: model.onnx, logs/."""
    folder = tmp_path_factory.mktemp("clone")
    for name in NEEDED:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        _ = shutil.copytree(source, folder / name, ignore=ignore) if source.is_dir() else shutil.copy(source, folder)
    rng = np.random.default_rng(8)
    table, urgent = tickets(rng, 4000)
    model = GradientBoostingClassifier(n_estimators=40).fit(table, np.where(urgent, "urgent", "can-wait"))
    (folder / "model.onnx").write_bytes(to_onnx(model, table[:1]).SerializeToString())
    (folder / "logs").mkdir()
    asked, told = [], []
    for day in range(DAYS):
        table, urgent = tickets(rng, A_DAY, change=max(0.0, (day - 25) / 70))
        sure = model.predict_proba(table)[:, 1]
        for i, row in enumerate(table.tolist()):
            at = START + timedelta(days=day, seconds=86400 * (i + 0.5) / A_DAY)
            known = at + timedelta(hours=float(rng.gamma(2, 8)))
            ticket = {"no": day * A_DAY + i, "words": row[0], "age": row[1], "customers": int(row[2])}
            answer = {"answer": "urgent" if sure[i] > 0.5 else "can-wait", "urgency": float(sure[i])}
            about = {"timestamp": at.timestamp(), "logger": "triage.api", "seconds": float(rng.gamma(4, 0.001))}
            asked.append({**about, "model": {"name": "triage", "build": 14}, "ticket": ticket, **answer})
            truth = "urgent" if urgent[i] else "can-wait"
            told.append({"closed": known.isoformat(), "no": ticket["no"], "it_was": truth, "by": "desk"})
    (folder / "logs/triage.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    told.sort(key=lambda line: line["closed"])
    (folder / "logs/closed-tickets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    return folder


def the_page() -> tuple[dict[str, str], list[list[str]]]:
    """The files that the section shows, and the commands of each of its `console` blocks."""
    readme = ROOT / "README.md"
    found = SECTION.search(readme.read_text("utf-8"))
    assert found is not None, "the newcomer looks for this heading"
    mine = [block for block in blocks(readme) if block.body in found[1]]
    files = {block.file: block.body for block in mine if block.file}
    return files, [re.findall(r"^\$ (.+)$", block.body, re.M) for block in mine if block.kind == "console"]


def typed(folder: Path, commands: list[str]) -> subprocess.CompletedProcess[str]:
    """The commands as a person types them, in one shell; each is told before its output."""
    shell = [
        f'python3() {{ "{sys.executable}" "$@" --without-pip; }}',
        # The environment is named, because uv would else take the one that it is installed in.
        f'pip() {{ "{find_uv_bin()}" --quiet pip "$@" --python env/bin/python; }}',
        "set -e",
    ]
    lines = [line for command in commands for line in (f"echo '$ '{json.dumps(command)}", command)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BESTBEFORE_", "PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        ["sh", "-c", "\n".join(shell + lines)], cwd=folder, env={**kept, "OMP_NUM_THREADS": "1"}, capture_output=True,
        text=True, timeout=280, check=False,
    )  # fmt: skip


def test_from_nothing_to_a_forecast_by_the_page_alone(clone: Path) -> None:
    """Ten commands at most; the last but the live ones ends with a quality, a best-before date and a plot."""
    files, (install, look, live) = the_page()
    assert len(install) + len(look) + len(live) <= MOST
    for name, edits in EDITS.items():
        text = files[name]
        for old, new in edits:
            assert text.count(old) == 1, f"{name} of the page has {old!r} no more"
            text = text.replace(old, new)
        (clone / name).write_text(text)
    began = time.monotonic()
    done = typed(clone, [*install, *look])
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.split("$ ")
    assert f"{2 * DAYS * A_DAY} records: {DAYS * A_DAY} inferences" in said[3]
    assert "0 refused" in said[3]
    assert "triage 14: 0 mismatches" in said[5]
    ended = said[6]
    assert re.search(r"quality +accuracy 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\], from labels and confidences", ended), ended
    assert re.search(r"best before +good for at least until 2026-\d\d-\d\d", ended), ended
    assert re.search(r"unknown +\S.+: no sampled inputs; send", ended), ended
    plot = clone / "seen" / "triage-14.png"
    assert f"plot: {plot.relative_to(clone)}" in ended
    assert plot.stat().st_size > 10_000
    print(f"{len(install) + len(look)} commands in {time.monotonic() - began:.0f} s")  # noqa: T201 -- shown with -s


def test_without_labels_the_newcomer_is_told_what_to_add(clone: Path) -> None:
    """The same commands where nobody knows the truth: no number is made up, and what is missing has a name."""
    _, (_, look, _) = the_page()
    (clone / "logs/closed-tickets.jsonl").rename(clone / "closed-tickets.jsonl")
    again = [
        command.replace(" descriptors", " unlabelled").replace("--out seen", "--out dark")
        for command in (look[1], look[3])
    ]
    done = typed(clone, [". env/bin/activate", *again])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no ground truth is recorded, so quality will be unknown: add labels, or fit" in done.stdout
    assert re.search(r"quality +accuracy unknown: no calibration registered .+ and no labels", done.stdout)
    assert re.search(r"best before +unknown: needs 20 assessed windows", done.stdout)
    assert "no labels; send the truth" in done.stdout
