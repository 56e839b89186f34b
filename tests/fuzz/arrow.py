"""Damage to tables: columns of other types, layouts and lengths, still written as sound Arrow, Parquet or CSV."""

import io
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tests.fuzz.damage import Damage, structured

_TYPES: tuple[pa.DataType, ...] = (
    pa.null(),
    pa.bool_(),
    pa.int8(),
    pa.uint64(),
    pa.int64(),
    pa.float16(),
    pa.float32(),
    pa.float64(),
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.binary(3),
    pa.decimal128(20, 3),
    pa.date32(),
    pa.time64("ns"),
    pa.timestamp("s"),
    pa.timestamp("us", "UTC"),
    pa.timestamp("ns", "Europe/Berlin"),
    pa.timestamp("ms", "nowhere"),
    pa.duration("us"),
    pa.list_(pa.float32()),
    pa.large_list(pa.string()),
    pa.list_(pa.float32(), 2),
    pa.list_(pa.float64(), 0),
    pa.list_(pa.int8(), 3),
    pa.struct({"a": pa.int64()}),
    pa.map_(pa.string(), pa.int64()),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.uint32(), pa.large_string()),
    pa.dictionary(pa.int16(), pa.int64()),
    pa.month_day_nano_interval(),
    pa.run_end_encoded(pa.int32(), pa.string()),
)
_VALUES: tuple[Any, ...] = (
    None,
    "",
    "a",
    "x" * 801,
    "\x00",
    "é" * 200,
    "7",
    "2026-11-20T10:00:00Z",
    True,
    0,
    -1,
    2**62,
    -(2**63),
    2**63 - 1,
    0.5,
    float("nan"),
    float("inf"),
    -1e308,
    1e-320,
    [1.0, 2.0],
    [None, 1.0],
    {"a": 1},
    b"\xff",
)
_NAMES = (
    "features.x",
    "features.",
    "segment.site",
    "segment." + "k" * 300,
    "scores",
    "embedding",
    "label",
    "sampling",
    "status",
    "served",
    "cost",
    "flags",
    "unknown",
    "id",
    "time",
    "value",
    "latency_ms",
    "abstained",
    "digest",
    "",
    "\x00",
)
_CLASSES = (
    "[]",
    '["a"]',
    '["a", "b", "c"]',
    "{}",
    "7",
    "null",
    '"ab"',
    "[" * 2000,
    "[1, [2]]",
    '["\\ud800", "b"]',
    "[NaN]",
    "x",
)


def stream(batch: pa.RecordBatch) -> bytes:
    """A frame of one batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


@structured
def of_frame(content: bytes, random: Random) -> bytes:
    """A frame whose columns are others."""
    with pa.ipc.open_stream(content) as reader:
        batch = reader.read_next_batch()
    batch.validate(full=True)  # what was damaged before may not even be looked at
    return stream(changed(batch, random))


def of_file(write: Callable[[pa.Table, Any], None], read: Callable[[Any], pa.Table]) -> Damage:
    """The same for tables in files."""

    @structured
    def damaged(content: bytes, random: Random) -> bytes:
        sink = io.BytesIO()
        batch = read(io.BytesIO(content)).combine_chunks().to_batches()[0]
        write(pa.Table.from_batches([changed(batch, random)]), sink)
        return sink.getvalue()

    return damaged


of_parquet = of_file(pq.write_table, pq.read_table)
of_csv = of_file(pacsv.write_csv, pacsv.read_csv)


def changed(batch: pa.RecordBatch, random: Random) -> pa.RecordBatch:
    """Up to three changes of a batch."""
    for _ in range(random.choice((1, 1, 2, 3))):
        batch = _change(batch, random)
    return batch


def _change(batch: pa.RecordBatch, random: Random) -> pa.RecordBatch:  # noqa: PLR0911 -- one for each change
    kind, at = random.randrange(9), random.randrange(max(batch.num_columns, 1))
    size = batch.num_rows
    if kind == 0:
        return batch.slice(random.randint(0, size), random.randint(0, size))
    if kind == 1:
        return batch.replace_schema_metadata({"classes": random.choice(_CLASSES)})
    if kind == 2 and batch.num_columns:
        return batch.remove_column(at)
    if kind == 3 and batch.num_columns:
        return batch.rename_columns([random.choice(_NAMES) if i == at else n for i, n in enumerate(batch.schema.names)])
    if kind == 4:
        return batch.append_column(random.choice(_NAMES), _column(random, size))
    if kind == 5 and batch.num_columns:
        mask = pa.array([random.random() < 0.5 for _ in range(size)])
        column = batch.column(at)
        return batch.set_column(at, batch.schema.names[at], pc.if_else(mask, column, pa.scalar(None, column.type)))
    if kind == 6 and size:
        return pa.concat_batches([batch] * random.choice((2, 20)))
    if not batch.num_columns:
        return batch
    name = batch.schema.names[at]
    if kind == 7:
        return batch.set_column(at, name, batch.column(at).cast(random.choice(_TYPES), safe=False))
    return batch.set_column(at, name, _column(random, size))


def _column(random: Random, size: int) -> pa.Array:
    """A column of some type; values that do not fit it are left out."""
    kind = random.choice(_TYPES)
    values = [random.choice(_VALUES) if random.random() < 0.7 else None for _ in range(size)]
    for _ in range(2):  # the values as they are, then only those that fit
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            values = [_fitting(value, kind) for value in values]
    return pa.nulls(size, kind)


def _fitting(value: Any, kind: pa.DataType) -> Any:
    try:
        pa.array([value], kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return None
    return value
