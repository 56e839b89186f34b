"""Joining what people wrote with what was measured: people's words stay, only what is missing is filled in."""

import re
from collections.abc import Mapping
from typing import Any

from models.descriptors.paths import Trees, join

# One measurement each: half of one beside half of another would be a figure that nobody measured.
_WHOLE = re.compile(
    r"\.(quantiles|categories|special|lengths)$|^training_data\.bestbefore\.(classes|confusion|calibration|embedding)$"
    r"|^production_data\.bestbefore\.rate$"
)
_FEATURE = re.compile(r'^training_data\.bestbefore\.features(\.[^.\[\]]+|\["[^"]*"\])$')
_FIGURES = frozenset(("n", "mean", "sd", "min", "max", "missing", "quantiles", "categories", "other", "lengths"))


def filled(known: Mapping[str, Any], found: Mapping[str, Any], path: str, added: list[str]) -> dict[str, Any]:
    """`known` with what it lacks taken from `found`; the paths taken are appended to `added`.

    An absent key, null, an empty text, list or object is lacking. Lists are taken as a whole.
    """
    merged = dict(known)
    whole = bool(_FEATURE.match(path)) and bool(_FIGURES & {k for k, v in known.items() if not _empty(v)})
    for key, value in found.items():
        place, mine = join(path, str(key)), known.get(key)
        if whole and key in _FIGURES:
            continue
        if key == "bestbefore" and _empty(mine) and isinstance(value, Mapping):
            merged[key] = filled({}, value, place, added)  # told section by section
        elif _empty(mine):
            if not _empty(value):
                added.append(place)
            if not _empty(value) or key not in known:
                merged[key] = value
        elif isinstance(mine, Mapping) and isinstance(value, Mapping) and not _WHOLE.search(place):
            merged[key] = filled(mine, value, place, added)
    return merged


def joined_trees(layers: Mapping[str, Trees]) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Trees by kind from named layers, the first of which counts most; and the paths that each layer gave."""
    merged: dict[str, dict[str, Any]] = {}
    given: dict[str, list[str]] = {}
    for name, layer in layers.items():
        given[name] = []
        for kind, tree in layer.items():
            merged[kind] = filled(merged.get(kind, {}), tree, kind, given[name])
    return merged, given


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {})
