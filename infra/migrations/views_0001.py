"""The views of the event store: the contract for dashboards and queries. Columns are only ever added.

Every view has the same columns in Postgres and SQLite. Times are `timestamptz` in Postgres and RFC 3339 text in
SQLite. What is read from an event's body is null where the body lacks it or holds another type.
This module belongs to migration 0001 and stays as it is; a migration that changes a view brings its own text.
"""

# ruff: noqa: S608 -- every part of these texts is a constant of this file

from collections.abc import Callable

from alembic import op

NAMES = ("v_status", "v_windows", "v_mismatches", "v_open_mismatches", "v_triggers")

_RFC3339 = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"
_EVENT = "e.seq, e.event_id, e.model, e.version, e.segment, e.check_name, e.severity, e.recorded_at"


# Hops through the index from subject to subject, then to the newest status of each: as many steps as there are
# subjects, where a window function would read every status ever written.
_SUBJECTS = """WITH RECURSIVE hop(seq) AS (
  SELECT (SELECT f.seq FROM event f WHERE f.kind = 'status' ORDER BY f.model, f.version, f.segment LIMIT 1)
  UNION ALL
  SELECT (SELECT n.seq FROM event n WHERE n.kind = 'status'
    AND (n.model, n.version, n.segment) > (p.model, p.version, p.segment)
    ORDER BY n.model, n.version, n.segment LIMIT 1)
  FROM hop JOIN event p ON p.seq = hop.seq)"""
_NEWEST = """hop JOIN event p ON p.seq = hop.seq JOIN event e ON e.seq = (SELECT l.seq FROM event l
  WHERE l.kind = 'status' AND l.model = p.model AND l.version = p.version AND l.segment = p.segment
  ORDER BY l.until_us DESC, l.seq DESC LIMIT 1)"""


class _Postgres:
    """The expressions that differ between the two databases, for Postgres."""

    @staticmethod
    def time(column: str) -> str:
        """Microseconds as a timestamp; the interval keeps every microsecond, `to_timestamp(double)` would not."""
        return f"(timestamptz 'epoch' + {column} * interval '1 microsecond')"

    @staticmethod
    def text(path: str) -> str:
        return f"(e.body #>> '{{{path.replace('.', ',')}}}')"

    @staticmethod
    def number(path: str) -> str:
        where = f"e.body #> '{{{path.replace('.', ',')}}}'"
        return f"(CASE WHEN jsonb_typeof({where}) = 'number' THEN ({where})::float8 END)"

    @staticmethod
    def stamp(path: str) -> str:
        text = _Postgres.text(path)
        return f"(CASE WHEN {text} ~ '{_RFC3339}' THEN {text}::timestamptz END)"


class _Sqlite:
    """The same expressions for SQLite."""

    @staticmethod
    def time(column: str) -> str:
        seconds = f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch')"
        return f"({seconds} || printf('.%06dZ', {column} % 1000000))"

    @staticmethod
    def text(path: str) -> str:
        return f"CAST(json_extract(e.body, '$.{path}') AS TEXT)"

    @staticmethod
    def number(path: str) -> str:
        kind = f"json_type(e.body, '$.{path}')"
        return f"(CASE WHEN {kind} IN ('integer', 'real') THEN CAST(json_extract(e.body, '$.{path}') AS REAL) END)"

    @staticmethod
    def stamp(path: str) -> str:
        return _Sqlite.text(path)


_Dialect = type[_Postgres] | type[_Sqlite]


def create() -> None:
    """Makes the views for the connected database."""
    dialect: _Dialect = _Postgres if op.get_bind().dialect.name == "postgresql" else _Sqlite
    makers: tuple[Callable[[_Dialect], str], ...] = (_status, _windows, _mismatches, _open_mismatches, _triggers)
    for name, make in zip(NAMES, makers, strict=True):
        op.execute(f"CREATE VIEW {name} AS {make(dialect)}")


def drop() -> None:
    """Drops the views, the last one made first."""
    for name in reversed(NAMES):
        op.execute(f"DROP VIEW {name}")


def _columns(expressions: dict[str, str]) -> str:
    return ", ".join(f"{expression} AS {name}" for name, expression in expressions.items())


def _when(d: _Dialect) -> str:
    names = {"occurred_at": "occurred_at_us", "window_start": "window_start_us", "window_end": "window_end_us"}
    return _columns({name: d.time(f"e.{column}") for name, column in names.items()})


def _status(d: _Dialect) -> str:
    """The status of every subject for its newest window; a revision of that window replaces it."""
    figures = {
        "n": d.number("window.n"),
        "metric": d.text("quality.metric"),
        "estimate": d.number("quality.estimate"),
        "low": d.number("quality.low"),
        "high": d.number("quality.high"),
        "basis": d.text("quality.basis"),
        "threshold": d.number("forecast.threshold"),
        "best_before": d.stamp("forecast.best_before"),
        "best_before_low": d.stamp("forecast.low"),
        "best_before_high": d.stamp("forecast.high"),
        "probability_within_lead_time": d.number("forecast.probability_within_lead_time"),
        "reason": d.text("forecast.reason"),
    }
    return f"{_SUBJECTS} SELECT {_EVENT}, {_when(d)}, {_columns(figures)}, e.body FROM {_NEWEST}"


def _windows(d: _Dialect) -> str:
    """Counts and conclusions of every window."""
    times = {name: d.time(f"w.{name}_us") for name in ("window_start", "window_end", "best_before")}
    counts = "w.n, w.n_late, w.n_capped, w.n_failed, w.n_input, w.n_labelled, w.n_correct, w.weight"
    return (
        f"SELECT w.model, w.version, w.segment, {_columns(times)}, {counts}, w.estimate, w.low, w.high, w.basis "
        "FROM window_total AS w"
    )


def _mismatch_columns(d: _Dialect) -> str:
    texts = {name: d.text(name) for name in ("verdict", "field", "message", "owner")}
    figures = {name: d.number(f"effect.{name}") for name in ("estimate", "low", "high", "threshold")}
    return f"{_EVENT}, {_when(d)}, {_columns(texts)}, {_columns(figures)}, e.body"


def _mismatches(d: _Dialect) -> str:
    """Every verdict that was published."""
    return f"SELECT {_mismatch_columns(d)} FROM event AS e WHERE e.kind = 'mismatch'"


def _open_mismatches(d: _Dialect) -> str:
    """What is wrong now: the newest verdict per subject, check and field, where that is a mismatch."""
    field = d.text("field")
    return (
        f"SELECT {_mismatch_columns(d)} FROM (SELECT e.*, row_number() OVER ("
        f"PARTITION BY e.model, e.version, e.segment, e.check_name, {field} "
        "ORDER BY e.until_us DESC, e.seq DESC) AS nth "
        f"FROM event AS e WHERE e.kind = 'mismatch') AS e WHERE e.nth = 1 AND {d.text('verdict')} = 'mismatch'"
    )


def _triggers(d: _Dialect) -> str:
    """Every call for action, in the order of `seq`."""
    texts = {name: d.text(name) for name in ("trigger_id", "action", "dedupe_key")}
    stamps = {name: d.stamp(name) for name in ("retrain_by", "cooldown_until")}
    return (
        f"SELECT {_EVENT}, {_when(d)}, {_columns(texts)}, {_columns(stamps)}, e.body "
        "FROM event AS e WHERE e.kind = 'trigger'"
    )
