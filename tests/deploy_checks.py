"""What the tools of others find in our deployment files, in an environment of its own (tests/environments/deploy.txt).

    python tests/deploy_checks.py boards|compose|kubernetes < JSON

prints a JSON list of what is wrong. Models that ignore what they do not know are asked to write back what they have
read: what is missing then is no part of the format.
"""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

KUBERNETES = "1.33"


def lost(given: Any, kept: Any, where: str = "") -> Iterator[str]:
    """What stands in one and not in the other."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(kept, dict) or key not in kept:
                if value not in (None, [], {}):
                    yield f"{where}.{key}: unknown"
            else:
                yield from lost(value, kept[key], f"{where}.{key}")
    elif isinstance(given, list):
        if not isinstance(kept, list) or len(kept) != len(given):
            yield f"{where}: {given!r} is read as {kept!r}"
            return
        for number, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{where}[{number}]")
    elif given != kept and str(given) != str(kept):
        yield f"{where}: {given!r} is read as {kept!r}"


def boards(given: dict[str, Any]) -> Iterator[str]:
    """Grafana's own SDK reads each board, panels and queries with the types of their plugins."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: PLC0415 -- one tool at a time
    from grafana_foundation_sdk.cog.plugins import register_default_plugins  # noqa: PLC0415
    from grafana_foundation_sdk.models.dashboard import Dashboard  # noqa: PLC0415

    register_default_plugins()
    for name, board in given.items():
        kept = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
        # Its type of an annotation knows only the targets of Grafana's own data source.
        found = (line for line in lost(board, kept) if ".annotations.list[" not in line or ".target." not in line)
        yield from (f"{name}{line}" for line in found)


def compose(given: dict[str, Any]) -> Iterator[str]:
    """The parser of the Compose specification."""
    import yaml  # noqa: PLC0415 -- as above
    from compose_spec import PyCompose  # noqa: PLC0415

    for name, content in given.items():
        try:
            PyCompose.from_yaml(yaml.safe_dump(content))
        except ValueError as error:
            yield f"{name}: {error}"


def kubernetes(given: list[dict[str, Any]]) -> Iterator[str]:
    """The schemas of Kubernetes, and of the custom resources of KEDA and of the Prometheus operator."""
    import kubernetes_validate  # noqa: PLC0415 -- as above
    from cloudcoil.models.keda import v1alpha1 as keda  # noqa: PLC0415
    from cloudcoil.models.prometheus_operator import v1 as operator  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415

    custom = {"keda.sh/v1alpha1": keda, "monitoring.coreos.com/v1": operator}
    for one in given:
        name = f"{one['kind']} {one['metadata']['name']}"
        try:
            if one["apiVersion"] in custom:
                model = getattr(custom[one["apiVersion"]], one["kind"])
                read = model.model_validate(one).model_dump(mode="json", by_alias=True, exclude_unset=True)
                yield from (f"{name}{line}" for line in lost(one, read))
            else:
                kubernetes_validate.validate(one, KUBERNETES, strict=True)
        except (kubernetes_validate.ValidationError, ValidationError) as error:
            yield f"{name}: {str(error)[:500]}"


if __name__ == "__main__":
    checks: dict[str, Callable[[Any], Iterator[str]]] = {
        "boards": boards, "compose": compose, "kubernetes": kubernetes
    }  # fmt: skip
    sys.stdout.write(json.dumps(list(checks[sys.argv[1]](json.load(sys.stdin)))))
