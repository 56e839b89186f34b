"""Bodies of inference requests and responses as rows: what most servers take and give, known by its keys.

| body | who |
|---|---|
| `instances`, `predictions` | V1: KServe, TensorFlow Serving, Vertex |
| `inputs`, `outputs` with `datatype` | V2, the Open Inference Protocol: KServe, Seldon, MLServer, Triton |
| `inputs`, `outputs` of columns, `dataframe_split`, `dataframe_records` | TensorFlow Serving, MLflow, Databricks |
| CSV | SageMaker |

A value without a name stands in the column `input` or `output`. An object with none of these keys is one row.
"""

import csv
import io
from typing import Any, Literal

from streams.adapters.contract import MOST_ROWS, Row, json_of
from streams.adapters.tensors import Tensor, flat, from_raw, rows
from streams.errors import Unadaptable

Half = Literal["request", "response"]
_UNNAMED = {"request": "input", "response": "output"}
_KEYS = {
    "request": ("instances", "dataframe_records", "dataframe_split", "inputs"),
    "response": ("predictions", "outputs"),
}


def body_of(data: bytes | str | None, side: Half, header_length: int | None = None) -> tuple[Any, list[Row]]:
    """The body as a tree, and its rows. `header_length`: of the JSON before binary tensors. Raises Unadaptable."""
    tail = b""
    if header_length is not None and isinstance(data, bytes):
        if not 0 < header_length <= len(data):
            raise Unadaptable(f"its JSON is said to have {header_length} bytes, and the body has {len(data)}")
        data, tail = data[:header_length], data[header_length:]
    tree = json_of(data, f"the JSON body of a {side}")
    return tree, rows_of(tree, side, tail)


def rows_of(tree: Any, side: Half, tail: bytes = b"") -> list[Row]:
    """The rows of a decoded body. Raises Unadaptable that names the bodies that are read."""
    if isinstance(tree, list):
        return _named(tree, side)
    if isinstance(tree, dict):
        for key in _KEYS[side]:
            if key in tree:
                return _of_key(key, tree[key], side, tail)
        if tree and "error" not in tree:
            return [tree]
    raise Unadaptable(
        f"the body of the {side} is {'an error or empty' if isinstance(tree, dict) else type(tree).__name__}; "
        f"expected {', '.join(_KEYS[side])}, a list, or an object with the columns of one inference"
    )


def _of_key(key: str, found: Any, side: Half, tail: bytes) -> list[Row]:
    if key == "dataframe_split":
        return _split(found)
    if key in ("inputs", "outputs"):
        if isinstance(found, list) and any(isinstance(one, dict) and "datatype" in one for one in found):
            return rows(_tensors(key, found, tail))
        if isinstance(found, dict) and found and all(isinstance(column, list) for column in found.values()):
            return _columns(key, found)
    if not isinstance(found, list):
        found = [found]
    return _named(found, side)


def _named(found: list[Any], side: Half) -> list[Row]:
    if len(found) > MOST_ROWS:
        raise Unadaptable(f"{len(found)} inferences in one record; at most {MOST_ROWS} are read")
    return [one if isinstance(one, dict) else {_UNNAMED[side]: one} for one in found]


def _columns(key: str, columns: dict[str, list[Any]]) -> list[Row]:
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise Unadaptable(f"{key}: columns of different lengths {sorted(lengths)[:6]}")
    return _named([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], "request")


def _split(found: Any) -> list[Row]:
    names, data = (found.get("columns"), found.get("data")) if isinstance(found, dict) else (None, None)
    if not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        raise Unadaptable("dataframe_split: expected `data`, a list of rows, and `columns`")
    if names is None:
        return _named(data, "request")
    if not isinstance(names, list) or any(len(row) != len(names) for row in data):
        raise Unadaptable("dataframe_split: `columns` does not name every value of every row of `data`")
    return _named([dict(zip(map(str, names), row, strict=True)) for row in data], "request")


def _tensors(key: str, found: list[Any], tail: bytes) -> list[Tensor]:
    tensors, at = [], 0
    for i, one in enumerate(found):
        name, datatype, shape = _described(f"{key}[{i}]", one)
        parameters = one.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            tensors.append(Tensor(name, shape, flat(name, one.get("data"))))
            continue
        if type(size) is not int or size < 0 or at + size > len(tail):
            raise Unadaptable(f"{key}[{i}]: {str(size)[:20]} bytes of binary data, and {len(tail) - at} are there")
        tensors.append(from_raw(name, datatype, shape, tail[at : at + size]))
        at += size
    return tensors


def _described(place: str, one: Any) -> tuple[str, str, list[int]]:
    """Name, datatype and shape of a tensor."""
    if isinstance(one, dict):
        name, datatype, shape = one.get("name"), one.get("datatype"), one.get("shape")
        whole = isinstance(shape, list) and len(shape) <= 16 and all(type(axis) is int and axis >= 0 for axis in shape)
        if isinstance(name, str) and isinstance(datatype, str) and isinstance(shape, list) and whole:
            return name, datatype, shape
    raise Unadaptable(f"{place}: a tensor needs `name`, `datatype` and `shape`")


def csv_rows(text: str, side: Half) -> list[Row]:
    """Rows of comma-separated values without names; what reads as a number is one. Raises Unadaptable."""
    try:
        lines = [line for line in csv.reader(io.StringIO(text), strict=True) if line]
    except csv.Error as error:
        raise Unadaptable(f"the {side} is no CSV: {error}") from None
    if not lines:
        raise Unadaptable(f"the {side} has no rows")
    return _named([one[0] if len(one) == 1 else one for one in ([_cell(c) for c in line] for line in lines)], side)


def _cell(text: str) -> Any:
    stripped = text.strip()
    if not stripped:
        return None
    try:
        return float(stripped) if any(c in stripped for c in ".eEnN") else int(stripped)
    except ValueError:
        return stripped
