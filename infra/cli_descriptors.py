"""Commands about descriptors: check, describe, export, register."""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import click

from infra import show
from infra.cli_common import settings_of, store_of, with_sources

FEW = 8  # of what is left for people, unless all is asked for
FOLDER = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def _explain(ctx: click.Context, _: click.Parameter, name: str | None) -> None:
    """`--explain CHECK`: its reference page, without reading any descriptor."""
    if name is None or ctx.resilient_parsing:
        return
    from infra.check_text import explanation  # noqa: PLC0415 -- scipy is slow to import
    from models.checks.catalogue import BY_ID, with_alias  # noqa: PLC0415 -- as above

    found = BY_ID.get(name) or with_alias(name)
    if found is None:
        raise click.BadParameter(f"no check {name!r}; there are {', '.join(BY_ID)}")
    _print_text(explanation(found))
    ctx.exit(0)


@click.command()
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True, type=FOLDER)
@click.option("--format", "style", type=click.Choice(["text", "json", "junit", "sarif"]), default="text",
              help="For people, programs, or what CI shows.")  # fmt: skip
@click.option(
    "--fail-on", type=click.Choice(["info", "warning", "critical"]), default="info", show_default=True,
    help="Least severity of a mismatch that makes the exit status 1.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Also list what is ok and every single unknown.")
@click.option("--explain", metavar="CHECK", callback=_explain, is_eager=True, expose_value=False,
              help="Show the reference page of a check (its name, or tec:12) and stop.")  # fmt: skip
@click.pass_context
def check(ctx: click.Context, folders: tuple[Path, ...], style: str, fail_on: str, everything: bool) -> None:
    """Find mismatches between the descriptors in FOLDER. Exit status 0: none, 1: some, 2: unreadable.

    A descriptor file stands for its folder. Of several folders each is checked by itself; with --format json they
    give a list of documents.
    """
    from infra import check_formats, checking  # noqa: PLC0415 -- onnxruntime is slow to import

    settings = settings_of(ctx)
    # All are read before anything is printed: half a document is none.
    reports = [checking.check(folder, settings) for folder in dict.fromkeys(map(_folder_of, folders))]
    if style == "json":
        documents = [checking.as_json(report) for report in reports]
        _print_json(documents if len(documents) > 1 else documents[0])
    elif style == "junit":
        click.echo(check_formats.junit(reports))
    elif style == "sarif":
        _print_json(check_formats.sarif(reports))
    else:
        from infra.check_text import text  # noqa: PLC0415 -- as above

        for report in reports:
            if len(reports) > 1:
                click.echo(f"{report.folder}\n")
            _print_text(text(report, everything=everything))
            if len(reports) > 1 and report is not reports[-1]:
                click.echo("")
    if any(report.failing(fail_on) for report in reports):
        ctx.exit(1)


def _folder_of(path: Path) -> Path:
    """A hook is given the files that changed; what they mean together stands in their folder."""
    return path.parent if path.is_file() else path


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, default=str))


def _print_text(what: Any) -> None:
    """Without the blanks at the ends of lines where nobody watches: logs and files."""
    console = show.console()
    if sys.stdout.isatty():
        console.print(what)
        return
    with console.capture() as printed:
        console.print(what)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--accept-mismatches", is_flag=True, help="Register although critical mismatches were found.")
@click.pass_context
def register(ctx: click.Context, folder: Path, accept_mismatches: bool) -> None:
    """Check the descriptors in FOLDER and make them the reference of their model version for all workers.

    Critical mismatches end it with exit status 1, and nothing is registered.
    """
    from infra.registering import register as run  # noqa: PLC0415 -- onnxruntime is slow to import

    done = run(folder, settings_of(ctx), functools.partial(store_of, ctx), accept_mismatches=accept_mismatches)
    for line in done.lines:
        click.echo(line, err=not done.registered)
    if not done.registered:
        sys.exit(1)


@click.command()
@click.argument("artefacts", nargs=-1, type=FILE)
@click.option("--events", multiple=True, type=click.Path(path_type=Path, exists=True),
              help="Recorded inference and label events (JSONL, Parquet) to measure; a file or a folder.")  # fmt: skip
