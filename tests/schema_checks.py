"""Published JSON Schemas, applied by a validator that is not ours."""

import copy
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from streams.schemas import published


def problems(schema: str, value: Any, *, closed: bool = False) -> list[str]:
    """What is wrong with a value; `closed`: also fields that the schema does not name."""
    return [f"{error.json_path}: {error.message[:200]}" for error in validator(schema, closed).iter_errors(value)]


@cache
def validator(schema: str, closed: bool) -> Draft202012Validator:
    """The validator of a published schema, which looks at formats, too."""
    body = published()[schema]
    return checked(shut(body) if closed else body)


def checked(body: dict[str, Any]) -> Draft202012Validator:
    """The validator of a schema."""
    return Draft202012Validator(body, format_checker=Draft202012Validator.FORMAT_CHECKER)


def shut(body: Any) -> Any:
    """The schema that takes no field that it does not name."""
    found = copy.deepcopy(body)
    for part in (found, *found.get("$defs", {}).values()):
        if part.get("type") == "object" and "additionalProperties" not in part:
            part["additionalProperties"] = False
    return found
