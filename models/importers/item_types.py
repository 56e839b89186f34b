"""Types of every format as TEC's item types (Integer, Float, String, Image, Other) and as numpy's names.

TEC has no item type for truth values and times, so they are `Other`; only the numpy name tells them apart.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple


class ItemType(NamedTuple):
    """A type twice: TEC's word, and numpy's name, empty where the format does not fix one."""

    item_type: str
    dtype: str = ""


OTHER = ItemType("Other")
_BOOL = ItemType("Other", "bool")
_TEXT = ItemType("String", "str")
_BITS = re.compile(r"(u?int|float|complex)(\d+)")
# numpy's names of what is written in other ways; what is not here keeps its name in lower case.
_SPELLINGS = {
    "double": "float64", "float": "float32", "half": "float16", "bf16": "bfloat16", "boolean": "bool", "long": "int64",
    "fp16": "float16", "fp32": "float32", "fp64": "float64", "bytes": "str", "string": "str", "object": "str",
}  # fmt: skip
# Column types say how values are written, not how wide the model's tensor is, except where the format fixes a width.
_MLFLOW = {
    "boolean": _BOOL, "integer": ItemType("Integer", "int32"), "long": ItemType("Integer", "int64"),
    "float": ItemType("Float", "float32"), "double": ItemType("Float", "float64"), "string": _TEXT,
    "binary": ItemType("Other", "bytes"), "datetime": ItemType("Other", "datetime64"),
}  # fmt: skip
_LOGICAL = {
    "string": "String", "number": "Float", "integer": "Integer", "boolean": "Other", "date": "Other",
    "timestamp": "Other", "time": "Other", "object": "Other", "array": "Other",
}  # fmt: skip
_SCHEMA_ORG = {
    "integer": "Integer", "float": "Float", "number": "Float", "text": "String", "url": "String",
    "imageobject": "Image", "boolean": "Other", "date": "Other", "datetime": "Other",
}  # fmt: skip


def of_dtype(text: str) -> ItemType:
    """From the name of an array's type: numpy's own, ONNX's (`FLOAT`), the Open Inference Protocol's (`FP32`).

    >>> of_dtype("FP32"), of_dtype("<U12"), of_dtype("UINT8")
    (ItemType(item_type='Float', dtype='float32'), ItemType(item_type='String', dtype='str'), ItemType(item_type='Integer', dtype='uint8'))
    """  # noqa: E501
    word = text.strip().lower()
    if re.fullmatch(r"[<>|=]?[us]\d+", word):
        return _TEXT
    dtype = _SPELLINGS.get(word, word)
    if dtype in ("str", "bool"):
        return _TEXT if dtype == "str" else _BOOL
    found = _BITS.match(dtype)
    if dtype == "bfloat16" or (found and found.group(1) == "float"):
        return ItemType("Float", dtype)
    return ItemType("Integer", dtype) if found and "int" in found.group(1) else ItemType("Other", dtype)


def of_mlflow(text: str) -> ItemType:
    """From the type of an MLflow column; arrays, maps and objects are `Other`."""
    return _MLFLOW.get(text.strip().lower(), OTHER)


def of_logical(text: str) -> str:
    """From an ODCS `logicalType`; empty where there is none."""
    return _LOGICAL.get(text.strip().lower(), "Other") if text else ""


def of_croissant(types: Sequence[str]) -> str:
    """From the `dataType` texts of a Croissant field, such as `sc:Integer`, `cr:Float32`; empty where none is known.

    >>> of_croissant(["https://schema.org/Text", "wd:Q11135"])
    'String'
    """
    for text in types:
        word = re.split(r"[:/#]", text)[-1].lower()
        found = _SCHEMA_ORG.get(word) or (of_dtype(word).item_type if _BITS.fullmatch(word) else "")
        if found:
            return found
    return ""


def of_words(text: str) -> str:
    """From what people write in cards (`int64`, `Text`, `image (PNG)`); empty where it is none of TEC's types.

    >>> of_words("64-bit float"), of_words("image (PNG)"), of_words("who knows")
    ('Float', 'Image', '')
    """
    words = re.findall(r"[a-z]+", text.lower())
    for item_type, known in (
        ("Image", ("image", "picture", "jpg", "jpeg", "png")),
        ("Integer", ("integer", "int", "uint", "long")),
        ("Float", ("float", "double", "number", "numeric", "decimal", "real")),
        ("String", ("string", "str", "text", "character", "char", "varchar", "category", "categorical")),
    ):
        if any(word in known for word in words):
            return item_type
    return ""


def tensor(name: str, dtype: str, shape: Sequence[int | str] | None) -> dict[str, Any]:
    """A tensor of `bestbefore.signature`, without the keys that are not known."""
    known = {"dtype": dtype} if dtype else {}
    return {"name": name, **known, **({} if shape is None else {"shape": list(shape)})}


def item(name: str, item_type: str, description: str = "") -> dict[str, Any]:
    """An item of `input_spec` or `output_spec`."""
    return {"item_name": name, "item_description": description, "item_type": item_type}
