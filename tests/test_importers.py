"""Importers: what they read from real shapes of each format, what they refuse, and how facts of several are joined."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.descriptors.fields import findings
from models.descriptors.paths import value_at
from models.domains import domains
from models.importers import Imported, detect, merge, read

ARTEFACTS = Path(__file__).parent / "data" / "artefacts"
FORMATS = {
    "inference_protocol.json": "inference_protocol",
    "columns_MLmodel": "mlflow_model",
    "tensors_MLmodel": "mlflow_model",
    "contract.odcs.yaml": "odcs",
    "card.json": "mlte_card",
    "croissant.json": "croissant",
    "README.md": "hugging_face_card",
}


def imported(name: str) -> Imported:
    return read(name, (ARTEFACTS / name).read_bytes())


def onnx_bytes(batch: int | str | None = "batch", *, dtype: int = TensorProto.FLOAT, **model: Any) -> bytes:
    """A small network: image -> scores, embedding; its weights are listed as inputs too, as old exporters do."""
    weights = numpy_helper.from_array(np.zeros((256, 10), np.float32), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["embedding"]),
            helper.make_node("Gemm", ["embedding", "weights"], ["scores"]),
        ],
        "digits",
        [
            helper.make_tensor_value_info("image", dtype, [batch, 1, 16, 16]),
            helper.make_tensor_value_info("weights", TensorProto.FLOAT, [256, 10]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 10]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 256]),
        ],
        [weights],
    )
    built = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="pytorch", producer_version="2.4.0", **model
    )
    content: bytes = built.SerializeToString()
    return content


@pytest.mark.parametrize("name", [*FORMATS, "model.onnx"])
def test_trees_have_the_types_of_the_descriptors_and_say_where_each_fact_is_from(name: str) -> None:
    part = read(name, onnx_bytes()) if name == "model.onnx" else imported(name)
    assert part.format == FORMATS.get(name, "onnx_file")
    assert part.trees
    for kind, tree in part.trees.items():
        assert [one for one in findings(kind, tree) if not one.note] == []
        own = tree["bestbefore"]
        said = {*tree, *(f"bestbefore.{key}" for key in own)} - {"bestbefore", "bestbefore.provenance"}
        assert set(own["provenance"]) == said
        assert "version" not in tree


def test_onnx_file() -> None:
    content = onnx_bytes()
    trees = read("digits.onnx", content).trees
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    own = trees["trained_model"]["bestbefore"]
    assert own["digest"] == digest
    assert own["signature"] == {
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 16, 16]}],
        "outputs": [
            {"name": "scores", "dtype": "float32", "shape": ["batch", 10]},
            {"name": "embedding", "dtype": "float32", "shape": ["batch", 256]},
        ],
        "digest": digest,
    }
    assert (own["opset"], own["producer"]) == (18, "pytorch 2.4.0")
    assert own["ir_version"] == onnx.load_model_from_string(content).ir_version
    assert trees["trained_model"]["ml_frameworks"] == ["ONNX", "PyTorch"]
    assert [one["item_type"] for one in trees["trained_model"]["output_spec"]] == ["Float", "Float"]
    assert [one["item_name"] for one in trees["data_pipeline"]["input_spec"]] == ["image"]


@pytest.mark.parametrize(
    ("code", "item_type", "dtype"),
    [
        (TensorProto.INT64, "Integer", "int64"),
        (TensorProto.UINT8, "Integer", "uint8"),
        (TensorProto.DOUBLE, "Float", "float64"),
        (TensorProto.FLOAT16, "Float", "float16"),
        (TensorProto.BFLOAT16, "Float", "bfloat16"),
        (TensorProto.STRING, "String", "str"),
        (TensorProto.BOOL, "Other", "bool"),
        (TensorProto.COMPLEX64, "Other", "complex64"),
    ],
)
def test_onnx_types(code: int, item_type: str, dtype: str) -> None:
    trees = read("m.onnx", onnx_bytes(dtype=code)).trees
    assert value_at(trees, "data_pipeline.input_spec[0].item_type") == item_type
    assert value_at(trees, "trained_model.bestbefore.signature.inputs[0].dtype") == dtype


def test_onnx_open_axes_properties_images_and_sequences() -> None:
    model = onnx.load_model_from_string(onnx_bytes(None))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    helper.set_model_props(
        model, {"model_name": "digits", "model_version": "7", "Image.BitmapPixelFormat": "Bgr8", "team": "vision"}
    )
    model.graph.input[0].type.denotation = "IMAGE"
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    model.graph.output.append(helper.make_value_info("boxes", sequence))
    part = read("m.onnx", model.SerializeToString())
    trees = part.trees
    assert value_at(trees, "trained_model.bestbefore.signature.inputs[0].shape") == [-1, 1, 16, 16]
    assert value_at(trees, "trained_model.bestbefore.opset") == {"ai.onnx": 18, "ai.onnx.ml": 3}
    assert (trees["trained_model"]["model_name"], trees["trained_model"]["model_version"]) == ("digits", "7")
    assert value_at(trees, "data_pipeline.bestbefore.preprocessing.channel_order") == "BGR"
    assert trees["data_pipeline"]["input_spec"][0]["item_type"] == "Image"
    assert trees["data_pipeline"]["input_spec"][0]["item_specification"]["resolution_x"] == 16
    assert value_at(trees, "trained_model.bestbefore.signature.outputs[2]") == {"name": "boxes"}
    assert any("boxes" in note and "sequence_type" in note for note in part.notes)
    assert any("team" in note for note in part.notes)


def test_onnx_weights_outside_of_the_file_are_outside_of_the_digest() -> None:
    model = onnx.load_model_from_string(onnx_bytes())
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    assert any("digest does not cover" in note for note in read("m.onnx", model.SerializeToString()).notes)


@pytest.mark.parametrize("content", [b"\x08", b"\x08\x0a", b"\xff\xfe\x00", onnx_bytes()[:200], b"hello"])
def test_what_is_no_onnx_model_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^ONNX: .*; ?.*export it again|^ONNX: .*export it again"):
        read("m.onnx", content)


def test_inference_protocol() -> None:
    trees = imported("inference_protocol.json").trees
    assert (trees["trained_model"]["model_name"], trees["trained_model"]["model_version"]) == ("digits", "3")
    assert trees["trained_model"]["ml_frameworks"] == ["ONNX"]
    signature = value_at(trees, "trained_model.bestbefore.signature")
    assert signature["inputs"] == [{"name": "image", "dtype": "float32", "shape": [-1, 1, 16, 16]}]
    assert signature["outputs"][1] == {"name": "embedding", "dtype": "float32", "shape": [-1, 64]}
    several = read("m.json", b'{"name": "m", "versions": ["1", "2"], "platform": "", "inputs": [], "outputs": []}')
    assert "model_version" not in several.trees["trained_model"]
    assert any("2 are served" in note for note in several.notes)


def test_mlflow_columns_are_the_interface_of_the_pipeline_and_pickles_stay_closed() -> None:
    part = imported("columns_MLmodel")
    items = part.trees["data_pipeline"]["input_spec"]
    assert {one["item_name"]: one["item_type"] for one in items} == {
        "income": "Float", "age": "Integer", "country": "String",
    }  # fmt: skip
    assert "inputs" not in value_at(part.trees, "trained_model.bestbefore.signature")
    assert value_at(part.trees, "trained_model.bestbefore.signature.outputs") == [
        {"name": "outputs_0", "dtype": "int64", "shape": [-1]}
    ]
    assert part.trees["trained_model"]["ml_frameworks"] == ["scikit-learn"]
    assert part.trees["trained_model"]["system_dependencies"] == ["python==3.11.9", "scikit-learn==1.5.2"]
    assert part.trees["trained_model"]["training_date"] == "2026-08-14"
    assert any("model.pkl is pickled" in note for note in part.notes)
    assert any("country may be missing" in note for note in part.notes)


@pytest.mark.parametrize("signature", ["", "signature: null\n", "signature: {inputs: null, outputs: null}\n"])
def test_mlflow_without_signature_says_so_and_invents_none(signature: str) -> None:
    part = read("MLmodel", f"flavors: {{sklearn: {{sklearn_version: 1.5.2}}}}\nrun_id: abc\n{signature}".encode())
    assert "data_pipeline" not in part.trees
    assert "signature" not in part.trees["trained_model"]["bestbefore"]
    assert any(note.startswith("signature: there is none") for note in part.notes)


def test_data_contract() -> None:
    part = imported("contract.odcs.yaml")
    fields = {one["field_name"]: one for one in part.trees["production_data"]["schema"]}
    said = {name: (one["field_type"], one.get("expected_values")) for name, one in fields.items()}
    assert said == {
        "income": ("Float", "0..1000000"),
        "age": ("Integer", "18..120"),
        "region": ("String", "N,S,E,W"),
        "postcode": ("String", "4..10 characters; pattern ^[0-9A-Z ]+$"),
        "existing_customer": ("Other", None),
        "submitted": ("Other", None),
    }
    assert (fields["income"]["missing_values"], fields["age"]["missing_values"]) == ("none", "at most 2%")
    assert part.trees["production_data"]["bestbefore"]["rate"] == {"mean": 1200, "unit": "1/minute"}
    assert part.trees["production_environment"]["required_inference_time"] == {"time": 80, "unit": "Milliseconds"}
    assert part.trees["production_environment"]["bestbefore"]["error_rate"] == 0.005
    known = domains(part.trees)
    assert (known["age"].low, known["region"].allowed) == (18.0, ("N", "S", "E", "W"))
    for left in ("type sql", "rowCount", "(text)", "retention", "generalAvailability"):
        assert any(left in note for note in part.notes), left


def test_a_latency_of_days_is_the_age_of_data_and_no_deadline() -> None:
    text = (ARTEFACTS / "contract.odcs.yaml").read_text().replace("value: 80, unit: ms", "value: 4, unit: d")
    part = read("c.yaml", text.encode())
    assert "required_inference_time" not in part.trees["production_environment"]
    assert any("latency 4 d" in note for note in part.notes)


def test_negotiation_card() -> None:
    part = imported("card.json")
    context, data = part.trees["system_context"], part.trees["raw_data"]
    assert context["risks"] == {
        "risk_fp": "A visitor learns a wrong name",
        "risk_fn": "No answer is given",
        "risk_other": "Visitors stop asking guides; Tablets get lost",
    }
    assert [goal["id"] for goal in context["goals"]] == ["G1", "G1.2"]
    assert context["goals"][0]["baseline"] == "Guides are right in 80% of cases"
    assert context["ml_problem_type"] == {"ml_problem": "Classification"}
    assert data["labels_distribution"] == [
        {"label": "daisy", "percentage": 60}, {"label": "rose", "percentage": 40},
    ]  # fmt: skip
    assert [one["field_type"] for one in data["schema"]] == ["Image", "String"]
    assert data["schema"][0]["interpret_special"] == "All black when the lens is covered"
    development = part.trees["development_environment"]
    assert development["computing_resources"] == {"gpu": 1.0, "cpu": 8.0, "memory": 64.0, "storage": 1000.0}
    assert [one["component_name"] for one in development["upstream_components"]] == ["camera"]
    assert [one["component_name"] for one in development["downstream_components"]] == ["display", "unnamed"]
    production = part.trees["production_environment"]
    assert production["computing_resources"] == {"gpu": 0.0, "cpu": 2.0, "memory": 0.512, "storage": 16.0}
    assert production["required_inference_time"] == {"time": 2.0, "unit": "Seconds"}
    assert part.trees["trained_model"]["algorithm_metrics"] == [
        {"metric": "Accuracy", "operator": "greater or equal than", "threshold": 0.9}
    ]
    assert any("qas_003 is prose" in note for note in part.notes)
    assert any("gpu_memory" in note and "'none'" in note for note in part.notes)


@pytest.mark.parametrize("artefact_type", ["suite", "evidence", "results"])
def test_other_mlte_artefacts_are_refused_before_anything_in_them_is_decoded(artefact_type: str) -> None:
    body = {"artifact_type": artefact_type, "validator": {"bool_exp": "gASVAAAAAA=="}}
    with pytest.raises(ValueError, match=r"body\.artifact_type \(line 1\): expected card"):
        read("suite.json", json.dumps({"header": {}, "body": body}).encode())


def test_croissant() -> None:
    part = imported("croissant.json")
    raw, training = part.trees["raw_data"], part.trees["training_data"]
    assert (raw["dataset_identifier"], raw["dataset_version"]) == ("https://data.example.org/flats", "1.2.0")
    assert raw["number_of_instances"] == 2000
    assert raw["metadata"] == {"timeframe": "2024-01-01; 2024-12-31", "known_issues": "Only flats offered online"}
    assert [one["description"][:17] for one in raw["documentation"]] == ["flats.csv sha256:"]
    assert training["raw_data_identifier"] == raw["dataset_identifier"]
    assert [one["label_field"] for one in training["schema"]] == [False, False, False, True]
    assert training["bestbefore"]["features"] == {
        "area": {
            "type": "number", "mean": 71.5, "sd": 22.25, "min": 12.0, "max": 310.0, "quantiles": {"0.5": 68.0},
            "n": 2000, "missing": 0.025,
        },
        "rooms": {"type": "integer", "mean": 2.5, "n": 2000},
    }  # fmt: skip
    assert {"property": "Median", "field": "area", "value": "68.0"} in training["statistics"]
    assert any("sd is no finite number" in note for note in part.notes)
    assert any("old.csv" in note for note in part.notes)


def test_hugging_face_card() -> None:
    part = imported("README.md")
    model = part.trees["trained_model"]
    assert model["model_name"] == "vit-flowers"
    assert model["evaluation_metrics"] == [
        {"metric": "Accuracy", "result": 0.942},
        {"metric": "F1 Score", "result": 0.917},
        {"metric": "Other", "other_metric": "Cross entropy", "result": 0.31},
        {"metric": "Other", "other_metric": "accuracy on winter flowers test", "result": 81.3},
    ]
    assert part.trees["system_context"]["ml_problem_type"] == {"ml_problem": "Classification"}
    assert any("looks like percent" in note for note in part.notes)
    assert any("is no number" in note for note in part.notes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.pkl", b"anything"),
        ("model.joblib", b"anything"),
        ("MLmodel", b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x07flavors\x94}\x94s."),
        ("card.json", b"\x80\x02}q\x00X\x07\x00\x00\x00flavorsq\x01}q\x02s."),
        ("weights.pt", b"PK\x03\x04archive/data.pkl"),
        ("weights.bin", b"PK\x03\x04archive/data.pkl"),
    ],
)
def test_pickles_are_refused_under_any_name(name: str, content: bytes) -> None:
    with pytest.raises(ValueError, match=f"^{name} .*pickle.* ONNX"):
        detect(name, content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"", "is empty"),
        ("a.yaml", b"key: value", "none of the formats"),
        ("a.json", b'{"name": ', r"a\.json at line 1: cannot be read"),
        ("a.yaml", b"a: &x 1\nb: *x", "line 2: aliases"),
        ("a.yaml", b"a: !!python/name:os.system x", "line 1: tags"),
        ("a.json", b'{"a": ' * 100 + b"1" + b"}" * 100, "nested deeper"),
        ("MLmodel", b"flavors: 3", r"MLmodel: flavors \(line 1\): expected keys and values, found 3"),
        ("MLmodel", b"flavors: {}\nsignature:\n  inputs: '[{]'", r"MLmodel: signature\.inputs at line 1"),
        ("m.json", b'{"name": "m", "inputs": [{"name": "x", "datatype": "FP99", "shape": [1]}]}', r"inputs\[0\]\.data"),
        ("m.json", b'{"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1.5]}]}', r"shape\[0\]"),
        ("README.md", b"---\nmodel-index: 3\n---\n", r"Hugging Face model card: model-index \(line 2\)"),
        ("c.yaml", b"kind: DataContract\napiVersion: v2.2.0", r"apiVersion \(line 2\): expected v3"),
        ("c.yaml", b"kind: DataContract\napiVersion: v3.1.0\nschema: [{name: t, properties: [{}]}]", r"\[0\]\.name"),
    ],
)
def test_malformed_input_names_format_and_place(name: str, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(name, content)


def test_parts_that_agree_are_joined() -> None:
    parts = [read("digits.onnx", onnx_bytes()), imported("tensors_MLmodel")]
    parts[1].trees["trained_model"]["bestbefore"]["signature"]["outputs"][1]["shape"] = [-1, 256]
    trees = merge(parts)
    signature = value_at(trees, "trained_model.bestbefore.signature")
    assert signature["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 16, 16]}]
    assert trees["trained_model"]["ml_frameworks"] == ["ONNX", "PyTorch"]
    assert trees["trained_model"]["system_dependencies"] == ["onnx==1.17.0", "python==3.11.9"]
    provenance = trees["trained_model"]["bestbefore"]["provenance"]
    assert provenance["bestbefore.signature"] == {"tool": "onnx, MLflow"}
    assert provenance["bestbefore.digest"] == {"tool": "onnx"}


def test_parts_that_contradict_each_other_are_named_with_both_paths_and_origins() -> None:
    parts = [read("digits.onnx", onnx_bytes()), imported("inference_protocol.json")]
    with pytest.raises(ValueError, match=r"trained_model\.bestbefore\.signature\.outputs\[1\]\.shape is ") as caught:
        merge(parts)
    assert "in digits.onnx (onnx_file)" in str(caught.value)
    assert "in inference_protocol.json (inference_protocol)" in str(caught.value)
    width = "trained_model.bestbefore.signature.outputs[1].shape"
    assert value_at(merge(parts, ["onnx_file"]), width) == ["batch", 256]
    assert value_at(merge(parts, ["inference_protocol.json"]), width) == [-1, 64]


def test_columns_stand_where_another_part_has_tensors() -> None:
    columns = imported("columns_MLmodel")
    del columns.trees["trained_model"]
    trees = merge([read("m.onnx", onnx_bytes()), columns])
    assert [one["item_name"] for one in trees["data_pipeline"]["input_spec"]] == ["income", "age", "country"]
    assert trees["data_pipeline"]["bestbefore"]["provenance"]["input_spec"] == {"tool": "MLflow"}
    other = Imported({"data_pipeline": {"input_spec": [{"item_name": "wage", "item_type": "Float"}]}}, [], "mlte_card")
    with pytest.raises(ValueError, match="a list of income, age, country' in columns_MLmodel"):
        merge([columns, other])


def test_merging_one_part_changes_nothing_and_two_equal_ones_no_more() -> None:
    for name in FORMATS:
        part = imported(name)
        assert merge([part]) == part.trees
        assert merge([part, part]) == part.trees
    assert merge([]) == {}
