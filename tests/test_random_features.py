"""Random features: the same on every machine, a kernel in expectation, sums that merge to the bit in any order."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from benchmarks.fused_projection import fused
from infra.demo.images import load
from infra.recording import Sample
from infra.replay import Engine, Step
from models.checks.kernel_shift import contributions, support_of
from models.columns import Categories, Embedded, Subject
from models.describing_columns import Embeddings
from models.describing_embedding import embedding_profile
from models.embedder import Embedder
from models.profile import MAX_GROUPS, Profile, standardised
from models.profile_kernel import CLASS, SEGMENT, kernel_sums, parts
from models.random_features import NEAR, KernelReference, Projection, drawn, prepared
from models.reference import EmbeddingReference, Reference, compile_reference
from streams.batches import Stamped
from streams.descriptor_files import load_reference
from streams.embedded import embedded_batch, recomputed
from streams.records import decode_input, time_us
from streams.settings import Settings
from streams.topics import INPUTS

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"
SEGMENTS = tuple(f'{{"camera":"{i}"}}' for i in range(40))


def described(embedding: NDArray[np.float32], predicted: Categories, weight: Any = None) -> Reference:
    section = embedding_profile(Embeddings(embedding, predicted, weight))
    trees: dict[str, dict[str, Any]] = {
        "trained_model": {"model_name": "m", "model_version": "1"},
        "training_data": {"bestbefore": {"embedding": section}},
    }
    return compile_reference(trees)


def classes_of(n: int, rng: np.random.Generator) -> Categories:
    return Categories(rng.integers(-1, 3, n).astype(np.int32), ("cat", "dog", "emu"))


def rows(n: int, seed: int, *, segments: int = 3) -> Embedded:
    rng = np.random.default_rng(seed)
    return Embedded(
        offset=np.arange(n), time=np.arange(n), weight=1.0 / rng.choice([1.0, 0.3, 0.01], n),
        embedding=rng.normal(size=(n, 6)).astype(np.float32), label=classes_of(n, rng),
        segment=Categories(rng.integers(-1, segments, n).astype(np.int32), SEGMENTS[:segments]),
    )  # fmt: skip


def reference() -> Reference:
    rng = np.random.default_rng(1)
    return described(rng.normal(size=(400, 6)).astype(np.float32), classes_of(400, rng))


def parts_of(known: Reference) -> tuple[EmbeddingReference, KernelReference]:
    assert known.embedding is not None
    assert known.embedding.kernel is not None
    return known.embedding, known.embedding.kernel


def profile_of(*parts: Embedded, known: Reference) -> Profile:
    made = Profile()
    for part in parts:
        made.add(part, known)
    return made


# ---- the features ----


def test_the_projection_is_the_same_everywhere() -> None:
    """Its digest was computed once and for all: a reference that was described elsewhere must still hold."""
    w, b = drawn(128, 0, 64)
    grid = np.concatenate((w.ravel(), b)) * (1 << 16)
    assert (grid == np.rint(grid)).all()
    assert hashlib.sha256(grid.astype("<i4").tobytes()).hexdigest()[:16] == "dd322f005a420527"
    assert (w.mean(), w.std(), b.min() >= 0, b.max() < 6.2832) == (
        pytest.approx(0, abs=0.03),
        pytest.approx(1, abs=0.03),
        True,
        True,
    )


def test_inner_products_are_the_gaussian_kernel() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 300, 8))
    psi = Projection(4096, 0, 8, 2.5)
    wanted = np.exp(-((x - y) ** 2).sum(axis=1) / (2 * 2.5**2))
    assert np.abs((psi(x).astype(float) * psi(y)).sum(axis=1) - wanted).max() < 5 / 4096**0.5


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_the_size_of_a_batch_changes_no_fixed_point_sum(size: int) -> None:
    known, batch = reference(), rows(210, 3)
    whole = profile_of(batch, known=known)
    pieces = [batch.take(slice(start, start + size)) for start in range(0, 210, size)]
    assert profile_of(*pieces, known=known).encode() == whole.encode()
    merged = Profile()
    for piece in reversed(pieces):
        merged.merge(Profile.unpack(profile_of(piece, known=known).pack()))
    assert merged.encode() == whole.encode()


def test_the_graph_computes_what_numpy_computes() -> None:
    known = load_reference(EXAMPLE / "descriptors")
    (embedding, kernel), content = parts_of(known), (EXAMPLE / "digits.onnx").read_bytes()
    images = load().held_out.images[:100, None]
    plain = Embedder.load(content, sha256=None, embedding="embedding").embed(images)
    longer = fused(content, "embedding", embedding, kernel)
    found = Embedder.load(longer, sha256=None, embedding="random_features").embed(images)
    np.testing.assert_allclose(found, prepared(kernel).psi(standardised(plain, embedding)), atol=1e-5)


def test_a_graph_that_cannot_be_extended_is_refused_by_name() -> None:
    embedding, kernel = parts_of(load_reference(EXAMPLE / "descriptors"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "old", ends[:1], ends[1:])
    old = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4).SerializeToString()
    with pytest.raises(ValueError, match="opset 9"):
        fused(old, "y", embedding, kernel)
    with pytest.raises(ValueError, match="no tensor 'z'"):
        fused((EXAMPLE / "digits.onnx").read_bytes(), "z", embedding, kernel)


# ---- the sums ----


def test_the_sums_are_those_of_the_rows() -> None:
    known, batch = reference(), rows(500, 4)
    embedding, kernel = parts_of(known)
    made = profile_of(batch, known=known)
    whole = kernel_sums(made, kernel.features)
    assert whole is not None
    assert batch.label is not None
    assert batch.weight is not None
    arrays = prepared(kernel)
    psi = arrays.psi(standardised(batch.embedding, embedding)).astype(float)
    difference = psi - arrays.means[arrays.rows(batch.label.values, batch.label.codes)]
    np.testing.assert_allclose(whole.mean, np.average(difference, axis=0, weights=batch.weight), atol=1e-4)
    assert whole.n == pytest.approx(batch.weight.sum() ** 2 / (batch.weight**2).sum(), rel=1e-3)
    squares = np.average((difference**2).sum(axis=1), weights=batch.weight**2)
    assert whole.spread == pytest.approx(squares, rel=1e-3)
    segments = parts(made, SEGMENT, whole)
    assert [part.name for part in segments] == list(SEGMENTS[:3])
    mine = batch.segment is not None and batch.segment.codes == 1
    assert segments[1].share == pytest.approx(batch.weight[mine].sum() / batch.weight.sum(), rel=1e-3)
    np.testing.assert_allclose(
        segments[1].pull, (difference[mine] * batch.weight[mine, None]).sum(axis=0) / batch.weight.sum(), atol=1e-4
    )


def test_parts_add_up_to_the_whole_and_stay_bounded() -> None:
    """Forty segments, in any order of merging: sixteen by name and the others together."""
    known, batches = reference(), [rows(200, seed, segments=40) for seed in range(6)]
    for batch in batches:
        assert batch.segment is not None
        batch.segment = Categories(np.maximum(batch.segment.codes, 0), batch.segment.values)
    made = profile_of(*batches, known=known)
    back = profile_of(*reversed(batches), known=known)
    assert made.encode()["sums"] == back.encode()["sums"]
    whole = kernel_sums(made, parts_of(known)[1].features)
    assert whole is not None
    segments = parts(made, SEGMENT, whole)
    assert len(segments) == MAX_GROUPS + 1
    np.testing.assert_allclose(sum(part.pull for part in segments), whole.mean, atol=1e-12)
    assert sum(part.share for part in segments) == pytest.approx(1)
    assert len(parts(made, CLASS, whole)) == 3
    assert len(made.pack()) < 40_000


def test_the_segment_that_changed_makes_most_of_it() -> None:
    """One camera of four sees something else; the classes share it as they share the inputs."""
    known, rng = reference(), np.random.default_rng(5)
    batch = rows(2000, 5, segments=4)
    assert batch.segment is not None
    batch.weight, batch.embedding = None, rng.normal(size=(2000, 6)).astype(np.float32)
    batch.embedding[batch.segment.codes == 2] += 1.5
    made = profile_of(batch, known=known)
    whole = kernel_sums(made, parts_of(known)[1].features)
    assert whole is not None
    (first, made_by_first), *others = contributions(made, SEGMENT, whole)
    assert (first.name, made_by_first > 0.8) == (SEGMENTS[2], True)
    assert all(abs(made) < 0.15 for _, made in others)


def test_inputs_that_are_no_numbers_are_counted_and_change_nothing() -> None:
    known, batch = reference(), rows(50, 6)
    clean = profile_of(batch.take(slice(2, 50)), known=known)
    batch.embedding[0, 3], batch.embedding[1] = np.nan, np.inf
    dirty = profile_of(batch, known=known)
    assert dirty.counts["embedding_not_finite"] == 2
    for name in ("kernel", "embedding"):
        np.testing.assert_array_equal(dirty.sums[name], clean.sums[name])
    batch.embedding[:] = np.nan
    assert "kernel" not in profile_of(batch, known=known).sums


def test_an_absurd_weight_leaves_sums_that_can_be_read() -> None:
    known, batch = reference(), rows(50, 7)
    batch.weight = np.full(50, 1e5)
    whole = kernel_sums(profile_of(batch, known=known), parts_of(known)[1].features)
    assert whole is not None
    assert whole.n == pytest.approx(50)
    assert 0 < whole.spread < 2


def test_a_unit_that_never_spoke_does_not_spin_the_phase() -> None:
    psi = Projection(64, 0, 2, 3.0)
    np.testing.assert_array_equal(psi(np.array([[1e3, 0.0]])), psi(np.array([[NEAR, 0.0]])))


# ---- the support ----


def test_ninety_five_of_a_hundred_new_inputs_are_supported() -> None:
    """Of twenty references and as many fresh draws: calibrated on inputs that did not make the means."""
    shares, covered = [], 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(3, 6)) * 2

        def draw(n: int, rng: np.random.Generator = rng, centres: Any = centres) -> tuple[Any, Categories]:
            codes = rng.integers(0, 3, n).astype(np.int32)
            return (centres[codes] + rng.normal(size=(n, 6))).astype(np.float32), Categories(codes, ("a", "b", "c"))

        known = described(*draw(100))
        fresh, label = draw(1000)
        n = len(fresh)
        batch = Embedded(offset=np.arange(n), time=np.arange(n), embedding=fresh, label=label)
        found = support_of(parts_of(known)[1], profile_of(batch, known=known))
        assert found is not None
        shares.append(found.share)
        covered += found.low <= 0.95 <= found.high
    assert np.mean(shares) == pytest.approx(0.95, abs=0.02)
    far = Embedded(offset=np.arange(n), time=np.arange(n), embedding=fresh + np.float32(8), label=label)
    lost = support_of(parts_of(known)[1], profile_of(far, known=known))
    assert lost is not None
    assert lost.high < 0.1


# ---- the descriptor ----


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mean": [0.1]}, r"embedding.kernel.mean: a list of 128 numbers is needed, one per feature, found 1"),
        ({"traces": [1, 2]}, "three traces above zero are needed"),
        ({"bandwidth": 0}, "bandwidth and three traces above zero"),
    ],
)
def test_a_kernel_that_cannot_be_used_is_refused_by_name(change: dict[str, Any], told: str) -> None:
    rng = np.random.default_rng(7)
    section = embedding_profile(Embeddings(rng.normal(size=(50, 3)).astype(np.float32), classes_of(50, rng)))
    section["kernel"] |= change
    trees: dict[str, dict[str, Any]] = {
        "trained_model": {"model_name": "m", "model_version": "1"},
        "training_data": {"bestbefore": {"embedding": section}},
    }
    with pytest.raises(ValueError, match=told):
        compile_reference(trees)


# ---- live and replay ----


def test_replay_adds_the_bits_that_the_worker_adds() -> None:
    """Sampled inputs in batches of seven live, and of other sizes in a replay; each with the segment of its camera."""
    known = load_reference(EXAMPLE / "descriptors")
    images = load().held_out.images[:60, None]
    samples = []
    for i, image in enumerate(images):
        camera = f'{{"camera":"{i % 2}"}}'.encode()
        head = {"inference_id": f"i-{i}".encode(), "model": b"digits", "version": b"1", "dtype": b"float32",
                "time": b"2026-11-20T10:00:00Z", "shape": b"[1, 16, 16]", "segment": camera}  # fmt: skip
        samples.append(Sample(decode_input(list(head.items())), image.tobytes()))
    file = known.file
    assert file is not None
    embedder = Embedder.load(Path(file.path).read_bytes(), sha256=file.sha256, embedding="embedding", scores="scores")
    live: dict[Subject, Profile] = {}
    for start in range(0, 60, 7):
        part = [Stamped(start + k, 0, sample.meta) for k, sample in enumerate(samples[start : start + 7])]
        found = recomputed(embedder, images[start : start + 7])
        for subject, columns, _ in embedded_batch(part, found, start + 6, lambda *_: known).groups:
            live.setdefault(subject, Profile()).add(columns, known)
    engine = Engine([known], Settings(embed_batch=32), set())
    for sample in samples:
        engine.take(Step(time_us(sample.meta.time), INPUTS, sample))
    engine._embed()
    again = {key.subject: window.profile for key, window in engine._books[INPUTS]._windows.items()}
    assert {s: p.encode()["sums"] for s, p in again.items()} == {s: p.encode()["sums"] for s, p in live.items()}
    everything = live[Subject("digits", "1")]
    assert {name for name in everything.sums if name.startswith(SEGMENT)} == {f"{SEGMENT}{SEGMENTS[i]}" for i in (0, 1)}
    assert not any(name.startswith(SEGMENT) for name in live[Subject("digits", "1", SEGMENTS[0])].sums)
