"""Frames: thousands of inference events in one record, as an Arrow IPC stream.

The columns are those of a single event: `id`, `time`, `model`, `version`, `features.<name>`, `segment.<name>`,
`scores` (fixed-size list, class names as JSON under `classes` in the schema metadata), `label`, `value`, …
"""

import json
import struct
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from bestbefore_client.sampling import u64_many
from numpy.typing import NDArray

from models.columns import Categories, Inferences, Subject
from models.tables import OTHER
from streams.arrow_columns import (
    ArrowIds,
    categories,
    dictionary_decoded,
    flags,
    floats,
    is_text,
    matrix,
    numbers,
    present,
    text_buffers,
    times,
)
from streams.errors import Invalid, Undecodable
from streams.frame_size import MAX_FRAME_BYTES, check_size
from streams.records import LEAST_SHARE, MAX_CARRIED_BYTES, MAX_CLASSES, MAX_LABEL, RESERVED_FIELDS, bounded_segment_key
from streams.traces import of_column

MAX_SUBJECTS = 1_000  # model versions and segments in one frame: each is profiled apart
MAX_ID_BYTES = 200 * 4  # 200 characters of UTF-8
_REQUIRED = ("id", "time", "model", "version")


class Decoded(NamedTuple):
    """A frame as columns: `rows` of all events, row numbers per subject, and what predictions are kept from."""

    rows: Inferences
    subjects: list[tuple[Subject, NDArray[np.int64] | slice]]
    table: pa.RecordBatch
    classes: tuple[str, ...]
    rejected: pa.RecordBatch | None  # rows that are not counted
    why: str = ""  # they are not


def decode_frame(value: bytes, offset: int, most_bytes: int = MAX_FRAME_BYTES) -> Decoded:
    """Decode and validate one frame, which takes at most `most_bytes` uncompressed.

    Raises Undecodable when the bytes are no Arrow stream or a column is broken, Invalid when a required column
    is absent or has another type.
    """
    try:
        decoded = decode_batch(_read(value, most_bytes), offset)
    except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        # Names and types are read as they are asked for; a damaged schema shows only now.
        raise Undecodable(f"not an Arrow IPC stream with a sound schema: {str(error)[:300]}") from None
    if len(decoded.subjects) > MAX_SUBJECTS:
        raise Invalid(
            f"frame: {len(decoded.subjects)} model versions and segments, at most {MAX_SUBJECTS} are allowed; "
            "a segment is a part of the traffic such as a site, not an id"
        )
    return decoded


def decode_batch(batch: pa.RecordBatch, offset: int) -> Decoded:
    """Validate a record batch that has the columns of a frame. Raises Invalid."""
    batch, rejected = _split(batch)
    schema = batch.schema
    classes = _classes(schema)
    size = batch.num_rows
    columns: dict[str, Any] = {name: batch.column(i) for i, name in enumerate(schema.names)}
    _check_reserved(columns)
    numeric, missing, categorical = _features(columns)
    scores = matrix(columns.get("scores"), "scores")
    if max(len(classes), 0 if scores is None else scores.shape[1]) > MAX_CLASSES:
        raise Invalid(f"frame: more than {MAX_CLASSES} classes; send the scores of the likeliest")
    if scores is not None and classes and len(classes) != scores.shape[1]:
        raise Invalid(f"frame: {len(classes)} class names for {scores.shape[1]} scores")
    status = floats(columns.get("status"), "status")
    digest = columns.get("digest")
    rows = Inferences(
        offset=np.full(size, offset, dtype=np.int64),
        time=times(columns["time"]),
        weight=_weight(columns.get("sampling")),
        numeric=numeric,
        missing=missing,
        categorical=categorical,
        scores=scores,
        classes=classes,
        label=_label(columns, classes, scores),
        value=floats(columns.get("value"), "value"),
        latency_ms=floats(columns.get("latency_ms"), "latency_ms"),
        failed=_failed(status),
        abstained=flags(columns.get("abstained"), "abstained"),
        live=_live(columns.get("served")),
        id_hash=_hashes(columns["id"]),
        ids=ArrowIds(columns["id"]),
        traces=of_column(columns.get("traceparent")),
        status=None if status is None else status_classes(status),
        digest=None if digest is None or pa.types.is_null(digest.type) else categories(digest, "digest"),
        embedded=present(columns.get("embedding")),
    )
    _mark_without_output(rows)
    why = f"{rejected.num_rows} of the frame's rows lack id, time, model or version" if rejected is not None else ""
    return Decoded(rows, _subjects(columns, size), batch, classes, rejected, why)


