"""Shapes of tensors: whether two can be the same, with open axes (-1, None, `?`) and named ones."""

from collections.abc import Sequence

from models.checks.predicate import Judgement

Axis = int | str | None
_OPEN = ("", "?", "-1", "none")


def unify(left: Sequence[Axis], right: Sequence[Axis]) -> Judgement:
    """Can both be the shape of one tensor? An open axis has any size, a name the same size wherever it stands.

    >>> unify([-1, 3, 224, 224], ["batch", 3, 224, 224]).outcome
    'ok'
    >>> unify(["n", 224, 224, 3], ["n", 3, 224, 224]).reason
    '[n, 224, 224, 3] and [n, 3, 224, 224]: the channels are at another place'
    """
    told = f"{written(left)} and {written(right)}"
    if len(left) != len(right):
        return Judgement("mismatch", f"{told}: {len(left)} and {len(right)} axes")
    sizes: dict[tuple[int, str], int] = {}
    # Names are those of their own side; two passes carry a size from a fixed axis over a name to the other side.
    for _ in range(1 + len(left)):
        for one, other in zip(left, right, strict=True):
            a, b = _size(one, 0, sizes), _size(other, 1, sizes)
            if a is not None and b is not None and a != b:
                return Judgement("mismatch", f"{told}{_permuted(left, right)}")
            for axis, side, size in ((one, 0, b), (other, 1, a)):
                if size is not None and isinstance(axis, str) and not _open(axis):
                    sizes[(side, axis)] = size
    return Judgement("ok")


def record_shape(shape: Sequence[Axis], axes: int) -> Sequence[Axis]:
    """`shape` without the batch axis in front, where it has one axis more than `axes` and that one is open or 1."""
    batched = len(shape) == axes + 1 and (not isinstance(shape[0], int) or shape[0] in (-1, 1))
    return shape[1:] if batched else shape


def written(shape: Sequence[Axis]) -> str:
    """`[n, 3, 224, 224]`."""
    return f"[{', '.join('-1' if axis is None else str(axis) for axis in shape)}]"


def _open(axis: Axis) -> bool:
    return axis is None or (axis.strip().casefold() in _OPEN if isinstance(axis, str) else axis < 0)


def _size(axis: Axis, side: int, sizes: dict[tuple[int, str], int]) -> int | None:
    if _open(axis):
        return None
    return axis if isinstance(axis, int) else sizes.get((side, str(axis)))


def _permuted(left: Sequence[Axis], right: Sequence[Axis]) -> str:
    """What is told of NHWC beside NCHW."""
    fixed = [sorted(axis for axis in side if isinstance(axis, int) and axis >= 0) for side in (left, right)]
    return ": the channels are at another place" if fixed[0] == fixed[1] and len(left) in (3, 4) else ""
