"""What servers hold their numbers in (numpy, pandas, torch, anything that speaks DLPack), as numpy sees it.

Nothing is imported for it: a library's own methods give a view of its memory, or a copy where that memory is a GPU's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_VIEWS: dict[str, Callable[[Any], NDArray[Any]]] = {
    "to_numpy": lambda value: value.to_numpy(),
    "__array__": np.asarray,
    "__dlpack__": np.from_dlpack,
}


def as_array(value: Any) -> tuple[NDArray[Any], bool]:
    """Give an array, and whether its memory is new, so that nobody else can change it.

    Understands numpy, torch (also on a GPU, also with gradients), pandas, `__array__`, `__dlpack__`, lists of these.
    Raises TypeError or ValueError when there is no array in it.
    """
    if isinstance(value, np.ndarray):
        return value, False
    if hasattr(value, "detach"):
        return _of_tensor(value)
    for protocol, view in _VIEWS.items():
        if hasattr(value, protocol):
            return view(value), False
    if isinstance(value, (list, tuple)) and value and _is_array(value[0]):
        return np.stack([as_array(each)[0] for each in value]), True
    return np.asarray(value), not isinstance(value, (bytearray, memoryview))


def as_column(value: Any) -> Any:
    """Give one value per row as an array where they are numbers, else as a list in which None is missing."""
    if isinstance(value, (np.ndarray, list, tuple, str)):
        if isinstance(value, list) and value and _is_array(value[0]):
            return [each.item() if _is_array(each) and each.ndim == 0 else each for each in value]
        return value
    if not hasattr(value, "to_numpy"):
        return as_array(value)[0]
    if isinstance(value.dtype, np.dtype) and value.dtype.kind in "bfiu":
        return value.to_numpy()
    listed = value.to_list()  # text, categories, numbers with a missing value of their own
    if hasattr(value, "isna"):
        return [None if missing else each for each, missing in zip(listed, value.isna())]
    return listed


def is_column(value: Any) -> bool:
    """Whether a reserved field was given with one entry per row, and not as one value for all."""
    return isinstance(value, (list, np.ndarray)) or hasattr(value, "to_numpy")


def rows_of(column: Any, rows: NDArray[np.intp]) -> Any:
    """Pick rows out of a column, as a copy; one text stands for every row."""
    if isinstance(column, str) or column is None:
        return column
    if isinstance(column, Sequence):
        return [column[i] for i in rows.tolist()]
    array, _ = as_array(column)
    return array[rows]


def _is_array(value: Any) -> bool:
    return hasattr(value, "ndim") and hasattr(value, "shape") and not isinstance(value, np.generic)


def _of_tensor(value: Any) -> tuple[NDArray[Any], bool]:
    """Take a torch tensor: its own memory where numpy can read that, a copy from a GPU or of bfloat16."""
    tensor, fresh = value.detach(), False
    if tensor.device.type != "cpu":
        tensor, fresh = tensor.cpu(), True
    if str(tensor.dtype) == "torch.bfloat16":
        tensor, fresh = tensor.float(), True
    return tensor.numpy(), fresh
