"""Commands about what is on the topics: asyncapi, topics verify."""

import functools
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import yaml

from infra import show
from infra.cli_common import formatted, settings_of


@click.command()
@click.option(
    "--format", "style", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="How to print."
)
@click.option(
    "--schemas", type=click.Path(path_type=Path, file_okay=False),
    help="Write the JSON Schema of every payload into this folder instead.",
)  # fmt: skip
@click.pass_context
def asyncapi(ctx: click.Context, style: str, schemas: Path | None) -> None:
    """Print the AsyncAPI 3.0 document of this deployment: topics, messages, how one connects.

    Needs no broker: topics and addresses are those of the settings.
    """
    from streams.asyncapi import document  # noqa: PLC0415 -- numpy and pyarrow are slow to import
    from streams.schemas import published  # noqa: PLC0415 -- as above

    if schemas is not None:
        schemas.mkdir(parents=True, exist_ok=True)
        for name, schema in published().items():
            (schemas / f"{name}.json").write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", "utf-8")
        click.echo(f"wrote {len(published())} schemas to {schemas}", err=True)
        return
    found = document(settings_of(ctx), version("bestbefore"))
    if style == "json":
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        click.echo(yaml.dump(found, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120), nl=False)


@click.command("verify")
@click.option(
    "--records", type=click.IntRange(min=1), default=100, show_default=True, help="Newest records of each partition."
)
@formatted
@click.pass_context
def topics_verify(ctx: click.Context, records: int) -> Any:
    """Read the newest records of every topic against their schemas; exit 1 when one does not fit.

    It only reads, in no consumer group.
    """
    from infra.topic_verify import verify  # noqa: PLC0415 -- kafka-python is slow to import

    found = verify(settings_of(ctx), records)
    if any(topic.unfit for topic in found):
        ctx.call_on_close(functools.partial(ctx.exit, 1))
    return show.verified(found)


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice: anchors are hard to read, and generators of clients stumble over them."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 -- the library's signature
        """Always."""
        return True
