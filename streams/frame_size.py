"""How large a frame is once unpacked, from its headers alone: what is too large is refused before it takes memory.

The buffers of an Arrow IPC stream may be compressed (lz4, zstd), each behind the size it will have; 40 kB can become
a gigabyte. Columns and rows are counted here, too: a column of nulls has any number of rows in no bytes, and a field
of the schema that is named in many places is written once. Layout: Arrow columnar format 1.5, Message.fbs and
Schema.fbs; the flatbuffers have passed Arrow's own verifier before they are read here.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from streams.errors import Undecodable

MAX_ROWS, MAX_COLUMNS = 100_000, 1_000
MAX_FRAME_BYTES = 64 << 20  # 16 times the largest record of the default settings, and of numbers 80 columns full
MAX_FIELDS = 2 * MAX_COLUMNS  # columns, and what is nested in them
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3  # of the union MessageHeader
_LENGTH, _BUFFERS, _COMPRESSION = 0, 2, 3  # fields of RecordBatch
_SIZE, MOST = 8, 1 << 48  # bytes that say how large a buffer is; more than any memory has
_BUFFER = struct.Struct("<qq")  # offset and length


class _Table(NamedTuple):
    """A flatbuffers table: the bytes it lies in, and where."""

    data: memoryview
    at: int

    def field(self, number: int) -> int | None:
        """Where a field lies, None where it is absent."""
        vtable = self.at - int(struct.unpack_from("<i", self.data, self.at)[0])
        place = 4 + 2 * number
        if place >= struct.unpack_from("<H", self.data, vtable)[0]:
            return None
        offset = int(struct.unpack_from("<H", self.data, vtable + place)[0])
        return self.at + offset if offset else None

    def number(self, number: int, layout: str = "<q") -> int:
        """A scalar field, 0 where it is absent."""
        at = self.field(number)
        return 0 if at is None else int(struct.unpack_from(layout, self.data, at)[0])

    def table(self, number: int) -> "_Table | None":
        """A field that is a table itself."""
        at = self.field(number)
        return None if at is None else _Table(self.data, at + _offset(self.data, at))

    def vector(self, number: int) -> tuple[int, int]:
        """Where the first element of a vector lies, and how many there are."""
        at = self.field(number)
        if at is None:
            return 0, 0
        start = at + _offset(self.data, at)
        return start + 4, _offset(self.data, start)


def check_size(value: bytes, most_bytes: int = MAX_FRAME_BYTES) -> None:
    """Raises Undecodable for a frame with too many rows, columns or bytes once unpacked.

    What Arrow itself cannot read raises its own errors, as reading it would.
    """
    unpacked = 0
    for message in _messages(value):
        data = memoryview(message.metadata).cast("B")
        root = _Table(data, _offset(data, 0))
        kind, header = root.number(1, "<B"), root.table(2)
        if header is None:
            continue
        if kind == _SCHEMA:
            _check_fields(header)
            continue
        if kind == _DICTIONARY:
            header = header.table(1)
        if header is None:
            continue
        if kind == _BATCH and header.number(_LENGTH) > MAX_ROWS:
            raise Undecodable(
                f"a frame may hold {MAX_ROWS} rows, this one has {header.number(_LENGTH)}; send smaller frames"
            )
        unpacked += sum(_sizes(header, message.body))
        if unpacked > most_bytes:
            raise Undecodable(
                f"a frame may take {most_bytes} bytes uncompressed (max_frame_bytes), this one of {len(value)} bytes "
                "takes more; send smaller frames"
            )


def _messages(value: bytes) -> Iterator[Any]:
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(value))
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        yield message


def _check_fields(schema: _Table) -> None:
    """Count columns and what is nested in them, and stop at the bound: a flatbuffer can name one field many times."""
    count, (first, columns) = 0, schema.vector(1)
    if columns > MAX_COLUMNS:
        raise Undecodable(f"a frame may hold {MAX_COLUMNS} columns, this one has {columns}; send smaller frames")
    waiting = [_Table(schema.data, at + _offset(schema.data, at)) for at in range(first, first + 4 * columns, 4)]
    while waiting:
        count += 1
        first, children = waiting.pop().vector(5)
        if count + len(waiting) + children > MAX_FIELDS:
            raise Undecodable(f"a frame may hold {MAX_FIELDS} fields, nested ones included; send flat columns")
        waiting += [_Table(schema.data, at + _offset(schema.data, at)) for at in range(first, first + 4 * children, 4)]


def _sizes(batch: _Table, body: Any) -> Iterator[int]:
    """Bytes of what is read of a batch: its body as it is, or each buffer once unpacked."""
    if batch.field(_COMPRESSION) is None:
        yield body.size if body is not None else 0
        return
    content = memoryview(body or b"").cast("B")
    first, count = batch.vector(_BUFFERS)
    for i in range(count):
        offset, length = _BUFFER.unpack_from(batch.data, first + i * _BUFFER.size)
        said = int(struct.unpack_from("<q", content, offset)[0]) if length >= _SIZE else 0
        size = length if said == -1 else said  # -1: this one is not compressed
        if not 0 <= size <= MOST:
            raise Undecodable(f"not an Arrow IPC stream: a buffer says that it takes {size} bytes")
        yield size


def _offset(data: memoryview, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])
