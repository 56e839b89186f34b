"""Trains the digits model of the demo and describes it: `python examples/digits/train.py [DIRECTORY]`.

Writes `digits.onnx`, `descriptors/*.yaml` and an estimator of quality into DIRECTORY (default: beside this file) and
prints the figures that matter. The descriptors are what people declare (declared.yaml) plus what is measured here.
Running it again gives the same model byte for byte: training runs in double precision and the weights are rounded to a
grid far coarser than the differences between processors.
"""

import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import yaml
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import minimize_scalar

from infra.demo.images import CORRUPTIONS, SIDE, Digits, Images, Labels, Split, corrupt, image_features, load
from infra.inducing import FILE, Fitted, fit, kinds_of
from models.columns import Categories
from models.describing_columns import Embeddings
from models.describing_embedding import embedding_profile
from models.event_features import softmax
from models.family_interval import weighted_quantile

Floats = NDArray[np.float64]
Weights = list[Floats]
Serve = Callable[[Images], tuple[NDArray[np.float32], NDArray[np.float32]]]

HERE = Path(__file__).resolve().parent
CLASSES, EMBEDDING = 10, 64
SHAPES = ((9, 16), (16,), (144, 32), (32,), (512, EMBEDDING), (EMBEDDING,), (EMBEDDING, CLASSES), (CLASSES,))
WEIGHT_GRID = 2.0**-12
PROBABILITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SEVERITIES = (0.1, 0.25, 0.5, 0.75, 1.0)
WINDOW, WINDOWS_EACH = 250, 4
LEVEL = 0.9
UNITS = {"brightness": "share", "contrast": "share", "ink": "share", "centre_y": "pixel", "centre_x": "pixel"}


# ---- the network: two convolutions, two dense layers, gradients by hand ----


def patches(x: Floats) -> Floats:
    """The 3 x 3 neighbourhoods of (n, h, w, c) as rows of length 9 c, zero beyond the edge."""
    windows = sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), axis=(1, 2))
    rows: Floats = windows.transpose(0, 1, 2, 4, 5, 3).reshape(*x.shape[:3], -1)
    return rows


