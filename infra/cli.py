"""The command line: `bestbefore`. Settings are read in one place; a problem is one clear line and exit status 2."""

import functools
import sys
from pathlib import Path
from typing import Any

import click

from infra import show
from infra.cli_alerts import alerts
from infra.cli_backtest import backtest
from infra.cli_bridge import bridge
from infra.cli_common import formatted, settings_of, store_of, with_sources
from infra.cli_contract import asyncapi, topics_verify
from infra.cli_descriptors import COMMANDS
from infra.cli_lifecycle import lifecycle
from infra.cli_page import page
from infra.cli_sources import sources
from infra.cli_status import plot, status
from infra.figures import MISSING
from infra.store_file import make_folder
from models.columns import Subject
from models.lifecycle import resolution_id
from streams.errors import BestbeforeError
from streams.settings import Settings

FOLDER = Path(".bestbefore")
SECTIONS = {
    "See what it says": ("demo", "replay", "backtest", "plot"),
    "Say what must hold": ("describe", "check", "induce", "register", "export"),
    "Run it": (
        "up",
        "down",
        "worker",
        "bridge",
        "migrate",
        "topics",
        "sources",
        "lifecycle",
        "dead-letters",
        "asyncapi",
    ),
    "Read what it found": ("status", "page", "events", "triggers", "alerts"),
}  # of the help, in the order in which somebody new needs them


class Problems(click.Group):
    """Turns the project's own errors into one line on stderr and exit status 2; lists commands by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands with their whole first sentence, in sections."""
        named = {name for names in SECTIONS.values() for name in names}
        others = {"More": tuple(name for name in self.list_commands(ctx) if name not in named)}
        for title, names in (SECTIONS | others).items():
            known = [
                (name, self.commands[name].get_short_help_str(limit=200)) for name in names if name in self.commands
            ]
            if known:
                with formatter.section(title):
                    formatter.write_dl(known)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except BestbeforeError as error:
            click.echo(f"bestbefore: {error}", err=True)
            ctx.exit(2)
        except BrokenPipeError:
            sys.stderr.close()  # the reader has what it wanted
            ctx.exit(0)


@click.group(cls=Problems, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bestbefore", message="%(version)s")
@click.option("--broker", help="Kafka brokers, HOST:PORT,HOST:PORT; wins over the settings.")
@click.option("--store", help="URL of the event store; wins over the settings.")
@click.pass_context
def main(ctx: click.Context, broker: str | None, store: str | None) -> None:
    """A best-before date for every deployed model.

    New here? README.md, "Your own model, in ten minutes", or `bestbefore demo`.
    """
    ctx.obj = {"broker": broker, "store": store}


# -- services and workers ------------------------------------------------------------------------------------


@main.command()
@click.option(
    "--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True, help="Data, logs, addresses."
)
@click.option(
    "--with",
    "kind",
    type=click.Choice(["postgres", "sqlite"]),
    default="postgres",
    show_default=True,
    help="Which store.",
)
@click.option("--kafka-port", type=int, help="Port of the broker; a free one by default.")
@click.option("--postgres-port", type=int, help="Port of the store; a free one by default.")
@click.pass_context
def up(ctx: click.Context, folder: Path, kind: Any, kafka_port: int | None, postgres_port: int | None) -> None:
    """Start a real Kafka broker and Postgres for local use, with topics and tables."""
    from infra.local.services import up as start  # noqa: PLC0415 -- the extra `local` may not be installed

    services = start(folder, store=kind, kafka_port=kafka_port, postgres_port=postgres_port, report=show.progress)
    ctx.obj = {"broker": services.broker, "store": services.store}
    _prepare(settings_of(ctx))
    click.echo(f"broker  {services.broker}")
    click.echo(f"store   {show.without_password(services.store)}")
    if folder == FOLDER:
        click.echo(f"Commands run in this folder find both through {folder}/bestbefore.toml.")
    else:
        click.echo(f"For other commands: export BESTBEFORE_CONFIG={folder}/bestbefore.toml")
    click.echo("Next: bestbefore register DIR")


def _prepare(settings: Settings) -> None:
    from infra.migrate import upgrade  # noqa: PLC0415 -- alembic is slow to import
    from infra.topic_admin import create_topics  # noqa: PLC0415 -- as above

    upgrade(settings.store)
    create_topics(settings)


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True, help="As given to `up`.")
def down(folder: Path) -> None:
    """Stop what `up` has started; the data stay."""
    from infra.local.services import down as stop  # noqa: PLC0415 -- the extra `local` may not be installed

    stopped = stop(folder, report=show.progress)
    click.echo("\n".join(stopped) if stopped else f"nothing was running in {folder}")


