"""The command about the live page."""

import click

from infra.cli_common import settings_of


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of web_port; 0: a free one.")
@click.pass_context
def page(ctx: click.Context, port: int | None) -> None:
    """Serve the live page from the store alone, until a signal ends it; workers serve the same at `/`."""
    from infra.web.serving import serve  # noqa: PLC0415 -- aiohttp is slow to import

    settings = settings_of(ctx)
    wanted = settings.web_port if port is None else port
    serve(settings, wanted, lambda address: click.echo(f"the live page is at {address}"))
