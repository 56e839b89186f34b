"""An opset that is too new, an exchanged file, a GPU that was declared and a CPU that serves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from models.checks.runtime_fingerprint import CHECK
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.inspecting import inspect
from models.inspection import Inspection
from models.package_names import compatible, package
from models.profile import Profile
from models.reference import EmbeddingReference
from tests.coherent import Trees, coherent
from tests.observing import by_field, declared, embedded, observed, small_reference, texts
from tests.test_inspecting import CONTENT, linear

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
EMBEDDING = EmbeddingReference(mean=(0.0, 0.0), sd=(1.0, 1.0), n=100, edges=(1.0,), shares=(0.5, 0.5))


def designed(trees: Trees, inspection: Inspection | None = None) -> dict[str, Verdict]:
    return by_field(CHECK.design(Workplace(trees, inspection=inspection)))  # type: ignore[misc]


def lived(
    own: dict[str, Any], inspection: Inspection | None = None, profile: Profile | None = None, **model: Any
) -> dict[str, Verdict]:
    reference = declared(small_reference(embedding=EMBEDDING), production_environment=own, trained_model=model)
    seen = observed(profile or Profile(), reference, inspection=inspection)
    return by_field(CHECK.live(seen))  # type: ignore[misc]


def sampled(*providers: str) -> Profile:
    n = len(providers)
    origin = texts([f"{p}|8" for p in providers])
    skew, cosine = np.full(n, 1e-5), np.ones(n)
    reference = small_reference(embedding=EMBEDDING)
    return embedded(reference, np.zeros((n, 2), np.float32), skew=skew, cosine=cosine, origin=origin)


def wrong(found: dict[str, Verdict]) -> list[str]:
    return [name for name, v in found.items() if v.verdict == "mismatch"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("TensorFlow 2.x", "tensorflow", True),
        ("TensorFlow 2.x", "tensorflow==2.15.1", True),
        ("TensorFlow 1.x", "tensorflow 2.15", False),
        ("torch>=2", "PyTorch 2.3.1", True),
        ("torch<2", "PyTorch 2.3.1", False),
        ("torch~=2.1", "PyTorch 2.0", False),
        ("torch>=2.1.3", "PyTorch 2.1", None),
        ("torch>=2", "torch<3", None),
        ("scikit-learn", "Scikit Learn 1.5", True),
        ("Python (3.11)", "python 3", True),
        ("C++ 17", "cpp", True),
    ],
)
def test_names_without_case_versions_where_both_have_them(one: str, other: str, same: bool | None) -> None:
    assert package(one).name == package(other).name
    assert compatible(package(one), package(other)) is same
    assert compatible(package(other), package(one)) is same


def test_a_name_is_not_a_version() -> None:
    assert package("Caffe2").name != package("Caffe").name
    assert package("C").name != package("C++").name != package("C#").name


def test_languages_and_frameworks_of_the_model_are_at_hand() -> None:
    trees = coherent()
    assert {v.verdict for v in designed(trees).values() if v.field != "digest"} == {"ok"}
    trees["trained_model"]["ml_frameworks"] = ["Scikit-Learn 1.5", "torch"]
    found = designed(trees)
    assert wrong(found) == ["ml_frameworks torch"]
    assert found["ml_frameworks torch"].aliases == ("tec:8",)
    trees["development_environment"]["programming_languages"] = ["Julia"]
    assert wrong(designed(trees)) == ["programming_languages Python", "ml_frameworks torch"]


def test_a_list_that_is_absent_is_unknown_and_an_empty_one_asks_for_nothing() -> None:
    trees = coherent()
    del trees["development_environment"]["ml_frameworks"]
    assert designed(trees)["ml_frameworks"].verdict == "unknown"
    trees["trained_model"]["ml_frameworks"] = []
    assert "ml_frameworks" not in designed(trees)
    del trees["trained_model"]["ml_frameworks"]
    assert "trained_model.ml_frameworks" in designed(trees)["ml_frameworks"].reason


@pytest.mark.parametrize(
    ("opset", "version", "outcome"),
    [(21, "1.20", "ok"), (22, "1.20.1", "mismatch"), (22, "1.21", "ok"), (22, "0.9", "unknown")],
)
def test_an_opset_newer_than_the_declared_runtime(opset: int, version: str, outcome: str) -> None:
    trees = coherent()
    trees["production_environment"]["bestbefore"]["runtimes"] = {"onnxruntime": version}
    found = designed(trees, inspect(linear(opset=opset)))
    assert found["declared opset" if outcome != "unknown" else "declared runtime"].verdict == outcome
    assert found.get("opset") is not None
    assert found["opset"].verdict == "ok"
    trees["trained_model"]["bestbefore"] |= {"opset": opset, "ir_version": 8}
    without_file = designed(trees)
    assert without_file["declared opset" if outcome != "unknown" else "declared runtime"].verdict == outcome


def test_an_opset_that_nothing_here_loads_is_one_finding() -> None:
    found = designed(coherent(), inspect(linear(opset=60)))
    assert wrong(found) == ["opset"]
    assert "the model has opset 60" in found["opset"].message
    assert found["file"].verdict == "unknown"


def test_an_exchanged_file_is_rolled_back() -> None:
    trees = coherent()
    own = trees["trained_model"]["bestbefore"]
    own["digest"] = inspect(CONTENT).digest
    assert designed(trees, inspect(CONTENT))["digest"].verdict == "ok"
    own["digest"] = inspect(CONTENT).digest.removeprefix("sha256:").upper()
    assert designed(trees, inspect(CONTENT))["digest"].verdict == "ok"
    for found in (designed(trees, inspect(linear())), lived({}, inspect(linear()), digest=own["digest"])):
        assert wrong(found) == ["digest"]
        assert (found["digest"].action, found["digest"].severity) == ("roll-back", "critical")


def test_a_file_that_cannot_be_loaded() -> None:
    found = designed(coherent(), inspect(CONTENT[:1000]))
    assert wrong(found) == ["file"]
    assert "cannot be loaded" in found["file"].message
    unread = designed(coherent(), Inspection(error="the file cannot be read: no such file"))
    assert not wrong(unread)
    assert unread["digest"].reason == "the file cannot be read: no such file"


def test_one_event_shows_that_the_cpu_serves_where_a_gpu_was_declared() -> None:
    found = lived({"providers": [CUDA, CPU]}, profile=sampled(CPU))["provider"]
    assert found.verdict == "mismatch"
    assert found.message == (
        f"{CUDA} is declared (production_environment.bestbefore.providers), but 1 of 1 sampled inputs ran on {CPU}"
    )
    assert found.action == "fix-pipeline"


def test_a_share_of_the_servers_without_their_gpu() -> None:
    found = lived({"providers": [CUDA]}, profile=sampled(*[CUDA] * 30, *[CPU] * 10))["provider"]
    assert found.verdict == "mismatch"
    assert found.effect is not None
    assert (found.effect.low or 0) < 0.25 < (found.effect.high or 0)


@pytest.mark.parametrize("providers", [[CPU], ["cpu"]])
def test_a_cpu_declaration_on_a_cpu_is_silent(providers: list[str]) -> None:
    assert lived({"providers": providers}, profile=sampled(CPU, CPU))["provider"].verdict == "ok"
    assert lived({"providers": providers}, inspect(CONTENT))["provider"].verdict == "ok"


@pytest.mark.parametrize(("policy", "outcome"), [("prefer", "mismatch"), ("", "mismatch"), ("cpu", "unknown")])
def test_the_session_of_the_worker_counts_where_it_tried_the_gpu(policy: str, outcome: str) -> None:
    found = lived({"providers": [CUDA]}, Inspection(providers=(CPU,), policy=policy))["provider"]
    assert found.verdict == outcome


def test_without_a_declaration_or_a_file_nothing_is_ok() -> None:
    assert {v.verdict for v in lived({}).values()} == {"unknown"}
    assert {v.verdict for v in lived({"providers": [CUDA]}).values()} == {"unknown"}


def test_the_descriptors_of_the_digits_fit_their_file() -> None:
    folder = Path(__file__).parents[1] / "examples" / "digits" / "descriptors"
    trees = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in folder.glob("*.yaml")}
    assert not wrong(designed(trees, inspect(CONTENT)))
