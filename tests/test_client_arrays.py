"""What servers hold their numbers in: numpy, pandas, torch and others, taken as they are and copied once."""

import ast
import importlib.util
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bestbefore_client import Recorder
from bestbefore_client.arrays import as_array, as_column, rows_of
from bestbefore_client.batches import Columns, times_of

from tests.client_rig import NOWHERE, consumed, fresh_prefix, rows

SOURCES = sorted((Path(__file__).parents[1] / "client" / "bestbefore_client").glob("*.py"))


class Device:
    """Where a tensor lies."""

    def __init__(self, kind: str) -> None:
        self.type = kind


class Tensor:
    """Follows torch's protocol as far as the client uses it; refuses numpy what torch refuses."""

    def __init__(self, data: Any, device: str = "cpu", grad: bool = False, dtype: str = "torch.float32") -> None:
        self.data, self.device, self.grad, self.dtype = data, Device(device), grad, dtype
        self.shape, self.ndim = np.shape(data), np.ndim(data)

    def detach(self) -> "Tensor":
        return Tensor(self.data, self.device.type, False, self.dtype)

    def cpu(self) -> "Tensor":
        return Tensor(self.data.copy(), "cpu", self.grad, self.dtype)

    def float(self) -> "Tensor":
        return Tensor(self.data.astype(np.float32), self.device.type, self.grad)

    def numpy(self) -> Any:
        if self.grad or self.device.type != "cpu" or self.dtype == "torch.bfloat16":
            raise TypeError("can't convert this tensor to numpy")
        return self.data

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.numpy()

    def item(self) -> Any:
        return self.data.item()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, at: Any) -> "Tensor":
        return Tensor(self.data[at], self.device.type, self.grad, self.dtype)


class Exported:
    """Speaks DLPack alone, as jax and cupy do."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __dlpack__(self, **options: Any) -> Any:
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.data.__dlpack_device__()


def torch_tensors() -> list[Any]:
    """Real tensors where torch is installed."""
    if importlib.util.find_spec("torch") is None:
        return []
    torch = importlib.import_module("torch")
    plain = torch.arange(6, dtype=torch.float32).reshape(3, 2)
    return [
        plain,
        plain.clone().requires_grad_(),
        plain.to(torch.bfloat16),
        *([plain.cuda()] if torch.cuda.is_available() else []),
    ]


DATA = np.arange(6, dtype=np.float32).reshape(3, 2)
HELD = [
    DATA,
    Tensor(DATA),
    Tensor(DATA, grad=True),
    Tensor(DATA, device="cuda"),
    Tensor(DATA, dtype="torch.bfloat16"),
    Exported(DATA),
    pd.DataFrame(DATA),
    DATA.tolist(),
    list(DATA),
    [Tensor(row, device="cuda") for row in DATA],
    *torch_tensors(),
]


@pytest.mark.parametrize("held", HELD, ids=lambda held: type(held).__name__)
def test_arrays_of_all_kinds_are_read(held: Any) -> None:
    array, _ = as_array(held)
    np.testing.assert_array_equal(array, DATA)


@pytest.mark.parametrize("held", [DATA, Tensor(DATA), Tensor(DATA, grad=True), Exported(DATA)])
def test_memory_of_this_machine_is_not_copied_to_be_read(held: Any) -> None:
    array, fresh = as_array(held)
    assert np.shares_memory(array, DATA)
    assert not fresh


@pytest.mark.parametrize("held", [Tensor(DATA, device="cuda"), Tensor(DATA, dtype="torch.bfloat16"), list(DATA)])
def test_a_copy_that_had_to_be_made_is_kept(held: Any) -> None:
    """What came from a GPU is nobody else's: it is not copied again on its way into the block."""
    array, fresh = as_array(held)
    assert fresh
    given = Columns({"time": np.zeros(3, np.int64), "embedding": held, "scores": DATA}, 3, None)
    (block,) = given.blocks(None, 10)
    kept: Any = given.columns["embedding"]
    assert np.shares_memory(block.columns["embedding"], kept)
    assert not np.shares_memory(block.columns["scores"], DATA), "the server may use its own array again"
    np.testing.assert_array_equal(array, DATA)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series([1.0, np.nan]), [1.0, np.nan]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series(["a", None]), ["a", None]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.Series([True, None], dtype="boolean"), [True, None]),
        (Tensor(np.array([1.0, 2.0]), device="cuda"), [1.0, 2.0]),
        ([np.float32(1.0), Tensor(np.array(2.0))], [1.0, 2.0]),
    ],
)
def test_columns(column: Any, expected: list[Any]) -> None:
    taken = as_column(column)
    listed = taken.tolist() if isinstance(taken, np.ndarray) else taken
    assert listed == pytest.approx(expected, nan_ok=True)
    assert len(rows_of(taken, np.array([1]))) == 1


