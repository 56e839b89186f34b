"""Part of reference-closure: identifiers by which a model names its data, and data where they come from."""

from collections.abc import Iterator

from models.checks.check import Check
from models.checks.predicate import judge
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace

# By what a descriptor is named, and by which attribute others name it.
OWN = {
    "raw_data": "dataset_identifier", "training_data": "dataset_identifier", "data_pipeline": "pipeline_identifier",
}  # fmt: skip
BY = {f"{kind}_identifier": kind for kind in OWN}
EXPECTED = (
    ("trained_model", "training_data_identifier"), ("trained_model", "data_pipeline_identifier"),
    ("training_data", "raw_data_identifier"),
)  # fmt: skip


def identifiers(check: Check, at: Workplace) -> Iterator[Verdict]:
    """One verdict per identifier; one more where they lead in a circle, if each of them is right by itself."""
    right = True
    pairs = list(EXPECTED)
    for kind in OWN:  # TEC has no such attribute there, but people may write it
        pairs += [
            (kind, key) for key in BY if BY[key] != kind and at.value(f"{kind}.{key}") and (kind, key) not in pairs
        ]
    for kind, key in pairs:
        verdict = _identifier(check, at, f"{kind}.{key}", f"{BY[key]}.{OWN[BY[key]]}")
        right = right and verdict.verdict != "mismatch"
        yield verdict
    circle = _circle(at) if right else []
    if circle:
        yield check.mismatch(
            f"{' -> '.join(circle)}: what is described is derived from itself", field="identifiers",
            left=at.side(circle[0]), right=at.side(circle[-1]),
        )  # fmt: skip


def _identifier(check: Check, at: Workplace, reference: str, named: str) -> Verdict:
    left, right = (
        at.side(path, str(value).strip() if (value := at.value(path)) is not None else None)
        for path in (reference, named)
    )
    for side in (left, right):
        if not side.value:
            return check.unknown(f"{side.path} is not declared", field=reference, left=left, right=right)
    if str(left.value) == str(right.value) or judge(left, "==", right).outcome == "ok":
        return check.ok(field=reference, left=left, right=right)
    return check.mismatch(
        f"{reference} is {left.value!r}, but {named} is {right.value!r}: this is another one", field=reference,
        left=left, right=right,
    )  # fmt: skip


def _circle(at: Workplace) -> list[str]:
    """Paths of identifiers that lead back to the first; empty where none do."""
    for start, own in OWN.items():
        seen: list[str] = []
        name = at.value(f"{start}.{own}")
        kinds, visited = [start], set()
        while kinds:
            kind = kinds.pop()
            visited.add(kind)
            for key, target in BY.items():
                found = None if target == kind else at.value(f"{kind}.{key}")
                if not found:
                    continue
                seen.append(f"{kind}.{key}")
                if target == start or str(found).strip() == str(name).strip():
                    return seen
                if target not in visited:
                    kinds.append(target)
    return []
