"""How every model version stands, kept up with the store by reading only what is new."""

from collections import deque
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any, NamedTuple

from infra.web import verdicts
from streams.records import time_text
from streams.store_pages import PageReader
from streams.store_rows import StoredEvent

MOST_MODELS, MOST_SUBJECTS, MOST_MISMATCHES = 500, 20_000, 5_000
MOST_NEWS, PAGE = 5_000, 1_000  # events; where more have come, everything is read anew
OVERLAP_US = 30_000_000  # so long after an event another with a smaller number may still be committed
ANEW_US, TURN_US = 600_000_000, 5_000_000  # everything is read anew after so long; rows are made anew: dates pass

Key = tuple[str, str]
Fact = tuple[str, str, str, str, str]  # model, version, segment, check, field


class Subject(NamedTuple):
    """The newest status of a subject, and what orders it."""

    until: str
    seq: int
    body: dict[str, Any]


class Overview:
    """Not for several threads at once. `refresh` may raise StoreError; what was known before stays then."""

    def __init__(self, reader: PageReader, now_us: Callable[[], int]) -> None:
        self._reader, self._now_us = reader, now_us
        self._subjects: dict[tuple[str, str, str], Subject] = {}
        self._mismatches: dict[Fact, tuple[str, int, dict[str, Any]]] = {}
        self._triggers: dict[str, dict[str, Any]] = {}
        self._registered: dict[Key, str] = {}
        self._reached: deque[tuple[int, int]] = deque()  # when, and which number had been read by then
        self._loaded_us: int | None = None
        self._made_us, self._stale = 0, True  # when the rows were made, and whether something has changed since
        self.rows: dict[Key, dict[str, Any]] = {}
        self.total = 0  # model versions, also those beyond the limit
        self.cut = False  # whether the store holds more than is read
        self.changes: dict[Key, int] = {}  # number of the last event about each

    def refresh(self) -> None:
        """Read what is new, and make the rows again: time passes too."""
        now_us = self._now_us()
        if self._loaded_us is None or now_us - self._loaded_us > ANEW_US or not self._follow(now_us):
            self._load(now_us)
        if self._stale or now_us - self._made_us > TURN_US:
            self._ask_triggers()
            self.rows, self._made_us, self._stale = self._made(now_us), now_us, False

    # -- reading -------------------------------------------------------------------------------------------------

    def _load(self, now_us: int) -> None:
        newest = self._reader.newest()
        standings = self._reader.standings(MOST_SUBJECTS)
        open_now = self._reader.open_mismatches(MOST_MISMATCHES)
        registered = self._reader.registered(MOST_SUBJECTS)
        self._subjects = {
            (s.model, s.version, s.segment): Subject(_until(s.body), s.seq, s.body) for s in standings
        }  # fmt: skip
        self._mismatches = {_fact(body): (_until(body), 0, body) for body in open_now}
        self._registered = registered
        self.cut = len(standings) == MOST_SUBJECTS or len(open_now) == MOST_MISMATCHES
        self._reached = deque([(now_us, newest)])
        self._loaded_us, self._stale = now_us, True
        self.changes = {key[:2]: newest for key in self._subjects}

    def _follow(self, now_us: int) -> bool:
        """Take in what is new; False where that is too much."""
        while len(self._reached) > 1 and self._reached[1][0] <= now_us - OVERLAP_US:
            self._reached.popleft()
        after, newest = self._reached[0][1], self._reached[-1][1]
        for _ in range(MOST_NEWS // PAGE):
            news = self._reader.news(after, PAGE)
            for event in news:
                self._take(event, new=event.seq > newest)
            after = max([after, *(event.seq for event in news)])
            if len(news) < PAGE:
                self._reached.append((now_us, max(after, newest)))
                return True
        return False

    def _take(self, event: StoredEvent, *, new: bool) -> None:
        key = (event.model, event.version)
        if new:
            self.changes[key] = event.seq
            self._stale = True
        if event.kind == "status":
            mine = (*key, event.segment)
            told = Subject(_until(event.body), event.seq, event.body)
            known = self._subjects.get(mine)
            if (known is None or told[:2] > known[:2]) and (known is not None or len(self._subjects) < MOST_SUBJECTS):
                self._subjects[mine], self._stale = told, True
        elif event.kind == "mismatch":
            self._noted(event)
        elif event.kind == "trigger":
            self._triggers[event.event_id] = event.body
        elif event.kind == "registration":
            self._registered.setdefault(key, time_text(event.occurred_at_us))

    def _noted(self, event: StoredEvent) -> None:
        fact, told = _fact(event.body), (_until(event.body), event.seq, event.body)
        known = self._mismatches.get(fact)
        if known is not None and known[:2] >= told[:2]:
            return
        # What is resolved stays until everything is read anew: an older line may still come.
        if known is not None or len(self._mismatches) < MOST_MISMATCHES:
            self._mismatches[fact], self._stale = told, True

    def _ask_triggers(self) -> None:
        """The triggers that are open and that nobody has told of since the page was first asked for."""
        wanted = {i for s in self._subjects.values() for i in (s.body.get("open_triggers") or {}).values()}
        missing = sorted(wanted - self._triggers.keys())
        found = self._reader.by_id(missing) if missing else {}
        kept = {name: body for name, body in self._triggers.items() if name in wanted}
        self._triggers = kept | {name: event.body for name, event in found.items()}

    # -- rows ----------------------------------------------------------------------------------------------------

    def mismatches_of(self, model: str, version: str) -> list[dict[str, Any]]:
        """What is open of a model version, those of all versions side by side included; worst first."""
        rank = {"critical": 0, "warning": 1, "info": 2}
        found = [
            body for fact, (_, _, body) in self._mismatches.items()
            if fact[0] == model and fact[1] in ("", version) and body.get("verdict") == "mismatch"
        ]  # fmt: skip
        return sorted(found, key=lambda body: (rank.get(str(body.get("severity")), 1), body.get("first_seen") or ""))

    def segments_of(self, model: str, version: str) -> dict[str, dict[str, Any]]:
        """The figures of every segment of a model version."""
        mine = ((key[2], s.body) for key, s in self._subjects.items() if key[:2] == (model, version) and key[2])
        return dict(sorted(mine))

    def _made(self, now_us: int) -> dict[Key, dict[str, Any]]:
        whole = {key[:2]: s.body for key, s in self._subjects.items() if key[1] and not key[2]}
        parts: dict[Key, dict[str, int]] = {}
        for (model, version, segment), subject in self._subjects.items():
            if segment:
                counts = parts.setdefault((model, version), {"n": 0, "below": 0, "unknown": 0, "good": 0})
                counts["n"] += 1
                counts[verdicts.part_state(subject.body)] += 1
        by_model: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for fact, (_, _, body) in self._mismatches.items():
            if body.get("verdict") == "mismatch":
                by_model.setdefault(fact[0], []).append((fact[1], body))
        rows = {
            key: verdicts.row(
                *key, body, now_us=now_us, segments=parts.get(key),
                mismatches=[m for version, m in by_model.get(key[0], ()) if version in ("", key[1])],
                triggers=[t for t in map(self._triggers.get, (body.get("open_triggers") or {}).values()) if t],
            )
            for key, body in whole.items()
        }  # fmt: skip
        rows |= {key: verdicts.waiting(*key, at) for key, at in self._registered.items() if key not in rows}
        self.total = len(rows)
        worst = sorted(rows.values(), key=itemgetter("order"))[:MOST_MODELS]
        return {(found["model"], found["version"]): found for found in worst}


def _until(body: dict[str, Any]) -> str:
    """Where a line stands in event time; RFC 3339 in UTC compares as text, but for its fractions."""
    return str((body.get("window") or {}).get("end") or "")


def _fact(body: dict[str, Any]) -> Fact:
    parts = (body.get(name) or "" for name in ("model", "version", "segment", "check", "field"))
    model, version, segment, check, field = map(str, parts)
    return model, version, segment, check, field


def differing(old: dict[Key, dict[str, Any]], new: dict[Key, dict[str, Any]]) -> tuple[list[Any], list[Key]]:
    """The rows that are new or other, worst first, and the keys of those that are gone."""
    return [row for key, row in new.items() if old.get(key) != row], sorted(old.keys() - new.keys())


def news(rows: Iterable[Any], gone: Iterable[Key]) -> dict[str, Any]:
    """What changed, as the page takes it in."""
    return {"models": list(rows), "gone": [{"model": model, "version": version} for model, version in gone]}
