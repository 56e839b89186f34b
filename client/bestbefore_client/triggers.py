"""Retrain triggers for whoever acts on them: how to read one, which are open, and how to answer.

The topic `retrain-triggers` is at-least-once: the same trigger may come twice, always with the same `trigger_id`. Name
the run after it, and it happens once. What was missed is found by `open_triggers`. An answer (`retraining-started`,
`retrained`, `deployed`, `retraining-refused`) goes to the topic `lifecycle` and closes the loop: all but the first take
the trigger off that list. `bestbefore_client.acting` is a ready loop on top of this.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple, Union

TOPIC = "retrain-triggers"
LIFECYCLE = "lifecycle"
TYPE = "io.bestbefore.retrain-trigger."  # of the CloudEvent; a version follows
STARTED, RETRAINED, DEPLOYED, REFUSED = ANSWERS = (
    "retraining-started",
    "retrained",
    "deployed",
    "retraining-refused",
)

OPEN_TRIGGERS = """\
SELECT t.trigger_id, t.model, t.version, t.action, t.severity, t.body
FROM v_triggers AS t
WHERE COALESCE(t.body -> 'reason' ->> 'rule', '') <> 'schedule-not-needed'
  AND NOT EXISTS (
    SELECT 1 FROM event AS e
    WHERE e.kind = 'lifecycle' AND e.model = t.model AND e.body ->> 'trigger_id' = t.trigger_id
      AND e.body ->> 'kind' IN ('trigger-resolved', 'retrained', 'deployed', 'retraining-refused'))
ORDER BY t.seq"""
"""Triggers of the event store that nobody has finished and nothing has resolved, oldest first; Postgres and SQLite.

One that was only started is among them: whoever started it may have died. Advice (not to retrain) is not.
"""


class NotATrigger(ValueError):
    """A record or body that is no retrain trigger; says what it lacks."""


@dataclass(frozen=True)
class Trigger:
    """One call for action. `body` is all of it, as the reference of topics describes it; times are RFC 3339, UTC."""

    trigger_id: str
    action: str  # retrain, recalibrate, fix-pipeline, roll-back or review
    model: str
    version: str  # that decays, and is to be replaced
    severity: str
    retrain_by: str
    created_at: str
    body: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def advice(self) -> bool:
        """Whether it asks for nothing: it advises against a retraining by the calendar."""
        reason = self.body.get("reason")
        return isinstance(reason, Mapping) and reason.get("rule") == "schedule-not-needed"


Headers = Iterable[tuple[str, Union[bytes, str, None]]]


def read_trigger(value: bytes | str | Mapping[str, Any] | None, headers: Headers | None = None) -> Trigger:
    """Read a trigger: JSON, the data of a binary CloudEvent, a structured CloudEvent, or what is decoded already.

    Raises NotATrigger.

    >>> read_trigger(b'{"trigger_id": "7", "action": "retrain", "model_name": "digits", "model_version": "3"}').model
    'digits'
    """
    kind = next((v for k, v in headers or () if k.lower() == "ce_type"), None)
    body = _decoded(value)
    if "specversion" in body and "data" in body:
        kind, body = body.get("type"), _decoded(body["data"])
    kind = kind.decode("utf-8", "replace") if isinstance(kind, bytes) else kind
    if kind and not kind.startswith(TYPE):
        raise NotATrigger(f"a CloudEvent of type {kind!r}, not {TYPE}v1; is this the topic {TOPIC}?")
    names = ("trigger_id", "action", "model_name", "model_version")
    lacking = [name for name in names if not isinstance(body.get(name), str) or not body[name]]
    if lacking:
        raise NotATrigger(f"lacks {', '.join(lacking)}; a trigger has them as texts")
    trigger_id, action, model, version = (body[name] for name in names)
    severity, retrain_by, created_at = (str(body.get(name) or "") for name in ("severity", "retrain_by", "created_at"))
    return Trigger(trigger_id, action, model, version, severity, retrain_by, created_at, body)


def open_triggers(connection: Any) -> list[Trigger]:
    """What is to be done: `OPEN_TRIGGERS` over a connection of any DB-API driver of Postgres or SQLite.

    It needs no more than the store's reader role. Raises what the driver raises.
    """
    cursor = connection.cursor()
    try:
        cursor.execute(OPEN_TRIGGERS)
        return [read_trigger(row[5]) for row in cursor.fetchall()]
    finally:
        cursor.close()


class Answer(NamedTuple):
    """A record for the topic `lifecycle`."""

    key: bytes
    value: bytes
    id: str


def answer(
    trigger: Trigger, kind: str, version: str = "", *, message: str = "", time: datetime | None = None
) -> Answer:
    """Say what became of a trigger; the same trigger, kind and version have the same id, so telling it again is safe.

    `version` is the new one, required for `retrained` and `deployed`; `time` is when it happened, now by default.
    Raises ValueError for another kind or a missing version.

    >>> trigger = read_trigger({"trigger_id": "7", "action": "retrain", "model_name": "digits", "model_version": "3"})
    >>> answer(trigger, "retrained", "4").id
    '7/retrained/4'
    """
    if kind not in ANSWERS:
        raise ValueError(f"an answer is {', '.join(ANSWERS)}; not {kind!r}")
    made = kind in (RETRAINED, DEPLOYED)
    if made and not version:
        raise ValueError(f"{kind}: name the version that came of it")
    version = version if made else trigger.version
    name = answer_id(trigger.trigger_id, kind, version)
    told = {
        "id": name,
        "time": (time or datetime.now(timezone.utc)).astimezone(timezone.utc).isoformat(),
        "kind": kind,
        "model": trigger.model,
        "version": version,
        "trigger_id": trigger.trigger_id,
        "previous": trigger.version if kind == DEPLOYED else "",
        "message": message[:1000],
    }
    value = json.dumps({k: v for k, v in told.items() if v}, ensure_ascii=False).encode()
    return Answer(trigger.model.encode(), value, name)


def answer_id(trigger_id: str, kind: str, version: str) -> str:
    """Give the id of an answer, which follows from what it says; at most 200 characters."""
    return f"{trigger_id}/{kind}/{version}"[:200]


def payload(message: Any) -> dict[str, Any] | None:
    """Give the trigger in a message of confluent-kafka as a dict; None for advice and for what is no trigger.

    For Airflow's `apply_function`, which takes its name: whatever is false there rings no bell.
    """
    try:
        trigger = read_trigger(message.value(), message.headers())
    except NotATrigger:
        return None
    return None if trigger.advice else dict(trigger.body)


def answers(trigger: str | Mapping[str, Any], kind: str, version: str = "") -> Iterator[tuple[bytes, bytes]]:
    """Give the one record of an answer as key and value; for Airflow's `producer_function`. Raises as `answer`."""
    key, value, _ = answer(read_trigger(trigger), kind, version)
    yield key, value


def _decoded(value: Any) -> Mapping[str, Any]:
    if isinstance(value, (bytes, bytearray, str)):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise NotATrigger(f"no JSON: {error}") from None
    if not isinstance(value, Mapping):
        raise NotATrigger("no JSON object")
    return value
