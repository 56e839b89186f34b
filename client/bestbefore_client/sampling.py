"""Consistent sampling: keep or leave an inference by a hash of its id.

The model server, a labelling tool and a worker that only know the id come to the same decision without talking to each
other, so that an input, its prediction and its label are sampled together. The hash is a multiply-xorshift over 64-bit
words with the finaliser of MurmurHash3 (Austin Appleby, public domain). It resists accidents, not attackers.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_SEED = 0x9E3779B97F4A7C15
_WORD = 0xFF51AFD7ED558CCD
_FINAL = 0xC4CEB9FE1A85EC53
_TAIL_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)


def u64(id: str) -> int:
    """Hash an id to an integer in [0, 2^64), the same on every machine and Python version.

    Raises UnicodeEncodeError when the id holds a lone surrogate.

    >>> u64("r-81")
    4398524042513131384
    """
    data = id.encode()
    h = len(data) * _SEED & _MASK
    padded = data + b"\0" * (-len(data) % 8)
    for (word,) in struct.iter_unpack("<Q", padded):
        h = (h ^ word) * _WORD & _MASK
        h ^= h >> 32
    h ^= h >> 33
    h = h * _FINAL & _MASK
    return h ^ h >> 33


def unit(id: str) -> float:
    """Hash an id to a number in [0, 1]; uniform over ids, rounded to the nearest float.

    >>> round(unit("r-81"), 6)
    0.238444
    """
    return u64(id) / 2.0**64


def sampled(id: str, rate: float) -> bool:
    """Tell whether an id belongs to the sample of a rate; a smaller rate's sample lies within a larger one's.

    `rate` is the probability in [0, 1]; 1.0 keeps every id, 0.0 none.

    >>> sampled("r-81", 1.0), sampled("r-81", 0.5)
    (True, True)
    """
    return u64(id) < rate * 2.0**64


def u64_many(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash the n ids of an Arrow string buffer: `u64` of each, without a Python loop over rows.

    `data` holds the UTF-8 bytes of all ids, shape (bytes,); id i is data[offsets[i]:offsets[i+1]], `offsets` has shape
    (n + 1,) and never falls. Returns shape (n,).
    """
    starts = np.asarray(offsets[:-1], dtype=np.int64)
    lengths = np.asarray(offsets[1:], dtype=np.int64) - starts
    h = lengths.astype(np.uint64) * np.uint64(_SEED)
    if lengths.size and lengths.max() > 0:
        if lengths.min() == lengths.max():
            _mix_equal(h, data[starts[0] : starts[-1] + lengths[-1]], int(lengths[0]))
        else:
            _mix_ragged(h, data, starts, lengths)
    h ^= h >> np.uint64(33)
    h *= np.uint64(_FINAL)
    h ^= h >> np.uint64(33)
    return h


def sampled_many(data: NDArray[np.uint8], offsets: NDArray[np.int64], rate: float) -> NDArray[np.bool_]:
    """Tell for each id of an Arrow string buffer whether it is in the sample: `sampled` of each, shape (n,)."""
    # The comparison with a float would round the hash; h < x is h < ceil(x) for a whole h, and that stays exact.
    limit = math.ceil(rate * 2.0**64)
    if limit >= 1 << 64:
        return np.ones(len(offsets) - 1, dtype=np.bool_)
    kept: NDArray[np.bool_] = u64_many(data, offsets) < np.uint64(max(limit, 0))
    return kept


def _mix(h: NDArray[Any], word: NDArray[Any]) -> NDArray[Any]:
    h = h ^ word
    h *= np.uint64(_WORD)
    h ^= h >> np.uint64(32)
    return h


def _mix_equal(h: NDArray[np.uint64], data: NDArray[np.uint8], length: int) -> None:
    """Mix ids of one length (UUIDs, mostly) in place: a padded matrix of words, column by column."""
    padded = np.zeros((len(h), -(-length // 8) * 8), dtype=np.uint8)
    padded[:, :length] = data.reshape(len(h), length)
    for word in np.ascontiguousarray(padded.view("<u8").T):
        h[:] = _mix(h, word)


def _mix_ragged(
    h: NDArray[np.uint64], data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> None:
    """Mix ids of differing lengths in place: word j of every id that still has one, cut at its end."""
    padded = np.concatenate([np.asarray(data, dtype=np.uint8), np.zeros(8, dtype=np.uint8)])
    words = np.ndarray(shape=(len(padded) - 7,), dtype="<u8", buffer=padded, strides=(1,))
    rows = np.arange(len(h))
    for begin in range(0, int(lengths.max()), 8):
        rows = rows[lengths[rows] > begin]
        left = np.minimum(lengths[rows] - begin, 8)
        h[rows] = _mix(h[rows], words[starts[rows] + begin] & _TAIL_MASKS[left])
