"""The CloudEvents 1.0 envelope of everything that goes out, in binary mode: attributes as headers of the record.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

import re
from typing import Literal
from urllib.parse import quote

Kind = Literal["status", "mismatch", "retrain-trigger", "label-request", "lifecycle"]
MAJOR = 1  # of every kind; a breaking change gives the kind a new type, and the old one stays for a release
JSON = "application/json"
# What an attribute may not hold: control characters, halves of surrogate pairs, noncharacters.
_BARRED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def event_type(kind: Kind) -> str:
    """The attribute `type`.

    >>> event_type("mismatch")
    'io.bestbefore.mismatch.v1'
    """
    return f"io.bestbefore.{kind}.v{MAJOR}"


def schema_id(name: str) -> str:
    """The URI of a published schema, as `$id` and as the attribute `dataschema`.

    >>> schema_id("mismatch")
    'urn:bestbefore:schema:mismatch:v1'
    """
    return f"urn:bestbefore:schema:{name}:v{MAJOR}"


def source_of(group: str) -> str:
    """The attribute `source`: the deployment, by its consumer group.

    >>> source_of("shop 1")
    '/bestbefore/shop%201'
    """
    return f"/bestbefore/{quote(group, safe='-._~')}"


def traced(traceparent: str, tracestate: str = "") -> dict[str, str]:
    """The headers of the extension for distributed tracing: a request that led to the event."""
    return {"ce_traceparent": traceparent} | ({"ce_tracestate": tracestate} if tracestate else {})


def attributes(kind: Kind, name: str, *, group: str, time: str, subject: str) -> dict[str, str]:
    """The headers of one event; `name` is its id, which follows from what happened, and `time` is RFC 3339."""
    return {
        "ce_specversion": "1.0",
        "ce_id": name,
        "ce_source": source_of(group),
        "ce_type": event_type(kind),
        "ce_time": time,
        "ce_subject": _BARRED.sub(lambda found: quote(found[0], errors="surrogatepass"), subject),
        "ce_dataschema": schema_id(kind),
        "content-type": JSON,
    }
