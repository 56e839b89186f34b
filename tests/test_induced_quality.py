"""Accuracy without labels: registered on a small synthetic world, read on windows with known truth."""

from functools import cache

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models import induction_tables, packing
from models.fixed_point import WEIGHT
from models.induced_quality import KIND, VERSION, Answers, InducedQuality, fit, inducer
from models.induction import observe

Floats = NDArray[np.float64]
CLASSES, WIDTH = 3, 8
CENTRES = np.random.default_rng(1).normal(size=(CLASSES, WIDTH)) * 1.4


def world(n: int, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Three blobs in eight dimensions."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=n)
    return CENTRES[labels] + rng.normal(size=(n, WIDTH)), labels


def served(x: Floats) -> tuple[Floats, Floats]:
    """A linear model: scores, and the input as its embedding."""
    return x @ CENTRES.T - (CENTRES**2).sum(axis=1) / 2, x


@cache
def registered(families: int = 12) -> InducedQuality:
    """An estimator on so many families of shift."""
    train, truth = world(400, 2)
    held, labels = world(300, 3)
    shifts = induction_tables.shifts(train)
    names = tuple(shifts)[:families]
    contents = {"nothing": lambda x, y, _severity, _rng: (0 * x, y), "far": lambda x, y, _severity, _rng: (9 - x, y)}
    induce = inducer(shifts | contents, held, labels, served)
    answers = Answers(*served(train), truth), Answers(*served(held), labels)
    return fit(*answers, induce, names, aliens=contents, pairs=20, model="sha")


def test_interval_holds_on_drift_that_was_never_induced() -> None:
    quality, inside, errors = registered(), [], []
    x, labels = world(3000, 4)
    for k, turn in enumerate(np.linspace(0, 1.2, 40)):
        rng = np.random.default_rng(k)
        rows = rng.choice(len(x), 200, replace=False)
        turned = x[rows].copy()  # a rotation of two columns: none of the induced families
        a, b = turned[:, 0].copy(), turned[:, 1].copy()
        turned[:, 0], turned[:, 1] = np.cos(turn) * a - np.sin(turn) * b, np.sin(turn) * a + np.cos(turn) * b
        scores, embedding = served(turned)
        found = quality.read(quality.sums(scores, embedding), n=200)
        truth = float((scores.argmax(axis=1) == labels[rows]).mean())
        assert found.estimate is not None
        assert found.low is not None
        assert found.high is not None
        inside.append(found.low <= truth <= found.high)
        errors.append(abs(found.estimate - truth))
    assert np.mean(inside) >= 0.9
    assert np.mean(errors) < 0.06


def test_windows_merge_to_the_same_bits_in_any_order_and_any_batches() -> None:
    quality = registered()
    scores, embedding = served(world(500, 5)[0])
    weight = np.random.default_rng(6).integers(WEIGHT, 9 * WEIGHT, 500)
    whole = quality.sums(scores, embedding, weight)
    order = np.random.default_rng(7).permutation(500)
    pieces = np.split(order, np.sort(np.random.default_rng(8).choice(499, 12, replace=False)) + 1)
    merged = sum(quality.sums(scores[p], embedding[p], weight[p]) for p in pieces)
    assert whole.dtype == np.int64
    assert whole.shape == (quality.size,)
    assert np.array_equal(merged, whole)
    assert quality.read(whole, n=500) == quality.read(np.asarray(merged), n=500)


def test_weights_count_like_repeated_events() -> None:
    quality = registered()
    scores, embedding = served(world(100, 9)[0])
    twice = quality.sums(np.repeat(scores, 2, axis=0), np.repeat(embedding, 2, axis=0))
    # Each row is rounded once, with its weight.
    assert np.abs(quality.sums(scores, embedding, np.full(100, 2 * WEIGHT)) - twice).max() <= 100


def test_rows_that_are_not_finite_add_nothing() -> None:
    quality = registered()
    scores, embedding = served(world(100, 10)[0])
    spoilt_scores, spoilt = np.concatenate([scores, scores[:3]]), np.concatenate([embedding, embedding[:3]])
    spoilt_scores[100, 0], spoilt[101, 1], spoilt_scores[102, 2] = np.nan, np.inf, -np.inf
    assert np.array_equal(quality.sums(spoilt_scores, spoilt), quality.sums(scores, embedding))
    proxy = quality.correct_probability(quality.features(spoilt_scores, spoilt))
    assert np.isnan(proxy[100:]).all()
    assert ((proxy[:100] > 0) & (proxy[:100] < 1)).all()
    nothing = quality.sums(spoilt_scores[100:], spoilt[100:])
    assert not nothing.any()
    assert "no sampled inputs" in (quality.read(nothing, n=3).reason or "")


@pytest.mark.parametrize("content", ["elsewhere", "nothing"])
def test_a_window_unlike_everything_induced_reads_unknown(content: str) -> None:
    quality = registered()
    x, _ = world(300, 11)
    scores, embedding = served(x + 40 if content == "elsewhere" else 0 * x)
    found = quality.read(quality.sums(scores, embedding), n=300)
    assert (found.estimate, found.low, found.high, found.basis) == (None, None, None, "none")
    assert (found.reason or "").startswith("unknown")


def test_clean_traffic_is_read() -> None:
    quality, unknown = registered(), 0
    for seed in range(20):
        x, _labels = world(150, 100 + seed)
        scores, embedding = served(x)
        found = quality.read(quality.sums(scores, embedding), n=150)
        unknown += found.estimate is None
    assert unknown <= 1


def test_fewer_than_nine_families_give_a_reason_and_no_number() -> None:
    quality = registered(families=8)
    found = quality.read(quality.sums(*served(world(200, 12)[0])), n=200)
    assert found.estimate is None
    assert "8 families" in (found.reason or "")
    assert "9" in (found.reason or "")


def test_few_events_give_a_reason_and_no_number() -> None:
    quality = registered()
    sums = quality.sums(*served(world(200, 13)[0]))
    assert "12 effective events" in (quality.read(sums, n=200, n_effective=12).reason or "")


def test_failed_answers_count_as_wrong() -> None:
    quality = registered()
    sums = quality.sums(*served(world(200, 14)[0]))
    whole, half = quality.read(sums, n=200), quality.read(sums, n=400, n_effective=200, failed=0.5)
    assert whole.estimate is not None
    assert half.estimate == pytest.approx(whole.estimate / 2)
    assert whole.high is not None
    assert half.high == pytest.approx(whole.high / 2)


def test_probabilities_read_like_logits() -> None:
    train, truth = world(400, 2)
    held, labels = world(300, 3)

    def probable(x: Floats) -> tuple[Floats, Floats]:
        z, e = served(x)
        mass = np.exp(z - z.max(axis=1, keepdims=True))
        return mass / mass.sum(axis=1, keepdims=True), e

    shifts = induction_tables.shifts(train)
    answers = Answers(*probable(train), truth), Answers(*probable(held), labels)
    quality = fit(*answers, inducer(shifts, held, labels, probable), shifts, pairs=5)
    x, labels = world(400, 15)
    found = quality.read(quality.sums(*probable(x)), n=400)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= (probable(x)[0].argmax(axis=1) == labels).mean() <= found.high
    assert np.isnan(quality.features(np.array([[-0.1, 0.6, 0.5], [0, 0, 0]]), x[:2])).all()


def test_packed_and_unpacked_it_reads_the_same() -> None:
    quality = registered()
    content = quality.pack()
    same = InducedQuality.unpack(content, quality.digest)
    sums = quality.sums(*served(world(200, 16)[0]))
    assert same.pack() == content
    assert same.model == "sha"
    assert same.read(sums, n=200) == quality.read(sums, n=200)


def test_another_digest_version_or_file_is_refused() -> None:
    quality = registered()
    content = quality.pack()
    with pytest.raises(ValueError, match="not the one that was registered"):
        InducedQuality.unpack(content, "0" * 64)
    arrays = packing.unpack(KIND, VERSION, content)
    with pytest.raises(ValueError, match="format version 2"):
        InducedQuality.unpack(packing.pack(KIND, VERSION + 1, arrays))
    with pytest.raises(ValueError, match="not a"):
        InducedQuality.unpack(packing.pack("ruler", VERSION, arrays))
    with pytest.raises(ValueError, match=r"lacks 'ridge\.dual'"):
        InducedQuality.unpack(packing.pack(KIND, VERSION, {k: v for k, v in arrays.items() if k != "ridge.dual"}))
    with pytest.raises(ValueError, match="register it again"):
        InducedQuality.unpack(content[: len(content) // 2])


@pytest.mark.parametrize("name", ["reference.whitening", "ridge.dual", "unlike.axes", "tables.table", "interval.scale"])
def test_parts_that_do_not_fit_together_are_refused_before_any_window(name: str) -> None:
    arrays = packing.unpack(KIND, VERSION, registered().pack())
    with pytest.raises(ValueError, match="register it again"):
        InducedQuality.unpack(packing.pack(KIND, VERSION, {**arrays, name: arrays[name][:-1]}))


@pytest.mark.parametrize("shape", [(2**63, 2), (-1,), (3,)])
def test_a_shape_that_the_bytes_do_not_have_is_refused(shape: tuple[int, ...]) -> None:
    arrays = {"edges": {"dtype": "<f8", "shape": shape, "content": bytes(16)}}
    content = msgspec.msgpack.encode({"kind": "ruler", "version": 1, "arrays": arrays})
    with pytest.raises(ValueError, match="register it again"):
        packing.unpack("ruler", 1, content)


def test_sums_and_answers_of_another_model_are_refused() -> None:
    quality = registered()
    with pytest.raises(ValueError, match="do not belong"):
        quality.read(np.zeros(quality.size + 1, dtype=np.int64), n=100)
    with pytest.raises(ValueError, match="3 classes and embeddings of length 8"):
        quality.sums(np.zeros((2, 4)), np.zeros((2, 8)))
    with pytest.raises(ValueError, match="two of each"):
        fit(_tiny(), _tiny(), inducer({}, *_none(), served), ("one",))
    with pytest.raises(ValueError, match="no family"):
        fit(_tiny(), _tiny(), inducer({}, *_none(), served), ())


def test_observed_windows_know_their_truth() -> None:
    x, labels = world(50, 17)
    scores, embedding = served(x)
    found = observe(registered().reference, Answers(scores, embedding, labels))
    assert np.array_equal(found.right, scores.argmax(axis=1) == labels)


def _tiny() -> Answers:
    return Answers(np.zeros((4, 2)), np.zeros((4, 2)), np.zeros(4, int))


def _none() -> tuple[Floats, NDArray[np.int64]]:
    return np.zeros((0, 2)), np.zeros(0, int)
