"""Damage as it comes from outside: bytes cut, flipped and doubled; true names with values of any other kind."""

import io
import json
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
import numpy as np

Damage = Callable[[bytes, Random], bytes]
MOST_BYTES = 1 << 16  # of a damaged input: what is larger only takes time
_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, (1 << 63) - 1, (1 << 64) - 1)
_PIECES = (
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 400,
    b"-",
    b"[" * 300,
    b'{"a":' * 300,
    b"\\ud800",
    b'"',
    b"\n",
    b"\r",
    b"\t",
    b"---\n",
    b"&a ",
    b"*a",
    b"!!python/object:os.system ",
    b"<<: ",
    b"? ",
    b"%",
    b"\xe2\x80\xa8",
    b"PK\x03\x04",
    b"\x80\x04",
    b"x" * 3000,
    b".inf",
    b"0x1f",
    b"1_000",
    b"=",
    b"..",
)


def of_bytes(content: bytes, random: Random) -> bytes:
    """Up to four changes that know nothing of what the bytes mean."""
    most = max(MOST_BYTES, 2 * len(content))
    for _ in range(random.randint(1, 4)):
        content = random.choice(_CHANGES)(content, random)[:most]
    return content


def _spot(content: bytes, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(content))
    return start, min(len(content), start + random.choice((1, 1, 2, 4, 8, 30, 300)))


def _flip(content: bytes, random: Random) -> bytes:
    if not content:
        return b"\x01"
    at = random.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << random.randrange(8))]) + content[at + 1 :]


def _cut(content: bytes, random: Random) -> bytes:
    return content[: random.randint(0, len(content))]


def _remove(content: bytes, random: Random) -> bytes:
    start, end = _spot(content, random)
    return content[:start] + content[end:]


def _repeat(content: bytes, random: Random) -> bytes:
    start, end = _spot(content, random)
    return content[:end] + content[start:end] * random.choice((1, 2, 20)) + content[end:]


def _insert(content: bytes, random: Random) -> bytes:
    start, _ = _spot(content, random)
    return content[:start] + random.choice(_PIECES) + content[start:]


def _overwrite(content: bytes, random: Random) -> bytes:
    start, size = _spot(content, random)[0], random.choice((1, 2, 4, 8))
    number = random.choice(_EXTREMES) & ((1 << 8 * size) - 1)
    return content[:start] + number.to_bytes(size, random.choice(("little", "big"))) + content[start + size :]


def _anything(content: bytes, random: Random) -> bytes:
    return random.randbytes(random.randint(0, 60))


_CHANGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_flip, _cut, _remove, _repeat, _insert, _overwrite) * 4,
    _anything,
)


def structured(change: Damage) -> Damage:
    """Damage that knows what the bytes mean; bytes that mean nothing, or cannot be written so, are damaged as bytes."""

    def damaged(content: bytes, random: Random) -> bytes:
        if random.random() < 0.25:
            return of_bytes(content, random)
        try:
            return change(content, random)[: max(MOST_BYTES, 2 * len(content))]
        except Exception:  # noqa: BLE001 -- libraries refuse what they cannot read or write with many kinds of errors
            return of_bytes(content, random)

    return damaged


# -- trees ---------------------------------------------------------------------------------------------------


def _nested(depth: int, *, objects: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if objects else [value]
    return value


ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    200,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    10**400,
    -0.0,
    0.5,
    1e-320,
    1e18,
    1e300,
    -1e308,
    1.7976931348623157e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    " ",
    "0",
    "-1",
    "NaN",
    "7",
    "1e400",
    "null",
    "\x00",
    "a\x00b",
    "\ud800",
    "a\udfff",
    "\u2028",
    "é" * 150,
    "x" * 300,
    "y" * 5000,
    "1" * 5000,
    "label",
    "2026-11-20T10:00:00Z",
    "2026-11-20",
    "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00+23:59",
    "1969-12-31T23:59:59Z",
    "2026-11-20T10:00:00",
    "2026-11-20T24:00:00Z",
    "1 day",
    "1e9 days",
    "-3 s",
    "0 s",
    "5 %",
    "50 ms",
    "3 furlong",
    "..",
    "0..1",
    "[0, 1]",
    "a..b",
    "../../etc/passwd",
    "file:///x",
    "s3://a::b",
    "memory://samples/%2e%2e/a",
    "sha256:",
    "a.b[0]",
    'a["b"]',
    "trained_model.model_name",
    "telemetry.latency.p99",
    "telemetry",
    "Number",
    "float32",
    "!!x",
    "*a",
    "{",
    "}",
    [],
    {},
    [[]],
    [{}],
    {"": ""},
    {"a.b": 1},
    {"\x00": None},
    {"value": 5, "unit": "ms"},
    {"value": {"value": 1}},
    [1, 2],
    [None],
    ["a", 1],
    [0.1] * 3,
    [True],
    [[1], [2]],
    {"min": 1, "max": 0},
    list(range(300)),
    {str(i): i for i in range(300)},
    ["z" * 50] * 50,
)
_DEEP = (_nested(40, objects=True), _nested(70, objects=False), _nested(200, objects=True))
_NAMES = (
    "",
    "id",
    "time",
    "__proto__",
    "a.b",
    "\x00",
    "\ud800",
    "x" * 300,
    "bestbefore",
    "features.",
    "segment.",
    "data",
)


