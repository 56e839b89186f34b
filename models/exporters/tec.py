"""The eight descriptors as TEC, schema 1.2, has them."""

import copy
from typing import Any

from models.descriptors.paths import KINDS, Trees

VERSION = "1.2"


def tec(trees: Trees, *, extended: bool = False) -> dict[str, dict[str, Any]]:
    """By kind, the tree that TEC reads. `extended` keeps our own key `bestbefore`, which its schema allows.

    Trees of an unknown kind raise ValueError. Nothing else is added or left out: a form that is not filled in stays so.

    >>> tec({"raw_data": {"dataset_name": "digits", "bestbefore": {}}})
    {'raw_data': {'version': '1.2', 'dataset_name': 'digits'}}
    """
    unknown = sorted(set(trees) - set(KINDS))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no kind of descriptor; use {', '.join(KINDS)}")
    return {
        kind: {
            "version": VERSION,
            **{
                key: copy.deepcopy(value)
                for key, value in trees[kind].items()
                if key != "version" and (extended or key != "bestbefore")
            },
        }
        for kind in KINDS
        if kind in trees
    }
