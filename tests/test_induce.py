"""Quality without labels from `bestbefore induce` to the status line: images, tables, refusals, restart, exact sums."""

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import yaml
from click.testing import CliRunner

from infra import inducing
from infra.checking import check
from infra.cli import main
from infra.demo.images import Split, load
from models.alien_images import ALIENS
from models.columns import Subject
from models.embedder import Embedder
from models.evidence import Evidence, readings
from models.induced_evidence import MAX_BYTES, InducedSums, bound, registered
from models.induction_images import corrupt
from models.profile import Profile
from models.reference import Reference
from models.subject_state import State
from streams import settings as settings_module
from streams.batches import Stamped
from streams.descriptor_files import load_reference
from streams.embedded import embedded_batch, recomputed
from streams.errors import DescriptorError
from streams.records import InputSample
from streams.registry import decode_reference, encode_reference
from tests.induce_rig import EPOCH, Day, embedder_of, engine, logistic, played, read, status_of, steps

ROOT = Path(__file__).parents[1]
HELD = ("rotate", "gauss", "fog")  # families that the estimator of these tests has not seen
SETTINGS = settings_module.load({}, Path("/"))
SUBJECT = Subject("digits", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Descriptors of the digits model with an estimator fitted without HELD, as the command writes it."""
    place = tmp_path_factory.mktemp("digits")
    shutil.copytree(ROOT / "examples" / "digits", place / "digits")
    digits = load()
    for name, part in (("train", digits.train), ("accepted", digits.reference)):
        np.savez(place / f"{name}.npz", inputs=part.images[:300], labels=part.labels[:300])
    inducing.induce(
        place / "digits" / "descriptors", place / "accepted.npz", SETTINGS, train=place / "train.npz", without=HELD,
        pairs=30,
    )  # fmt: skip
    return place / "digits" / "descriptors"


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return load_reference(folder)


@pytest.fixture(scope="module")
def model(reference: Reference) -> Embedder:
    return embedder_of(reference)


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder.parent, tmp_path / "digits")
    return tmp_path / "digits" / "descriptors"


def held_out(n: int = 300, seed: int = 0) -> Split:
    data = load().held_out
    rows = np.random.default_rng(seed).choice(len(data.labels), n, replace=False)
    return Split(data.images[rows][:, None], data.labels[rows])


def under(family: str, amount: float, seed: int) -> Day:
    data = held_out(seed=seed)
    return Day(corrupt(data.images, family, amount, np.random.default_rng(seed)), data.labels)


def truth(day: Day, model: Embedder) -> float:
    scores = model.outputs(day.inputs)[0]
    assert scores is not None
    right = scores.argmax(axis=1) == day.labels
    return float(right[: len(right) - day.failed].sum() / len(right))


def test_the_interval_holds_under_families_it_was_not_shown(reference: Reference, model: Embedder) -> None:
    amounts = {"rotate": (8, 20, 35), "gauss": (0.1, 0.3, 0.5), "fog": (0.3, 0.6, 1.0)}
    days = [Day(*held_out(seed=9))]
    days += [under(family, amount, i) for family in HELD for i, amount in enumerate(amounts[family])]
    lines = played(days, reference, model)
    found = [read(line) for line in lines]
    assert [one["by"] for one in found] == ["induced"] * len(days)
    assert [one["n"] for one in found] == [300] * len(days)
    true = [truth(day, model) for day in days]
    spoken = [(one, t) for one, t in zip(found, true, strict=True) if one["estimate"] is not None]
    assert len(spoken) >= 8
    assert np.mean([one["low"] <= t <= one["high"] for one, t in spoken]) >= 0.9
    assert np.mean([abs(one["estimate"] - t) for one, t in spoken]) < 0.1
    assert min(true) < 0.6
    assert max(true) > 0.9


def test_content_that_is_no_drift_is_unknown_and_feeds_no_number(reference: Reference, model: Embedder) -> None:
    data, rng = held_out(), np.random.default_rng(0)
    days = [Day(np.asarray(ALIENS[name](data.images, rng), np.float32), data.labels) for name in ("permute", "black")]
    running = engine(reference)
    for step in steps(days, reference, model):
        running.take(step)
    running.finish()
    for line in status_of(running)[: len(days)]:
        assert read(line)["by"] == "induced"
        assert (read(line)["estimate"], read(line)["low"], read(line)["high"]) == (None, None, None)
        assert read(line)["reason"].startswith("unknown: ")
        assert line["quality"]["estimate"] is None
        assert line["quality"]["reason"].startswith("unknown: ")
    state = running.state(SUBJECT)
    assert state is not None
    assert [r.label_free for r in readings(state.ring, reference)] == [None, None]


def test_failures_of_all_traffic_count_as_wrong(reference: Reference, model: Embedder) -> None:
    data = held_out()
    whole, half, none = played([Day(*data), Day(*data, failed=150), Day(*data, failed=300)], reference, model)
    assert read(half)["estimate"] == pytest.approx(read(whole)["estimate"] / 2, abs=0.02)
    assert read(half)["high"] <= 0.5
    assert read(none)["estimate"] == 0
    assert read(none)["high"] > 0


def profile_of(parts: list[np.ndarray], reference: Reference, model: Embedder) -> Profile:
    """One profile per batch of inputs, merged."""
    whole = Profile()
    for inputs in parts:
        meta = InputSample(
            inference_id="i",
            model="digits",
            version="1",
            time=EPOCH,
            dtype="float32",
            shape=[1, 16, 16],
            propensity=0.3,
        )
        stamped = [Stamped(i, 0, meta) for i in range(len(inputs))]
        batch = embedded_batch(stamped, recomputed(model, inputs), len(inputs), lambda *_: reference)
        part = Profile()
        for _, rows, _ in batch.groups:
            part.add(rows, reference)
        whole.merge(Profile.unpack(part.pack()))
    return whole


def test_sums_do_not_depend_on_batches_or_order(reference: Reference, model: Embedder) -> None:
    known, images = registered(reference), load().held_out.images[:, None]
    assert known is not None
    whole = profile_of([images], reference, model).sums[known.name]
    assert whole[0] == len(images)
    shuffled = images[np.random.default_rng(1).permutation(len(images))]
    for size in (1, 7, 256):
        parts = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
        assert np.array_equal(profile_of(parts, reference, model).sums[known.name], whole), size


def test_a_restart_changes_nothing(reference: Reference, model: Embedder) -> None:
    days = [under("rotate", 5.0 * i, i) for i in range(4)]
    todo = steps(days, reference, model)
    straight, restarted = engine(reference), engine(reference)
    for i, step in enumerate(todo):
        straight.take(step)
        restarted.take(step)
        if i == len(todo) // 2:
            restarted._states = {k: State.decode(v.encode()) for k, v in restarted._states.items()}
    straight.finish()
    restarted.finish()
    assert status_of(restarted) == status_of(straight)
    assert [read(line)["by"] for line in status_of(straight)[:4]] == ["induced"] * 4


def test_the_reference_carries_the_estimator_to_the_workers(reference: Reference) -> None:
    again = decode_reference(encode_reference(reference))
    assert again == reference
    assert again.quality_estimator is not None
    assert again.quality_estimator.unpacked().classes == 10


def test_without_inputs_or_estimator_confidences_speak(reference: Reference, model: Embedder) -> None:
    day = Day(*held_out())
    plain = msgspec.structs.replace(reference, quality_estimator=None)
    (line,) = played([day], plain, model)
    assert read(line)["by"] == "confidence"
    old = Evidence(0, n=300, weight=300 << 16, scored=300 << 16, confidence=270 << 16, above=260 << 16)
    assert old.read_by(reference) == "confidence"
    assert old.label_free(reference).estimate is not None
    body = msgspec.msgpack.decode(msgspec.msgpack.encode(old))
    for name in ("unanswered", "inputs", "induced"):  # as an older version wrote it
        del body[name]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(body), type=Evidence) == old


def test_another_estimator_file_is_refused(copied: Path) -> None:
    path = copied / inducing.FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DescriptorError, match=r"hashes to sha256:\w{64}, but .*digest says sha256:\w{64}.*induce"):
        load_reference(copied)
    path.unlink()
    with pytest.raises(DescriptorError, match=r"quality_estimator\.bin cannot be read .*bestbefore induce"):
        load_reference(copied)


def test_an_estimator_of_another_model_is_told_and_not_used(copied: Path, model: Embedder) -> None:
    trained = copied / "trained_model.yaml"
    text = trained.read_text("utf-8")
    file = (copied.parent / "digits.onnx").read_bytes()
    changed = onnx.load_model_from_string(file)
    changed.doc_string = "another file"
    (copied.parent / "digits.onnx").write_bytes(changed.SerializeToString())
    digest = hashlib.sha256(changed.SerializeToString()).hexdigest()
    trained.write_text(text.replace(hashlib.sha256(file).hexdigest(), digest), "utf-8")
    told = [v for v in check(copied, SETTINGS).mismatches if v.field == "estimator"]
    assert len(told) == 1
    assert "bestbefore induce" in told[0].message
    reference = load_reference(copied)
    assert registered(reference) is None
    (line,) = played([Day(*held_out())], reference, embedder_of(reference))
    assert read(line)["by"] == "confidence"


def test_the_sums_of_many_windows_are_bounded() -> None:
    ring = [Evidence(i, induced=InducedSums({"induced.x": bytes(8 * 2_219)})) for i in range(180)]
    bound(ring)
    assert sum(one.induced.size for one in ring) <= MAX_BYTES
    assert ring[-1].induced.size
    assert not ring[0].induced.size


# -- tables ----------------------------------------------------------------------------------------------------------


def table(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, 3, n)
    centres = np.random.default_rng(5).normal(size=(3, 6))
    return 40 + 8 * (centres[labels] + 0.7 * rng.normal(size=(n, 6))), labels


@pytest.fixture(scope="module")
def tabular(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Descriptors of a logistic regression on six columns, fitted by the command line without `offset`."""
    place, rng = tmp_path_factory.mktemp("table"), np.random.default_rng(2)
    x, y = table(600, rng)
    mean, sd = x.mean(axis=0), x.std(axis=0)
    z, w = (x - mean) / sd, np.zeros((6, 3))
    for _ in range(400):
        p = np.exp(z @ w)
        w -= 0.5 * z.T @ (p / p.sum(axis=1, keepdims=True) - np.eye(3)[y]) / len(z)
    (place / "model.onnx").write_bytes(logistic(w, mean, sd))
    own = {"file": "model.onnx", "outputs": {"scores": "scores", "embedding": "standard"}, "minimum_n": 50}
    trained = {"version": "1.2", "model_name": "table", "model_version": "1", "bestbefore": own}
    (place / "trained_model.yaml").write_text(yaml.safe_dump(trained))
    text = (
        "# measured in March\nversion: '1.2'\nbestbefore:\n  classes: {ash: 0.33, oak: 0.34, yew: 0.33}  # by count\n"
    )
    (place / "training_data.yaml").write_text(text)
    names = np.array(["ash", "oak", "yew"])
    for name in ("train", "accepted"):
        x, y = table(400, rng)
        rows = [",".join([*(f"c{i}" for i in range(6)), "species"])]
        rows += [",".join([*map(repr, map(float, row)), names[k]]) for row, k in zip(x, y, strict=True)]
        (place / f"{name}.csv").write_text("\n".join(rows) + "\n")
    arguments = ["induce", str(place), "--data", str(place / "accepted.csv"), "--train", str(place / "train.csv")]
    done = CliRunner().invoke(main, [*arguments, "--label", "species", "--without", "offset"])
    assert done.exit_code == 0, done.output
    assert "12 families of drift were induced on 400 inputs" in done.output
    assert "the 90% interval holds" in done.output
    return place


def test_a_table_goes_the_same_way(tabular: Path) -> None:
    text = (tabular / "training_data.yaml").read_text()
    assert text.startswith("# measured in March\n")
    assert "# by count" in text
    reference = msgspec.structs.replace(load_reference(tabular), window_us=86_400_000_000)
    model, rng, days = embedder_of(reference), np.random.default_rng(3), []
    for shift in (0.0, 4.0, 8.0, 12.0, 16.0):  # the family that was left out: three columns gain an offset
        x, y = table(300, rng)
        x[:, :3] += shift
        days.append(Day(x.astype(np.float32), y))
    found = [read(line) for line in played(days, reference, model)]
    true = [truth(day, model) for day in days]
    assert [one["by"] for one in found] == ["induced"] * 5
    spoken = [(one, t) for one, t in zip(found, true, strict=True) if one["estimate"] is not None]
    assert len(spoken) >= 4
    assert all(one["low"] <= t <= one["high"] for one, t in spoken)
    assert true[0] - true[-1] > 0.1


def test_what_cannot_be_used_is_told(tabular: Path) -> None:
    def refused(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["induce", str(tabular), *arguments])
        assert done.exit_code == 2
        return done.output

    csv = str(tabular / "accepted.csv")
    assert "has no label column 'label'" in refused("--data", csv)
    assert "there is no family 'rain'" in refused("--data", csv, "--label", "species", "--without", "rain")
    assert "column 'species' is string" in refused("--data", csv, "--label", "c0")
    np.savez(tabular / "odd.npz", inputs=np.zeros((4, 5)), labels=np.zeros(4, int))
    assert "one input has shape (5,), the model takes (6,)" in refused("--data", str(tabular / "odd.npz"))
    np.savez(tabular / "few.npz", inputs=np.zeros((4, 6)), labels=np.array([0, 1, 2, 0]))
    assert "two of each are needed" in refused("--data", str(tabular / "few.npz"))


def test_images_on_another_scale_are_refused(copied: Path, tmp_path: Path) -> None:
    part = load().reference
    np.savez(tmp_path / "bytes.npz", inputs=part.images[:60] * 255, labels=part.labels[:60])
    done = CliRunner().invoke(main, ["induce", str(copied), "--data", str(tmp_path / "bytes.npz")])
    assert done.exit_code == 2
    assert "values reach 255, those of trained_model.bestbefore.golden_records 0.98" in done.output
