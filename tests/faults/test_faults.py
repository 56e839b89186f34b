"""The promise under faults: every acknowledged event is counted exactly once, and one cause gives one trigger.

The short form of what `make soak` does for longer: the harshest faults of each target, all targets at once.
"""

import time

import pytest

from tests.faults.bad_records import poison
from tests.faults.checker import verdict
from tests.faults.nemesis import named
from tests.faults.play import play
from tests.faults.rig import PASSED, rig
from tests.faults.traffic import DAY_US, SOURCES, Traffic

SEED = 2026
DAYS_PER_SECOND = 1.2
MOST_MEMORY = 700e6  # bytes of a worker
PLAN = [
    named("worker paused beyond its session", "store half-open"),
    named("broker half-open", "store stopped"),
    named("worker killed (-9)", "broker killed (-9)"),
]


@pytest.mark.timeout(400)
def test_counts_are_exact_and_one_trigger_comes_under_faults(capsys: pytest.CaptureFixture[str]) -> None:
    """Two workers, a broker, a store and their network, all hurt during 200 000 events."""
    began, traffic = time.monotonic(), Traffic(SEED, sources=(*SOURCES, poison))
    with rig(SEED, traffic.versions) as place:
        run = play(place, traffic, DAYS_PER_SECOND * DAY_US, PLAN)
        settled = time.monotonic() - began
        found, crew = verdict(place), place.crew
        first, second = crew.workers
        ends = [first.stop()]
        place.broker.kill()
        ends.append(second.stop())
        story = (
            f"\n{place.sender.events} events, {place.sender.acknowledged} records, {settled:.0f} s; recovered after "
        )
        story += ", ".join(f"{one.recovery:.1f} s ({' and '.join(one.names)}, last {one.last})" for one in run.injected)
        story += f"; largest worker {crew.largest / 1e6:.0f} MB; ended: {crew.ended or 'none'}; {place.folder}\n"
        with capsys.disabled():
            print(story)  # noqa: T201 -- what was survived is worth knowing also when it passes
        assert place.sender.events == 200_000
        assert not found.broken(), "\n".join(found.broken()) + story + crew.logs()
        assert found.triggers == 1, story + crew.logs()
        assert found.dead_letters >= found.poison > 0
        assert not run.backwards, "\n".join(run.backwards)
        assert not run.slow(), story + crew.logs()
        assert crew.largest < MOST_MEMORY
        assert {status for _, status, _ in crew.ended} <= {2}, story + crew.logs()  # a start while a service is away
        assert ends == [0, 0], crew.logs()  # with the broker away it cannot commit, but it ends
        (place.folder / PASSED).touch()
