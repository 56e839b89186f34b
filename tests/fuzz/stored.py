"""Targets that read what the project itself has written: into the topic profiles, the event store, commits, files."""

from functools import cache
from hashlib import sha256
from random import Random
from typing import Any

import msgspec
import numpy as np

from benchmarks.estimator_states import Entry, entries
from models.assembly import Assembly
from models.columns import Subject
from models.induced_quality import InducedQuality
from models.inspection import Inspection
from models.lifecycle import Change
from models.profile import Profile
from models.quality_estimator import QualityEstimator
from models.subject_state import State, fresh
from models.window_book import Clock, Closed, Key
from streams.delivery import decode_clock, encode_clock
from streams.inspecting import decode_inspection, encode_inspection
from streams.lane import change_record, profile_record
from streams.profile_reading import decode_profile
from streams.registry import Registry, decode_reference, encode_reference
from tests.fuzz.damage import of_json, of_msgpack
from tests.fuzz.target import BesideError, Target, tree_of
from tests.profile_rig import REFERENCE, mixed, profile_of
from tests.test_assessor import Run, decay
from tests.test_estimator_states import golden
from tests.test_induced_quality import registered

SUBJECT = Subject("m", "1")
HOUR = 3_600_000_000


def profile(content: bytes) -> None:
    """A record of the topic profiles: taken in, merged with a sound one, assessed."""
    sent = decode_profile(content)
    assert len(sent.identity()) == 32
    assembly = Assembly(HOUR, {"a/0": 0})
    if sent.profile is not None:
        found = Profile.unpack(sent.profile)
        assembly.add(0, 0, profile_of(mixed(20, 1)))
        assembly.add(0, 0, found)
        assembly.heard("a/0", sent.watermark, retired=sent.retired, idle=sent.idle)
        for tick in assembly.complete():
            assert tick.profile is not None
            assert Profile.unpack(tick.profile.pack()).pack() == tick.profile.pack()


def state(content: bytes) -> None:
    """The state of a subject: what was read can be written and read again, and goes on."""
    found = State.decode(content)
    again = found.encode()
    assert State.decode(again).encode() == again
    found.renew()


def estimator(content: bytes) -> None:
    """The state of one estimator, as JSON behind its name in a line; what was read can be written."""
    name, _, body = content.partition(b"\n")
    entry = _entries().get(name.decode("utf-8", "replace"))
    if entry is None:
        raise BesideError("no estimator")
    try:
        saved: Any = msgspec.json.decode(body, type=entry.kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BesideError(type(error).__name__) from None
    try:
        entry.write(entry.read(saved))
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        # Whoever reads states turns these into errors of its own: the target `state`.
        raise BesideError(type(error).__name__) from None


@cache
def _entries() -> dict[str, Entry]:
    return {entry.name: entry for entry in entries()}


def _of_estimator(content: bytes, random: Random) -> bytes:
    name, gap, body = content.partition(b"\n")
    return name + gap + of_json(body, random)


def reference(content: bytes) -> None:
    """A registration, as workers take it in."""
    made = Registry(window_us=HOUR, lateness_us=0)
    made.load([content])
    for found in made:
        assert decode_reference(encode_reference(found)) == found


def inspection(content: bytes) -> None:
    """What was found when a model file was loaded."""
    found = decode_inspection(content)
    assert decode_inspection(encode_inspection(found)) == found


def clock(content: bytes) -> None:
    """The clock in the metadata of a commit; the consumer gives text."""
    found = decode_clock(content.decode("utf-8", "surrogateescape"))
    assert decode_clock(encode_clock(found)) == found


def packed(content: bytes) -> None:
    """The file of an estimator of quality, whatever its digest, asked about a window."""
    found = InducedQuality.unpack(content, sha256(content).hexdigest())  # not the one that remembers what it has read
    rng = np.random.default_rng(1)
    classes, length = found.reference.means.shape
    sums = found.sums(rng.normal(size=(60, classes)), rng.normal(size=(60, length)))
    found.read(sums, 60)


def section(content: bytes) -> None:
    """The section of a descriptor that names an estimator."""
    tree = tree_of(content)
    if isinstance(tree, dict):
        QualityEstimator.from_descriptor(tree)


@cache
def _states() -> tuple[bytes, ...]:
    run = Run()
    run.hours(*decay(40))
    return fresh(REFERENCE, ["inference/0"]).encode(), run.state.encode()


def profiles() -> list[bytes]:
    """Records of the topic profiles of every kind."""
    key = Key(SUBJECT, 0, 0, HOUR)
    records = [
        profile_record("inference/0", Closed(key, profile_of(mixed(50, 3)), HOUR)),
        profile_record("inference/0", Closed(key, None, HOUR, retired=True)),
        change_record(Change(id="c", at_us=5, kind="deployed", version="1"), "m", "1"),
    ]
    return [msgspec.msgpack.encode(one) for one in records]


TARGETS = (
    Target("profile", profile, profiles, of_msgpack, (ValueError,), 300),
    Target(
        "estimator",
        estimator,
        lambda: [e.name.encode() + b"\n" + golden(e).read_bytes() for e in entries()],
        _of_estimator,
        (),
        150,
    ),
    Target("state", state, _states, of_msgpack, (ValueError,), 100),
    Target("reference", reference, lambda: [encode_reference(REFERENCE)], of_json, (), 200),
    Target(
        "inspection",
        inspection,
        lambda: [encode_inspection(Inspection(fetched=True)), encode_inspection(Inspection(error="e"))],
        of_json,
    ),
    Target(
        "clock",
        clock,
        lambda: [encode_clock(Clock(5, 6, [])).encode(), b'{"newest":1,"cut":2,"cuts":[{"offset":1,"time":2}]}'],
        of_json,
    ),
    Target("quality-estimator", packed, lambda: [registered().pack()], of_msgpack, (ValueError,), 60),
    Target(
        "estimator-section",
        section,
        lambda: [b'{"file": "q.bin", "digest": "sha256:ab", "n": 5, "families": ["blur"]}'],
        of_json,
        (ValueError,),
    ),
)
