"""Profiles as they come from their topic: read with distrust, although only workers should write there.

Whoever assesses applies many in one transaction, so one that cannot be used must be found before.
"""

import msgspec

from models.profile import Profile
from streams.errors import Invalid, TooNew, Undecodable
from streams.lane import ProfileRecord, decode_profile_record
from streams.records import MAX_SEGMENT_BYTES, MAX_TEXT

LIMIT_US = 1 << 63  # times are integers of eight bytes in the store


def decode_profile(value: bytes | None) -> ProfileRecord:
    """A record of the topic `profiles`. Raises Undecodable, Invalid, and TooNew for one of a later version."""
    if not value:
        raise Undecodable("the record is empty; expected a profile, which only workers write")
    try:
        record = decode_profile_record(value)
        if record.profile is not None:
            Profile.unpack(record.profile)
    except TooNew:
        raise
    except msgspec.ValidationError as error:
        raise Invalid(f"not a profile of this version or an earlier one: {error}") from None
    except Exception as error:  # noqa: BLE001 -- whatever the bytes do to the tables, they are no profile
        raise Undecodable(f"not a profile: {error!r}") from None
    _check(record)
    return record


def _check(record: ProfileRecord) -> None:
    """Raises Invalid for what the store could not take, or no window could have."""
    texts = (record.source, record.model, record.version)
    if any(len(text) > MAX_TEXT + 100 * (text is record.source) or "\0" in text for text in texts) or not record.model:
        raise Invalid("a profile whose source, model or version is empty, too long or has a NUL in it")
    if len(record.segment.encode("utf-8", "replace")) > MAX_SEGMENT_BYTES or "\0" in record.segment:
        raise Invalid("a profile whose segment is too long or has a NUL in it")
    if record.change is None and record.length <= 0:
        raise Invalid(f"a profile of a window {record.length} microseconds long")
    if max(abs(time) for time in (record.start, record.arrival, record.length, record.watermark)) >= LIMIT_US:
        raise Invalid("a profile of a time that the store cannot take")
