"""Commands about the topics of other model servers: sources test."""

import json
from pathlib import Path

import click

from infra import show

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def sources() -> None:
    """Topics of other model servers, read by configuration."""


@sources.command("test")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("sources.yaml"),
    show_default=True,
    help="Which adapter reads which topic.",
)
@click.option("--topic", help="Topic of the sample, where neither its lines nor the name of its file say it.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", help="How to print.")
@click.option("--all", "everything", is_flag=True, help="List every record that was refused or left unpaired.")
@click.pass_context
def sources_test(
    ctx: click.Context, files: tuple[Path, ...], config: Path, topic: str | None, style: str, everything: bool
) -> None:  # fmt: skip
    """Show what the adapters make of the records in FILE, field by field, and what is missing for which check.

    Needs no broker. Exit status 0: every record was read, 1: some were refused or left unpaired, 2: unreadable.
    """
    from infra.sources import as_json, text_of, try_sources  # noqa: PLC0415 -- numpy and protobuf are slow to import

    result = try_sources(files, config, topic)
    if style == "json":
        click.echo(json.dumps(as_json(result), indent=2, default=str))
    else:
        console = show.console()
        with console.capture() as printed:
            console.print(text_of(result, everything=everything))
        click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))
    if not result.clean:
        ctx.exit(1)
