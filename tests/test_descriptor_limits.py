"""Facts that are too long, too large or lie elsewhere are refused, and a file out of reach is no other model."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from models.checks import model_identity
from models.descriptors.fields import findings
from models.domains import Domain, expected_values
from models.embedder import ModelLoadError, _refuse_external
from models.inspection import Inspection
from models.units import duration_us
from streams.descriptor_files import load_reference
from streams.errors import DescriptorError
from tests.observing import observed, profile_of, small_reference


@pytest.mark.parametrize("text", ["36526 days", "100000000 days", "9" * 400 + " days"])
def test_durations_beyond_a_century_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than 100 years"):
        duration_us(text)


@pytest.mark.parametrize("key", ["minimum_n", "max_age"])
def test_numbers_of_hundreds_of_digits_are_findings(key: str) -> None:
    value = 10**399 if key == "minimum_n" else "9" * 399 + " days"
    assert list(findings("trained_model", {"bestbefore": {key: value}}))


def test_long_prose_is_no_domain() -> None:
    assert expected_values("1" * 20000 + "x") == Domain()
    assert expected_values("0.5..5.").high == 5.0


def test_a_model_file_is_a_regular_file(tmp_path: Path) -> None:
    """A pipe would keep `check` waiting for ever."""
    os.mkfifo(tmp_path / "m.onnx")
    text = "model_name: loan\nmodel_version: '7'\nbestbefore: {file: m.onnx}\n"
    (tmp_path / "trained_model.yaml").write_text(text)
    with pytest.raises(DescriptorError, match="regular file"):
        load_reference(tmp_path)


def test_external_weights_of_a_branch_are_refused() -> None:
    weight = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "b", [], [], [weight])
    node = helper.make_node("If", ["c"], ["s"], then_branch=branch, else_branch=branch)
    with pytest.raises(ModelLoadError, match="outside"):
        _refuse_external(helper.make_model(helper.make_graph([node], "g", [], [])))


@pytest.mark.parametrize(("fetched", "verdict"), [(False, "unknown"), (True, "mismatch")])
def test_a_file_out_of_reach_is_unknown(fetched: bool, verdict: str) -> None:
    reference = small_reference()
    seen = observed(
        profile_of(reference, value=np.ones(1)), reference, inspection=Inspection(fetched=fetched, error="gone")
    )
    assert [v.verdict for v in model_identity.live(seen) if v.field == "golden"] == [verdict]
