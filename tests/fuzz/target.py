"""What is fuzzed: a name, a call, valid inputs, a way to damage them, and the only errors that may come out."""

import dis
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from streams.errors import BestbeforeError
from tests.fuzz.damage import Damage

ROOT = Path(__file__).parents[2]
FOUND = Path(__file__).parent / "found"  # inputs that once were answered wrongly
OURS = tuple(str(ROOT / name) for name in ("streams", "agents", "models", "infra", "client"))
LONGEST = 4000  # characters of a message: it goes into a header of a dead letter, a log line, a terminal
_RAISE = dis.opmap["RAISE_VARARGS"]


class Target(NamedTuple):
    """One reader. Every input is bytes, so that any of them can be kept in a file and tried again.

    `errors` beside BestbeforeError: those of `models`, which know no error tree; `models` raises ValueError on purpose.
    `examples` is how many damaged inputs the tests try.
    """

    name: str
    call: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    damage: Damage
    errors: tuple[type[Exception], ...] = ()
    examples: int = 100


class BesideError(BestbeforeError):
    """The input is not what a target begins with, such as JSON: another target is about that."""


def tree_of(content: bytes) -> Any:
    """The tree that a target begins with. Raises BesideError."""
    try:
        tree = json.loads(content, parse_constant=lambda word: int(word, 0))  # NaN and its like are no JSON
        json.dumps(tree, ensure_ascii=False).encode()  # and half of a surrogate pair is no text
        return tree
    except (ValueError, RecursionError) as error:
        raise BesideError(f"no JSON: {str(error)[:100]!a}") from None


class DefectFoundError(AssertionError):
    """A reader answered with something else than a value or an error of the project."""


def tried(target: Target, content: bytes) -> bool:
    """Whether a value came back; False for an error of the project. Raises DefectFoundError for anything else."""
    ours: tuple[type[Exception], ...] = (BestbeforeError, *target.errors)
    try:
        target.call(content)
    except ours as error:
        wrong = _wrong(error)
        if wrong:
            raise DefectFoundError(f"{target.name}: {type(error).__name__} {wrong}: {str(error)[:300]!a}") from error
        return False
    except Exception as error:
        said = f"{type(error).__name__}: {str(error)[:300]!a}"
        raise DefectFoundError(f"{target.name}: {said}, which is no error of the project") from error
    return True


def _wrong(error: Exception) -> str:
    """What is wrong with an error, although its type is right; empty where nothing is."""
    text = str(error)
    if not isinstance(error, BestbeforeError) and not _on_purpose(error.__traceback__):
        return "was not raised on purpose but by a library"
    if not text.strip():
        return "says nothing"
    if len(text) > LONGEST:
        return f"has a message of {len(text)} characters"
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return "has a message that cannot be sent, with half of a surrogate pair"
    return ""


def _on_purpose(trace: TracebackType | None) -> bool:
    """Whether the innermost frame is ours and stands at a `raise`, instead of a call that failed by itself."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code = trace.tb_frame.f_code
    return code.co_filename.startswith(OURS) and code.co_code[trace.tb_lasti] == _RAISE
