"""Targets that read what other model servers write, up to events that the pipeline can read."""

import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import msgspec

from infra.source_samples import records_of
from streams.adapters.catalogue import ADAPTERS
from streams.adapters.config import Sources, read_sources, sources_of
from streams.adapters.contract import Record, Unpaired
from streams.errors import BadRecord
from streams.records import InferenceEvent, decode_inference, decode_label
from tests.fuzz.damage import of_bytes, of_json
from tests.fuzz.records import of_record, record, written
from tests.fuzz.target import Target
from tests.sources_rig import CONFIG, FOLDER, SAMPLES

_BINARY = ("open-inference", "tensorflow-serving", "confluent-avro")
_TOPICS = {name: [sample.topic for sample in samples] for name, samples in SAMPLES.items()}


@cache
def _files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in FOLDER.iterdir()}


def _fresh() -> Sources:
    return sources_of(CONFIG.read_bytes(), CONFIG.name, _files().__getitem__)


def _adapt(name: str, content: bytes) -> None:
    """The topic follows from the input, as for open-inference it tells requests from responses."""
    value, headers = record(content)
    topics = _TOPICS[name]
    topic = topics[len(content) % len(topics)]
    found = _fresh().of(topic)
    assert found is not None
    source, names = found
    given = Record(topic, value, headers=headers, timestamp=1_795_168_800_000_000)
    try:
        things = [*source.adapt(given, names), *source.rest()]
    except BadRecord as error:
        if error.stage != "adapt":
            raise AssertionError(f"stage {error.stage}") from error
        raise
    for thing in things:
        if not isinstance(thing, Unpaired):
            decode = decode_inference if isinstance(thing, InferenceEvent) else decode_label
            assert decode(msgspec.json.encode(thing), []) == thing


def _seeds(name: str) -> list[bytes]:
    return [
        written(sample.value or b"", *((key, (text or b"").decode()) for key, text in sample.headers))
        for sample in SAMPLES[name]
    ]


def _in_folder(content: bytes, read: Callable[[Path], object]) -> None:
    """Beside the files that sources.yaml names."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in _files().items():
            (Path(folder) / name).write_bytes(text)
        (Path(folder) / "given").write_bytes(content)
        read(Path(folder) / "given")


TARGETS = (
    *(
        Target(
            f"adapter-{name}",
            partial(_adapt, name),
            partial(_seeds, name),
            of_record(of_bytes if name in _BINARY else of_json),
            examples=40,
        )
        for name in ADAPTERS
    ),
    Target("sources", partial(_in_folder, read=read_sources), lambda: [CONFIG.read_bytes()], of_bytes, examples=60),
    Target(
        "sample",
        partial(_in_folder, read=lambda path: records_of(path, "x")),
        lambda: [(FOLDER / f"{name}.jsonl").read_bytes() for name in SAMPLES],
        of_bytes,
        examples=60,
    ),
)