def odd(random: Random) -> Any:
    """A value as nobody expects it."""
    return json.loads(json.dumps(random.choice(ODD if random.random() < 0.95 else _DEEP)))


def spots(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (holder, key) of a tree."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from spots(value)


def of_tree(tree: Any, random: Random) -> Any:
    """Up to three changes of a tree, in place; returns it, or what stands in its place."""
    if random.random() < 0.02:
        return odd(random)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        _change(tree, random)
    return tree


def _change(tree: Any, random: Random) -> None:
    all_spots = list(spots(tree)) if isinstance(tree, dict | list) else []
    if not all_spots:
        return
    holder, key = random.choice(all_spots)
    kind = random.randrange(10)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[random.choice(_NAMES)] = holder.pop(key)
    elif kind == 2:
        other, name = random.choice(all_spots)
        holder[key] = json.loads(json.dumps(other.get(name) if isinstance(other, dict) else other[name % len(other)]))
    elif kind == 3:
        holder[key] = [holder[key]]
    elif kind == 4 and isinstance(holder, dict):
        holder[random.choice(_NAMES)] = odd(random)
    elif kind == 5 and isinstance(holder, list):
        holder += holder[: random.choice((1, 50))]
    elif kind == 6 and isinstance(holder[key], int | float):
        holder[key] = -holder[key] if random.random() < 0.5 else holder[key] * random.choice((10**6, 1e300, 1e-300))
    else:
        holder[key] = odd(random)


def json_bytes(tree: Any, random: Random) -> bytes:
    """A tree as JSON, at times with keys twice, with raw half pairs, or spread over lines."""
    text = json.dumps(tree, ensure_ascii=random.random() < 0.8, indent=random.choice((None, None, 1)))
    if random.random() < 0.1 and '": ' in text:
        at = text.index('": ') + 3
        start = text.rindex('"', 0, at - 3)
        text = text[:start] + text[start:at] + "null, " + text[start:]
    return text.encode("utf-8", "surrogatepass")


@structured
def of_json(content: bytes, random: Random) -> bytes:
    """A JSON text whose tree is damaged."""
    return json_bytes(of_tree(json.loads(content), random), random)


@structured
def of_msgpack(content: bytes, random: Random) -> bytes:
    """The same for msgpack; byte strings in it are msgpack again, or damaged as bytes."""
    tree = msgspec.msgpack.decode(content, strict=False)
    holder, key = random.choice(list(spots(tree)))
    value = holder[key]
    if isinstance(value, bytes) and random.random() < 0.8:
        inner: Damage = of_msgpack if value[:1] >= b"\x80" and random.random() < 0.7 else of_bytes
        holder[key] = inner(value, random)
    elif random.random() < 0.1:
        del holder[key]
    else:
        holder[key] = random.choice((odd(random), odd(random), b"", b"\x00" * 8, b"\xff" * 16, b"a"))
    return msgspec.msgpack.encode(tree)


_DTYPES = ("<f4", "<f8", "<i8", "|u1", "|b1", "<U3", "<c16", "<M8[us]", ">f4", "V4")
_SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (5,), (2, 2), (0, 3), (3, 1, 2))


@structured
def of_npz(content: bytes, random: Random) -> bytes:
    """Arrays of a .npz with other types, shapes, values and names."""
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        arrays = dict(found)
    name = random.choice(sorted(arrays))
    kind = random.randrange(5)
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[random.choice(("x", "labels", "../a", "matrix9"))] = arrays.pop(name)
    elif kind == 2:
        arrays[name] = arrays[name].astype(random.choice(_DTYPES))
    elif kind == 3:
        arrays[name] = np.zeros(random.choice(_SHAPES), random.choice(_DTYPES))
    else:
        flat = arrays[name].astype(np.float64).ravel()
        flat[random.randrange(len(flat))] = random.choice((math.nan, math.inf, -1e308, 1e30, -1.0))
        arrays[name] = flat.reshape(arrays[name].shape)
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    return sink.getvalue()
