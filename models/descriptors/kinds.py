"""Which of the eight descriptors a tree is, told by its keys, and which one a file name was meant to be."""

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from models.descriptors.paths import KINDS
from models.descriptors.types import TYPES

_EVERYWHERE = {"version", "documentation", "bestbefore"}
_OLD = {"system_context": {"business_goals", "success_criteria"}}
_KEYS = {
    kind: ({field.encode_name for field in msgspec.structs.fields(TYPES[kind])} | _OLD.get(kind, set())) - _EVERYWHERE
    for kind in KINDS
}
LEAST_KEYS = 3
_ALIKE = 0.85  # `trained-model`, `trainedmodel`, `traind_model` are; the nearest two kinds are .77 alike


def kind_of(tree: Mapping[str, Any]) -> str | None:
    """The kind whose attributes the tree has; None where fewer than three tell it, or two kinds fit alike.

    >>> kind_of({"version": "1.2", "data_sources": "form", "data_rates": "5/s", "schema": []})
    'production_data'
    """
    keys = set(tree)
    counts = sorted(((len(keys & _KEYS[kind]), kind) for kind in KINDS), reverse=True)
    (most, kind), (second, _) = counts[:2]
    return kind if most >= LEAST_KEYS and most > second else None


def meant(stem: str) -> str | None:
    """The kind that a file name which is none was probably meant to be, or None.

    >>> meant("trained-model"), meant("Training Data"), meant("notes")
    ('trained_model', 'training_data', None)
    """
    word = "_".join(stem.casefold().replace("-", " ").replace("_", " ").split())
    near = difflib.get_close_matches(word, KINDS, n=1, cutoff=_ALIKE)
    return near[0] if near and stem not in KINDS else None
