"""What the commands share: settings, the store, the option `--format`."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from infra import show
from infra.store_file import require_file
from streams.event_store import EventStore
from streams.settings import Settings, load


def settings_of(ctx: click.Context) -> Settings:
    """The settings, with what the command line says on top."""
    return load(**ctx.obj)


def store_of(ctx: click.Context) -> EventStore:
    """The event store, ready for this version. Raises StoreUnreachable and StoreOutdated."""
    url = settings_of(ctx).store
    require_file(url)
    store = EventStore(url)
    ctx.call_on_close(store.close)
    store.check()
    return store


def with_sources(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--sources`, read: how logs of one's own or of another server are read."""

    def read(_: click.Context, __: click.Parameter, path: Path | None) -> Any:
        from streams.adapters.config import read_sources  # noqa: PLC0415 -- protobuf is slow to import

        return None if path is None else read_sources(path)

    return click.option(
        "--sources", type=click.Path(path_type=Path, exists=True, dir_okay=False), callback=read,
        help="Where things stand in logs of your own, or of other servers: a sources.yaml.",
    )(command)  # fmt: skip


NOTHING = {
    "status": show.NOTHING_YET,
    "events": "nothing matches; without --model, --kind and --check all is shown",
    "triggers": "nothing has been asked for; `bestbefore status` tells how each model stands",
}  # what an empty table of a command means


style_option = click.option(
    "--format", "style", type=click.Choice(["text", "json"]), default="text", help="How to print."
)


def printed(command: str, data: Any, table: Any, style: str) -> None:
    """Print what a command has to show in the style that was asked for; where there is nothing, what that means."""
    if style == "json":
        click.echo(json.dumps(data, indent=2, default=str))
        return
    show.console().print(table)
    if not data and command in NOTHING:
        click.echo(f"  {NOTHING[command]}", err=True)


def formatted(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--format`; a command with it returns what it has to show, as plain data and as a table."""

    @style_option
    @functools.wraps(command)
    def wrapper(*args: Any, style: str, **kwargs: Any) -> None:
        data, table = command(*args, **kwargs)
        printed(command.__name__, data, table, style)

    return wrapper
