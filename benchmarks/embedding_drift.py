"""How soon drift of embeddings is seen at equal false alarms, beside the full permutation test; what features cost.

    python -m benchmarks.embedding_drift [--seeds 20] [--severity 0.1]

Embeddings of digits that the model has not learned from, 500 as reference and windows of 50 from the rest; then every
family of corruptions, mild, and inputs a fifth of which have moved to other modes: mean, spread and distances from the
middle stay. `mmd` and `newma` are what the pipeline computes in linear time; `permutation` is the quadratic MMD of all
pairs with a Gaussian kernel, median bandwidth and 199 permutations, as in alibi-detect's MMDDrift (whose licence
has not let it into production since 0.11.5, so the test is computed here); `mean shift` is the field `embedding` of the
check. The permutation test knows no classes, so `mmd, no classes` shows what of the gain is due to them.

Thresholds are the 99% quantile of each method's own scores over all windows without change: equal false alarms, also
for a method that breaks its promise. Beside it stands what each does at its own level of 1%. Delays are in windows.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist
from scipy.special import chdtri, ndtri

from benchmarks.fused_projection import FEATURES, fused
from infra.demo.images import CORRUPTIONS, corrupt, load
from models.checks.kernel_shift import KernelShift, kernel_shift
from models.columns import Categories, Embedded
from models.describing_columns import Embeddings
from models.describing_embedding import embedding_profile
from models.embedder import Embedder
from models.kernel_streams import kernel_streams
from models.newma import Newma
from models.profile import Profile, standardised
from models.profile_kernel import kernel_sums
from models.quality import wilson
from models.random_features import KernelReference, Projection, prepared
from models.reference import EmbeddingReference, Reference, compile_reference

Floats = NDArray[np.float64]
MODEL = Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx"
NAMES = tuple(map(str, range(10)))
WINDOW, REFERENCE, QUIET, AFTER, LEVEL, PERMUTATIONS = 50, 500, 40, 20, 0.01, 199
METHODS = ("mmd", "newma", "mmd, no classes", "mean shift", "permutation")
MODES, MIX = "other modes", "class mix"


class Inputs(NamedTuple):
    """Embeddings (n, 64) with the predicted class of each."""

    embedding: NDArray[np.float32]
    predicted: NDArray[np.int32]

    def take(self, rows: Any) -> "Inputs":
        """Only `rows`."""
        return Inputs(self.embedding[rows], self.predicted[rows])


class Seed:
    """A reference and a pool of other inputs."""

    def __init__(self, plain: Inputs, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        order = self.rng.permutation(len(plain.predicted))
        self.pool = order[REFERENCE:]
        learned = plain.take(order[:REFERENCE])
        self.reference = _described(learned)
        assert self.reference.embedding is not None
        self.known: EmbeddingReference = self.reference.embedding
        self.kernel = _kernel(self.reference)
        self.classless = _described(learned._replace(predicted=np.full(REFERENCE, -1, np.int32)))
        self.z = standardised(learned.embedding, self.known)
        self.bandwidth = float(np.median(pdist(self.z)))
        self.pairs = self.gaussian(self.z, self.z)

    def gaussian(self, x: Floats, y: Floats) -> Floats:
        """Kernel of all pairs."""
        found: Floats = np.exp(-cdist(x, y, "sqeuclidean") / (2 * self.bandwidth**2))
        return found

    def window(self, inputs: Inputs, weight: Floats | None = None) -> Inputs:
        """Fifty of the pool, as `inputs` has them."""
        p = None if weight is None else weight[self.pool] / weight[self.pool].sum()
        return inputs.take(self.rng.choice(self.pool, WINDOW, replace=False, p=p))


class Watch:
    """All methods over one sequence of windows; `scores` grow with drift, `fired` is each at its own level."""

    def __init__(self, seed: Seed, newma: Newma) -> None:
        self.seed, self.newma = seed, Newma(newma.state)

    def scores(self, window: Inputs) -> tuple[dict[str, float], dict[str, bool]]:
        """Of the next window."""
        known, kernel = self.seed.known, self.seed.kernel
        block = _profile(window, self.seed.reference)
        shift, plain = (
            _shift(block, kernel),
            _shift(_profile(window, self.seed.classless), _kernel(self.seed.classless)),
        )
        recent = kernel_streams(self.newma, block, self.seed.reference).get("embedding/newma", 0.0)
        z = standardised(window.embedding, known)
        moved = float(np.mean(z.mean(axis=0) ** 2)) ** 0.5 / (1 / WINDOW + 1 / REFERENCE) ** 0.5
        tested, p = self._permuted(z)
        _, two, three = kernel.traces
        freedom = two**3 / three**2
        rare = (float(chdtri(freedom, LEVEL)) - freedom) / (2 * freedom) ** 0.5
        return (
            dict(zip(METHODS, (shift.score, recent, plain.score, moved, tested), strict=True)),
            dict(
                zip(
                    METHODS,
                    (
                        shift.estimate > shift.noise, recent > rare, plain.estimate > plain.noise,
                        moved > -float(ndtri(LEVEL / 2)), p <= LEVEL,
                    ),
                    strict=True,
                )
            ),
        )  # fmt: skip

    def _permuted(self, z: Floats) -> tuple[float, float]:
        """The squared MMD of all pairs in sd of its permutations, and the share of those that reach it."""
        across = self.seed.gaussian(z, self.seed.z)
        pairs = np.block([[self.seed.gaussian(z, z), across], [across.T, self.seed.pairs]])
        np.fill_diagonal(pairs, 0.0)
        first = np.zeros((len(pairs), PERMUTATIONS + 1))
        first[:WINDOW, 0] = 1.0
        for column in range(1, PERMUTATIONS + 1):
            first[self.seed.rng.choice(len(pairs), WINDOW, replace=False), column] = 1.0
        other = 1.0 - first
        of_first, of_other = pairs @ first, pairs @ other
        found = (
            (first * of_first).sum(axis=0) / (WINDOW * (WINDOW - 1))
            + (other * of_other).sum(axis=0) / (REFERENCE * (REFERENCE - 1))
            - 2 * (first * of_other).sum(axis=0) / (WINDOW * REFERENCE)
        )
        score = (found[0] - found[1:].mean()) / found[1:].std()
        return float(score), float(np.mean(found >= found[0]))


def _described(inputs: Inputs) -> Reference:
    section = embedding_profile(Embeddings(inputs.embedding, Categories(inputs.predicted, NAMES)))
    trees: dict[str, dict[str, Any]] = {
        "trained_model": {"model_name": "digits", "model_version": "1"},
        "training_data": {"bestbefore": {"embedding": section}},
    }
    return compile_reference(trees)


def _kernel(reference: Reference) -> KernelReference:
    assert reference.embedding is not None
    assert reference.embedding.kernel is not None
    return reference.embedding.kernel


def _shift(block: Profile, kernel: KernelReference) -> KernelShift:
    whole = kernel_sums(block, kernel.features)
    assert whole is not None
    return kernel_shift(kernel, whole, block, factor=1.0, alpha=LEVEL, mix=0.0)


def _profile(inputs: Inputs, reference: Reference) -> Profile:
    made, n = Profile(), len(inputs.predicted)
    column = Categories(inputs.predicted, NAMES)
    made.add(Embedded(offset=np.arange(n), time=np.arange(n), embedding=inputs.embedding, label=column), reference)
    return made


def _embedded(embedder: Embedder, images: NDArray[np.float32]) -> Inputs:
    scores, embedding = embedder.outputs(images[:, None])
    assert scores is not None
    return Inputs(embedding, scores.argmax(axis=1).astype(np.int32))


def _other_modes(plain: Inputs) -> Inputs:
    """A fifth of the inputs with every other dimension turned about its mean."""
    found, rows = plain.embedding.copy(), np.arange(len(plain.predicted)) % 5 == 0
    turned = np.ix_(rows, np.arange(found.shape[1]) % 2 == 1)
    found[turned] = 2 * plain.embedding.mean(axis=0)[1::2] - found[turned]
    return Inputs(found, plain.predicted)


def detection(seeds: int, severity: float) -> None:
    """Print false alarms and delays."""
    embedder = Embedder.load(MODEL.read_bytes(), sha256=None, embedding="embedding", scores="scores")
    digits = load()
    images = np.concatenate((digits.reference.images, digits.held_out.images))
    labels = np.concatenate((digits.reference.labels, digits.held_out.labels))
    plain = _embedded(embedder, images)
    kinds = {
        name: _embedded(embedder, corrupt(images, name, severity, np.random.default_rng(1))) for name in CORRUPTIONS
    }
    kinds[MODES] = _other_modes(plain)
    quiet: dict[str, list[float]] = {name: [] for name in METHODS}
    mixed: dict[str, list[float]] = {name: [] for name in METHODS}
    own = dict.fromkeys(METHODS, 0)
    after: dict[str, list[list[dict[str, float]]]] = {kind: [] for kind in kinds}
    for number in range(seeds):
        seed = Seed(plain, number)
        watch = Watch(seed, Newma())
        for _ in range(QUIET):
            scores, fired = watch.scores(seed.window(plain))
            for name in METHODS:
                quiet[name].append(scores[name])
                own[name] += fired[name]
        for kind, drifted in kinds.items():
            then = Watch(seed, watch.newma)
            after[kind].append([then.scores(seed.window(drifted))[0] for _ in range(AFTER)])
        then = Watch(seed, watch.newma)
        weight = np.where(labels == number % 10, 4.0, 1.0)
        for _ in range(AFTER):
            for name, score in then.scores(seed.window(plain, weight))[0].items():
                mixed[name].append(score)
    limits = {name: float(np.quantile(quiet[name], 1 - LEVEL)) for name in METHODS}
    _print_alarms(quiet, own, mixed, limits)
    _print_delays(after, limits, severity)


def _print_alarms(
    quiet: dict[str, list[float]], own: dict[str, int], mixed: dict[str, list[float]], limits: dict[str, float]
) -> None:
    print("alarms per window, with 90% interval; `class mix`: one digit four times as often, at equal false alarms")
    print(f"{'method':<18}{'no change, own level 1%':>32}{MIX:>32}")
    for name in METHODS:
        cells = []
        for count, n in ((own[name], len(quiet[name])), (sum(np.array(mixed[name]) > limits[name]), len(mixed[name]))):
            low, high = wilson(count / n, n)
            cells.append(f"{count / n:.3f} [{low:.3f}, {high:.3f}] of {n}")
        print(f"{name:<18}{cells[0]:>32}{cells[1]:>32}")


def _print_delays(after: dict[str, list[list[dict[str, float]]]], limits: dict[str, float], severity: float) -> None:
    rng = np.random.default_rng(0)
    print(
        f"\ndelay in windows at equal false alarms (1%), severity {severity}: median over seeds [90% interval], missed"
    )
    print(f"{'drift':<14}" + "".join(f"{name:>24}" for name in METHODS) + "   mmd beside permutation")
    outcome = {"win": 0, "tie": 0, "loss": 0}
    for kind, runs in after.items():
        cells, delays = [], {}
        for name in METHODS:
            hits = np.array([[one[name] > limits[name] for one in run] for run in runs])
            found = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1.0, AFTER + 1.0)
            delays[name] = found
            medians = np.median(rng.choice(found, (2000, len(found))), axis=1)
            low, high = np.quantile(medians, [0.05, 0.95])
            cells.append(f"{np.median(found):.1f} [{low:.1f}, {high:.1f}] {np.mean(found > AFTER):4.0%}")
        verdict = _compared(delays["mmd"], delays["permutation"], rng)
        outcome[verdict] += 1
        print(f"{kind:<14}" + "".join(f"{cell:>24}" for cell in cells) + f"   {verdict}")
    print(f"mmd beside permutation: {outcome['win']} wins, {outcome['tie']} ties, {outcome['loss']} losses")


def _compared(ours: Floats, theirs: Floats, rng: np.random.Generator) -> str:
    """By the 90% bootstrap interval of the mean difference of paired seeds."""
    gap = rng.choice(ours - theirs, (2000, len(ours))).mean(axis=1)
    low, high = np.quantile(gap, [0.05, 0.95])
    return "win" if high < 0 else "loss" if low > 0 else "tie"


def cost() -> None:
    """Print what the features cost beside the encoder, in numpy and as the last nodes of the graph."""
    embedder = Embedder.load(MODEL.read_bytes(), sha256=None, embedding="embedding", scores="scores", max_batch=64)
    images = load().held_out.images[:640, None]
    inputs = _embedded(embedder, images[:, 0])
    reference = _described(inputs)
    known = reference.embedding
    assert known is not None
    assert known.kernel is not None
    longer = fused(MODEL.read_bytes(), "embedding", known, known.kernel)
    both = Embedder.load(longer, sha256=None, embedding="embedding", scores=FEATURES, max_batch=64)
    psi = prepared(known.kernel).psi
    z = standardised(inputs.embedding, known)
    x512 = np.random.default_rng(0).normal(size=(640, 512))
    wide = Projection(128, 0, 512, 30.0)
    rows: dict[str, Callable[[], Any]] = {
        "encoder (digits CNN)": lambda: embedder.embed(images),
        "encoder with features fused": lambda: both.outputs(images),
        "features in numpy, 64 dimensions": lambda: psi(z),
        "features in numpy, 512 dimensions": lambda: wide(x512),
        "all sums of a sampled input (profile)": lambda: _profile(inputs, reference),
        "of those without features": lambda: _profile(inputs, _without(reference)),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(31):  # in turns, so that what else runs on the machine strikes all alike
        for name, call in rows.items():
            started = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - started) / len(images) * 1e6)
    print("\nmicroseconds per sampled input, one thread, batches of 64: median [quartiles]")
    for name, values in times.items():
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        print(f"{name:<40}{middle:>8.2f} [{low:.2f}, {high:.2f}]")
    in_graph, _ = both.outputs(images)
    assert in_graph is not None
    apart = np.abs(in_graph - psi(z)).max()
    units = np.mean(np.rint(in_graph * 65536.0) != np.rint(psi(z) * 65536.0))
    print(f"fused and numpy differ by at most {apart:.1e}; {units:.2%} of the fixed-point values differ by a unit")


def _without(reference: Reference) -> Reference:
    trees = {kind: dict(tree) for kind, tree in reference.descriptors.items()}
    own = trees["training_data"]["bestbefore"]
    kept = {key: value for key, value in own["embedding"].items() if key != "kernel"}
    trees["training_data"] = {"bestbefore": {**own, "embedding": kept}}
    return compile_reference(trees)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--severity", type=float, default=0.1)
    given = parser.parse_args()
    detection(given.seeds, given.severity)
    cost()


if __name__ == "__main__":
    main()
