"""The command `backtest`: options, what the descriptors declare, and what is assumed where nobody says."""

import math
from pathlib import Path
from typing import Any

import click
import msgspec

from infra import show
from infra.cli_common import formatted
from infra.figures import MISSING
from models.policy import terms_of
from models.reference import Reference
from models.units import DAY_US, duration_us

POLICIES = ("never", "periodic", "adwin", "hddm", "cara", "upf", "ours", "oracle")


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What was said on the command line; None: as the descriptors say."""

    threshold: float | None
    lead_time: str | None
    label_delay: str | None
    cost_retrain: float | None
    cost_degraded: float | None
    cost_error: float


@click.command()
@click.argument("history", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--policies", default=",".join(POLICIES), show_default=True, help="Also: ours-kalman, ours-holt.")
@click.option("--descriptors", "folder", type=click.Path(path_type=Path), help="Threshold, window, lead time, costs.")
@click.option("--target", help="A table: the column with the truth; models are retrained on the others.")
@click.option("--time", help="A table: the column with the times.")
@click.option("--model", default="hist-gradient-boosting", show_default=True, help="Or logistic, or module:factory.")
@click.option("--memory", default=2000, show_default=True, type=click.IntRange(min=10), help="Rows to train on.")
@click.option("--window", help="Rows (250), or a duration such as '1 day'.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Accuracy below which a day is degraded.")
@click.option("--lead-time", help="From the request to the new model: '2 windows' or '3 days'.")
@click.option("--label-delay", help="From a prediction to its label: '2 windows' or '3 days'.")
@click.option("--cost-retrain", type=click.FloatRange(min=0), help="Of one retraining.")
@click.option("--cost-degraded", type=click.FloatRange(min=0), help="Of one day below the threshold.")
@click.option("--cost-error", default=0.0, type=click.FloatRange(min=0), help="Of one wrong answer.")
@click.option("--seed", default=0, show_default=True, help="Of the draws where retraining is modelled.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for backtest.json, and the plot as PNG and SVG.")
@formatted
def backtest(
    history: tuple[Path, ...], policies: str, folder: Path | None, target: str | None, time: str | None, model: str,
    memory: int, window: str | None, seed: int, out: Path | None, **said: Any,
) -> Any:  # fmt: skip
    """What retraining policies would have cost on HISTORY: a table to retrain on (.csv, .parquet, with --target), a
    series of quality per window (.csv with window, accuracy, n, version), or a recording with labels.
    """
    from infra import backtest as run  # noqa: PLC0415 -- river and scipy are slow to import
    from infra.history import Wanted, read_history  # noqa: PLC0415 -- as above

    chosen = _chosen(policies)
    reference = _reference(folder)
    wanted = Wanted(
        target=target, time=time, window=window, model=model, memory=memory, seed=seed,
        window_us=None if reference is None else reference.window_us,
    )  # fmt: skip
    found = read_history(history, wanted)
    setting = setting_of(Declared(**said), reference, found.window_us, found.delay)
    report = run.backtest(found, setting, chosen, show.Progress("comparing"))
    if out is not None:
        written = run.write(report, out)
        show.progress(f"wrote {', '.join(map(str, written))}")
        if len(written) == 1:
            show.progress(MISSING)
    return run.document(report), run.shown(report)


def _chosen(text: str) -> list[str]:
    from models.backtest_table import POLICIES as KNOWN  # noqa: PLC0415 -- river is slow to import

    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in KNOWN]
    if unknown or not names:
        raise click.BadParameter(f"no policy {', '.join(unknown) or '(none named)'}; there are {', '.join(KNOWN)}")
    return names


def _reference(folder: Path | None) -> Reference | None:
    if folder is None:
        return None
    from streams.descriptor_files import load_reference  # noqa: PLC0415 -- slow to import

    return load_reference(folder)


def setting_of(said: Declared, reference: Reference | None, window_us: int | None, seen_delay: int | None) -> Any:
    """Costs and times: the command line, else the descriptors, else what is said in the help. Raises BadParameter."""
    from models.backtest import Setting  # noqa: PLC0415 -- as above

    terms = None if reference is None else terms_of(reference)
    threshold = said.threshold if said.threshold is not None else terms.threshold if terms else None
    if threshold is None and not said.cost_error:
        raise click.UsageError(
            "nothing says what bad quality costs: give --threshold and --cost-degraded, --cost-error, or --descriptors"
        )
    lead_us = None if reference is None else reference.lead_time_us
    if said.lead_time is not None:
        lead = windows_of("--lead-time", said.lead_time, window_us)
    else:
        lead = math.ceil(lead_us / window_us) if lead_us and window_us else 0
    delay = seen_delay or 0 if said.label_delay is None else windows_of("--label-delay", said.label_delay, window_us)
    return Setting(
        threshold=threshold,
        lead=lead,
        delay=delay,
        cost_retrain=_first(said.cost_retrain, terms.cost_retrain if terms else None, 1.0),
        cost_degraded_per_day=_first(said.cost_degraded, terms.cost_degraded_per_day if terms else None, 1.0)
        if threshold
        else 0.0,
        cost_error=said.cost_error,
        window_days=window_us / DAY_US if window_us else 1.0,
    )


def windows_of(option: str, text: str, window_us: int | None) -> int:
    """Whole windows of `2 windows` or of a duration, rounded up. Raises BadParameter."""
    number, _, unit = text.strip().partition(" ")
    if unit.strip() in ("window", "windows") and number.isdecimal():
        return int(number)
    try:
        length = duration_us(text)
    except ValueError as error:
        raise click.BadParameter(f"{option}: {error}; or a number of windows, as in '2 windows'") from None
    if window_us is None:
        raise click.BadParameter(
            f"{option} {text!r}: how long a window is, nobody says; write '2 windows', or give --time"
        )
    return math.ceil(length / window_us)


def _first(*values: float | None) -> float:
    return next(v for v in values if v is not None)
