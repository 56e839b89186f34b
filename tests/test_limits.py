"""Beyond every limit of a record or a file stands a clear refusal, before memory or time is taken."""

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from agents.ingest import Ingest
from models.descriptors.text import MAX_DEPTH
from models.reference import ModelFile
from streams import records
from streams.arrow_columns import dictionary_decoded
from streams.claim_check import LONGEST, fetch
from streams.descriptor_files import MAX_FILES, read_set
from streams.errors import BadInput, BadRecord, DescriptorError, Invalid, ModelError, Undecodable
from streams.frame_size import MAX_COLUMNS, MAX_FIELDS, MAX_FRAME_BYTES, MAX_ROWS
from streams.frames import decode_frame
from streams.inspecting import model_bytes
from streams.records import STRUCTURED, decode_inference, decode_label
from streams.settings import Settings, load
from tests.test_cardinality import FRAME, Record, ingest
from tests.test_frames import columns, frame, stream

SOUND: dict[str, Any] = {"id": "e", "time": "2026-11-20T10:00:00Z", "model": "m", "version": "1"}
MIB = 1 << 20


def packed(codec: str, **more: Any) -> bytes:
    batch = pa.record_batch(columns(len(next(iter(more.values()))), **more))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def arrow_peak(call: Any) -> int:
    """How much more than now Arrow held at once during the call, of which it may hold on to nothing."""
    pool = pa.default_memory_pool()
    before, peak = pool.bytes_allocated(), pool.max_memory()
    call()
    assert pool.bytes_allocated() == before
    return int(max(pool.max_memory() - max(peak, before), 0))


