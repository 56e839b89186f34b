"""References between two lists of names: which lead nowhere, which names nobody refers to, and which of it is one fact.

A name that was changed on one side leaves a reference that leads nowhere and, on the other side, a name that nobody
refers to. Both are the same mistake, so the name is told with the reference and not once more by itself.
"""

from collections.abc import Iterable
from typing import NamedTuple

Name = tuple[str, ...]  # the last part is the name itself, those before it are what contains it


class Reference(NamedTuple):
    """`path` names `target`; an empty target says nothing. `covers`: it is one that the target needs at all."""

    path: str
    target: Name
    covers: bool = True
    guess: str = ""  # the name that is likely meant where the target is empty


class Dangling(NamedTuple):
    """References that lead to one name that is not there; `meant`: names that nobody else refers to."""

    target: Name
    references: tuple[Reference, ...]
    meant: tuple[Name, ...]


class Closure(NamedTuple):
    """Outcome: every reference that holds, what leads nowhere, and the names left over that nobody refers to."""

    held: tuple[Reference, ...]
    dangling: tuple[Dangling, ...]
    unused: tuple[Name, ...]


def closure(references: Iterable[Reference], names: Iterable[Name]) -> Closure:
    """Compare references with names. References to one missing name, or into one missing container, are one fact.

    >>> closure([Reference("a", ("x",)), Reference("b", ("y",))], [("x",), ("z",)]).dangling[0].meant
    (('z',),)
    """
    there = list(dict.fromkeys(names))
    known, every = set(there), list(references)
    used = {ref.target for ref in every if ref.covers and ref.target in known}
    unused = [name for name in there if name not in used]
    containers = {name[:-1] for name in there}
    groups: dict[tuple[object, ...], list[Reference]] = {}
    for ref in every:
        if ref.target not in known:
            groups.setdefault(_group(ref, containers), []).append(ref)
    meant: dict[tuple[object, ...], list[Name]] = {key: [] for key in groups}
    # The surest guesses first: the same name elsewhere, then the same container, then whatever is left.
    for sure in (_same_name, _same_container, _any):
        for key, refs in groups.items():
            covering = {ref.target if any(ref.target) else (ref.path,): ref for ref in refs if ref.covers}
            for ref in list(covering.values())[len(meant[key]) :]:
                found = next((name for name in unused if sure(ref, name)), None)
                if found is not None:
                    unused.remove(found)
                    meant[key].append(found)
    dangling = tuple(Dangling(refs[0].target, tuple(refs), tuple(meant[key])) for key, refs in groups.items())
    return Closure(tuple(ref for ref in every if ref.target in known), dangling, tuple(unused))


def _group(ref: Reference, containers: set[Name]) -> tuple[object, ...]:
    if not any(ref.target):
        return ("nothing", ref.path)
    return ("name", ref.target) if ref.target[:-1] in containers else ("container", ref.target[:-1])


def _same_name(ref: Reference, name: Name) -> bool:
    return name[-1] == (ref.target[-1] or ref.guess)


def _same_container(ref: Reference, name: Name) -> bool:
    return name[:-1] == ref.target[:-1]


def _any(*_: object) -> bool:
    return True
