"""One wrong fact in an otherwise coherent set is found once, by the check it concerns, and by no other."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checks.catalogue import CHECKS, design
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.descriptors.paths import value_at
from models.inspection import Inspection, TensorFact
from tests.coherent import FLOAT, INTEGER, TEXT, Shape, Trees, coherent, coherent_sets, shapes

NOW_US = 1_795_000_000_000_000  # 2026-11-18
DIGEST = "sha256:" + "a" * 64
FILE = Inspection(
    digest=DIGEST, opset={"ai.onnx": 22}, ir_version=10, inputs=(TensorFact("x", "float32", (-1, 3)),),
    outputs=(TensorFact("probabilities", "float32", (-1, 2)), TensorFact("vector", "float32", (-1, 8))),
    runtime="1.23.0", newest_opset=23, newest_ir=11, providers=("CPUExecutionProvider",),
)  # fmt: skip

Change = Callable[[Trees], None]
TM, TD, DP, RD = "trained_model", "training_data", "data_pipeline", "raw_data"
PE, PD, DE, SC = "production_environment", "production_data", "development_environment", "system_context"


class Mutation(NamedTuple):
    """One wrong fact, and what it implies: check id and aliases, joined by a blank, of every mismatch."""

    name: str
    change: Change
    implied: tuple[tuple[str, str], ...]
    post_processing: bool = False


def full(shape: Shape) -> Trees:
    """A coherent set that also describes a model file, ages, periods and checks of its own."""
    trees = coherent(shape)
    trees[TM]["bestbefore"] |= {
        "digest": DIGEST, "max_age": "400 days", "metric_polarity": {"Accuracy": "higher"}, "gpu_memory": 2,
        "outputs": {"scores": "probabilities", "embedding": "vector"},
        "signature": {
            "inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 3]}],
            "outputs": [
                {"name": "probabilities", "dtype": "float32", "shape": [-1, 2]},
                {"name": "vector", "dtype": "float32", "shape": [-1, 8]},
            ],
        },
    }  # fmt: skip
    trees[PE]["bestbefore"] |= {"runtimes": {"onnxruntime": "1.23.0"}, "gpu_memory": 4, "valid_to": "2027-06-01"}
    trees[SC]["bestbefore"]["checks"] = [
        {"id": "small", "left": f"{TM}.computing_resource_reqs.memory", "operator": "<=", "right": 4}
    ]
    return trees


def to(path: str, value: Any) -> Change:
    """Put a value at `path`; a function makes it from the one that stands there."""

    def change(trees: Trees) -> None:
        where, _, key = path.rpartition(".")
        holder = value_at(trees, where)
        assert key in holder, f"{path} is not in a coherent set"
        holder[key] = value(holder[key]) if callable(value) else value

    return change


def cut(path: str) -> Change:
    """Take the first object out of the list at `path`."""

    def change(trees: Trees) -> None:
        del value_at(trees, path)[0]

    return change


def more(path: str, **changed: Any) -> Change:
    """Append a copy of the first object of the list at `path`, changed."""

    def change(trees: Trees) -> None:
        items = value_at(trees, path)
        items.append(copy.deepcopy(items[0]) | changed)

    return change


def renamed(path: str, old: str, new: str) -> Change:
    """Another key in the object at `path`."""

    def change(trees: Trees) -> None:
        holder = value_at(trees, path)
        holder[new] = holder.pop(old)

    return change


def relabelled(trees: Trees) -> None:
    """Another name of a class in rows and columns: the accuracy that the confusion matrix gives stays."""
    confusion = trees["training_data"]["bestbefore"]["confusion"]
    confusion["x"] = confusion.pop("0")
    for row in confusion.values():
        row["x"] = row.pop("0")


CLOSURE, INTERFACE, CAPACITY = "reference-closure", "interface-compatibility", "capacity-and-deadline"
RUNTIME, COVERAGE, THRESHOLD = "runtime-fingerprint", "observability-coverage", "threshold-coherence"
COMPLETE, DRIFT, SHIFT = "completeness-and-staleness", "covariate-drift", "label-and-prediction-shift"
UP, DOWN = f"{DE}.upstream_components[0].output_spec", f"{DE}.downstream_components[0].input_spec"
OUT, FINAL = f"{TM}.output_spec", f"{TM}.final_output_spec"
OWN = f"{TM}.bestbefore"


def one(name: str, change: Change, check: str, alias: str = "", *, post: bool = False) -> Mutation:
    """A mutation with one finding."""
    return Mutation(name, change, ((check, alias),), post)


MUTATIONS = (
    # -- references ---------------------------------------------------------------------------------------------
    one("another training set", to(f"{TM}.training_data_identifier", "other"), CLOSURE),
    one("another pipeline", to(f"{TM}.data_pipeline_identifier", "other"), CLOSURE),
    one("another raw set", to(f"{TD}.raw_data_identifier", "other"), CLOSURE),
    one("raw set renamed", to(f"{RD}.dataset_identifier", "other"), CLOSURE),
    # The model and nobody else names the training set; the circle below is made of identifiers that all hold.
    one("training set renamed", to(f"{TD}.dataset_identifier", "other"), CLOSURE),
    one("pipeline renamed", to(f"{DP}.pipeline_identifier", "other"), CLOSURE),
    one("derived from itself", lambda t: t[RD].update(training_data_identifier="train"), CLOSURE),
    # A changed name leaves a loose end on both sides, which is one fact: one finding with both aliases.
    one("metric of no goal", to(f"{TM}.algorithm_metrics[1].goal_mapping", "G9"), CLOSURE, "tec:1"),
    one("goal without metric", more(f"{SC}.goals", id="G9"), CLOSURE, "tec:1"),
    one("output to nobody", to(f"{OUT}[0].component_mapping.component", "x"), CLOSURE, "tec:3B tec:3C"),
    one("output not taken", cut(DOWN), CLOSURE, "tec:3B"),
    one("input of the next not given", more(DOWN, item_name="x"), CLOSURE, "tec:3C"),
    one("output of the model gone", cut(OUT), CLOSURE, "tec:3C"),
    one("final output to nobody", to(f"{FINAL}[0].component_mapping.data_item", "x"), CLOSURE, "tec:4B tec:4C",
        post=True),
    one("final output not taken", cut(DOWN), CLOSURE, "tec:4B", post=True),
    one("input of the next not given in the end", more(DOWN, item_name="x"), CLOSURE, "tec:4C", post=True),
    one("input from nobody", to(f"{DP}.input_spec[0].component_mapping.data_item", "x"), CLOSURE, "tec:5B tec:5C"),
    one("input not sent", cut(UP), CLOSURE, "tec:5B"),
    one("sent and not taken", more(UP, item_name="x"), CLOSURE, "tec:5C"),
    one("component renamed", to(f"{DE}.upstream_components[0].component_name", "x"), CLOSURE, "tec:5B tec:5C"),
    one("field mapped to nothing", to(f"{TD}.schema[0].mapping_production_data", "x"), CLOSURE, "tec:14B tec:14C"),
    one("field gone from production", cut(f"{PD}.schema"), CLOSURE, "tec:14B"),
    one("field only in production", more(f"{PD}.schema", field_name="x"), CLOSURE, "tec:14C"),
    one("statistic of no field", to(f"{TD}.statistics[0].field", "x"), CLOSURE),
    one("production statistic of no field", to(f"{PD}.statistics[0].field", "x"), CLOSURE, "tec:14B"),
    one("label mapped to nothing", to(f"{TD}.distribution[0].mapping_production_data", "x"), CLOSURE),
    one("class renamed", renamed(f"{TD}.bestbefore.classes", "0", "x"), CLOSURE),
    one("class renamed in the confusion", relabelled, CLOSURE),
    one("label of the distribution renamed", to(f"{TD}.distribution[0].label", "x"), CLOSURE),
    one("traffic to another version", to(f"{PE}.bestbefore.traffic", {"other": 1.0}), CLOSURE),
    one("direction of no metric", lambda t: t[TM]["bestbefore"]["metric_polarity"].update(Accurcy="higher"), CLOSURE),
    one("scores from no tensor", to(f"{OWN}.outputs.scores", "logits"), CLOSURE),
    # -- interfaces ---------------------------------------------------------------------------------------------
    one("answers wider than taken", to(f"{DOWN}[0].expected_values", "0..0"), INTERFACE, "tec:3A"),
    one("another type taken", to(f"{DOWN}[0].item_type", "Image"), INTERFACE, "tec:3A"),
    one("final answers wider than taken", to(f"{DOWN}[0].expected_values", "0..0"), INTERFACE, "tec:4A", post=True),
    one("input sent as text", to(f"{UP}[0].item_type", "String"), INTERFACE, "tec:5A"),
    one("input sent in a wider range", to(f"{UP}[0].expected_values", "-5..1000"), INTERFACE, "tec:5A"),
    one("input taken as text", to(f"{DP}.input_spec[0].item_type", "Image"), INTERFACE, "tec:5A"),
    one("field of another type", to(f"{PD}.schema[0].field_type", "String"), INTERFACE, "tec:14A"),
    one("field in a wider range", to(f"{PD}.schema[0].expected_values", "0..2000"), INTERFACE, "tec:14A"),
    # It fits neither production nor the raw data: still one wrong fact, told once.
    one("training field of another type", to(f"{TD}.schema[0].field_type", "Image"), INTERFACE, "tec:14A"),
    one("raw field in a wider range", to(f"{RD}.schema[0].expected_values", "0..2000"), INTERFACE),
    one("tensor of another type", to(f"{OWN}.signature.inputs[0].dtype", "float64"), INTERFACE),
    one("tensor of another shape", to(f"{OWN}.signature.inputs[0].shape", [-1, 4]), INTERFACE),
    one("tensor of another name", to(f"{OWN}.signature.inputs[0].name", "y"), INTERFACE),
    # -- capacity -----------------------------------------------------------------------------------------------
    one("too little to develop", to(f"{DE}.computing_resources.cpu", 0.5), CAPACITY, "tec:6"),
    one("too little to serve", to(f"{PE}.computing_resources.memory", 1), CAPACITY, "tec:7"),
    # The need is the fact that both environments share.
    one("needs more disk than anybody has", to(f"{TM}.computing_resource_reqs.storage", 500), CAPACITY, "tec:6 tec:7"),
    # Two promises are broken by one number: what there is, and what the user wrote about memory.
    Mutation("needs more memory", to(f"{TM}.computing_resource_reqs.memory", 16),
             ((CAPACITY, "tec:6 tec:7"), ("user:small", ""))),
    one("GPU memory short", to(f"{PE}.bestbefore.gpu_memory", 1), CAPACITY),
    one("limit too tight", to(f"{PE}.required_inference_time.time", lambda _: 0.1), CAPACITY, "tec:12"),
    # Utilisation rests on the same time and becomes unknown.
    one("model too slow", to(f"{TM}.inference_time.time", 10**6), CAPACITY, "tec:12"),
    one("more events than processors", to(f"{PD}.bestbefore.rate.mean", 10**8), CAPACITY),
    one("busiest hour too busy", to(f"{PD}.bestbefore.rate.p99", 10**8), CAPACITY),
    # -- runtime ------------------------------------------------------------------------------------------------
    one("language not at hand", to(f"{DE}.programming_languages", ["C++"]), RUNTIME, "tec:2"),
    one("model in another language", to(f"{TM}.model_components[0].programming_languages", ["R"]), RUNTIME, "tec:2"),
    one("framework not at hand", to(f"{DE}.ml_frameworks", ["JAX"]), RUNTIME, "tec:8"),
    one("another file", to(f"{OWN}.digest", "sha256:" + "b" * 64), RUNTIME),
    # It loads the IR version of the file, but not its opset.
    one("runtime too old", to(f"{PE}.bestbefore.runtimes.onnxruntime", "1.20.1"), RUNTIME),
    # -- coverage -----------------------------------------------------------------------------------------------
    one("business metric not measured", to(f"{PE}.business_metrics[0].metric", "Profit"), COVERAGE, "tec:9"),
    one("accuracy not measured", to(f"{PE}.algorithm_metrics[0].metric", "Recall"), COVERAGE, "tec:10"),
    one("goal measured by nothing", to(f"{SC}.goals[0].metric", "Recall"), COVERAGE),
    one("log not kept", to(f"{PE}.model_logs[0].log", "audit"), COVERAGE, "tec:11"),
    one("feedback not collected", to(f"{PE}.user_system_feedback", []), COVERAGE, "tec:13"),
    # -- thresholds ---------------------------------------------------------------------------------------------
    one("limit not met", to(f"{TM}.algorithm_metrics[0].threshold", 0.9999), THRESHOLD),
    one("limit the wrong way round", to(f"{TM}.algorithm_metrics[0].operator", "less than"), THRESHOLD),
    one("limit as a percentage", to(f"{TM}.algorithm_metrics[0].threshold", lambda v: 100 * v), THRESHOLD),
    one("result as a percentage", to(f"{TM}.test_metrics[0].result", lambda v: 100 * v), THRESHOLD),
    one("test result too low", to(f"{TM}.test_metrics[0].result", 0.3), THRESHOLD),
    one("evaluation contradicts the confusion", to(f"{TM}.evaluation_metrics[0].result", 0.3), THRESHOLD),
    one("calibration contradicts the evaluation", to(f"{TD}.bestbefore.calibration.accuracy", 0.3), THRESHOLD),
    one("baseline above the limit", to(f"{SC}.goals[0].baseline", "0.9999"), THRESHOLD),
    one("direction declared the wrong way round", to(f"{OWN}.metric_polarity.Accuracy", "lower"), THRESHOLD),
    # -- dates --------------------------------------------------------------------------------------------------
    one("trained tomorrow", to(f"{TM}.training_date", "2027-03-01"), COMPLETE),
    one("collected after training", to(f"{RD}.metadata.collection_date", "2026-10-15"), COMPLETE),
    one("too old", to(f"{OWN}.max_age", "30 days"), COMPLETE),
    one("no longer valid", to(f"{PE}.bestbefore.valid_to", "2026-11-01"), COMPLETE),
    # -- declared drift -----------------------------------------------------------------------------------------
    one("another mean in production", to(f"{PD}.statistics[0].value", "900"), DRIFT, "tec:15"),
    one("another spread in training", to(f"{TD}.statistics[1].value", "1"), DRIFT, "tec:15"),
    one("another share in production", to(f"{PD}.distribution[0].percentage", lambda v: v + 20), SHIFT, "tec:16"),
    one("another share in training", to(f"{TD}.distribution[0].percentage", lambda v: v + 20), SHIFT, "tec:16"),
    # -- the user's own -----------------------------------------------------------------------------------------
    one("own check broken", to(f"{SC}.bestbefore.checks[0].right", 1), "user:small"),
    one("own check misspelt", to(f"{SC}.bestbefore.checks[0].operator", "=<"), "user:small"),
)  # fmt: skip


@st.composite
def full_shapes(draw: st.DrawFn, post_processing: bool | None = None) -> Shape:
    """Shapes with at least one field of each type, two outputs and two goals, so that every fact is there."""
    shape = draw(shapes(post_processing=post_processing))
    return shape._replace(features=(FLOAT, INTEGER, TEXT, *shape.features[:1]), outputs=2, goals=max(2, shape.goals))


def told(trees: Trees) -> list[Verdict]:
    """Every verdict at design time."""
    return design(Workplace(trees, now_us=NOW_US, inspection=FILE))


def wrong(trees: Trees) -> list[Verdict]:
    """The mismatches."""
    return [v for v in told(trees) if v.verdict == "mismatch"]


@given(coherent_sets())
@settings(max_examples=100, deadline=None)
def test_a_coherent_set_has_no_mismatch(trees: Trees) -> None:
    assert [v.message for v in design(Workplace(trees, now_us=NOW_US)) if v.verdict == "mismatch"] == []


@given(full_shapes())
@settings(max_examples=50, deadline=None)
def test_nor_has_one_that_describes_its_file_too(shape: Shape) -> None:
    verdicts = told(full(shape))
    assert [v.message for v in verdicts if v.verdict == "mismatch"] == []
    assert not [v.reason for v in verdicts if v.reason.startswith("the check failed")]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_one_wrong_fact_is_found_once(mutation: Mutation) -> None:
    @given(full_shapes(post_processing=mutation.post_processing))
    @settings(max_examples=8, deadline=None)
    def holds(shape: Shape) -> None:
        trees = full(shape)
        mutation.change(trees)
        verdicts = told(trees)
        found = [v for v in verdicts if v.verdict == "mismatch"]
        assert sorted((v.check, " ".join(v.aliases)) for v in found) == sorted(mutation.implied), [
            f"{v.check}: {v.message}" for v in found
        ]
        for verdict in found:
            assert verdict.message
            assert verdict.owner
            assert verdict.remedy
            assert verdict.left or verdict.right
        assert not [v.reason for v in verdicts if v.reason.startswith("the check failed")]

    holds()


def test_the_table_covers_every_check_of_design_time_and_every_rule() -> None:
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS) >= 40
    found = {check.split(":")[0] for m in MUTATIONS for check, _ in m.implied}
    assert found == {"user" if check.id.startswith("user") else check.id for check in CHECKS if check.design}
    aliases = {alias for m in MUTATIONS for _, names in m.implied for alias in names.split()}
    assert aliases == {alias for check in CHECKS for alias in check.aliases}
