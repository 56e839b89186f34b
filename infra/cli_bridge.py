"""The command `bridge`."""

from typing import Any

import click

from infra.cli_common import settings_of


@click.command()
@click.option("--host", help="Address to listen on; the setting bridge_host by default.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on, 0 for a free one.")
@click.option("--sources", type=click.Path(exists=True, dir_okay=False), help="sources.yaml: further topics.")
@click.option("--topic", help="Topic of what is sent to / and /v1/logs.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="What is told on stderr.",
)
@click.pass_context
def bridge(
    ctx: click.Context, host: str | None, port: int | None, sources: str | None, topic: str | None, log_level: str
) -> None:
    """Take CloudEvents and OTLP logs over HTTP, and produce them to Kafka; until a signal ends it."""
    from infra.bridge import run_bridge  # noqa: PLC0415 -- aiohttp and protobuf are slow to import

    given: dict[str, Any] = {
        "bridge_host": host, "bridge_port": port, "sources": sources, "bridge_topic": topic
    }  # fmt: skip
    ctx.obj = {**ctx.obj, **given}
    status = run_bridge(settings_of(ctx), log_level)
    if status:
        ctx.exit(status)
