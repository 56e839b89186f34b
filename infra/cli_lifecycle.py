"""The command line: tell the workers what happened to a model version, from CI or by hand."""

import uuid
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from bestbefore_client.triggers import answer_id

from infra.cli_common import settings_of

KINDS = (
    "deployed", "promoted", "rolled-back", "retrained", "retired", "override-added", "experiment-started",
    "drill-started", "retraining-started", "retraining-refused",
)  # fmt: skip


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("model")
@click.argument("version")
@click.option("--previous", help="The version that served before.")
@click.option("--time", "at", help="When it happened, RFC 3339; now by default.")
@click.option(
    "--id",
    "name",
    help="Id of the event: the same id counts once, so a job may send again. With --trigger it follows from that.",
)
@click.option("--trigger", help="Id of the retrain trigger that it answers.")
@click.option("--shadow", is_flag=True, help="Its answers are not used: it takes over from nobody.")
@click.option("--message", help="For people.")
@click.pass_context
def lifecycle(ctx: click.Context, /, kind: str, model: str, version: str, *, shadow: bool, **given: str | None) -> None:
    """Tell what happened to a model version; ends when the broker has it."""
    from infra.lifecycle import send  # noqa: PLC0415 -- kafka-python is slow to import
    from streams.records import decode_lifecycle  # noqa: PLC0415 -- as above

    event: dict[str, Any] = {
        "id": given["name"] or _id(given["trigger"], kind, version),
        "time": given["at"] or datetime.now(UTC).isoformat(), "kind": kind,
        "model": model, "version": version, "previous": given["previous"] or "",
        "served": "shadow" if shadow else "live", "message": given["message"] or "",
        "trigger_id": given["trigger"] or "",
    }  # fmt: skip
    for name in ("model", "version"):
        if not event[name]:
            raise click.BadParameter(f"{name.upper()} is empty; name the {name} as its events do")
    _check_time(event["time"])
    body = msgspec.json.encode({key: value for key, value in event.items() if value})
    decode_lifecycle(body, ())  # what a worker could not read is told here, not in the dead letters
    send(settings_of(ctx), model, body)
    click.echo(f"{kind} {model} {version}: sent as {event['id']}")


def _id(trigger: str | None, kind: str, version: str) -> str:
    """An answer to a trigger may be sent again by whoever has no id of its own: it counts once."""
    return answer_id(trigger, kind, version) if trigger else str(uuid.uuid4())


def _check_time(text: str) -> None:
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        told = None
    if told is None or told.tzinfo is None:
        raise click.BadParameter(f"--time {text!r} is no time with an offset; write it as 2026-11-20T10:00:00Z")