def without(decoded: Decoded, refused: NDArray[np.int64], why: str, offset: int) -> Decoded:
    """The frame less some of its rows, which are rejected, too."""
    keep = np.ones(decoded.table.num_rows, np.bool_)
    keep[refused] = False
    rest = decode_batch(decoded.table.filter(pa.array(keep)), offset)
    apart = [b for b in (decoded.rejected, decoded.table.filter(pa.array(~keep))) if b is not None]
    rejected = pa.Table.from_batches(apart).combine_chunks().to_batches()[0]
    told = "; ".join(part for part in (decoded.why, f"{len(refused)} of the frame's rows: {why}") if part)
    return rest._replace(rejected=rejected, why=told)


def _read(value: bytes, most_bytes: int) -> pa.RecordBatch:
    try:
        check_size(value, most_bytes)
        with pa.ipc.open_stream(pa.py_buffer(value)) as reader:
            batches = list(reader)
        if len(batches) != 1:
            raise Undecodable(f"a frame holds one record batch, this one has {len(batches)}")
        batches[0].validate(full=True)
    except (pa.ArrowException, OSError, ValueError, OverflowError, struct.error) as error:
        raise Undecodable(f"not an Arrow IPC stream with sound columns: {str(error)[:300]}") from None
    return batches[0]


