"""The fault suite for as long as one likes: `python -m tests.faults.soak --minutes 20 --seed 7`, or `make soak`.

A line for each fault while it runs, a table at the end, and exit status 1 when anything is not as promised.
"""

import json
import logging
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import click
import msgspec

from tests.faults.bad_records import poison
from tests.faults.checker import Verdict, verdict
from tests.faults.nemesis import FAULTS, rounds
from tests.faults.play import RECOVERED_WITHIN, Injected, Run, play
from tests.faults.rig import PASSED, Rig, rig
from tests.faults.traffic import DAY_US, SOURCES, Traffic

DAYS_PER_SECOND = 0.4  # 2000 events a second
MOST_MEMORY_MB = 700
AT_START = 2  # exit status of a worker that finds broker or store away when it starts


class Report(msgspec.Struct, kw_only=True):
    """What `--json` writes."""

    seed: int
    minutes: float
    events: int
    records: int
    faults: dict[str, tuple[int, float]]  # how often, and the longest recovery in seconds
    verdict: Verdict
    moved_back: list[str]
    slow: list[Injected]
    longest: Injected
    largest_worker_mb: float
    ended: list[tuple[str, int, str]]
    broken: list[str]


def soak(seed: int, minutes: float) -> Report:
    """Run it. The folder with all logs stays when anything is broken."""
    traffic = Traffic(seed, days=int(minutes * 60 * DAYS_PER_SECOND) + 2, sources=(*SOURCES, poison))
    began = time.monotonic()

    def told(one: Injected, place: Rig) -> None:
        late = "" if one.recovery <= RECOVERED_WITHIN else "  <- TOO LATE"
        click.echo(
            f"{time.monotonic() - began:6.0f} s  {place.sender.events:>10,} events  {len(place.crew.workers)} workers  "
            f"{' + '.join(one.names)}: moved on after {one.recovery:.1f} s (last {one.last or 'nobody'}){late}"
        )
        sys.stdout.flush()

    with rig(seed, traffic.versions) as place:
        click.echo(f"seed {seed}, {minutes:g} minutes, logs in {place.folder}")
        plan = rounds(random.Random(seed), FAULTS)
        run = play(place, traffic, DAYS_PER_SECOND * DAY_US, plan, long=True, until=began + 60 * minutes, told=told)
        report = reported(seed, minutes, place, run)
        untriggered = set(traffic.decayed(place.sender.due_us)) - set(report.verdict.triggered)
        report.broken += [f"version {version} has decayed, and no trigger came" for version in sorted(untriggered)]
        if not report.broken:
            (place.folder / PASSED).touch()
    return report


def reported(seed: int, minutes: float, place: Rig, run: Run) -> Report:
    """Put together what was found, and name what was promised and not kept."""
    found, crew = verdict(place), place.crew
    largest = crew.largest / 1e6
    crashed = [end for end in crew.ended if end[1] != AT_START]
    broken = found.broken()
    broken += [f"moved back: {line}" for line in run.backwards]
    broken += [f"{' + '.join(one.names)}: moved on only after {one.recovery:.0f} s" for one in run.slow()]
    broken += [f"worker {name} ended by itself, status {status}: {why}" for name, status, why in crashed]
    broken += [f"a worker grew to {largest:.0f} MB"] if largest > MOST_MEMORY_MB else []
    return Report(
        seed=seed, minutes=minutes, events=place.sender.events, records=place.sender.acknowledged,
        faults={name: (times, round(run.longest_of(name), 1)) for name, times in sorted(run.kinds().items())},
        verdict=found, moved_back=run.backwards, slow=run.slow(),
        longest=run.longest(), largest_worker_mb=round(largest, 1), ended=crew.ended, broken=broken,
    )  # fmt: skip


def table(report: Report) -> str:
    """The figures, for people."""
    found, longest = report.verdict, report.longest
    ended = Counter((status, why.split("] ")[-1][:70]) for _, status, why in report.ended)
    rows: list[tuple[str, object]] = [
        ("events", f"{report.events:,}"),
        ("records", f"{report.records:,}"),
        ("faults", sum(times for times, _ in report.faults.values())),
        *((f"  {name}", f"{times:<4} moved on within {most:.1f} s") for name, (times, most) in report.faults.items()),
        ("lost", found.lost),
        ("counted twice", found.counted_twice),
        ("triggers", f"{found.triggers} of versions {', '.join(found.triggered)}"),
        ("duplicate triggers", found.duplicate_triggers),
        ("duplicate events", found.duplicate_events),
        ("label requests", found.label_requests),
        ("duplicate label requests", found.duplicate_requests),
        ("label requests that differ", found.requests_that_differ),
        ("offsets moved back", len(report.moved_back)),
        ("dead letters / poison", f"{found.dead_letters} / {found.poison}"),
        ("longest recovery", f"{longest.recovery:.1f} s after {' + '.join(longest.names)}"),
        ("recoveries over 30 s", len(report.slow)),
        ("largest worker", f"{report.largest_worker_mb:.0f} MB"),
        ("workers that ended by themselves", len(report.ended)),
        *((f"  status {status}: {why}", times) for (status, why), times in ended.items()),
    ]
    lines = [f"{name:<42} {value}" for name, value in rows]
    verdict_line = "all as promised" if not report.broken else "NOT AS PROMISED:\n  " + "\n  ".join(report.broken)
    return "\n".join([*lines, verdict_line])


@click.command()
@click.option("--minutes", default=20.0, show_default=True, help="how long faults are injected")
@click.option("--seed", default=1, show_default=True, help="of the traffic and of the order of faults")
@click.option("--json", "file", type=click.Path(path_type=Path), help="write the figures to this file, too")
def main(minutes: float, seed: int, file: Path | None) -> None:
    """Hurt a deployment for some time, and check that it kept what is promised."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the workers are ended, too
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the sender's, of a broker that is away on purpose
    report = soak(seed, minutes)
    click.echo(table(report))
    if file is not None:
        file.write_text(json.dumps(msgspec.to_builtins(report), indent=1) + "\n")
    sys.exit(1 if report.broken else 0)


if __name__ == "__main__":
    main()
