"""Tables in files, Parquet or CSV, that people hand over: plain columns with sound values, or an error with the column.

Arrow opens much that fails only when a value is looked at: names twice or not in UTF-8, zones that nobody knows, times
that no calendar has, layouts without kernels. All of it is found here, once.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from streams.errors import BestbeforeError

_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # the years 1 to 9999, in microseconds


class TableError(BestbeforeError):
    """A file that holds no table, or one with a column that cannot be used."""


def read_table(path: Path) -> pa.Table:
    """The table in a `.parquet` or `.csv` file. Raises TableError, which names file and column."""
    try:
        with path.open("rb") as content:
            table = pq.read_table(content) if path.suffix == ".parquet" else pacsv.read_csv(content)
        table.validate(full=True)
        names = table.column_names
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise TableError(f"{path} cannot be read: {str(error).strip()[:300]}") from None
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise TableError(f"{path}: column {twice[:60]!a} is there twice; rename or drop one")
    columns = {}
    for name in names:
        try:
            columns[name] = _plain(table.column(name))
        except (KeyError, ValueError, OverflowError, pa.ArrowException) as error:
            said = str(error).strip("'\" ")[:200]
            raise TableError(
                f"{path}: column {name[:60]!a} ({str(table.schema.field(name).type)[:60]}) cannot be used: {said!a}; "
                "convert it, or leave it out"
            ) from None
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values in a layout that everything here reads. Raises what Arrow and the calendar raise."""
    kind = column.type
    if pa.types.is_run_end_encoded(kind):
        column = pc.run_end_decode(column)
    elif pa.types.is_string_view(kind):
        column = column.cast(pa.string())
    elif pa.types.is_binary_view(kind):
        column = column.cast(pa.binary())
    elif pa.types.is_float16(kind):
        column = column.cast(pa.float32())
    elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        _check_times(column)
    elif pa.types.is_temporal(kind):
        raise ValueError("it holds no points in time; give timestamps or numbers")
    return column


def _check_times(column: pa.ChunkedArray) -> None:
    pa.scalar(0, column.type).as_py()  # KeyError for a zone that nobody knows
    zone = getattr(column.type, "tz", None)
    bounds = pc.min_max(column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())).as_py()
    if bounds["min"] is not None and not _FIRST <= bounds["min"] <= bounds["max"] <= _LAST:
        raise ValueError("it has a time outside of the years 1 to 9999")
