"""Azure ML's data collector: CloudEvents of type `azureml.inference.…inputs` and `…outputs`, from files or topics.

Both halves share `correlationid`. The model is the endpoint's name unless the source says otherwise; endpoint and
deployment are also `envelope.endpoint` and `envelope.deployment`. Payloads above 256 kB are cut off by the collector
and refused here.
"""

import re
from typing import Any

from streams.adapters.cloud_events import Event, cloud_event
from streams.adapters.contract import Adapter, Part, Record, json_of, refused
from streams.adapters.payloads import Half, rows_of
from streams.adapters.times import moment
from streams.errors import Unadaptable

_EXPECTED = "an event of Azure ML's data collector"
_SOURCE = re.compile(r"/onlineEndpoints/([^/]+)(?:/deployments/([^/]+))?", re.IGNORECASE)
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


def read(record: Record, _: Any = None) -> list[Part]:
    """Inputs or outputs of one request. Raises Unadaptable."""
    event = cloud_event(record, lines=True)
    if event is None:
        raise refused("a record that is no CloudEvent", _EXPECTED)
    kind = event.attributes.get("type", "")
    if not kind.startswith("azureml.inference.") or not kind.endswith(("inputs", "outputs")):
        raise refused(f"a CloudEvent of type {kind[:80]!r}", _EXPECTED)
    return [_part("request" if kind.endswith("inputs") else "response", event)]


def _part(side: Half, event: Event) -> Part:
    about = event.attributes
    _refuse_cut(about, event.data)
    tree = json_of(event.data, "the rows that were collected")
    rows = rows_of(tree, side)
    found = _SOURCE.search(about.get("source", ""))
    endpoint, deployment = (found[1], found[2] or "") if found else ("", "")
    at = about.get("time")
    return Part(
        side=side, id=about.get("correlationid", ""), source=about.get("source", ""),
        time=moment(at) if at else None, model=endpoint, version=about.get("modelversion", ""),
        request=rows if side == "request" else None, response=rows if side == "response" else None,
        trees={"envelope": {**about, "endpoint": endpoint, "deployment": deployment}, side: tree},
    )  # fmt: skip


def _refuse_cut(about: dict[str, str], data: bytes) -> None:
    if not data or data == b"null":
        raise Unadaptable(f"the event holds no data{', only a reference to it' if about.get('dataref') else ''}")
    found = _RANGE.search(about.get("contentrange", ""))
    if found and int(found[2]) - int(found[1]) + 1 < int(found[3]):
        kept = int(found[2]) - int(found[1]) + 1
        raise Unadaptable(f"the payload was cut to {kept} of {int(found[3])} bytes; collect fewer columns")


ADAPTER = Adapter("azure-ml", "Azure ML data collector (CloudEvents)", read, pairs=True)
