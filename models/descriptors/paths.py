"""Paths into descriptors: `trained_model.output_spec[0].item_type` names one fact of one descriptor.

Checks, messages and the predicates that users write all speak of facts by these paths.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Trees = Mapping[str, Mapping[str, Any]]

KINDS = (
    "system_context", "raw_data", "training_data", "data_pipeline", "trained_model", "development_environment",
    "production_environment", "production_data",
)  # fmt: skip
_STEP = re.compile(r"""([^.\[\]]+)|\[(?:(\d+)|"([^"]*)")\]""")


def value_at(trees: Trees, path: str) -> Any:
    """What stands at `path`, or None where nothing does.

    A step is a key, `[3]` an element of a list, `["a.b"]` a key with a dot or bracket in it.

    >>> value_at({"trained_model": {"output_spec": [{"item_type": "Float"}]}}, "trained_model.output_spec[0].item_type")
    'Float'
    """
    found: Any = trees
    for key, index, quoted in _STEP.findall(path):
        if index:
            found = found[int(index)] if isinstance(found, list) and int(index) < len(found) else None
        elif isinstance(found, Mapping):
            found = found.get(key or quoted)
        else:
            return None
    return found


def items_at(trees: Trees, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of the list at `path`, each with its own path; nothing where there is no list."""
    found = value_at(trees, path)
    if not isinstance(found, list):
        return
    for i, item in enumerate(found):
        if isinstance(item, Mapping):
            yield f"{path}[{i}]", item


def entries_at(trees: Trees, path: str) -> Iterator[tuple[str, str, Any]]:
    """Path, key and value of the object at `path`, in the order of the keys; nothing where there is no object."""
    found = value_at(trees, path)
    if isinstance(found, Mapping):
        for key in sorted(found, key=str):
            yield join(path, str(key)), str(key), found[key]


def join(path: str, key: str) -> str:
    """`path` and one key more, quoted where the key has a dot or bracket in it.

    >>> join("training_data.bestbefore.features", "a.b")
    'training_data.bestbefore.features["a.b"]'
    """
    return f'{path}["{key}"]' if re.search(r"[.\[\]]", key) else f"{path}.{key}"