# -- frames ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("layout", ["plain", "dictionary"])
def test_a_frame_that_unpacks_into_too_much_is_refused_before_it_does(codec: str, layout: str) -> None:
    texts: Any = pa.array(["x" * (MAX_FRAME_BYTES // 800)] * 801)
    if layout == "dictionary":  # in a batch of its own, before the rows
        many = pa.array([f"{i:04}" + "x" * (MAX_FRAME_BYTES // 800) for i in range(801)])
        texts = pa.DictionaryArray.from_arrays(pa.array(np.arange(801, dtype=np.int32)), many)
    bomb = packed(codec, **{"features.x": texts})
    assert len(bomb) < MIB < MAX_FRAME_BYTES
    del texts

    def decode() -> None:
        with pytest.raises(Undecodable, match=rf"may take {MAX_FRAME_BYTES} bytes uncompressed \(max_frame_bytes\)"):
            decode_frame(bomb, 0)

    tracemalloc.start()
    try:
        assert arrow_peak(decode) < MIB
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_the_bound_is_the_setting_and_compressed_frames_below_it_are_read() -> None:
    texts = pa.array([f"{i}" * 100 for i in range(1000)])
    small = packed("zstd", **{"features.x": texts})
    agent = ingest()
    assert len(agent.decode(Record(small, FRAME)).rows) == 1000
    agent.runtime.settings = Settings(max_frame_bytes=100_000)
    with pytest.raises(Undecodable, match="may take 100000 bytes"):
        agent.decode(Record(small, FRAME))
    assert isinstance(agent, Ingest)


@pytest.mark.parametrize("size", [-2, 1 << 40, 1 << 62])
def test_a_buffer_that_lies_about_its_size_is_refused(size: int) -> None:
    sound = packed("lz4", **{"features.x": pa.array(["x" * 5000])})
    at = sound.index((5000).to_bytes(8, "little"))
    with pytest.raises(Undecodable):
        decode_frame(sound[:at] + size.to_bytes(8, "little", signed=True) + sound[at + 8 :], 0)


def test_rows_without_bytes_and_columns_in_columns_are_counted() -> None:
    nulls = pa.record_batch({"features.x": pa.nulls(MAX_ROWS + 1)})
    with pytest.raises(Undecodable, match=f"may hold {MAX_ROWS} rows, this one has {MAX_ROWS + 1}"):
        decode_frame(stream(nulls), 0)
    wide = pa.record_batch({"x": pa.array([{f"f{i}": 1 for i in range(MAX_FIELDS)}])})
    with pytest.raises(Undecodable, match="nested ones included"):
        decode_frame(stream(wide), 0)
    with pytest.raises(Undecodable, match=f"may hold {MAX_COLUMNS} columns"):
        decode_frame(frame(1, **{f"features.{i}": pa.array([1.0]) for i in range(MAX_COLUMNS)}), 0)


def test_a_long_text_in_many_rows_is_not_multiplied() -> None:
    rows = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(1000, np.int32)), pa.array(["x" * (MAX_FRAME_BYTES // 999)])
    )

    def decode() -> None:
        with pytest.raises(Invalid, match="column 'c' repeats texts"):
            dictionary_decoded(rows, "c")

    assert arrow_peak(decode) < MIB
    with pytest.raises(Invalid, match="column 'model' repeats texts"):
        decode_frame(frame(1000, model=rows), 0)


@pytest.mark.parametrize(
    ("column", "size", "said"),
    [("label", records.MAX_LABEL * 4, "'label' holds a text"), ("digest", 800, "'digest' holds a text"),
     ("entity", records.MAX_CARRIED_BYTES, "'entity' holds a text"), ("model", 800, "more than 200 characters")],
)  # fmt: skip
def test_long_texts_of_a_frame_are_refused(column: str, size: int, said: str) -> None:
    for more in (1, 0):
        texts = pa.array(["x" * (size + more)] * 2)
        for values in (texts, texts.dictionary_encode()):
            if more:
                with pytest.raises(Invalid, match=said):
                    decode_frame(frame(2, **{column: values}), 0)
            else:
                assert len(decode_frame(frame(2, **{column: values}), 0).rows) == 2


def test_more_classes_than_a_classifier_has_are_refused() -> None:
    scores = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * 10_001, np.float32)), 10_001)
    with pytest.raises(Invalid, match="more than 10000 classes"):
        decode_frame(frame(2, scores=scores), 0)


# -- single events ---------------------------------------------------------------------------------------------


def nested(levels: int) -> Any:
    value: Any = "x"
    for i in range(levels):
        value = [value] if i % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    "more",
    [
        {"output": {"label": "x" * 1001}}, {"output": {"scores": {str(i): 0.0 for i in range(10_001)}}},
        {"features": {str(i): 0.0 for i in range(1001)}}, {"embedding": [0.0] * 100_001}, {"digest": "x" * 201},
        {"flags": nested(33)}, {"decision": nested(400)}, {"shadow": ["x" * 17_000]}, {"entity": "x" * 17_000},
        {"segment": {str(i): "x" for i in range(9)}}, {"id": "x" * 201}, {"version": "x" * 201},
    ],
    ids=lambda more: next(iter(more)),
)  # fmt: skip
def test_events_beyond_a_limit_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        decode_inference(json.dumps({**SOUND, **more}).encode(), ())


def test_events_at_the_limits_are_read() -> None:
    more = {
        "output": {"label": "x" * 1000, "scores": {str(i): 0.0 for i in range(10_000)}}, "flags": nested(32),
        "features": {str(i): 0.0 for i in range(1000)}, "entity": "x" * 16_000,
    }  # fmt: skip
    assert decode_inference(json.dumps({**SOUND, **more}).encode(), ()).entity == "x" * 16_000


@pytest.mark.parametrize("levels", [2_000, 200_000])
def test_json_of_any_depth_is_refused_or_left_aside(levels: int) -> None:
    deep = b'{"a":' * levels + b"1" + b"}" * levels
    for name in ("flags", "features", "unknown"):
        body = json.dumps(SOUND)[:-1].encode() + b', "' + name.encode() + b'":' + deep + b"}"
        with pytest.raises(BadRecord):
            decode_inference(body, ())
    with pytest.raises(BadRecord):
        decode_inference(b'{"specversion":"1.0","data":' + deep + b"}", [("content-type", STRUCTURED.encode())])


def test_labels_beyond_a_limit_are_refused() -> None:
    for more in ({"label": "x" * 1001}, {"label": "1", "source": "x" * 201}, {"label": "1", "tags": nested(33)},
                 {"label": "1", "annotator": "x" * 17_000}):  # fmt: skip
        with pytest.raises(Invalid):
            decode_label(json.dumps({"inference_id": "e", "time": SOUND["time"], **more}).encode(), ())


# -- files and addresses ---------------------------------------------------------------------------------------


def test_a_model_file_that_became_a_pipe_or_a_device_is_not_read(tmp_path: Path) -> None:
    """It was a regular file when it was registered; a worker would wait for a pipe for ever."""
    pipe = tmp_path / "m.onnx"
    os.mkfifo(pipe)
    for path in (str(pipe), "/dev/zero", str(tmp_path)):
        with pytest.raises(ModelError, match="no regular file of at most 2 GiB"):
            model_bytes(ModelFile(path, "", "e"), ())


def test_a_folder_of_thousands_of_files_is_no_set_of_descriptors(tmp_path: Path) -> None:
    for i in range(MAX_FILES + 1):
        (tmp_path / f"f{i}.yaml").touch()
    with pytest.raises(DescriptorError, match="holds 1001 YAML and JSON files"):
        read_set(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [x]\nb: [*a, *a]\n", "aliases"), ("a: !!python/object:os.system x\n", "tags"),
        ("a: !!binary aGk=\n", "tags"), ("a: !include /etc/passwd\n", "tags"), ("<<: {a: 1}\n", "merge keys"),
        ("[" * (MAX_DEPTH + 1), "nested deeper"), ("a: " + "[" * 100_000, "nested deeper"),
        ("a: " + "9" * 5000, "cannot be|too large|digits"), ("{" * 5000, "nested deeper|cannot be read"),
    ],
)  # fmt: skip
def test_descriptors_are_plain_and_shallow(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "trained_model.yaml").write_text(text)
    with pytest.raises(DescriptorError, match=said):
        read_set(tmp_path)


ALLOWED = ["https://good.example/in", "s3://inputs", "memory://Bucket/a"]


@pytest.mark.parametrize(
    "uri",
    [
        "https://good.example.evil/in/x", "https://good.example@evil.example/in/x", "https://evil.example/good.example/in/x",
        "https://good.example:8443/in/x", "http://good.example/in/x", "https://good.example/in-evil/x",
        "https://good.example/IN/x", "https://good.example/in/../x", "https://good.example/in/%2e%2e/x",
        "https://good.example/in/%252e%252e/x", "https://good.example./in/x", "https://127.0.0.1.nip.example/in/x",
        "s3://inputs-evil/x", "s3://INPUTS/x", "s3://inputs@evil/x", "s3://inputs%2f..%2fevil/x", "memory://bucket/a",
        "https:/good.example/in/x", "https://good.example\\@evil/in/x", "//good.example/in/x", "data://,x",
        "file:///etc/passwd", "FILE:///etc/passwd", "ftp://good.example/in/x", "zip://x::https://good.example/in/x",
        "https://gооd.example/in/x", "https://good.example/in/" + "x" * LONGEST,
    ],
)  # fmt: skip
def test_addresses_that_only_look_allowed_are_refused(uri: str) -> None:
    """Nothing is asked of any host: there is none by these names."""
    with pytest.raises(BadInput, match=r"refused|has a query"):
        fetch(uri, sha256=None, size=None, allowed=ALLOWED, max_bytes=10)


@pytest.mark.parametrize("name", ["max_record_bytes", "max_frame_bytes", "max_unregistered"])
def test_limits_are_settings_that_must_be_positive(name: str) -> None:
    assert getattr(load({f"BESTBEFORE_{name.upper()}": "7"}, Path("/")), name) == 7
    with pytest.raises(ValueError, match=f"{name}: must be 1 or more"):
        msgspec.structs.replace(Settings(), **{name: 0})


def test_no_segments_at_all_may_be_watched() -> None:
    assert Settings(max_segments=0).max_segments == 0
    with pytest.raises(ValueError, match="max_segments"):
        Settings(max_segments=-1)
