"""The peer of benchmarks/bulk.py, in an environment of its own: quixstreams reads a topic and decodes its JSON.

    python benchmarks/bulk_quix.py BROKER TOPIC RECORDS

Prints records a second, between the first thousand and the last; every decoded event reaches one Python function.
"""

import sys
import time

from quixstreams import Application  # type: ignore[import-not-found]

FIRST = 1_000


def main() -> None:
    """Read so many records."""
    broker, topic, records = sys.argv[1], sys.argv[2], int(sys.argv[3])
    app = Application(
        broker_address=broker, consumer_group=f"quix-{time.time_ns()}", auto_offset_reset="earliest", loglevel="ERROR"
    )
    stream = app.dataframe(app.topic(topic, value_deserializer="json"))
    seen, marks = 0, []

    def see(_: object) -> None:
        nonlocal seen
        seen += 1
        if seen in (FIRST, records):
            marks.append(time.perf_counter())

    stream.update(see)
    app.run(count=records)
    print((records - FIRST) / (marks[1] - marks[0]))


if __name__ == "__main__":
    main()
