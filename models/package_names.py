"""Names of languages, frameworks and runtimes as people write them, with or without a version."""

import re
from typing import NamedTuple

_VERSION = r"v?(\d+(?:\.(?:\d+|[xX*]))*[^\s)]*)"
# A version follows a blank, a colon or an operator: `Caffe2` and `H2O` have none.
_NAMED = re.compile(rf"(.+?)\s*(?:(===?|>=|<=|~=|>|<)\s*|\s|:\s*|\s?[(@]){_VERSION}\)?\s*", re.DOTALL)
_SAME = {
    "sklearn": "scikitlearn", "torch": "pytorch", "tf": "tensorflow", "cpp": "c++", "csharp": "c#", "py": "python",
    "python3": "python", "js": "javascript", "golang": "go", "ort": "onnxruntime", "onnxruntimegpu": "onnxruntime",
    "apachespark": "spark", "apachemxnet": "mxnet",
}  # fmt: skip
# The newest opset and IR version that each minor version of ONNX Runtime loads. Found by loading a model of one node
# under ever newer versions with the last patch of every minor version from 1.19 on.
ONNX_RUNTIME: dict[tuple[int, ...], tuple[int, int]] = {
    (1, 19): (21, 10), (1, 20): (21, 10), (1, 21): (22, 10), (1, 22): (22, 10), (1, 23): (23, 11), (1, 24): (25, 13),
    (1, 25): (26, 13), (1, 26): (26, 13), (1, 27): (26, 13), (1, 28): (26, 13), (1, 29): (26, 13), (1, 30): (26, 13),
    (1, 31): (26, 13),
}  # fmt: skip


class Package(NamedTuple):
    """A name in one spelling, and the version with the operator before it; empty where none is given."""

    name: str
    version: str = ""
    operator: str = ""


def package(text: object) -> Package:
    """The package that `text` names.

    >>> package("TensorFlow 2.x"), package("torch>=2.1")
    (Package(name='tensorflow', version='2.x', operator=''), Package(name='pytorch', version='2.1', operator='>='))
    """
    words = " ".join(str(text or "").split())
    found = _NAMED.fullmatch(words)
    name, operator, version = (found.group(1), found.group(2) or "", found.group(3)) if found else (words, "", "")
    plain = re.sub(r"[^\w+#]|_", "", name.casefold())
    return Package(_SAME.get(plain, plain), version, operator)


def compatible(one: Package, other: Package) -> bool | None:
    """Whether both can mean the same version: `2.x` is `2.15.1`, `>=2` is `2.15.1`; None where that cannot be told.

    A name without a version stands for any.
    """
    if not one.version or not other.version:
        return True
    if one.operator in ("", "==", "===") and other.operator in ("", "==", "==="):
        return all(a == b or "x" in (a, b) for a, b in zip(_parts(one.version), _parts(other.version), strict=False))
    bound, exact = (one, other) if one.operator not in ("", "==", "===") else (other, one)
    if exact.operator not in ("", "==", "==="):
        return True if one == other else None
    return _within(version_numbers(exact.version), bound.operator, version_numbers(bound.version))


def _within(exact: tuple[int, ...], operator: str, bound: tuple[int, ...]) -> bool | None:
    if not exact or not bound:
        return None
    if operator == "~=":
        return exact >= bound and exact[: len(bound) - 1] == bound[:-1]
    known = exact[: len(bound)]  # what is written shorter stands for all that begin so
    if len(exact) < len(bound) and exact == bound[: len(exact)]:
        return None
    return {
        ">=": known >= bound, ">": known > bound or exact > bound, "<=": known <= bound, "<": known < bound,
    }[operator]  # fmt: skip


def _parts(version: str) -> list[str]:
    return ["x" if part in ("x", "*") else part for part in version.casefold().split(".")]


def version_numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: `1.22.0rc1` gives 1, 22, 0."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
    return tuple(int(part) for part in found.group(1).split(".")) if found else ()