def _split(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
    """Check the required columns; rows that lack one of their values are set apart."""
    names = batch.schema.names
    if len(set(names)) != len(names):
        raise Invalid("frame: two columns have the same name")
    bad = None
    for name in _REQUIRED:
        if name not in names:
            raise Invalid(f"frame: required column {name!r} is absent; it has {', '.join(names[:20])}")
        column = batch.column(name)
        right = pa.types.is_timestamp(column.type) if name == "time" else is_text(column.type)
        if not right:
            expected = "a timestamp with time zone" if name == "time" else "a string"
            raise Invalid(f"frame: column {name!r} must be {expected}, is {column.type}")
        if name == "time" and column.type.tz is None:
            raise Invalid("frame: column 'time' has no time zone; write timestamps in UTC")
        if pa.types.is_dictionary(column.type):
            # A null among the categories is no null of the column, and a category may be unused.
            column = dictionary_decoded(column, name)
            batch = batch.set_column(names.index(name), name, column)
        if name != "time" and _unfit(column):
            raise Invalid(
                f"frame: column {name!r} holds a text that is empty, has more than 200 characters or a NUL character"
            )
        if column.null_count:
            bad = column.is_null() if bad is None else pc.or_(bad, column.is_null())
    if bad is None:
        return batch, None
    return batch.filter(pc.invert(bad)), batch.filter(bad)


def _unfit(column: pa.Array) -> bool:
    """Identifiers go into keys and tables: not empty, bounded, and without NUL."""
    data, offsets = text_buffers(column)
    if not len(column):
        return False
    sizes = np.diff(offsets)
    if sizes.min() == 0 and pc.any(pc.equal(pc.binary_length(column), 0)).as_py():  # a null is empty, too
        return True
    return int(sizes.max()) > MAX_ID_BYTES or not data[offsets[0] : offsets[-1]].all()


def frame_bytes(batch: pa.RecordBatch) -> bytes:
    """The batch as a frame again, for the dead letters."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def _check_reserved(columns: dict[str, Any]) -> None:
    """Reserved fields are carried along as JSON: what has no form there, or none without pandas, is refused."""
    for name in RESERVED_FIELDS:
        kind = columns[name].type if name in columns else pa.null()
        if not (is_text(kind) or numbers(kind) or pa.types.is_null(kind)):
            raise Invalid(f"frame: column {name!r} must be text (objects as JSON) or numbers, is {kind}")
        if name in columns:
            _check_length(columns[name], name, MAX_CARRIED_BYTES)
    for name, most in (("label", MAX_LABEL * 4), ("digest", MAX_ID_BYTES)):  # UTF-8 takes up to four bytes a character
        if name in columns:
            _check_length(columns[name], name, most)


def _check_length(column: pa.Array, name: str, most: int) -> None:
    if is_text(column.type):
        texts = column.dictionary if pa.types.is_dictionary(column.type) else column
        longest = pc.max(pc.binary_length(texts)).as_py() or 0
        if longest > most:
            raise Invalid(f"frame: column {name!r} holds a text of {longest} bytes, at most {most} are allowed")


def _classes(schema: pa.Schema) -> tuple[str, ...]:
    text = (schema.metadata or {}).get(b"classes")
    if not text:
        return ()
    try:
        names = json.loads(text)
        classes = tuple(map(str, names))
        "".join(classes).encode()  # UnicodeEncodeError, a ValueError, for half of a surrogate pair
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(f"frame: schema metadata `classes` must be a JSON list of names: {str(error)[:200]}") from None
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise Invalid("frame: schema metadata `classes` must be a JSON list of names")
    if len(set(classes)) != len(classes):
        raise Invalid("frame: schema metadata `classes` names a class twice; each score is of one class")
    return classes


def status_classes(status: NDArray[np.float64]) -> Categories:
    """Status codes, NaN where absent, as 1xx to 5xx; any other number is OTHER."""
    if (status // 100 == 2).all():
        return Categories(np.zeros(len(status), np.int32), ("2xx",))
    missing, known = np.isnan(status), (status >= 100) & (status < 600)
    codes = np.where(known, np.nan_to_num(status) // 100 - 1, 5).astype(np.int32)
    return Categories(np.where(missing, np.int32(-1), codes), ("1xx", "2xx", "3xx", "4xx", "5xx", OTHER))


def _failed(status: NDArray[np.float64] | None) -> NDArray[np.bool_] | None:
    if status is None:
        return None
    failed = status >= 400
    return failed if failed.any() else None


def _live(column: pa.Array | None) -> NDArray[np.bool_] | None:
    if column is None:
        return None
    codes, values = categories(column, "served")
    live = np.array([*(value == "live" for value in values), True])
    return live[codes]


def _weight(column: pa.Array | None) -> NDArray[np.float64] | None:
    """1 / probability; a probability outside [LEAST_SHARE, 1] is refused."""
    rate = floats(column, "sampling")
    if rate is None:
        return None
    rate = np.where(np.isnan(rate), 1.0, rate)
    if not ((rate >= LEAST_SHARE) & (rate <= 1)).all():
        raise Invalid(f"frame: column 'sampling' holds a probability outside [{LEAST_SHARE}, 1]")
    return None if (rate == 1.0).all() else 1.0 / rate


def _label(columns: dict[str, Any], classes: tuple[str, ...], scores: NDArray[np.float32] | None) -> Categories | None:
    """The predicted label; the class of the highest score where only scores are sent."""
    if "label" in columns:
        return categories(columns["label"], "label")
    if scores is None:
        return None
    names = classes or tuple(str(i) for i in range(scores.shape[1]))
    best = scores.argmax(axis=1).astype(np.int32)
    if not _all_finite(scores):
        best[~np.isfinite(scores).all(axis=1)] = -1
    return Categories(best, names)


def _features(columns: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Categories]]:
    numeric, missing, categorical = {}, {}, {}
    for name, column in columns.items():
        if not name.startswith("features."):
            continue
        short = name[len("features.") :]
        if numbers(column.type):
            numeric[short] = floats(column, name)
            if column.null_count:
                missing[short] = column.is_null().to_numpy(zero_copy_only=False)
        elif pa.types.is_null(column.type):
            categorical[short] = Categories(np.full(len(column), -1, np.int32), ())
        else:
            categorical[short] = categories(column, name)
    return numeric, missing, categorical


def _hashes(column: pa.Array) -> NDArray[np.uint64]:
    if pa.types.is_dictionary(column.type):
        column = dictionary_decoded(column, "id")
    return u64_many(*text_buffers(column))


def _mark_without_output(rows: Inferences) -> None:
    """Where outputs are sent at all, an event that neither failed nor abstained and has none did fail."""
    present = [p for p in (_has_scores(rows), _has_label(rows), _has_value(rows)) if p is not None]
    if not present:
        return
    none = ~np.logical_or.reduce(present)
    if rows.abstained is not None:
        none &= ~rows.abstained
    if none.any():
        rows.failed = none if rows.failed is None else rows.failed | none


def _all_finite(values: NDArray[Any]) -> bool:
    """A sum is far cheaper than a look at every row; it is not finite as soon as one value is not."""
    return bool(np.isfinite(values.sum()))


def _has_scores(rows: Inferences) -> NDArray[np.bool_] | None:
    if rows.scores is None:
        return None
    if _all_finite(rows.scores):
        return np.ones(len(rows), np.bool_)
    return np.asarray(np.isfinite(rows.scores).all(axis=1))


def _has_label(rows: Inferences) -> NDArray[np.bool_] | None:
    return None if rows.label is None else rows.label.codes >= 0


def _has_value(rows: Inferences) -> NDArray[np.bool_] | None:
    return None if rows.value is None else np.isfinite(rows.value)


def _subjects(columns: dict[str, Any], size: int) -> list[tuple[Subject, NDArray[np.int64] | slice]]:
    """Row numbers of every model version, and of every segment of it besides."""
    if not size:
        return []
    keys = [name for name in columns if name.startswith("segment.")]
    if len(keys) > 8:
        raise Invalid(f"frame: at most 8 segment keys, this one has {len(keys)}")
    parts = [categories(columns[name], name) for name in ("model", "version", *keys)]
    if all(len(part.values) == 1 and (part.codes == 0).all() for part in parts):
        combinations, where = [tuple(0 for _ in parts)], [np.arange(size)]
    else:
        table, which = np.unique(np.stack([p.codes for p in parts], axis=1), axis=0, return_inverse=True)
        combinations = [tuple(row) for row in table.tolist()]
        which = which.reshape(-1)
        where = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])
    found: dict[Subject, list[NDArray[np.int64]]] = {}
    for codes, rows in zip(combinations, where, strict=True):
        model, version, *segment = (p.values[c] if c >= 0 else None for p, c in zip(parts, codes, strict=True))
        named = {k.removeprefix("segment."): v for k, v in zip(keys, segment, strict=True) if v is not None}
        for key in {"", bounded_segment_key(named)}:
            found.setdefault(Subject(str(model), str(version), key), []).append(rows)
    whole = slice(None)
    return [
        (subject, whole if sum(map(len, rows)) == size else np.sort(np.concatenate(rows)))
        for subject, rows in sorted(found.items())
    ]


def reserved_of(table: pa.RecordBatch, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The reserved fields of some rows, without those that are null."""
    names = [name for name in RESERVED_FIELDS if name in table.schema.names]
    if not names:
        return [{} for _ in rows]
    return [
        {k: v for k, v in row.items() if v is not None} for row in table.select(names).take(pa.array(rows)).to_pylist()
    ]
