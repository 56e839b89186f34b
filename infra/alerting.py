"""Tells Alertmanager what is open: every mismatch with both sides, remedy and owner, and every trigger.

The store is read anew in every round and everything open is sent again, as Prometheus does it: so nothing is missed
while either is away, two of these processes say the same, and what they say of one mismatch has always the same labels
and the same beginning. What this process stops to send ends by itself.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from streams.errors import StoreError
from streams.overview import Overview
from streams.records import time_text
from streams.store_rows import StoredEvent

log = logging.getLogger(__name__)
MOST = 500  # alerts in a round; what is beyond them is one alert that says how many
MOST_TEXT = 500  # characters of a label or annotation
HOLDS, SHORTEST_HOLD = 4, 120.0  # rounds, and seconds, for which what was sent counts
RESOLVED_FOR = 900.0  # seconds for which an end is told, as Prometheus does, should Alertmanager be away
PATIENCE = 10.0  # seconds for an answer of Alertmanager
_ORDER = {"critical": 0, "warning": 1, "info": 2}
Alert = dict[str, Any]
Key = tuple[tuple[str, str], ...]
Post = Callable[[str, list[Alert]], str]  # what is wrong, empty where it was taken; OSError where nobody answers


class Sender:
    """One process that tells. `every` seconds lie between rounds; `board` is an address with {model} and {version}."""

    def __init__(
        self, to: Sequence[str], read: Callable[[], Overview], post: Post, *, every: float, board: str = ""
    ) -> None:
        self._to, self._read, self._post, self._board = [address.rstrip("/") for address in to], read, post, board
        self._hold = max(HOLDS * every, SHORTEST_HOLD)
        self._open: dict[Key, Alert] = {}
        self._ended: dict[Key, tuple[Alert, float]] = {}
        self.failing: set[str] = set()

    def round(self, now: float) -> int:
        """Read and send; the number of alerts that are open. `now` is seconds since the epoch."""
        try:
            self._look(alerts_of(self._read(), self._board), now)
            self._told("the store", "")
        except StoreError as error:
            # Nobody knows, so nothing has ended: what was open goes on being sent.
            self._told("the store", f"what was open goes on being sent; {error}")
        until = _text(now + self._hold)
        alerts = [{**alert, "endsAt": until} for alert in self._open.values()]
        alerts += [{**alert, "endsAt": _text(ended)} for alert, ended in self._ended.values()]
        for address in self._to:
            try:
                self._told(address, self._post(f"{address}/api/v2/alerts", alerts))
            except (OSError, HTTPException) as error:
                self._told(address, f"no alert reaches it; {str(error) or type(error).__name__}")
        return len(self._open)

    def _look(self, found: Iterable[Alert], now: float) -> None:
        before, self._open = self._open, {_key(alert): alert for alert in found}
        self._ended |= {key: (alert, now) for key, alert in before.items() if key not in self._open}
        self._ended = {
            key: (alert, ended)
            for key, (alert, ended) in self._ended.items()
            if key not in self._open and now - ended < RESOLVED_FOR
        }

    def _told(self, whom: str, wrong: str) -> None:
        """A line when something begins to fail, and one when it is well again."""
        if wrong and whom not in self.failing:
            log.warning("%s does not do its part, and is asked again in every round: %s", whom, wrong)
            self.failing.add(whom)
        elif not wrong and whom in self.failing:
            log.warning("%s answers again", whom)
            self.failing.discard(whom)


def alerts_of(found: Overview, board: str = "") -> list[Alert]:
    """What is open as alerts without an end, the most severe first and of those the oldest."""
    told = [_mismatch(event, board) for event in found.mismatches] + [
        _trigger(event, board) for event in found.triggers
    ]
    told.sort(key=lambda alert: (_ORDER.get(alert["labels"]["severity"], 3), alert["startsAt"], _key(alert)))
    beyond = told[MOST:]
    if beyond:
        summary = f"{len(beyond)} further mismatches and triggers are open: `bestbefore status` shows all"
        labels = {"alertname": "BestbeforeMore", "severity": beyond[0]["labels"]["severity"]}
        told = [*told[:MOST], _alert(labels, {"summary": summary}, beyond[0]["startsAt"], "")]
    return told


def _mismatch(event: StoredEvent, board: str) -> Alert:
    body = event.body
    labels = {
        "alertname": "BestbeforeMismatch", **_subject(event), "check": event.check, "field": body.get("field"),
        "severity": event.severity, "owner": body.get("owner"), "action": body.get("action"),
    }  # fmt: skip
    annotations = {
        "summary": f"{event.model} {event.version}: {body.get('message')}", "declared": _side(body.get("left")),
        "seen": _side(body.get("right")), "effect": _effect(body.get("effect")), "remedy": body.get("remedy"),
        "owner": body.get("owner"), "event": event.event_id, "runbook": "docs/operations.md#when-a-mismatch-opens",
    }  # fmt: skip
    return _alert(labels, annotations, body.get("first_seen") or time_text(event.occurred_at_us), _link(board, event))


def _trigger(event: StoredEvent, board: str) -> Alert:
    body, forecast = event.body, event.body.get("forecast") or {}
    action, by = body.get("action"), body.get("retrain_by")
    labels = {
        "alertname": "BestbeforeTrigger", **_subject(event), "action": action, "severity": event.severity,
        "trigger_id": body.get("trigger_id"),
    }  # fmt: skip
    annotations = {
        "summary": f"{event.model} {event.version} asks to {action}, by {by}",
        "good_until": forecast.get("low"), "best_before": forecast.get("best_before"),
        "reason": _reason(body.get("reason") or {}), "retrain_by": by, "event": event.event_id,
        "runbook": "docs/operations.md#when-a-mismatch-opens",
    }  # fmt: skip
    return _alert(labels, annotations, body.get("created_at") or time_text(event.occurred_at_us), _link(board, event))


def _subject(event: StoredEvent) -> dict[str, str]:
    return {"model": event.model, "version": event.version, "segment": event.segment}


def _alert(labels: dict[str, Any], annotations: dict[str, Any], starts: Any, link: str) -> Alert:
    alert: Alert = {"labels": _texts(labels), "annotations": _texts(annotations), "startsAt": starts}
    return {**alert, "generatorURL": link} if link else alert


def _texts(parts: dict[str, Any]) -> dict[str, str]:
    """Short texts; Alertmanager takes an empty label for none."""
    return {name: str(value)[:MOST_TEXT] for name, value in parts.items() if value not in (None, "")}


def _side(part: Any) -> str:
    """One side of a mismatch: where it stands and what is there."""
    if isinstance(part, dict) and set(part) >= {"path", "value"}:
        return f"{part['path']} = {_json(part['value'])}"
    return "" if part is None else _json(part)


def _effect(effect: Any) -> str:
    if not isinstance(effect, dict):
        return ""
    threshold = "" if effect.get("threshold") is None else f", threshold {effect['threshold']}"
    return f"{effect.get('statistic')} {_interval(effect)}{threshold}"


def _interval(reading: dict[str, Any]) -> str:
    if reading.get("low") is None or reading.get("high") is None:
        return str(reading.get("estimate"))
    return f"{reading.get('estimate')} [{reading['low']}, {reading['high']}]"


def _reason(reason: dict[str, Any]) -> str:
    quality = reason.get("quality") or {}
    parts = [
        str(reason.get("rule")),
        f"{reason.get('metric')} {_interval(quality)}, threshold {reason.get('threshold')}" if quality else "",
        *(str(cause.get("message")) for cause in (reason.get("withheld") or {}).get("because", ())),
    ]
    return "; ".join(part for part in parts if part)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _link(board: str, event: StoredEvent) -> str:
    quoted = {name: quote(getattr(event, name), safe="") for name in ("model", "version")}
    return board.format(**quoted) if board else ""


def _key(alert: Alert) -> Key:
    return tuple(sorted(alert["labels"].items()))


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def post_with(token: str) -> Post:
    """How alerts are posted: as JSON, with the token as `Authorization: Bearer` where there is one."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}

    def post(address: str, alerts: list[Alert]) -> str:
        to = urlsplit(address)
        kind = HTTPSConnection if to.scheme == "https" else HTTPConnection
        connection = kind(to.hostname or "", to.port, timeout=PATIENCE)
        try:
            connection.request("POST", to.path, json.dumps(alerts), headers)
            answer = connection.getresponse()
            said = answer.read(300).decode(errors="replace").strip()
            return "" if answer.status < 300 else f"takes no alert; it answers {answer.status} {answer.reason}: {said}"
        finally:
            connection.close()

    return post


def tell(sender: Sender, every: float) -> None:
    """A round every so many seconds, until a signal ends the process."""
    while True:
        began = time.monotonic()
        sender.round(time.time())
        time.sleep(max(every - (time.monotonic() - began), 0.0))
