"""Every error this project raises on purpose.

BestbeforeError
├── SettingsError        a setting is unknown or malformed; the worker does not start
├── DescriptorError      a descriptor cannot be read or contradicts itself; nothing was registered
├── BadRecord            a record cannot be used; it goes to the dead letters with `stage`
│   ├── Undecodable      the bytes are not what their content type says
│   ├── Invalid          decoded, but a required field is missing or has the wrong type
│   ├── Unadaptable      not what the adapter of its topic reads, or it lacks what sources.yaml says is there
│   └── BadInput         a sampled input cannot be embedded
├── TooNew               what is stored was written by a newer version than this; nothing was changed
├── ModelError           an ONNX file is corrupt, swapped or has no such output
├── StoreError           the event store refused
│   ├── StoreUnreachable try again later; nothing was written
│   ├── StoreOutdated    run the migrations
│   └── Fenced           another worker owns this partition now
├── Refusal              a request to the bridge is not taken; `status` is HTTP's
├── ClockError           what was committed with an offset cannot be read
└── ServiceError         an embedded broker or store could not be started or stopped
"""


class BestbeforeError(Exception):
    """Base of all; `str(error)` says what is wrong, where, and what to do next."""


class SettingsError(BestbeforeError):
    """A setting is unknown or malformed."""


class DescriptorError(BestbeforeError):
    """A descriptor cannot be read or contradicts itself."""


class BadRecord(BestbeforeError):
    """A record that cannot be used.

    `stage` is where it failed: decode, adapt, validate, join, embed.
    """

    stage = "decode"


class Undecodable(BadRecord):
    """The bytes are not what their content type says."""


class Invalid(BadRecord):
    """A required field is missing or has the wrong type."""

    stage = "validate"


class Unadaptable(BadRecord):
    """Not what the adapter of its topic reads, or it lacks what the configuration of the source says is there."""

    stage = "adapt"


class BadInput(BadRecord):
    """A sampled input cannot be embedded."""

    stage = "embed"


class ModelError(BestbeforeError):
    """An ONNX file is corrupt, was swapped, or lacks the named output."""


class TooNew(BestbeforeError):
    """What is stored, or lies on an internal topic, was written by a newer version; it was left as it is."""


class StoreError(BestbeforeError):
    """The event store refused."""


class StoreUnreachable(StoreError):
    """No answer from the event store; nothing was written, trying again is safe."""


class StoreOutdated(StoreError):
    """The schema of the event store is not the one of this version."""


class Fenced(StoreError):
    """Another worker owns this partition now; this worker's write was refused."""


class Refusal(BestbeforeError):
    """A request to the bridge that is not taken, none of its records.

    `status` is that of HTTP, `reason` a word for the metrics; `retry_after` seconds, where the sender may try again.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.retry_after = status, reason, retry_after


class ClockError(BestbeforeError):
    """The clock of a partition, committed with its offset, cannot be read; windows would close at other places."""


class ServiceError(BestbeforeError):
    """An embedded service could not be started or stopped."""
