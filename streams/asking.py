"""Which of the inferences that come in labels are asked for: by the registered plan and the hash of the id alone."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from bestbefore_client.sampling import u64
from numpy.typing import NDArray

from models.columns import Floats, Inferences
from models.label_sampling import Plan, step_of, stepped
from models.quality import top_confidence
from models.reference import Reference
from streams.event_columns import has_failed, is_live
from streams.events import Moment
from streams.frames import Decoded
from streams.records import InferenceEvent, segment_key, time_text
from streams.store_rows import Prediction

ReferenceOf = Callable[[str, str], Reference]
ASKED = "asked"  # where the log of a request stands in the `extra` of a kept prediction


class Asked(NamedTuple):
    """What `Inferences` says of each row: `propensity`, `asked` and `step`."""

    propensity: Floats
    asked: NDArray[np.bool_]
    step: NDArray[np.int64]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of a CloudEvent `io.bestbefore.label-request.v1`: somebody should say whether this answer was right.

    A label after `due` no longer counts.
    """

    inference_id: str
    """Whose label is wanted; answer with a label event for it."""
    model: str
    """Name of the model."""
    version: str
    """Version of the model that answered."""
    segment: str | None
    """Canonical JSON of the segment; null where there is none."""
    time: Moment
    """When the model answered."""
    propensity: float
    """Probability with which it was asked for; a label need not repeat it."""
    reason: str
    """`uniform`, `doubt` (the answer is uncertain) or `scarce` (the segment has seen few labels)."""
    due: Moment | None
    """`time` plus the declared delay of labels; null where none is declared."""


def plan_of(reference: Reference, keep_rate: float) -> Plan | None:
    """The plan of a model version; what is not kept cannot be joined, so nothing else is asked for."""
    plan = reference.labels.plan
    return None if plan is None or keep_rate <= 0 else msgspec.structs.replace(plan, ceiling=min(keep_rate, 1.0))


def ask_of_frame(decoded: Decoded, keep_rate: float, reference_of: ReferenceOf) -> None:
    """Set `propensity` and `asked` of the frame's rows, where a model in it declares a budget of labels."""
    rows = decoded.rows
    plans = {
        s: plan for s, _ in decoded.subjects if not s.segment and (plan := plan_of(reference_of(*s[:2]), keep_rate))
    }
    if not plans or rows.id_hash is None:
        return
    names, codes = _segments(decoded, len(rows))
    propensity, step = np.zeros(len(rows)), np.full(len(rows), -1)
    for subject, where in decoded.subjects:
        if subject in plans:
            proxy = _proxies(rows.take(where), reference_of(*subject[:2]))
            propensity[where] = plans[subject].propensities(proxy, names, codes[where])
            step[where] = step_of(proxy)
    if rows.live is not None:
        propensity[~rows.live] = 0.0
    rows.propensity, rows.step = propensity, step
    rows.asked = Plan(rate=1.0).chosen(rows.id_hash, propensity)


def _segments(decoded: Decoded, size: int) -> tuple[list[str], NDArray[np.int64]]:
    names, codes = [""], np.zeros(size, np.int64)
    for subject, where in decoded.subjects:
        if subject.segment:
            codes[where] = len(names)
            names.append(subject.segment)
    return names, codes


def _proxies(rows: Inferences, reference: Reference) -> Floats:
    """P(correct) in steps; NaN where there is no answer, or none with scores."""
    if rows.scores is None:
        return np.full(len(rows), np.nan)
    confidence = top_confidence(rows.scores, reference.calibration.temperature if reference.calibration else 1.0)
    for flags in (rows.failed, rows.abstained):
        if flags is not None:
            confidence[flags] = np.nan
    return stepped(confidence)


def ask_of_events(events: Sequence[InferenceEvent], keep_rate: float, reference_of: ReferenceOf) -> Asked | None:
    """The same of single events; None where no model among them declares a budget of labels."""
    propensity, step = np.zeros(len(events)), np.full(len(events), -1)
    asking = False
    for i, event in enumerate(events):
        reference = reference_of(event.model, event.version)
        plan = plan_of(reference, keep_rate)
        if plan is None:
            continue
        asking = True
        if is_live(event):
            proxy = _proxy(event, reference)
            propensity[i] = plan.propensities(proxy, (segment_key(event.segment),), np.zeros(1, np.int64))[0]
            step[i] = step_of(proxy)[0]
    if not asking:
        return None
    hashes = np.array([u64(event.id) for event in events], dtype=np.uint64)
    return Asked(propensity, Plan(rate=1.0).chosen(hashes, propensity), step)


def _proxy(event: InferenceEvent, reference: Reference) -> Floats:
    out = event.output
    if not out or not out.scores or has_failed(event) or event.abstained:
        return np.full(1, np.nan)
    scores = np.array([list(out.scores.values())])
    return stepped(top_confidence(scores, reference.calibration.temperature if reference.calibration else 1.0))


def ask(kept: Sequence[Prediction], keep_rate: float, reference_of: ReferenceOf) -> list[Prediction]:
    """The same predictions; where a label is asked for, with the log of that in `extra`."""
    found = list(kept)
    by_version: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(found):
        by_version.setdefault((row.model, row.version), []).append(i)
    for version, where in by_version.items():
        plan = plan_of(reference_of(*version), keep_rate)
        if plan is None:
            continue
        rows = [found[i] for i in where]
        proxy = stepped(np.array([np.nan if r.confidence is None else r.confidence for r in rows]))
        names = sorted({r.segment for r in rows})
        places = {name: i for i, name in enumerate(names)}
        propensity = plan.propensities(proxy, names, np.array([places[r.segment] for r in rows]))
        hashes = np.array([u64(r.inference_id) for r in rows], dtype=np.uint64)
        for k in np.flatnonzero(plan.chosen(hashes, propensity)).tolist():
            row = rows[k]
            log: dict[str, Any] = {
                "propensity": float(propensity[k]),
                "reason": plan.reason(int(hashes[k]), float(proxy[k]), row.segment),
            }
            found[where[k]] = msgspec.structs.replace(row, extra={**(row.extra or {}), ASKED: log})
    return found


def asked_with(row: Prediction) -> float | None:
    """The propensity with which a label was asked for; None where none was."""
    found = (row.extra or {}).get(ASKED)
    return float(found["propensity"]) if found else None


def request_of(row: Prediction, reference: Reference) -> Request | None:
    """The request for the label of a kept prediction; None where none was asked for."""
    found = (row.extra or {}).get(ASKED)
    if not found:
        return None
    delay = reference.labels.delay_us
    return Request(
        inference_id=row.inference_id, model=row.model, version=row.version, segment=row.segment or None,
        time=time_text(row.time_us), propensity=found["propensity"], reason=found["reason"],
        due=None if delay is None else time_text(row.time_us + delay),
    )  # fmt: skip
