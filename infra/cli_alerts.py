"""The command line: tell Alertmanager what is open."""

import logging
import signal
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import click

from infra.cli_common import store_of
from streams.secret_values import read_secret


@click.command()
@click.option("--to", "addresses", multiple=True, required=True, help="Address of an Alertmanager; all of a cluster.")
@click.option("--every", type=click.FloatRange(min=1), default=30.0, show_default=True, help="Seconds between rounds.")
@click.option("--board", default="", help="Address of a board, with {model} and {version}: the link of each alert.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File with a token, for a proxy before it.")
@click.option("--once", is_flag=True, help="One round, for a trial.")
@click.pass_context
def alerts(
    ctx: click.Context, addresses: tuple[str, ...], every: float, board: str, token_file: Path | None, *, once: bool
) -> None:
    """Send open mismatches and triggers to Alertmanager, and their ends; until a signal ends it."""
    from infra.alerting import Sender, post_with, tell  # noqa: PLC0415 -- the models are slow to import
    from streams.overview import overview  # noqa: PLC0415 -- as above

    for address in addresses:
        if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
            raise click.BadParameter(f"--to {address!r} is no address; write it as http://alertmanager:9093")
    _check_board(board)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # As the first process of a container it would not be ended by the signal itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    store = store_of(ctx)
    token = read_secret(token_file, "--token-file") if token_file else ""
    sender = Sender(
        addresses, lambda: overview(store, time.time_ns() // 1000), post_with(token), every=every, board=board
    )
    if once:
        click.echo(f"{sender.round(time.time())} alerts are open")
        ctx.exit(1 if sender.failing else 0)
    tell(sender, every)


def _check_board(board: str) -> None:
    try:
        board.format(model="m", version="1")
    except (KeyError, IndexError, ValueError):
        raise click.BadParameter(f"--board {board!r}: only {{model}} and {{version}} may stand in braces") from None
