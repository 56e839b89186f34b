"""The commands `status` and `plot`: how the models stand, as text, as lines for scripts, and as pictures."""

import sys
from pathlib import Path

import click

from infra import show
from infra.cli_common import printed, store_of, style_option
from streams.errors import BestbeforeError

MOST_LINES = 20_000  # status lines, and triggers, that are drawn


@click.command()
@click.option("--model", help="Only this model.")
@click.option(
    "--watch", type=click.FloatRange(min=0.1), is_flag=False, flag_value=2.0, metavar="[SECONDS]",
    help="Show it again every 2 or so many seconds, until Ctrl-C; into a pipe a JSON line for each change.",
)  # fmt: skip
@style_option
@click.pass_context
def status(ctx: click.Context, model: str | None, watch: float | None, style: str) -> None:
    """The latest estimate, forecast and verdicts of every model version."""
    store = store_of(ctx)
    if watch is None:
        printed("status", *show.status([event.body for event in store.latest_status(model)]), style)
        return
    from infra.watch import Watch  # noqa: PLC0415 -- seldom wanted

    looked = Watch(store, model, watch)
    if style == "json" or not sys.stdout.isatty():
        looked.as_lines(sys.stdout)
    else:
        looked.in_terminal(show.console())


@click.command()
@click.option("--model", help="Only this model.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("plots"), show_default=True, help="Folder for the pictures."
)
@click.pass_context
def plot(ctx: click.Context, model: str | None, out: Path) -> None:
    """Draw quality, best-before date and triggers of every model version over time: a PNG and an SVG each."""
    from infra.figures import MISSING, pyplot  # noqa: PLC0415 -- slow to import
    from infra.plot import plot_status  # noqa: PLC0415 -- as above

    if pyplot() is None:
        raise BestbeforeError(MISSING)
    store = store_of(ctx)
    lines = store.events(kind="status", model=model, limit=MOST_LINES)
    if not lines:
        raise BestbeforeError(f"nothing to draw: {show.NOTHING_YET}")
    if len(lines) == MOST_LINES:
        show.progress(f"only the newest {MOST_LINES} lines are drawn; --model draws one model further back")
    asked = store.triggers(model=model, limit=MOST_LINES)
    out.mkdir(parents=True, exist_ok=True)
    for file in plot_status([line.body for line in lines], [trigger.body for trigger in asked], out):
        click.echo(file)
