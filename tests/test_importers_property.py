"""Importers fed with anything: facts of the right types, or ValueError, and nothing else."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from models.descriptors.fields import findings
from models.descriptors.text import parse
from models.importers import read
from models.importers.hugging_face_card import head
from models.importers.registry import IMPORTERS
from tests.test_importers import ARTEFACTS, FORMATS, onnx_bytes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_facts_or_a_value_error(content: bytes) -> None:
    for name, importer in IMPORTERS.items():
        _facts_or_value_error(lambda importer=importer: importer(content, []))
        _facts_or_value_error(lambda name=name: read(name, content).trees)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_onnx_file_gives_facts_or_a_value_error(damage: list[tuple[int, int]]) -> None:
    content = bytearray(onnx_bytes(doc_string="a network"))
    for place, byte in damage:
        content[-1 - place] = byte  # what names the inputs and outputs stands behind the weights
    for damaged in (bytes(content), bytes(content[: -1 - damage[0][0]])):
        _facts_or_value_error(lambda damaged=damaged: IMPORTERS["onnx_file"](damaged, []))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 10_000), JSON)
def test_any_value_anywhere_in_an_artefact_gives_facts_or_a_value_error(name: str, place: int, value: Any) -> None:
    content = (ARTEFACTS / name).read_bytes()
    tree = _tree_of(name, content)
    spots = list(_spots(tree))
    holder, key = spots[place % len(spots)]
    holder[key] = value
    text = json.dumps(tree).encode()
    if name == "README.md":
        text = b"---\n" + text + b"\n---\n"
    _facts_or_value_error(lambda: IMPORTERS[FORMATS[name]](text, []))


def _tree_of(name: str, content: bytes) -> Any:
    yaml = head(content) or b"" if name == "README.md" else content
    tree = parse(yaml, as_json=name.endswith(".json")).tree
    for side in ("inputs", "outputs"):
        if name.endswith("MLmodel"):
            tree["signature"][side] = json.loads(tree["signature"][side])
    return tree


def _spots(tree: Any) -> Any:
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _spots(value)


def _facts_or_value_error(make: Any) -> None:
    try:
        trees = make()
    except ValueError as error:
        assert str(error)  # noqa: PT017 -- which of the two comes is what is tried
        return
    for kind, tree in trees.items():
        assert [one for one in findings(kind, tree) if not one.note] == []
    json.dumps(trees, allow_nan=False)
