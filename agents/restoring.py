"""What another worker has written is read again, or refused by name where only a later version can read it.

A refusal ends the worker before anything is written: it must neither begin a state anew nor put its own over it.
"""

from models.columns import Subject
from models.profile import Profile
from models.subject_state import FORMAT, State
from streams.errors import TooNew
from streams.lane import ProfileRecord
from streams.store_rows import State as StoredState


def restored(subject: Subject, saved: StoredState) -> State:
    """The state as it was saved. Raises TooNew where a later version has saved it in a way of its own."""
    error: ValueError | None = None
    if saved.format_version <= FORMAT:
        try:
            return State.decode(saved.body)
        except ValueError as caught:  # a part of it is of a later version
            error = caught
    said = error or f"format {saved.format_version}, this version reads up to {FORMAT}"
    raise TooNew(
        f"the state of {subject.model} {subject.version} in the event store is of a later version of this software "
        f"({said}); it stays as it is, and so does its partition's offset: start that version here"
    ) from error


def profile_in(record: ProfileRecord, body: bytes) -> Profile:
    """The profile in a record. Raises TooNew for one of a later format."""
    try:
        return Profile.unpack(body)
    except ValueError as error:
        raise TooNew(f"a profile of {record.model} {record.version} from {record.source}: {error}") from error
