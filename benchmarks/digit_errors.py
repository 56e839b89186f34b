"""P(correct) of one answer of the digits' network, r(x), and a label-free interval of a window's accuracy from it.

Both are learned by drift induction: the reference images are spoilt by twelve families at five severities and by pairs
of them, and r is an additive logistic model over bins of eight features of an event. The interval is conformal with
the family as the unit: each family is predicted by a model that never saw it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, nnls

from benchmarks.digit_model import CLASSES, INDUCED, Images, Network, Split, corrupted, softmax

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
BINS, NEIGHBOURS, LEVEL = 16, 5, 0.9


class Answers(NamedTuple):
    """Answers to a set of images: features (n, 8); confidence, answer and truth (n,)."""

    features: Floats
    confidence: Floats
    answer: NDArray[np.int64]
    truth: NDArray[np.int64]

    @property
    def correct(self) -> Bools:
        """Which answers are right."""
        return np.asarray(self.answer == self.truth)


class Induced(NamedTuple):
    """Answers to the reference images under one induced condition; no family means clean."""

    families: frozenset[str]
    answers: Answers


class Observer:
    """The network with what registration froze: temperature, class means, whitening, training embeddings."""

    def __init__(self, network: Network, split: Split) -> None:
        self.network = network
        scores, _ = network(split.reference)
        labels = split.reference_labels

        def log_loss(t: float) -> float:
            return -float(np.log(softmax(scores / t)[np.arange(len(labels)), labels] + 1e-12).mean())

        self.temperature = float(minimize_scalar(log_loss, bounds=(0.3, 5), method="bounded").x)
        _, train = network(split.train)
        means = np.stack([train[split.train_labels == k].mean(axis=0) for k in range(CLASSES)])
        spread = np.cov((train - means[split.train_labels]).T, bias=True)
        shrunk = 0.9 * spread + 0.1 * np.trace(spread) / len(spread) * np.eye(len(spread))
        self.whiten = np.linalg.cholesky(np.linalg.inv(shrunk))
        self.means = means @ self.whiten
        self.core, self.core_labels = train / np.linalg.norm(train, axis=1, keepdims=True), split.train_labels

    def __call__(self, images: Images, truth: NDArray[np.int64]) -> Answers:
        """What the network answers, with the features of each answer."""
        scores, embedding = self.network(images)
        p, rows = softmax(scores / self.temperature).astype("f8"), np.arange(len(images))
        answer = p.argmax(axis=1)
        distance = np.linalg.norm((embedding @ self.whiten)[:, None] - self.means, axis=2)
        own = distance[rows, answer]
        distance[rows, answer] = np.inf
        norm = np.linalg.norm(embedding, axis=1)
        cosine = embedding @ self.core.T / (norm[:, None] + 1e-6)
        near = np.argpartition(-cosine, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        closeness = np.take_along_axis(cosine, near, axis=1).mean(axis=1)
        top = scores.max(axis=1)
        features = (
            p[rows, answer],
            (p * np.log(p + 1e-12)).sum(axis=1),
            top + np.log(np.exp(scores - top[:, None]).sum(axis=1)),
            np.log1p(own),
            distance.min(axis=1) - own,
            np.log(1e-4 + np.maximum(1 - closeness, 0)),
            (self.core_labels[near] == answer[:, None]).mean(axis=1),
            norm,
        )
        return Answers(np.stack(features, axis=1).astype("f8"), p[rows, answer], answer, truth)


class ErrorModel:
    """r(x): sigmoid of a sum of tables, one per feature; penalised IRLS, smooth over neighbouring bins."""

    def __init__(self, features: Floats, correct: Bools) -> None:
        self.edges = np.quantile(features, np.linspace(0, 1, BINS + 1)[1:-1], axis=0)
        cells, width = self._cells(features), features.shape[1] * BINS
        design = np.zeros((len(features), width), "f4")
        np.put_along_axis(design, cells, 1, axis=1)
        second = np.diff(np.eye(BINS), 2, axis=0)
        penalty = np.kron(np.eye(features.shape[1]), 10 * second.T @ second + 2 * np.eye(BINS))
        self.table, self.base = np.zeros(width), float(np.log(correct.mean() / (1 - correct.mean())))
        for _ in range(7):
            p = self._probability(cells)
            v = np.maximum(p * (1 - p), 1e-3)
            self.base += float((correct - p).sum() / v.sum())
            p = self._probability(cells)
            slope = design.T @ (correct - p) - penalty @ self.table
            self.table += np.linalg.solve((design * v[:, None].astype("f4")).T @ design + penalty, slope)

    def __call__(self, features: Floats) -> Floats:
        """P(correct) of each row of features."""
        return self._probability(self._cells(features))

    def _cells(self, features: Floats) -> NDArray[np.int64]:
        columns = (np.searchsorted(self.edges[:, j], features[:, j]) + BINS * j for j in range(features.shape[1]))
        return np.stack(list(columns), axis=1)

    def _probability(self, cells: NDArray[np.int64]) -> Floats:
        return np.asarray(1 / (1 + np.exp(-(self.base + self.table[cells].sum(axis=1)))))


def induce(observer: Observer, split: Split, rng: np.random.Generator, pairs: int = 60) -> list[Induced]:
    """Answers to the reference images under every induced condition."""
    conditions: list[tuple[tuple[str, int], ...]] = [()] * 8 + [((f, s),) for f in INDUCED for s in range(5)]
    for _ in range(pairs):
        first, second = rng.choice(INDUCED, 2, replace=False)
        conditions.append(((str(first), int(rng.integers(4))), (str(second), int(rng.integers(4)))))
    found = []
    for condition in conditions:
        images = split.reference
        for family, severity in condition:
            images = corrupted(images, family, severity, rng)
        found.append(Induced(frozenset(f for f, _ in condition), observer(images, split.reference_labels)))
    return found


def error_model(induced: list[Induced], without: str | None = None) -> ErrorModel:
    """r(x) from every fourth answer under the induced conditions that do not hold the family `without`."""
    seen = [c.answers for c in induced if without not in c.families]
    return ErrorModel(np.concatenate([a.features[::4] for a in seen]), np.concatenate([a.correct[::4] for a in seen]))


class Ridge:
    """Kernel ridge from window means to accuracy; also how far a window lies from the five nearest induced ones."""

    def __init__(self, inputs: Floats, truth: Floats, length: float = 5.0) -> None:
        self.mean, self.sd, self.length = inputs.mean(axis=0), inputs.std(axis=0) + 1e-9, length
        self.seen, self.centre, self.unit = (inputs - self.mean) / self.sd, truth.mean(), truth.std()
        noise = np.diag(1.2 * np.maximum(truth * (1 - truth), 0.05))
        kernel = np.exp(-self._squares(self.seen) / (2 * length**2))
        self.dual = np.linalg.solve(kernel + noise, (truth - self.centre) / self.unit)

    def __call__(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Accuracy and distance of each row of window means."""
        squares = self._squares((inputs - self.mean) / self.sd)
        found = self.centre + self.unit * np.exp(-squares / (2 * self.length**2)) @ self.dual
        near = np.partition(squares, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        return np.clip(found, 0, 1), np.sqrt(near.mean(axis=1))

    def _squares(self, inputs: Floats) -> Floats:
        squares = (inputs**2).sum(axis=1)[:, None] + (self.seen**2).sum(axis=1) - 2 * inputs @ self.seen.T
        return np.asarray(np.maximum(squares, 0))


class Windows(NamedTuple):
    """Windows drawn from induced conditions: which one, the rows of it, and the accuracy there."""

    condition: NDArray[np.int64]
    rows: list[NDArray[np.int64]]
    truth: Floats


class Interval:
    """90% interval of the accuracy of a window of n events, for families of corruption that were never induced.

    A class mix unlike that of the reference is not induced here, so the promise does not cover it.
    """

    def __init__(self, induced: list[Induced], model: ErrorModel, rng: np.random.Generator) -> None:
        windows = _draw(induced, rng)
        n = np.array([len(rows) for rows in windows.rows])
        held = []
        for family in INDUCED:
            r = error_model(induced, family)
            inputs = np.stack(
                [_means(induced[c].answers, rows, r) for c, rows in zip(windows.condition, windows.rows, strict=True)]
            )
            out = np.array([family in induced[c].families for c in windows.condition])
            m, d = Ridge(inputs[~out], windows.truth[~out])(inputs[out])
            held.append(np.stack([np.full(len(m), INDUCED.index(family)), m, d, windows.truth[out], n[out]]))
        names, m, d, truth, sizes = np.concatenate(held, axis=1)
        each = np.bincount(names.astype(int))[names.astype(int)]
        basis = self._basis(m, d, sizes)
        self.scale, _ = nnls(basis / np.sqrt(each)[:, None], np.abs(truth - m) / np.sqrt(each))
        self.scale[0] = max(self.scale[0], 0.004)
        score = np.abs(truth - m) / (basis @ self.scale)
        order = np.argsort(score)
        share = np.cumsum(1 / each[order]) / len(INDUCED)
        level = min(LEVEL * (len(INDUCED) + 1) / len(INDUCED), 1.0)
        self.q = float(score[order][min(int(np.searchsorted(share, level - 1e-12)), len(score) - 1)])
        self.model = model
        pairs = zip(windows.condition, windows.rows, strict=True)
        self.ridge = Ridge(np.stack([_means(induced[c].answers, rows, model) for c, rows in pairs]), windows.truth)

    def __call__(self, answers: Answers, rows: NDArray[np.int64]) -> tuple[float, float, float]:
        """Estimate, lower and upper end for the window made of `rows` of the answers."""
        m, d = self.ridge(_means(answers, rows, self.model)[None])
        half = self.q * float((self._basis(m, d, np.array([len(rows)])) @ self.scale)[0])
        return float(m[0]), max(float(m[0]) - half, 0.0), min(float(m[0]) + half, 1.0)

    @staticmethod
    def _basis(mean: Floats, distance: Floats, n: NDArray[np.float64]) -> Floats:
        m = np.clip(mean, 0.03, 0.97)
        # The last two let the spread fall fast where nearly all answers are right, which a single term does not.
        spread = m * (1 - m)
        return np.stack([np.ones_like(m), np.sqrt(spread / n), distance, spread, spread * (1 - m)], axis=1)


def _draw(induced: list[Induced], rng: np.random.Generator, sizes: tuple[int, ...] = (50, 100, 200, 500)) -> Windows:
    condition, rows, truth = [], [], []
    for c, one in enumerate(induced):
        for n in sizes:
            picked = rng.choice(len(one.answers.truth), n, replace=False)
            condition.append(c)
            rows.append(picked)
            truth.append(one.answers.correct[picked].mean())
    return Windows(np.array(condition), rows, np.array(truth))


def _means(answers: Answers, rows: NDArray[np.int64], model: ErrorModel) -> Floats:
    picked = answers.features[rows]
    return np.array([*picked.mean(axis=0), 1 / np.sqrt(len(rows)), model(picked).mean()])
