"""The life of a model version as people and CI tell it: deployed, promoted, rolled back to, retrained, retired.

A change counts from the window in which it happened: whoever decides about that window knows it. Another version that
takes over ends what this one had asked for, and this one asks for nothing more until it serves again. Changes may come
in any order; what was told last in event time holds.
"""

from typing import Any, NamedTuple

import msgspec

from models.columns import Subject
from models.notes import Note, note_id
from models.outcome_of_forecast import ENDED, Promise, outcome
from models.policy import PolicyState, close, hold, rfc3339, terms_of
from models.reference import Reference
from models.schedule import Advice, next_scheduled

SERVES = ("deployed", "promoted", "rolled-back")  # the version it names answers from now on
TOLD = ("trigger-resolved", "forecast-outcome")  # kinds that we write ourselves
MOST = 100  # changes that may wait at a time; beyond it the oldest is made at once


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One lifecycle event about a model, as it concerns each of its versions."""

    id: str
    at_us: int
    kind: str
    version: str
    previous: str = ""
    served: str = "live"  # what the version answers for; only `live` takes traffic away from others
    message: str = ""
    trigger_id: str = ""


class Life(msgspec.Struct):
    """What is known of the life of one model version."""

    serving: bool = True  # until somebody says otherwise, whoever has traffic serves
    since_us: int | None = None  # since when, as it was told; None: nobody ever did
    born_us: int | None = None  # windows that ended by then say nothing of this life
    told_us: int | None = None  # event time and id of the change that holds
    told_id: str = ""
    successor: str = ""  # the version that took over
    retired: bool = False
    candidate: str = ""  # the version that a retraining gave and that is not deployed yet
    pending: list[Change] = []
    promise: Promise | None = None  # what the trigger that asks for a retraining forecast
    crossed: bool = False  # whether that it came true has been told
    below_since_us: int | None = None  # end of the first window of the present stretch below the threshold
    below: bool = False  # and whether a whole interval has lain below it since
    advice: Advice = Advice()


class Turn(NamedTuple):
    """What changes came to. `renewed`: the version lives anew since `Life.born_us`."""

    policy: PolicyState
    renewed: bool
    notes: list[Note]


def take_in(life: Life, change: Change) -> None:
    """Let a change wait for its window."""
    life.pending = sorted([*life.pending, change], key=lambda c: (c.at_us, c.id))


def turn(life: Life, policy: PolicyState, subject: Subject, reference: Reference, upto_us: int) -> Turn:
    """Make the changes that happened before `upto_us`, in their order."""
    renewed = False
    notes: list[Note] = []
    while life.pending and (life.pending[0].at_us < upto_us or len(life.pending) > MOST):
        change = life.pending.pop(0)
        before, again = policy, False
        if change.kind in SERVES or (change.kind == "retired" and change.version == subject.version):
            policy, again = _served(life, policy, subject, change)
        elif change.kind == "retrained" and change.version != subject.version:
            life.candidate = change.version
            policy = hold(policy, change.at_us + reference.lead_time_us)
        renewed = renewed or again
        notes += resolved(life, subject, reference, before, policy, change.at_us, change=change)
    return Turn(policy, renewed, notes)


def _served(life: Life, policy: PolicyState, subject: Subject, change: Change) -> tuple[PolicyState, bool]:
    """Who serves from now on; also whether this version begins a new life."""
    own = change.version == subject.version
    if change.served != "live" and change.kind != "retired":
        return policy, False  # in the shadow nobody is replaced
    if life.told_us is not None and (change.at_us, change.id) <= (life.told_us, life.told_id):
        return policy, False  # something later is known already
    first = life.since_us is None
    life.told_us, life.told_id, life.candidate = change.at_us, change.id, ""
    life.serving, life.retired = own and change.kind != "retired", change.kind == "retired"
    if not life.serving:
        life.successor = "" if own else change.version
        return close(policy), False
    life.successor = ""
    life.since_us = change.at_us
    # What was seen of a version before it was deployed for the first time was rehearsal. One that was watched in
    # service already, as a canary or before a roll-back, is the same model still.
    if not first or change.kind != "deployed":
        return policy, False
    life.born_us = change.at_us
    life.below_since_us, life.below = None, False  # also this was rehearsal
    return close(policy), True


def recorded(change: Change, model: str) -> Note:
    """The event of the store that says that a change was told."""
    subject = Subject(model, change.version)
    fields = {"previous": change.previous, "message": change.message, "trigger_id": change.trigger_id}
    body = {
        "id": change.id, "time": rfc3339(change.at_us), "kind": change.kind, "model": model, "version": change.version,
        **{k: v for k, v in fields.items() if v}, **({} if change.served == "live" else {"served": change.served}),
    }  # fmt: skip
    return _note(Subject(model, ""), change.at_us, body, ("lifecycle", change.id), subject)


def resolved(
    life: Life, subject: Subject, reference: Reference, before: PolicyState, after: PolicyState, at_us: int,
    change: Change | None = None,
) -> list[Note]:  # fmt: skip
    """One line for each trigger that was open and is not any more, and one on what its forecast was worth."""
    notes = []
    for action, trigger in before.open_triggers.items():
        now = after.open_triggers.get(action)
        if now == trigger:
            continue
        how = _how(subject, action, change, replaced=now is not None and _still(before, after, action))
        body = {
            "kind": "trigger-resolved", "time": rfc3339(at_us), "model": subject.model, "version": subject.version,
            "trigger_id": trigger, "action": action, "resolution": how,
            "replaced_by": now if how == "replaced" else None,
            "successor": change.version if change and how == "superseded" else None,
            "because": change.id if change else None,
            "message": _SAID[how].format(action=action, version=life.successor),
        }  # fmt: skip
        notes.append(told(subject, at_us, body, "trigger-resolved", trigger))
        if action == "retrain":
            notes += worth(life, subject, reference, at_us, ENDED, how)
    return notes


def resolution_id(subject: Subject, trigger_id: str) -> str:
    """The id of the line that says what became of a trigger of this model version."""
    return note_id(subject, 0, "trigger-resolved", trigger_id)


def worth(life: Life, subject: Subject, reference: Reference, at_us: int, stage: str, how: str) -> list[Note]:
    """The line that says what the forecast of the open trigger was worth; none where there was no promise."""
    terms, promise = terms_of(reference), life.promise
    if terms is None or promise is None:
        return []
    crossed = life.below_since_us if life.below else None
    scheduled = next_scheduled(reference, promise.at_us, life.since_us)
    found = outcome(promise, terms, crossed_us=crossed, until_us=at_us, scheduled_us=scheduled, stage=stage)
    if stage == ENDED:
        life.promise = None
    body = {
        "kind": "forecast-outcome", "time": rfc3339(at_us), "model": subject.model, "version": subject.version,
        "stage": stage, "resolution": how, **found,
    }  # fmt: skip
    return [told(subject, at_us, body, "forecast-outcome", promise.trigger_id, stage)]


def lifecycle_fields(life: Life) -> dict[str, Any]:
    """The `lifecycle` object of a status line."""
    return {
        "serving": life.serving, "since": None if life.since_us is None else rfc3339(life.since_us),
        "successor": life.successor or None, "retired": life.retired, "candidate": life.candidate or None,
    }  # fmt: skip


_SAID = {
    "superseded": "version {version} has taken over",
    "retired": "the version was retired",
    "deployed": "the version was deployed and begins anew",
    "replaced": "another critical cause of {action} was found: the newer trigger names all of them",
    "recovered": "the quality is back, and a fall within the lead time is unlikely",
    "causes-resolved": "the causes that the trigger named are resolved",
}


def _how(subject: Subject, action: str, change: Change | None, *, replaced: bool) -> str:
    if change is None:
        return "replaced" if replaced else "recovered" if action == "retrain" else "causes-resolved"
    if change.version != subject.version:
        return "superseded"
    return "retired" if change.kind == "retired" else "deployed"


def _still(before: PolicyState, after: PolicyState, action: str) -> bool:
    """Whether the newer incident holds causes of the older one."""
    old, new = before.cures.get(action), after.cures.get(action)
    return bool(old and new and set(old.causes) & set(new.causes))


def told(subject: Subject, at_us: int, body: dict[str, Any], *parts: str) -> Note:
    """A line of the topic `lifecycle`; its id follows from `parts`."""
    return _note(subject, at_us, body, parts, subject)


def _note(key: Subject, at_us: int, body: dict[str, Any], parts: tuple[str, ...], subject: Subject) -> Note:
    name = note_id(key, 0, *parts)
    return Note(
        id=name, kind="lifecycle", subject=subject, at_us=at_us, start_us=at_us, end_us=at_us,
        body={"id": name, **body},
    )  # fmt: skip