def pool(x: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Maximum of every 2 x 2 block, and which pixels attain it."""
    blocks = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1)
    top = blocks.max((2, 4))
    return top, blocks == top[:, :, None, :, None]


def unpool(gradient: Floats, attained: NDArray[np.bool_]) -> Floats:
    """The gradient of `pool`, shared between pixels that tie."""
    spread: Floats = attained * gradient[:, :, None, :, None] / attained.sum((2, 4), keepdims=True)
    n, height, width, channels = gradient.shape
    return spread.reshape(n, 2 * height, 2 * width, channels)


def unpatch(gradient: Floats, channels: int) -> Floats:
    """The gradient of `patches`."""
    n, height, width, _ = gradient.shape
    taps = gradient.reshape(n, height, width, 3, 3, channels)
    out = np.zeros((n, height + 2, width + 2, channels))
    for i, j in itertools.product(range(3), range(3)):
        out[:, i : i + height, j : j + width] += taps[:, :, :, i, j]
    return out[:, 1:-1, 1:-1]


def gradients(w: Weights, x: Floats, y: Labels) -> Weights:
    """Gradients of the mean cross-entropy of images (n, 16, 16), in the order of `SHAPES`."""
    p1 = patches(x[..., None])
    a1 = np.maximum(p1 @ w[0] + w[1], 0)
    m1, k1 = pool(a1)
    p2 = patches(m1)
    a2 = np.maximum(p2 @ w[2] + w[3], 0)
    m2, k2 = pool(a2)
    flat = m2.reshape(len(x), -1)
    e = np.maximum(flat @ w[4] + w[5], 0)
    dz = (softmax(e @ w[6] + w[7]) - np.eye(CLASSES)[y]) / len(y)
    de = (dz @ w[6].T) * (e > 0)
    d2 = unpool((de @ w[4].T).reshape(m2.shape), k2) * (a2 > 0)
    d1 = unpool(unpatch(d2 @ w[2].T, 16), k1) * (a1 > 0)
    layers = ((p1, d1), (p2, d2), (flat, de), (e, dz))
    pairs = ((a.reshape(-1, a.shape[-1]), d.reshape(-1, d.shape[-1])) for a, d in layers)
    return [g for a, d in pairs for g in (a.T @ d, d.sum(0))]


def train(data: Split, seed: int = 3, epochs: int = 20, batch: int = 64, rate: float = 2e-3) -> Weights:
    """Adam with a cosine schedule and a little weight decay (Loshchilov and Hutter 2019)."""
    rng = np.random.default_rng(seed)
    w = [rng.normal(0, np.sqrt(2 / s[0]), s) if len(s) == 2 else np.zeros(s) for s in SHAPES]
    m, v = [np.zeros(s) for s in SHAPES], [np.zeros(s) for s in SHAPES]
    x, y = data.images.astype(np.float64), data.labels
    steps = epochs * (len(x) // batch)
    batches = (b for _ in range(epochs) for b in rng.permutation(len(x))[: len(x) // batch * batch].reshape(-1, batch))
    for step, chosen in enumerate(batches, 1):
        now = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        for k, g in enumerate(gradients(w, x[chosen], y[chosen])):
            m[k] = 0.9 * m[k] + 0.1 * g
            v[k] = 0.99 * v[k] + 0.01 * g**2
            w[k] -= now * (m[k] / (1 - 0.9**step) / (np.sqrt(v[k] / (1 - 0.99**step)) + 1e-7) + 1e-4 * w[k])
    return [np.round(a / WEIGHT_GRID) * WEIGHT_GRID for a in w]


def export(w: Weights) -> bytes:
    """The network as ONNX: `image` (n, 1, 16, 16) to `scores` (n, 10), which sum to one, and `embedding` (n, 64)."""
    tensors = {
        "W1": w[0].reshape(3, 3, 1, 16).transpose(3, 2, 0, 1),
        "b1": w[1],
        "W2": w[2].reshape(3, 3, 16, 32).transpose(3, 2, 0, 1),
        "b2": w[3],
        "W3": w[4].reshape(4, 4, 32, EMBEDDING).transpose(2, 0, 1, 3).reshape(512, EMBEDDING),
        "b3": w[5],
        "W4": w[6],
        "b4": w[7],
    }
    conv: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    half: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    chain: list[tuple[str, str, str, dict[str, Any]]] = [
        ("Conv", "image W1 b1", "conv1", conv),
        ("Relu", "conv1", "relu1", {}),
        ("MaxPool", "relu1", "pool1", half),
        ("Conv", "pool1 W2 b2", "conv2", conv),
        ("Relu", "conv2", "relu2", {}),
        ("MaxPool", "relu2", "pool2", half),
        ("Flatten", "pool2", "flat", {}),
        ("Gemm", "flat W3 b3", "dense", {}),
        ("Relu", "dense", "embedding", {}),
        ("Gemm", "embedding W4 b4", "logits", {}),
        ("Softmax", "logits", "scores", {"axis": 1}),
    ]
    nodes = [helper.make_node(op, inputs.split(), [output], **options) for op, inputs, output, options in chain]
    weights = [numpy_helper.from_array(np.ascontiguousarray(a, dtype=np.float32), name) for name, a in tensors.items()]
    ends = [_value("image", 1, SIDE, SIDE)], [_value("scores", CLASSES), _value("embedding", EMBEDDING)]
    graph = helper.make_graph(nodes, "digits", *ends, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="digits")
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _value(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])


def serve(content: bytes) -> Serve:
    """The exported model, as a server would run it: images (n, 16, 16) to scores and embeddings."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scores, embedding = session.run(["scores", "embedding"], {"image": images[:, None]})
        return scores, embedding

    return run


# ---- the label-free estimate and how wrong it may be ----


class Calibration(NamedTuple):
    """How confidence reads as accuracy: temperature (Guo et al. 2017) and the ATC threshold (Garg et al. 2022)."""

    temperature: float
    atc_threshold: float
    accuracy: float

    def estimate(self, scores: NDArray[np.floating]) -> float:
        """Accuracy of scores (n, 10) without labels: mean of average confidence and the share above the threshold."""
        top = top_confidence(scores, self.temperature)
        return float(top.mean() + (top > self.atc_threshold).mean()) / 2

    def scale(self, estimate: Floats) -> Floats:
        """How far off an estimate is expected to be: more, the further it fell and the nearer it is to one half."""
        return 0.02 + np.maximum(self.accuracy - estimate, 0) + 0.5 * estimate * (1 - estimate)


def tempered(scores: NDArray[np.floating], temperature: float) -> Floats:
    """Probabilities (n, k) whose logarithms were divided by `temperature`."""
    return softmax(np.log(np.maximum(scores.astype(np.float64), 1e-12)) / temperature)


def top_confidence(scores: NDArray[np.floating], temperature: float) -> Floats:
    """The calibrated probability of the predicted class, length n."""
    return np.asarray(tempered(scores, temperature).max(1))


def calibrate(scores: NDArray[np.floating], labels: Labels) -> Calibration:
    """Fitted on images the model has not learned from."""

    def log_loss(temperature: float) -> float:
        return -float(np.log(tempered(scores, temperature)[np.arange(len(labels)), labels] + 1e-12).mean())

    temperature = rounded(minimize_scalar(log_loss, bounds=(0.3, 5.0), method="bounded").x, 4)
    accuracy = float((scores.argmax(1) == labels).mean())
    threshold = np.quantile(top_confidence(scores, temperature), 1 - accuracy)
    return Calibration(temperature, rounded(threshold), accuracy)


class Windows(NamedTuple):
    """Windows of corrupted images: family, label-free estimate and true accuracy of each."""

    family: NDArray[np.str_]
    estimate: Floats
    accuracy: Floats


def induce(data: Split, run: Serve, calibration: Calibration, seed: int = 7) -> Windows:
    """Every family at every severity, `WINDOWS_EACH` windows of `WINDOW` images each."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, float, float]] = []
    for family, severity in itertools.product(CORRUPTIONS, SEVERITIES):
        scores, _ = run(corrupt(data.images, family, severity, rng))
        right = scores.argmax(1) == data.labels
        for _ in range(WINDOWS_EACH):
            chosen = rng.choice(len(right), WINDOW, replace=False)
            rows.append((family, calibration.estimate(scores[chosen]), float(right[chosen].mean())))
    families, estimates, accuracies = zip(*rows, strict=True)
    return Windows(np.array(families), np.array(estimates), np.array(accuracies))


def residual_bounds(windows: Windows, calibration: Calibration, level: float = LEVEL) -> tuple[float, float]:
    """Lower and upper quantile of (accuracy - estimate) / scale, every family weighing the same.

    Hierarchical conformal prediction (Lee, Barber and Willett 2023) with the family as the exchangeable unit, hence
    the level (G + 1) / G times the promised one: the next deployment meets a corruption that is not among these G.
    """
    residual = (windows.accuracy - windows.estimate) / calibration.scale(windows.estimate)
    names, member, count = np.unique(windows.family, return_inverse=True, return_counts=True)
    weight = 1 / (len(names) * count[member])
    tail = (1 - min(1.0, level * (len(names) + 1) / len(names))) / 2
    return -weighted_quantile(-residual, weight, 1 - tail), weighted_quantile(residual, weight, 1 - tail)


def left_out_coverage(fitted: Windows, tested: Windows, calibration: Calibration) -> dict[str, float]:
    """Share of tested windows of each family inside the interval that was made without that family."""
    coverage = {}
    for family in np.unique(fitted.family):
        others, own = fitted.family != family, tested.family == family
        low, high = residual_bounds(Windows(*(column[others] for column in fitted)), calibration)
        estimate, scale = tested.estimate[own], calibration.scale(tested.estimate[own])
        below, above = np.clip(estimate + low * scale, 0, 1), np.clip(estimate + high * scale, 0, 1)
        inside = (tested.accuracy[own] >= below - 1e-9) & (tested.accuracy[own] <= above + 1e-9)
        coverage[str(family)] = float(inside.mean())
    return coverage


# ---- the descriptors: declared plus measured ----


def rounded(value: float, digits: int = 6) -> float:
    """Significant digits that a descriptor keeps."""
    return float(f"{float(value):.{digits}g}")


def quantiles(values: Floats) -> dict[str, float]:
    """Quantiles at `PROBABILITIES`, keyed by the probability as text."""
    return {str(p): rounded(q) for p, q in zip(PROBABILITIES, np.quantile(values, PROBABILITIES), strict=True)}


def describe_feature(values: Floats, unit: str) -> dict[str, Any]:
    """What `training_data.bestbefore.features` says of one numeric column."""
    numbers = {"mean": values.mean(), "sd": values.std(ddof=1), "min": values.min(), "max": values.max()}
    moments = {name: rounded(number) for name, number in numbers.items()}
    return {"type": "number", "unit": unit, "n": len(values), **moments, "missing": 0.0, "quantiles": quantiles(values)}


def describe_embedding(run: Serve, data: Split, digest: str) -> dict[str, Any]:
    """The reference of embeddings, as `bestbefore describe` makes it, from images the model has not learned from."""
    scores, embedding = run(data.images)
    predicted = Categories(scores.argmax(1).astype(np.int32), tuple(map(str, range(CLASSES))))
    return embedding_profile(Embeddings(embedding, predicted, origin={"sha256": digest.removeprefix("sha256:")}))


def golden_records(data: Split, run: Serve, count: int = 3) -> list[dict[str, Any]]:
    """Inputs with the outputs this very file gives, so that a swapped model shows."""
    scores, _ = run(data.images[:count])
    return [
        {
            "inputs": {"image": [image.astype(float).tolist()]},
            "outputs": {"label": str(row.argmax()), "scores": {str(k): rounded(p) for k, p in enumerate(row)}},
            "tolerance": 1e-3,
        }
        for image, row in zip(data.images[:count], scores, strict=True)
    ]


def describe_model(digits: Digits, run: Serve, digest: str) -> dict[str, Any]:
    """The measured part of `trained_model`."""
    reference, held_out = (
        [{"metric": "Accuracy", "other_metric": "", "result": rounded(accuracy(run, part))}]
        for part in (digits.reference, digits.held_out)
    )
    own = {
        "digest": digest,
        "file": "../digits.onnx",
        "input": {"name": "image", "shape": [1, SIDE, SIDE], "dtype": "float32"},
        "outputs": {"scores": "scores", "embedding": "embedding"},
        "minimum_n": 200,
        "golden_records": golden_records(digits.reference, run),
    }
    return {"evaluation_metrics": reference, "test_metrics": held_out, "bestbefore": own}


def describe_data(data: Split, run: Serve, calibration: Calibration, digest: str) -> dict[str, Any]:
    """The measured part of `training_data`, from images the model has not learned from."""
    scores, _ = run(data.images)
    table = np.zeros((CLASSES, CLASSES), dtype=int)
    np.add.at(table, (data.labels, scores.argmax(1)), 1)
    shares = {str(k): rounded(share) for k, share in enumerate(table.sum(1) / table.sum())}
    features = {k: describe_feature(v, UNITS[k]) for k, v in image_features(data.images).items()}
    low, high = residual_bounds(induce(data, run, calibration), calibration)
    residuals = {"low": rounded(low), "high": rounded(high), "families": list(CORRUPTIONS), "level": LEVEL}
    properties = (("Mean", "mean"), ("Standard Deviation", "sd"))
    return {
        "statistics": [
            {"property": name, "field": field, "value": str(feature[key])}
            for field, feature in features.items()
            for name, key in properties
        ],
        "distribution": [
            {"label": k, "percentage": rounded(100 * share), "mapping_production_data": k}
            for k, share in shares.items()
        ],
        "bestbefore": {
            "features": features,
            "classes": shares,
            "confusion": {str(t): {str(p): int(n) for p, n in enumerate(row)} for t, row in enumerate(table)},
            "calibration": {**calibration._asdict(), "n": len(data.labels), "residuals": residuals},
            "embedding": describe_embedding(run, data, digest),
        },
    }


def induced_quality(digits: Digits, run: Serve, digest: str) -> Fitted:
    """The estimator of quality without labels, as `bestbefore induce` fits it."""
    kinds = kinds_of(digits.train.images, digits.reference.images, (), ())
    return fit(run, *digits.train, *digits.reference, kinds, model=digest.removeprefix("sha256:"))


def accuracy(run: Serve, data: Split) -> float:
    """Share of images that the model reads rightly."""
    return float((run(data.images)[0].argmax(1) == data.labels).mean())


def write(directory: Path, content: bytes, estimator: bytes, measured: dict[str, dict[str, Any]]) -> None:
    """The model, its estimator, and the eight descriptors, as text that reads and compares line by line."""
    folder = directory / "descriptors"
    folder.mkdir(parents=True, exist_ok=True)
    (directory / "digits.onnx").write_bytes(content)
    (folder / FILE).write_bytes(estimator)
    declared = yaml.safe_load((HERE / "declared.yaml").read_text(encoding="utf-8"))
    for kind, facts in declared.items():
        text = yaml.safe_dump({**facts, **measured.get(kind, {})}, sort_keys=False, width=120, default_flow_style=None)
        (folder / f"{kind}.yaml").write_text(text, encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """Trains, measures, writes, and prints the figures as one JSON object."""
    digits = load()
    content = export(train(digits.train))
    run, digest = serve(content), "sha256:" + hashlib.sha256(content).hexdigest()
    calibration = calibrate(run(digits.reference.images)[0], digits.reference.labels)
    described = describe_data(digits.reference, run, calibration, digest)
    quality = induced_quality(digits, run, digest)
    described["bestbefore"]["quality_estimator"] = quality.section(FILE, quality.quality.pack())
    write(
        Path(arguments[0]) if arguments else HERE,
        content,
        quality.quality.pack(),
        {"trained_model": describe_model(digits, run, digest), "training_data": described},
    )
    fitted, fresh = induce(digits.reference, run, calibration), induce(digits.held_out, run, calibration, seed=8)
    figures = {
        "digest": digest,
        "accuracy": {"reference": calibration.accuracy, "held_out": rounded(accuracy(run, digits.held_out), 4)},
        "residuals": described["bestbefore"]["calibration"]["residuals"],
        "coverage_of_left_out_families": left_out_coverage(fitted, fresh, calibration),
        "estimator": {what: rounded(quality.mean(what), 3) for what in ("error", "coverage", "width")},
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
