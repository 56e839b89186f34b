"""Trace contexts of rows: they stay in their Arrow buffers, and only the few that are chosen become text."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.columns import TextIds, Traces
from streams.arrow_columns import ArrowIds, is_text, text_buffers
from streams.trace_context import PARENT, SAMPLED, context_of

LENGTH = 55  # of a traceparent of version 00
_ODD = np.zeros(256, np.bool_)
_ODD[[ord(digit) for digit in SAMPLED]] = True


def of_texts(texts: Sequence[str | None]) -> Traces | None:
    """Traces of single events; None where none was sampled."""
    if not any(texts):
        return None
    sampled = np.array([text is not None and len(text) == LENGTH and text[-1] in SAMPLED for text in texts])
    return Traces(TextIds([text or "" for text in texts]), sampled) if sampled.any() else None


def of_column(column: pa.Array | None) -> Traces | None:
    """Traces of the rows of a frame; None where none was sampled."""
    if column is None or not is_text(column.type) or not len(column):
        return None
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    data, bounds = text_buffers(column)
    sampled = np.diff(bounds) == LENGTH
    if column.null_count:
        sampled &= column.is_valid().to_numpy(zero_copy_only=False)
    rows = sampled.nonzero()[0]
    sampled[rows] = _ODD[data[bounds[rows + 1] - 1]]
    return Traces(ArrowIds(column), sampled) if sampled.any() else None


def of_record(headers: Iterable[tuple[str, bytes | None]], size: int) -> Traces | None:
    """The trace of whoever sent a frame, for all of its rows."""
    parent = context_of(headers).get(PARENT)
    if parent is None or parent[-1] not in SAMPLED:
        return None
    return Traces(_Same(parent), np.ones(size, np.bool_))


class _Same:
    """The same text in every row."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def take(self, rows: Any) -> "_Same":  # noqa: ARG002 -- one of `Ids`
        """Only `rows`."""
        return self

    def texts(self, rows: NDArray[np.intp]) -> list[str]:
        """The text of each of `rows`."""
        return [self._text] * len(rows)
