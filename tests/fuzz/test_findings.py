"""What fuzzing found beyond wrong errors: nonsense that was accepted, sense that was refused."""

from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pytest
from bestbefore_client import Recorder

from infra.dead_letters import DeadLetter, resend
from models.checks.predicate import judge
from models.checks.verdict import Side
from models.quantities import number_of
from streams.errors import Invalid, Undecodable
from streams.frames import decode_frame
from streams.registry import Registry
from streams.runtime import _reason
from streams.settings import load
from tests.fuzz.arrow import stream
from tests.fuzz.client import Rude
from tests.fuzz.telemetry import NOW
from tests.profile_rig import REFERENCE


def batch(**columns: Any) -> pa.RecordBatch:
    two = {"id": ["a", "b"], "model": ["m", "m"], "version": ["1", "1"]}
    times = pa.array([NOW, NOW], pa.timestamp("us", "UTC"))
    return pa.record_batch({name: pa.array(values) for name, values in two.items()} | {"time": times} | columns)


@pytest.mark.parametrize("kind", [pa.uint8(), pa.uint32(), pa.int8(), pa.int64()])
def test_a_dictionary_column_with_a_null_is_read_whatever_its_codes_are(kind: pa.DataType) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, None], kind), pa.array(["x"]))
    found = decode_frame(stream(batch(**{"features.c": column})), 0).rows.categorical["c"]
    assert (found.codes.tolist(), found.values) == ([0, -1], ("x",))


@pytest.mark.parametrize(
    "classes", ['["a"]', '["a", "a"]', '"ab"', '{"a": 1, "b": 2}', '["a", "\\ud800"]', '[["a"], "b"]']
)
@pytest.mark.parametrize("labelled", [True, False])
def test_class_names_that_do_not_fit_the_scores_are_refused(classes: str, labelled: bool) -> None:
    scores = pa.array([[0.5, 0.5], [0.1, 0.9]], pa.list_(pa.float32(), 2))
    columns = {"scores": scores} | ({"label": pa.array(["a", "b"])} if labelled else {})
    with pytest.raises(Invalid, match="class"):
        decode_frame(stream(batch(**columns).replace_schema_metadata({"classes": classes})), 0)


@pytest.mark.parametrize("value", [10**400, "1e400", float("inf"), float("nan")])
def test_what_is_infinite_is_no_number_and_within_no_tolerance(value: Any) -> None:
    assert number_of(value) is None
    assert judge(Side("a", value), "<=", Side("b", 5)).outcome == "unknown"
    assert judge(Side("a", 5), ">=", Side("b", value)).outcome == "unknown"


@pytest.mark.parametrize("error", [ValueError, RuntimeError, RecursionError])
def test_ids_that_cannot_be_counted_are_one_invalid_thing(error: type[Exception]) -> None:
    recorder = Recorder("127.0.0.1:1", model="m", version="1")
    recorder.record_many(Rude(error))  # type: ignore[arg-type]
    assert recorder.dropped == {"invalid": 1}
    recorder.close(0)


def test_a_message_with_half_of_a_surrogate_pair_can_be_buried() -> None:
    class Message(NamedTuple):
        topic: str = "t"
        partition: int = 0
        offset: int = 7

    headers = dict(_reason(Message(), Undecodable("half: \ud800"), "ingest", "decode"))
    assert headers["__connect.errors.exception.message"] == b"half: ?"


def test_a_dead_letter_of_a_topic_that_nobody_reads_is_not_sent() -> None:
    letter = DeadLetter("payments", 0, 7, "DECODE", "Undecodable", "", 2, False, None, b"{}", [])
    assert resend(load({}, broker="127.0.0.1:1"), [letter]) == 0


def test_versions_are_ordered_by_number_however_long() -> None:
    made = Registry(window_us=1, lateness_us=0)
    for version in ("9" * 5000, "10", "9", "1" + "0" * 5000):
        made.put(msgspec.structs.replace(REFERENCE, version=version, digest=version))
    assert made.get("m", "").digest == "1" + "0" * 5000
