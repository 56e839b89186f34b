"""What aiokafka repeats while a broker is away is told once in a while, with how often it was said."""

import logging

from streams.log_thinning import EVERY, Thinned


def test_a_repeated_line_is_told_once_in_a_while_with_how_often_it_came() -> None:
    """Kinds are told apart by their text, not by its arguments."""
    now = [0.0]
    thinned = Thinned(lambda: now[0])
    told = []

    def say(text: str, *args: object) -> None:
        record = logging.LogRecord("aiokafka", logging.ERROR, __file__, 1, text, args, None)
        if thinned.filter(record):
            told.append(record.getMessage())

    for attempt in range(300):
        say("no answer from %s: %r", attempt, "refused")
        now[0] += 0.01
    say("something else")
    now[0] += EVERY
    say("no answer from %s: %r", 300, "refused")
    say("no answer from %s: %r", 301, "refused")
    now[0] += EVERY
    say("something else")
    assert told == [
        "no answer from 0: 'refused'",
        "something else",
        "no answer from 300: 'refused' (and 299 more like it)",
        "something else",
    ]
