"""Weights swapped under one version, a digest that is not the declared one, a canary that got more than its share."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from models.checks.model_identity import CHECK
from models.checks.verdict import Verdict
from models.columns import Categories, Served
from models.inspecting import inspect
from models.profile import Profile
from models.reference import Reference
from streams.descriptor_files import load_reference
from tests.observing import by_field, declared, observed, profile_of, small_reference

ROOT = Path(__file__).parents[1]
REFERENCE = declared(
    small_reference(), trained_model={"digest": "sha256:aa"}, production_environment={"traffic": {"7": 0.9, "8": 0.1}}
)


def fleet(shares: dict[str, float], n: int = 2000, reference: Reference = REFERENCE) -> dict[str, Verdict]:
    names = tuple(shares)
    codes = np.random.default_rng(0).choice(len(names), n, p=list(shares.values())).astype(np.int32)
    made = Profile()
    made.add(Served(offset=np.arange(n), time=np.arange(n), version=Categories(codes, names)), reference)
    assert CHECK.fleet is not None
    return by_field(CHECK.fleet(observed(made, reference)))


def test_ten_percent_declared_and_thirty_served() -> None:
    assert {v.verdict for v in fleet({"7": 0.9, "8": 0.1}).values()} == {"ok"}
    found = fleet({"7": 0.7, "8": 0.3})
    assert found["traffic 8"].verdict == "mismatch"
    assert "serves 0.3" in found["traffic 8"].message


def test_a_version_nobody_declared() -> None:
    assert "no share is declared" in fleet({"7": 0.8, "8": 0.1, "9": 0.1})["traffic 9"].message


def digests(*names: str) -> dict[str, Verdict]:
    values = tuple(dict.fromkeys(names))
    column = Categories(np.array([values.index(name) for name in names], np.int32), values)
    made = profile_of(REFERENCE, digest=column, numeric={"x": np.zeros(len(names))})
    return by_field(CHECK.live(observed(made, REFERENCE)))  # type: ignore[misc]


def test_the_digest_in_the_events() -> None:
    assert digests(*["sha256:AA"] * 100)["digest"].verdict == "ok"
    found = digests(*["sha256:aa"] * 95, *["sha256:bb"] * 5)["digest"]
    assert (found.verdict, found.action, found.severity) == ("mismatch", "roll-back", "critical")
    assert "sha256:bb" in found.message


@pytest.fixture(scope="module")
def digits() -> tuple[Reference, bytes]:
    folder = ROOT / "examples/digits"
    return load_reference(folder / "descriptors"), (folder / "digits.onnx").read_bytes()


def replayed(reference: Reference, content: bytes) -> dict[str, Verdict]:
    own: dict[str, Any] = reference.descriptors["trained_model"]["bestbefore"]
    outputs = {"scores": "scores", "embedding": "embedding"}
    inspection = inspect(content, golden_records=own["golden_records"], outputs=outputs)
    seen = observed(Profile(), reference, block=None, inspection=inspection)
    return by_field(CHECK.live(seen))  # type: ignore[misc]


def test_golden_records_of_the_described_file_hold(digits: tuple[Reference, bytes]) -> None:
    assert replayed(*digits)["golden"].verdict == "ok"


def test_weights_swapped_under_the_same_version(digits: tuple[Reference, bytes]) -> None:
    reference, content = digits
    model = onnx.load_model_from_string(content)
    weight = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    values = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array((values * 0.9).astype(values.dtype), weight.name))
    found = replayed(reference, model.SerializeToString())["golden"]
    assert (found.verdict, found.action) == ("mismatch", "roll-back")
    assert "other weights under the same version" in found.message


def test_a_file_that_cannot_be_loaded_is_no_identity(digits: tuple[Reference, bytes]) -> None:
    assert replayed(digits[0], b"not a model")["golden"].verdict == "mismatch"


def test_without_golden_records_it_is_unknown() -> None:
    reference = msgspec.structs.replace(REFERENCE)
    seen = observed(Profile(), reference, block=None)
    assert {v.verdict for v in CHECK.live(seen)} == {"unknown"}  # type: ignore[misc]
