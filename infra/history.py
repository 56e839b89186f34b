"""Histories for `bestbefore backtest`: a table that models can be retrained on, a series of quality, a recording."""

import importlib
import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from agents.label import about, labelled
from infra.recording import read_recording
from infra.retraining import MODELS, encoded_columns, table_world
from infra.table_files import TableError, read_table
from models.age_curves import Reading, age_world
from models.backtest import World
from models.units import DAY_US, duration_text, duration_us
from streams.batches import Stamped, kept_of_events, kept_of_frame
from streams.errors import BestbeforeError
from streams.frames import decode_batch
from streams.records import LabelEvent, time_us
from streams.store_rows import Prediction

DRAWS = 20  # worlds drawn from age curves
ROWS_PER_WINDOW = 250
MOST = 100_000  # windows
FEWEST = 12  # windows: fewer leave nothing to tune on and nothing to compare
MOST_CLASSES = 100  # of a truth column: a table with more is of numbers


class HistoryError(BestbeforeError):
    """A history cannot be used for a backtest."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """How to read a history; names are columns."""

    target: str | None = None
    time: str | None = None
    window: str | None = None  # rows or a duration
    window_us: int | None = None  # as declared, where `window` is not given
    model: str = "hist-gradient-boosting"
    memory: int = 2000
    seed: int = 0


class History(NamedTuple):
    """Worlds to compare policies in, the length of a window where it is known, and what is assumed."""

    worlds: tuple[World, ...]
    window_us: int | None
    delay: int | None  # windows within which nine labels in ten came, where the history tells
    assumed: str


def read_history(paths: Sequence[Path], wanted: Wanted) -> History:
    """Read whichever kind the files are. Raises HistoryError and RecordingError, naming what is missing."""
    if wanted.target is not None:
        return _table_history(_table(paths), wanted, ", ".join(map(str, paths)))
    if len(paths) == 1 and paths[0].is_file() and _is_series(paths[0]):
        return _series_history(_table(paths), wanted, str(paths[0]))
    if any(p.suffix == ".csv" for p in paths):
        raise HistoryError(
            f"{', '.join(map(str, paths))}: no column `accuracy`. Name the column of the truth with --target to "
            "retrain models on the table, or give columns window, accuracy and n, one row per window"
        )
    return _recorded_history(paths, wanted)


# -- tables --------------------------------------------------------------------------------------------------


def _table(paths: Sequence[Path]) -> pa.Table:
    if not paths:
        raise HistoryError("no history given")
    try:
        return pa.concat_tables([_read(path) for path in paths], promote_options="default")
    except TableError as error:
        raise HistoryError(str(error)) from None
    except pa.ArrowException as error:
        raise HistoryError(f"{', '.join(map(str, paths))} cannot be joined: {error}") from None


def _read(path: Path) -> pa.Table:
    if path.suffix in (".parquet", ".csv"):
        return read_table(path)
    raise HistoryError(f"{path} is neither .csv nor .parquet; a recording (JSONL) has no --target")


def _is_series(path: Path) -> bool:
    if path.suffix not in (".csv", ".parquet"):
        return False
    return "accuracy" in _table([path]).column_names


def _table_history(table: pa.Table, wanted: Wanted, name: str) -> History:
    """Retrain a stand-in model on the user's own rows."""
    target = str(wanted.target)
    if target not in table.column_names:
        raise HistoryError(f"{name}: no column {target!r} for --target; there are {', '.join(table.column_names)}")
    times = _times(table, wanted, name)
    if times is not None:
        order = np.argsort(times, kind="stable")
        table, times = table.take(order), times[order]
    known = pc.is_valid(table.column(target))
    table, times = table.filter(known), None if times is None else times[known.to_numpy()]
    edges, window_us = _edges(table.num_rows, times, wanted, name)
    classes, truth = np.unique(np.array([str(v) for v in table.column(target).to_pylist()]), return_inverse=True)
    if len(classes) > MOST_CLASSES:
        raise HistoryError(
            f"{name}: column {target!r} has {len(classes)} values; --target names the class that a model predicts, "
            f"at most {MOST_CLASSES} of them. A number is no class: cut it into ranges first"
        )
    left_out = {target, wanted.time}
    features = encoded_columns(table.drop_columns([c for c in table.column_names if c in left_out]))
    if not features.shape[1]:
        raise HistoryError(f"{name}: no column beside {target!r} that a model could learn from")
    world = table_world(features, truth, edges, make=_maker(wanted.model), memory=wanted.memory)
    _enough(world.windows - world.first, name)
    assumed = (
        f"every retraining is run: {wanted.model} on the last {wanted.memory} labelled rows, {world.windows} windows, "
        f"{table.num_rows} rows; the truth of every row is taken as known after the label delay"
    )
    return History((world,), window_us, None, assumed)


