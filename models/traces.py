"""Example requests behind a mismatch, as W3C trace contexts: those with the lowest hashes of ids, as all evidence is.

The profile keeps, beside the ids that show something, traces of requests that show it. Both are chosen by the hash of
the id among those that have one, so a replay names the same, in whatever order the records came.
"""

import re

from models.tables import TRACE, Tables

_PARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_traceparent(text: str) -> bool:
    """Whether a text is a traceparent of version 00, https://www.w3.org/TR/trace-context/.

    >>> is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), is_traceparent("00-0-0-01")
    (True, False)
    """
    return _PARENT.fullmatch(text) is not None


def examples(evidence: tuple[str, ...] = (), *profiles: Tables | None) -> list[str]:
    """Traces of at most SAMPLES requests that show what the ids `evidence` do, from the first profile that has some.

    Without evidence, or where it is any events, they are of any requests.
    """
    for profile in profiles:
        if profile is None or not any(name.startswith(TRACE) for name in profile.samples):
            continue
        shown = [name for name, kept in profile.samples.items() if evidence and tuple(t for _, t in kept) == evidence]
        for name in sorted(n for n in shown if n != "any") or ["any"]:
            found = [text for _, text in profile.samples.get(TRACE + name, ()) if is_traceparent(text)]
            if found:
                return list(dict.fromkeys(found))
    return []