@click.option("--out", type=FOLDER, required=True, help="Folder for the descriptors; existing words in it are kept.")
@click.option("--model", help="Name of the model, where nothing else tells it.")
@click.option("--version", help="Version of the model, where nothing else tells it.")
@click.option("--declared", type=click.Path(path_type=Path, exists=True), help="Folder or file of what people declare.")
@click.option("--first", metavar="DURATION", help="Measure only the beginning of the events, as in '3 weeks': the time "
              "in which the model was as it should be.")  # fmt: skip
@click.option("--force", is_flag=True, help="Measured figures replace those already in the folder.")
@click.option("--all", "everything", is_flag=True, help="List everything that is left for people.")
@with_sources
def describe(
    artefacts: tuple[Path, ...], events: tuple[Path, ...], out: Path, model: str | None, version: str | None,
    declared: Path | None, first: str | None, force: bool, everything: bool, sources: Any,
) -> None:  # fmt: skip
    """Write descriptors from ARTEFACTS and recorded events, so that people write only goals, risks and thresholds.

    ARTEFACTS: an ONNX file, a model's metadata (Open Inference Protocol), MLmodel, a data contract (ODCS), an MLTE
    negotiation card, Croissant, a model card; each is known by its content.
    """
    from infra.describe import describe as run  # noqa: PLC0415 -- onnxruntime is slow to import

    if not artefacts and not events:
        raise click.UsageError("give artefacts, --events, or both")
    done = run(
        artefacts, events, out, model=model, version=version, declared=declared, force=force, sources=sources,
        first_us=_duration(first),
    )  # fmt: skip
    for path in done.files:
        click.echo(f"wrote {path}")
    for note in done.notes:
        click.echo(f"  note: {note}")
    shown = done.left if everything else done.left[:FEW]
    if shown:
        click.echo("Left for people, who alone know it:")
    for one in shown:
        click.echo(f"  {one.path}: {one.why}; for example  {one.example}")
    if len(done.left) > len(shown):
        click.echo(
            f"  and {len(done.left) - len(shown)} more, each so that a check need not say unknown; --all lists them"
        )
    click.echo(f"Next: bestbefore check {out}")


def _duration(text: str | None) -> int | None:
    from models.units import duration_us  # noqa: PLC0415 -- pint is slow to import

    try:
        return None if text is None else duration_us(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--first") from None


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--format", "style", type=click.Choice(["tec", "tec-extended", "odcs", "cyclonedx"]), required=True,
              help="For which tool.")  # fmt: skip
@click.option("--out", type=FOLDER, required=True, help="Folder for the files.")
def export(folder: Path, style: str, out: Path) -> None:
    """Write the descriptors in FOLDER for other tools: TEC 1.2, a data contract (ODCS 3.1), CycloneDX 1.7."""
    from infra.exporting import export as run  # noqa: PLC0415 -- as above

    for path in run(folder, style, out):
        click.echo(f"wrote {path}")


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--data", type=FILE, required=True,
              help="Labelled data that the model has not learnt from (.npz, .parquet, .csv).")  # fmt: skip
@click.option("--train", type=FILE, help="Training data in the same form; else a half of --data stands in for it.")
@click.option("--label", help="Label column of a table, where it is not the declared label field.")
@click.option("--without", multiple=True, help="A family of drift that cannot happen to this data; may be repeated.")
@click.option("--seed", default=0, show_default=True, help="Another seed draws other drift.")
@click.pass_context
def induce(
    ctx: click.Context, folder: Path, data: Path, train: Path | None, label: str | None, without: tuple[str, ...],
    seed: int,
) -> None:  # fmt: skip
    """Fit an estimator of quality without labels for the model in FOLDER, by inducing drift on labelled data.

    Writes it beside the descriptors and names it in training_data. Register the folder afterwards.
    """
    from infra.induced_text import lines_of  # noqa: PLC0415 -- onnxruntime is slow to import
    from infra.inducing import induce as run  # noqa: PLC0415 -- as above

    done = run(folder, data, settings_of(ctx), train=train, label=label, without=without, seed=seed)
    for line in lines_of(done):
        click.echo(line)
    click.echo(f"Next: bestbefore register {folder}")


COMMANDS: tuple[Any, ...] = (check, describe, export, induce, register)
