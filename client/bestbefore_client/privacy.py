"""Redaction and pseudonyms: what must not leave the process does not, and the schema of events stays as it was.

A pseudonym is a keyed BLAKE2b hash (RFC 7693) of the value, 128 bits as hexadecimal text: equal values stay equal, and
without the key nobody can try out all postcodes or account numbers to find the value again, as an unkeyed hash allows.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from bestbefore_client.arrays import as_column, is_column
from bestbefore_client.frame import KINDS, RESERVED
from bestbefore_client.rows import scalar

SECRET = "BESTBEFORE_CLIENT_SECRET"  # noqa: S105 -- the name of it
REDACTED = "redacted"  # a segment has no nulls

_SHORTEST = 16
_PLAIN = (str, int, float)
_EXACT = 1 << 53  # floats below hold whole numbers exactly
_STRUCTURE = ({*KINDS} - {*RESERVED}) | {"inference_id", "correct"}


class Privacy:
    """Replaces the values of named features, segments and reserved fields, also inside of objects."""

    def __init__(self, redact: Iterable[str], hashed: Iterable[str], secret: bytes | str | None) -> None:
        """Redacted values become null, hashed ones a pseudonym under `secret` (or what the environment gives).

        Raises ValueError when a name stands in both, is none that can be replaced, or the secret is missing or short.
        """
        self._redact, self._hashed = _names(redact), _names(hashed)
        both = self._redact & self._hashed
        fixed = (self._redact | self._hashed) & _STRUCTURE
        if both or fixed:
            name = min(both or fixed)
            why = "is in redact and in hashed" if both else "is what an event is made of; leave it out of the call"
            raise ValueError(f"privacy: {name!r} {why}")
        self._names = self._redact | self._hashed
        self._keyed = blake2b(key=_key(secret), digest_size=16) if self._hashed else None

    def __bool__(self) -> bool:
        """Whether there is anything to replace."""
        return bool(self._names)

    def features(self, features: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give the features of one event; raises TypeError for a value that cannot be one."""
        mine = self._names.intersection(features)
        return {**features, **{name: self._replaced(name, features[name]) for name in mine}} if mine else features

    def segment(self, segment: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give a segment; a redacted one is the word "redacted", so that it is one segment."""
        mine = self._names.intersection(segment)
        new = {name: self._replaced(name, segment[name]) for name in mine}
        return {**segment, **{name: REDACTED if value is None else value for name, value in new.items()}}

    def fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Give reserved fields or those of a label, at any depth; text that is JSON is looked into."""
        return {name: self._within(name, value) for name, value in fields.items()}

    def feature_columns(self, columns: Mapping[str, Any], n: int) -> dict[str, Any]:
        """Give the features of n events as columns."""
        return {name: self._column(name, column, n, None) for name, column in columns.items()}

    def segment_columns(self, columns: Mapping[str, Any], n: int) -> dict[str, Any]:
        """Give the segments of n events, one text or one per row."""
        texts = {name: c for name, c in columns.items() if isinstance(c, str)}
        lists = {name: self._column(name, c, n, REDACTED) for name, c in columns.items() if name not in texts}
        return {**lists, **self.segment(texts)}

    def field_columns(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Give reserved fields for all rows, or a list with one entry per row."""
        return {
            name: [self._within(name, v) for v in as_column(c)] if is_column(c) else self._within(name, c)
            for name, c in columns.items()
        }

    def _column(self, name: str, column: Any, n: int, missing: str | None) -> Any:
        if name in self._redact:
            return [missing] * n
        if name not in self._hashed:
            return column
        column = as_column(column)
        values = column if isinstance(column, (list, tuple)) else column.tolist()
        known: dict[Any, Any] = {}
        for value in values:
            if (type(value), value) not in known:
                known[type(value), value] = self._replaced(name, value)
        found = [known[type(value), value] for value in values]
        return [missing if v is None else v for v in found]

    def _within(self, name: str, value: Any) -> Any:
        """Give a field's value: replaced if its name says so, else with what lies within it replaced."""
        if name in self._names and value is not None:
            if name in self._redact:
                return None
            return self._replaced(name, value if isinstance(value, _PLAIN) else json.dumps(value, sort_keys=True))
        if isinstance(value, Mapping):
            return self.fields(value)
        if isinstance(value, (list, tuple)):
            return [self._within("", each) for each in value]
        if isinstance(value, str) and value[:1] in ("{", "["):
            with suppress(ValueError):  # text that only begins like JSON
                value = json.dumps(self._within("", json.loads(value)), ensure_ascii=False)
        return value

    def _replaced(self, name: str, value: Any) -> str | None:
        plain = None if name in self._redact else scalar(value)
        if plain is None or plain != plain or self._keyed is None:  # noqa: PLR0124 -- NaN is missing
            return None
        digest = self._keyed.copy()
        digest.update(_canonical(plain).encode(errors="surrogatepass"))
        return digest.hexdigest()


def _canonical(value: str | float | bool) -> str:
    """Write a value so that 41, 41.0 and "41" are one: they are the same account."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return str(value)


def _names(names: Iterable[str]) -> frozenset[str]:
    if isinstance(names, str):
        raise ValueError(f"privacy: give names as a tuple, ({names!r},)")
    return frozenset(names)


def _key(secret: bytes | str | None) -> bytes:
    """Give the key of the hash; the one place that reads the environment."""
    given = secret or os.environ.get(SECRET)
    if not given and os.environ.get(f"{SECRET}_FILE"):
        given = Path(os.environ[f"{SECRET}_FILE"]).read_text("utf-8").strip()
    raw = given.encode() if isinstance(given, str) else given or b""
    if len(raw) < _SHORTEST:
        raise ValueError(
            f"privacy: hashed names need a secret of at least {_SHORTEST} bytes (this one has {len(raw)}); pass"
            f" `secret`, or set {SECRET} or {SECRET}_FILE: whoever can guess the value could otherwise check the guess"
        )
    return blake2b(raw, person=b"bestbefore").digest()
