"""Labelled reference data as `bestbefore induce` reads it: images in a .npz, tables as Parquet or CSV."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.table_files import TableError, read_table
from models.descriptors.paths import items_at
from streams.errors import DescriptorError

INPUTS, LABELS = "inputs", "labels"
MAX_FILE = 4 << 30


class Labelled(NamedTuple):
    """Inputs (n, …) with their labels (n,): class codes or names. `columns` names those of a table."""

    inputs: NDArray[Any]
    labels: NDArray[Any]
    columns: tuple[str, ...] = ()


def read_labelled(path: Path, trees: Mapping[str, Mapping[str, Any]], label: str | None = None) -> Labelled:
    """The data in a file. The label column of a table is `label`, else the declared label field, else `label`.

    Raises DescriptorError, which names file and column.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise DescriptorError(f"{path} is larger than {MAX_FILE >> 30} GiB; a few thousand rows are enough")
        if path.suffix == ".npz":
            if not zipfile.is_zipfile(path):
                raise DescriptorError(f"{path} is no .npz; numpy.savez writes one, with {INPUTS} and {LABELS}")
            found = _arrays(path)
        elif path.suffix in (".parquet", ".csv"):
            found = _table(path, label or _declared_label(trees) or "label")
        else:
            raise DescriptorError(f"{path}: give a .npz with {INPUTS} and {LABELS}, a .parquet or a .csv")
    except TableError as error:
        raise DescriptorError(str(error)) from None
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error, pa.ArrowException) as error:
        raise DescriptorError(f"{path} cannot be read: {str(error).strip()[:300]}") from None
    if not found.inputs.ndim or not found.labels.ndim:
        raise DescriptorError(f"{path}: {INPUTS} and {LABELS} hold one entry for each example; one of them is a number")
    if len(found.inputs) != len(found.labels) or found.labels.ndim != 1:
        raise DescriptorError(f"{path}: {len(found.inputs)} inputs and labels of shape {found.labels.shape}: one each")
    if not len(found.labels):
        raise DescriptorError(f"{path} holds no rows; a few hundred labelled ones are needed")
    return found


def codes_of(labels: NDArray[Any], names: tuple[str, ...], path: Path) -> NDArray[np.int64]:
    """Labels as columns of the scores: names of classes as described, in their order, else whole numbers.

    Raises DescriptorError for a label that is neither.
    """
    place = {name: code for code, name in enumerate(names)}
    texts = [str(value.item() if isinstance(value, np.generic) else value) for value in labels]
    if place and all(text in place for text in texts):
        return np.array([place[text] for text in texts], dtype=np.int64)
    odd = next((text for text in texts if not text.isdecimal()), None)
    if odd is not None:
        known = f"{', '.join(names[:12])}" if names else "none, so labels must be numbers of score columns"
        raise DescriptorError(f"{path}: label {odd!r} is no class; training_data.bestbefore.classes has: {known}")
    return np.array([int(text) for text in texts], dtype=np.int64)


def _arrays(path: Path) -> Labelled:
    with path.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
        missing = [name for name in (INPUTS, LABELS) if name not in arrays]
        if missing:
            raise DescriptorError(f"{path} has no array {missing[0]!r}; it has {', '.join(arrays) or 'none'}")
        return Labelled(arrays[INPUTS], arrays[LABELS])


def _table(path: Path, label: str) -> Labelled:
    table = read_table(path)
    if label not in table.column_names:
        there = ", ".join(table.column_names[:20])
        raise DescriptorError(f"{path} has no label column {label!r}; name it with --label; there are {there}")
    names = tuple(name for name in table.column_names if name != label)
    columns = []
    for name in names:
        column = table.column(name)
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise DescriptorError(f"{path}: column {name!r} is {column.type}; give the numbers that the model takes")
        columns.append(column.cast(pa.float64()).to_numpy())
    labels = np.array([str(value) for value in table.column(label).to_pylist()])
    return Labelled(np.stack(columns, axis=1) if columns else np.empty((len(table), 0)), labels, names)


def _declared_label(trees: Mapping[str, Mapping[str, Any]]) -> str | None:
    fields = (field for _, field in items_at(trees, "training_data.schema") if field.get("label_field") is True)
    return next((str(field.get("field_name")) for field in fields), None)