@main.command()
@click.option("--agents", default="ingest,embed,label,lifecycle,assess", show_default=True, help="Which agents to run.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least severity of what is logged.",
)
@click.pass_context
def worker(ctx: click.Context, agents: str, log_level: str) -> None:
    """Consume telemetry, assess models, publish mismatches and triggers; until a signal ends it."""
    from infra.worker import AGENTS, run_worker  # noqa: PLC0415 -- Faust is slow to import

    chosen = [name.strip() for name in agents.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in AGENTS]
    if unknown or not chosen:
        raise click.BadParameter(f"no agent {', '.join(unknown) or '(none named)'}; there are {', '.join(AGENTS)}")
    run_worker(settings_of(ctx), chosen, log_level)


@main.command()
@click.option(
    "--back-to", "older", help="Go back to the tables of an older version, by revision, before it is started."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def migrate(ctx: click.Context, older: str | None, yes: bool) -> None:
    """Bring the event store's tables to this version, or back to those of an older one."""
    from infra.migrate import downgrade, role_note, upgrade  # noqa: PLC0415 -- alembic is slow to import

    settings = settings_of(ctx)
    make_folder(settings.store)
    if older is not None and not yes:
        click.confirm(
            f"Remove the tables and columns that came after revision {older}, with what they hold?", abort=True
        )
    revision = upgrade(settings.store) if older is None else downgrade(settings.store, older)
    click.echo(f"event store {show.without_password(settings.store)} is at revision {revision}")
    note = role_note(settings.store)
    if note is not None:
        click.echo(f"  note: {note}", err=True)


@main.group()
def topics() -> None:
    """Make or verify the topics."""


@topics.command("create")
@formatted
@click.pass_context
def topics_create(ctx: click.Context) -> Any:
    """Make the topics that are missing."""
    from infra.topic_admin import create_topics  # noqa: PLC0415 -- kafka-python is slow to import

    return show.findings(create_topics(settings_of(ctx)))


@topics.command("check")
@formatted
@click.pass_context
def topics_check(ctx: click.Context) -> Any:
    """Compare the broker's topics with what the workers need; exit 1 when one is not."""
    from infra.topic_admin import check_topics  # noqa: PLC0415 -- as above

    found = check_topics(settings_of(ctx))
    if not all(f.ok for f in found):
        ctx.call_on_close(functools.partial(ctx.exit, 1))
    return show.findings(found)


topics.add_command(topics_verify)
for command in (*COMMANDS, alerts, asyncapi, backtest, bridge, lifecycle, page, plot, sources, status):
    main.add_command(command)


# -- models --------------------------------------------------------------------------------------------------


@main.command()
@click.argument("events", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--descriptors",
    "folders",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="One per model version.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@with_sources
@click.pass_context
def replay(ctx: click.Context, events: tuple[Path, ...], folders: tuple[Path, ...], out: Path, sources: Any) -> None:
    """Run the very same estimators over recorded events (JSONL, Parquet), without a broker."""
    from infra.replay import replay as run  # noqa: PLC0415 -- as above
    from infra.replay_text import lines_of  # noqa: PLC0415 -- as above

    settings = settings_of(ctx)
    result = run(events, folders, out, settings, sources=sources, progress=show.Progress("replaying"))
    click.echo(
        f"{result.events} events, {result.labels} labels, {result.inputs} inputs -> {result.status} status lines, "
        f"{result.mismatches} mismatch lines, {result.triggers} retrain triggers, {result.lifecycle} lifecycle lines"
        + (f", {result.requests} label requests" if result.requests else "")
        + f" in {out}"
    )
    for line in lines_of(result):
        click.echo(line)
    if result.labels and settings.keep_rate < 1:
        click.echo(
            f"  note: {result.used} labels at most are used, as live workers would with keep_rate "
            f"{settings.keep_rate:g}; BESTBEFORE_KEEP_RATE=1 uses all", err=True,
        )  # fmt: skip
    if not result.plots:
        show.progress(MISSING)
    if result.rejected:
        click.echo(
            f"  note: {result.rejected} rows cannot be read and are left out; {out}/rejected.txt says why", err=True
        )
    if result.undescribed:
        told = ", ".join(result.undescribed[:5])
        click.echo(
            f"  note: no descriptors of {told}: give their folder with --descriptors, or all is unknown", err=True
        )


# -- what the store knows ------------------------------------------------------------------------------------


@main.command()
@click.option("--model", help="Only this model.")
@click.option(
    "--kind", type=click.Choice(["status", "mismatch", "trigger", "registration", "lifecycle"]), help="Only this kind."
)
@click.option("--check", help="Only mismatches of this check.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
@formatted
@click.pass_context
def events(ctx: click.Context, model: str | None, kind: Any, check: str | None, limit: int) -> Any:
    """The newest events, oldest of them first."""
    return show.events(store_of(ctx).events(kind=kind, model=model, check=check, limit=limit))


@main.command()
@click.option("--model", help="Only this model.")
@click.option("--open", "unfinished", is_flag=True, help="Only what nobody has finished and nothing has resolved.")
@click.option("--limit", type=click.IntRange(min=1), help="How many at most: 50, or with --open all, by default.")
@formatted
@click.pass_context
def triggers(ctx: click.Context, model: str | None, unfinished: bool, limit: int | None) -> Any:
    """Retrain triggers, oldest first, and what became of each."""
    store = store_of(ctx)
    # What nobody answers stays open: a limit would hide what is new behind it from those who catch up.
    found = store.open_triggers(model, limit=limit) if unfinished else store.triggers(model, limit=limit or 50)
    ends = {resolution_id(Subject(e.model, e.version), e.event_id): e.event_id for e in found}
    ended = {ends[name]: event.body for name, event in store.by_id(list(ends)).items()}
    return show.triggers(found, ended)


@main.group("dead-letters")
def dead_letters() -> None:
    """Records that could not be used."""


@dead_letters.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
@formatted
@click.pass_context
def dead_letters_list(ctx: click.Context, limit: int) -> Any:
    """The newest dead letters: where each came from, and why it is there."""
    from infra.dead_letters import read  # noqa: PLC0415 -- kafka-python is slow to import

    return show.dead_letters(read(settings_of(ctx), limit))


@dead_letters.command("replay")
@click.option("--topic", help="Only letters from this topic (its full name).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def dead_letters_replay(ctx: click.Context, topic: str | None, yes: bool) -> None:
    """Send dead letters to the topic they came from again, for instance after a fix."""
    from infra.dead_letters import read, resend  # noqa: PLC0415 -- as above

    settings = settings_of(ctx)
    letters = [letter for letter in read(settings, None) if topic in (None, letter.topic)]
    if letters and not yes:
        click.confirm(f"Send {len(letters)} records again?", abort=True)
    click.echo(f"sent {resend(settings, letters)} records again")


@main.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo-out"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("--seed", default=7, show_default=True, help="Another seed gives another history.")
@click.option("--days", default=60, show_default=True, help="Days of event time.")
@click.option("--seconds", default=60.0, show_default=True, help="Wall-clock time to play them in, at least.")
def demo(out: Path, seed: int, days: int, seconds: float) -> None:
    """A CNN on real images decays under corruption: watch its best-before date, on a real broker, worker and store."""
    from infra.demo.play import run  # noqa: PLC0415 -- the extra `demo` may not be installed

    run(out, seed=seed, days=days, seconds=seconds)


if __name__ == "__main__":
    main()