def test_times_of_pandas() -> None:
    stamps = pd.Series(pd.to_datetime(["1970-01-01T00:00:01", "1970-01-01T00:00:02"]))
    assert times_of(stamps, 0, 2).tolist() == [1_000_000, 2_000_000]
    with pytest.raises(ValueError, match="years 1 to 9999"):
        times_of([0, 10**18], 0, 2)


def test_a_batch_is_copied_once() -> None:
    """Beside the copy that must be made, because the server uses its arrays again, no memory of that size is taken."""
    n, d = 1000, 2000
    wide: dict[str, Any] = {
        "embedding": np.ones((n, d)),
        "scores": np.ones((n, 500), np.float32),
        "features": {"x": np.ones(n)},
    }
    once = n * d * 4 + n * 500 * 4 + n * 8 * 3
    ids = [f"r-{i}" for i in range(n)]
    with Recorder(NOWHERE, model="m", version="1") as dead:
        dead.record_many(ids[:2], features={"x": np.ones(2)})
        tracemalloc.start()
        dead.record_many(ids, **wide)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert dead.dropped == {}
        assert once <= peak <= 1.1 * once, "float64 became float32 in the same step"
        dead.close(0.0)


@pytest.mark.parametrize("backend", ["confluent"])
def test_frames_of_pandas_and_torch_arrive(broker: str, backend: str) -> None:
    prefix = fresh_prefix(broker)
    whole = pd.Series([1, None, 3], dtype="Int64")
    table = pd.DataFrame({"age": [1.0, 2.0, 3.0], "country": ["DE", None, "FR"], "n": whole})
    with Recorder(broker, model="m", version="1", topic_prefix=prefix, backend=backend, input_rate=1.0) as client:
        client.record_many(
            pd.Series(["a", "b", "c"]),
            features=table,
            scores=Tensor(DATA, device="cuda"),
            inputs=Tensor(DATA, grad=True),
            embedding=[Tensor(row) for row in DATA],
            latency_ms=pd.Series([1.0, 2.0, 3.0]),
            entity=pd.Series(["x", "y", "z"]),
        )
        client.record(
            "d",
            scores=Tensor(DATA[1], grad=True),
            embedding=Tensor(DATA[1], device="cuda"),
            features={"age": Tensor(np.array(4.0)), "n": np.int64(7)},
            input=Tensor(DATA[2], device="cuda"),
        )
        assert client.flush(30)
    found = rows(consumed(broker, f"{prefix}inference", 2))
    assert [found[i]["features.age"] for i in "abcd"] == [1.0, 2.0, 3.0, 4.0]
    assert [found[i]["features.country"] for i in "abc"] == ["DE", None, "FR"]
    assert [found[i]["features.n"] for i in "abcd"] == [1, None, 3, 7]
    assert [found[i]["scores"] for i in "abcd"] == [*DATA.tolist(), DATA[1].tolist()]
    assert [found[i]["embedding"] for i in "abcd"] == [*DATA.tolist(), DATA[1].tolist()]
    assert [found[i]["entity"] for i in "abc"] == ["x", "y", "z"]
    inputs = {r.key.decode(): r.value for r in consumed(broker, f"{prefix}inputs", 4)}
    assert inputs == {name: DATA[i].tobytes() for name, i in (("a", 0), ("b", 1), ("c", 2), ("d", 2))}


# --- Python 3.9, which no machine of ours has to have


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_source_is_python_3_9(path: Path) -> None:
    """No newer syntax, and none of the names and arguments that later versions added to what the client uses."""
    tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 9))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Match), "match came with 3.10"
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            newer = {"zip": {"strict"}, "dataclass": {"slots", "kw_only", "match_args"}, "isinstance": set()}
            assert not {k.arg for k in node.keywords} & newer.get(name, set()), f"{path.name}:{node.lineno} {name}"
            unions = [a for a in node.args if isinstance(a, ast.BinOp) and isinstance(a.op, ast.BitOr)]
            assert name != "isinstance" or not unions, f"{path.name}:{node.lineno}: X | Y in isinstance came with 3.10"
