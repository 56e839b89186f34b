"""Descriptors by property: what is written is read again, any bytes are a value or an error, coherent sets are."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.descriptors.holder import Descriptors
from models.descriptors.paths import KINDS, join
from models.descriptors.problem import DescriptorProblem
from models.descriptors.text import json_text, parse, yaml_text
from models.descriptors.types import TYPES
from models.descriptors.versions import upgrade
from models.reference import compile_reference
from streams.descriptor_files import read_set, write_descriptors
from streams.errors import DescriptorError
from tests.coherent import Trees, coherent_sets

TEXTS = st.text() | st.sampled_from(
    [
        "", "NO", "1e-3", "010", "0x1f", "1_000", "1.10", "2026-08-01", "12:30", "~", "<<", "=", "true", ".inf", "- a",
        "a: b", "#", "a\nb ", "\u2028",
    ]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
TREES = st.dictionaries(
    TEXTS, st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4))
)


@given(TREES)
def test_what_is_written_is_read_again(tree: dict[str, Any]) -> None:
    for as_json, write in ((False, yaml_text), (True, json_text)):
        again = parse(write(tree).encode(), as_json=as_json).tree
        assert again == tree
        assert json.dumps(again) == json.dumps(tree)  # the order of the keys and the types of the numbers too


@given(TREES)
def test_json_is_read_as_python_reads_it(tree: dict[str, Any]) -> None:
    for text in (json.dumps(tree), json.dumps(tree, indent=1), json.dumps(tree, ensure_ascii=False)):
        assert parse(text.encode(), as_json=True).tree == json.loads(text)


@given(coherent_sets())
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_coherent_set_is_read_as_it_was_written(trees: Trees) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".yaml", ".json"):
            write_descriptors(Path(folder) / suffix, trees, suffix)
            found = read_set(Path(folder) / suffix)
            assert found.trees == found.original == trees
            assert found.notes == ()
            assert set(found) == set(KINDS)
    reference = compile_reference(trees)
    assert reference.calibration is not None
    assert (reference.calibration.accuracy or 0) > (reference.threshold or 1)


@given(st.binary() | st.text().map(str.encode), st.booleans())
@example(b"\x80\x04}.", False)
@example(b"{? : 1}", False)
@example(b'{"a": [1, {"b": "\\u00', True)
@example(b"a: |\n  b\n\tc", False)
def test_any_bytes_are_a_tree_or_a_problem(content: bytes, as_json: bool) -> None:
    message = ""
    try:
        tree = parse(content, as_json=as_json).tree
    except DescriptorProblem as problem:
        tree, message = {}, str(problem)
    assert isinstance(tree, dict)
    assert tree or message or content.decode("utf-8-sig").strip()


@given(
    st.binary() | st.text(alphabet="{}[]\":,'-? &*!|>#%@`a1.\n\t ~<").map(str.encode),
    st.sampled_from([".yaml", ".json"]),
)
@settings(max_examples=60, deadline=None)
def test_any_bytes_in_a_file_are_a_set_or_an_error_that_names_it(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"trained_model{suffix}"
        path.write_bytes(content)
        message = str(path)
        try:
            read_set(Path(folder))
        except DescriptorError as error:
            message = str(error)
        assert str(path) in message


@given(TREES, st.text(alphabet='a.[]"0'))
@settings(max_examples=60, deadline=None)
def test_every_path_has_a_place(tree: dict[str, Any], path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_descriptors(Path(folder), {"trained_model": {"x": tree}})
        found = read_set(Path(folder))
    for odd in (f"trained_model.{path}", *(join("trained_model.x", key) for key in tree)):
        assert found.place(odd).startswith("trained_model.yaml:")


@given(st.sampled_from(KINDS), TREES, st.data())
def test_any_tree_is_a_set_or_a_problem(kind: str, tree: dict[str, Any], data: st.DataObject) -> None:
    """Random values under real names: nothing but a DescriptorProblem comes out, and the tree stays as it was."""
    names = data.draw(st.lists(st.sampled_from(sorted(_names(kind))), max_size=6))
    tree = tree | {name: data.draw(st.recursive(LEAVES, _grown, max_leaves=4)) for name in names}
    before = json.dumps(tree)
    try:
        found = Descriptors({kind: tree})
    except DescriptorProblem as problem:
        message = str(problem)
        assert message
    else:
        assert found.original[kind] == tree
        found.typed(kind)
        found.identity(kind)
        found.valid_at(0)
        assert upgrade(kind, found.of(kind)).tree == found.of(kind)  # an upgraded tree is upgraded
    assert json.dumps(tree) == before


def _names(kind: str) -> set[str]:

    return set(TYPES[kind].__struct_fields__)


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["input", "inputs", "digest", "valid_from", "item_specification", "min_value", "name"])
    return st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=2)