def _times(table: pa.Table, wanted: Wanted, name: str) -> NDArray[np.int64] | None:
    if wanted.time is None:
        return None
    if wanted.time not in table.column_names:
        raise HistoryError(f"{name}: no column {wanted.time!r} for --time; there are {', '.join(table.column_names)}")
    column = table.column(wanted.time)
    try:
        if pa.types.is_string(column.type):
            return np.array([time_us(v) for v in column.to_pylist()], dtype=np.int64)
        if pa.types.is_temporal(column.type):
            return np.asarray(column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy(), dtype=np.int64)
    except (ValueError, TypeError, BestbeforeError, pa.ArrowException) as error:
        raise HistoryError(f"{name}: column {wanted.time!r} has a time that cannot be read: {error}") from None
    raise HistoryError(f"{name}: column {wanted.time!r} holds no times; write them as 2026-11-20T10:00:00Z")


def _edges(
    rows: int, times: NDArray[np.int64] | None, wanted: Wanted, name: str
) -> tuple[NDArray[np.int64], int | None]:
    """First row of every window and the end, and the length of a window."""
    text = wanted.window
    if text is None and times is not None:
        length = wanted.window_us or DAY_US
    elif text is None or text.isdecimal():
        size = int(text or ROWS_PER_WINDOW)
        if not size:
            raise HistoryError("--window 0: a window needs rows; write a number of rows or a duration, such as '1 day'")
        _enough(rows // size, name)
        edges = np.arange(rows // size + 1) * size
        spans = None if times is None else int(np.median(np.diff(times[edges[:-1]])))
        return edges, spans
    else:
        length = max(_duration("--window", text), 1)
        if times is None:
            raise HistoryError(f"--window {text!r} needs the column of times: name it with --time, or count rows")
    number = (times - times[:1]) // length
    windows = int(number.max(initial=-1)) + 1
    _enough(windows, name)
    _not_too_many(windows, name)
    return np.searchsorted(number, np.arange(windows + 1)), length


def _enough(windows: int, name: str) -> None:
    if windows < FEWEST:
        raise HistoryError(
            f"{name}: {max(windows, 0)} windows to compare in, at least {FEWEST} are needed; choose a shorter --window "
            "or bring a longer history"
        )


def _not_too_many(windows: int, name: str) -> None:
    if windows > MOST:
        raise HistoryError(
            f"{name}: {windows} windows from the first to the last, at most {MOST} are compared in; is one of them "
            "misdated? Else choose a longer --window"
        )


def _duration(option: str, text: str) -> int:
    try:
        return duration_us(text)
    except ValueError as error:
        raise HistoryError(f"{option}: {error}") from None


def _maker(name: str) -> Callable[[], Any]:
    """The model to retrain: one of MODELS, or `module:factory` from the working folder or the installed packages."""
    if name in MODELS:
        return MODELS[name]
    module, _, factory = name.partition(":")
    if not factory:
        raise HistoryError(f"--model {name!r} is none of {', '.join(MODELS)}, nor module:factory")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise HistoryError(f"--model {name!r} cannot be used: {error}") from None
    finally:
        sys.path.pop(0)
    return found  # type: ignore[no-any-return]


# -- quality per window --------------------------------------------------------------------------------------


def _series_history(table: pa.Table, wanted: Wanted, name: str) -> History:
    """Columns window (a number or a time), accuracy, and optionally n and version."""
    names = table.column_names
    if "window" not in names:
        raise HistoryError(f"{name}: no column `window`, a number or the time at which it starts; there are {names}")
    times = None
    if pa.types.is_string(table.column("window").type) or pa.types.is_temporal(table.column("window").type):
        times = _times(table, msgspec.structs.replace(wanted, time="window"), name)
    numbers, window_us = _numbers(table, times, wanted, name)
    accuracy = _floats(table, "accuracy", name)
    if np.nanmin(accuracy, initial=1.0) < 0 or np.nanmax(accuracy, initial=0.0) > 1:
        raise HistoryError(f"{name}: accuracy must lie between 0 and 1; divide percentages by 100")
    count = _floats(table, "n", name) if "n" in names else np.full(len(accuracy), 100.0)
    version = table.column("version").to_pylist() if "version" in names else ["1"] * len(accuracy)
    rows = [
        (str(v), int(w), float(a), float(n))
        for v, w, a, n in zip(version, numbers, accuracy, count, strict=True)
        if math.isfinite(a) and 0 < n < math.inf
    ]
    worlds, assumed = _aged(rows, wanted, name)
    return History(worlds, window_us, None, assumed)


def _floats(table: pa.Table, column: str, name: str) -> NDArray[np.float64]:
    """A column of numbers; nothing is not a number."""
    try:
        return np.array([math.nan if v is None else float(v) for v in table.column(column).to_pylist()])
    except (TypeError, ValueError, OverflowError) as error:
        raise HistoryError(f"{name}: column `{column}` must hold numbers: {error}") from None


def _numbers(
    table: pa.Table, times: NDArray[np.int64] | None, wanted: Wanted, name: str
) -> tuple[NDArray[np.int64], int | None]:
    if times is None:
        numbers = _floats(table, "window", name)
        if not (np.abs(numbers) < 1e15).all() or (numbers != np.floor(numbers)).any():
            raise HistoryError(f"{name}: column `window` must hold whole numbers, or the times at which windows start")
        return numbers.astype(np.int64), _duration("--window", wanted.window) if wanted.window else wanted.window_us
    steps = np.diff(np.unique(times))
    if not len(steps):
        raise HistoryError(f"{name}: one window only; at least {FEWEST} are needed")
    length = _duration("--window", wanted.window) if wanted.window else int(steps.min())
    return (times - times.min()) // max(length, 1), length


def _aged(rows: Sequence[tuple[str, int, float, float]], wanted: Wanted, name: str) -> tuple[tuple[World, ...], str]:
    """Worlds of versions that age as these did, from (version, window, quality, n)."""
    begins: dict[str, int] = {}
    for version, window, _, _ in rows:
        begins[version] = min(begins.get(version, window), window)
    versions: dict[str, list[Reading]] = defaultdict(list)
    for version, window, quality, n in rows:
        versions[version].append(Reading(window - begins[version], quality, n))
    windows = sum(max(r.age for r in found) + 1 for found in versions.values())
    _enough(windows, name)
    _not_too_many(windows, name)
    worlds = tuple(age_world(versions, seed=wanted.seed + draw) for draw in range(DRAWS))
    oldest = max(r.age for found in versions.values() for r in found) + 1
    assumed = (
        f"retraining is modelled: a new version starts and ages as the {len(versions)} of the history did, up to "
        f"{oldest} windows old, and stays as it is beyond; {DRAWS} draws of labels, twice the history each"
    )
    return worlds, assumed


# -- recordings ----------------------------------------------------------------------------------------------


def _recorded_history(paths: Sequence[Path], wanted: Wanted) -> History:
    """Audited quality per version and window of a recording, and how late labels came."""
    name = ", ".join(map(str, paths))
    recording = read_recording(paths)
    predictions: dict[str, list[Prediction]] = defaultdict(list)
    kept = kept_of_events([Stamped(i, time_us(e.time), e) for i, e in enumerate(recording.events)], 1.0)
    for table in recording.tables:
        for batch in table.combine_chunks().to_batches():
            kept += kept_of_frame(decode_batch(batch, 0), 1.0)
    for row in kept:
        predictions[row.inference_id].append(row)
    joined = [
        found for label in recording.labels if label.source == "ground-truth" for found in _joined(label, predictions)
    ]
    if not joined:
        raise HistoryError(f"{name}: no label is about a recorded inference; labels are matched by inference_id")
    length = _duration("--window", wanted.window) if wanted.window else wanted.window_us or DAY_US
    late = np.quantile([time - event for _, time, event, _, _ in joined], 0.9)
    first = min(event for _, _, event, _, _ in joined) // length
    sums: dict[tuple[str, int], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for version, _, event, right, weight in joined:
        total = sums[version, event // length - first]
        for i, value in enumerate((weight, weight * right, weight * weight)):
            total[i] += value
    rows = [(v, w, s[1] / s[0], s[0] ** 2 / s[2]) for (v, w), s in sorted(sums.items())]
    worlds, assumed = _aged(rows, wanted, name)
    assumed += f"; {len(joined)} labels, nine in ten within {duration_text(late)}"
    return History(worlds, length, math.ceil(late / length), assumed)


def _joined(label: LabelEvent, predictions: dict[str, list[Prediction]]) -> list[tuple[str, int, int, bool, float]]:
    """(version, label's time, prediction's time, right, weight) of a label with all that it is about."""
    stamped = Stamped(0, time_us(label.time), (label, None))
    found = [(p, labelled(stamped, p)) for p in predictions.get(label.inference_id, []) if about(label, p)]
    return [(p.version, row.time, row.event_time, row.correct, 1 / row.propensity) for p, row in found]
