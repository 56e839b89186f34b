"""A store as workers leave it, for the live page: a few models after some weeks, assessed by the real estimators."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import URL

from agents.assessed import event_of
from infra.migrate import upgrade
from models.assessor import Conclusion, assess
from models.columns import Categories, Inferences, Outcomes, Subject
from models.lifecycle import Change, recorded, take_in
from models.notes import Note
from models.policy import DAY_US
from models.profile import Profile
from models.quality import Calibration
from models.reference import NumericFeature, Reference, unregistered
from models.subject_state import fresh
from streams.event_store import EventStore
from streams.records import segment_key
from streams.store_rows import Event, StoredEvent, WindowCounts, WindowEstimate

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
QUARTERS = (-0.6745, 0.0, 0.6745)
INCOME = NumericFeature(edges=QUARTERS, shares=(0.25,) * 4, mean=0.0, sd=1.0, n=5000, unit="kEUR")
N, LABELS = 400, 80


def reference(model: str, version: str, **facts: Any) -> Reference:
    """A registered model with windows of a day, whose threshold is 0.85 unless told otherwise."""
    known: dict[str, Any] = {
        "digest": "d", "window_us": DAY_US, "lateness_us": 0, "lead_time_us": 7 * DAY_US, "threshold": 0.85,
        "minimum_n": 50, "cost_degraded_per_day": 0.5, "owner": "data scientist", "n": 5000,
        "numeric": {"income": INCOME},
        "classes": {"yes": 0.5, "no": 0.5},
        "calibration": Calibration(accuracy=0.95, n=5000, residual_low=-0.5, residual_high=0.5),
    }  # fmt: skip
    return Reference(model, version, **(known | facts))


class Story(NamedTuple):
    """One subject: how good it is on each day, and what else happens to its traffic."""

    reference: Reference
    accuracy: Callable[[int], float]
    days: int = 36
    ends: int = 0  # days before today on which its traffic stops
    labels: int = LABELS
    shift: Callable[[int], float] = lambda _: 0.0
    filled: Callable[[int], float] = lambda _: 0.0  # share of values that a pipeline has filled with -1
    segment: dict[str, str] | None = None
    changes: tuple[Change, ...] = ()
    n: int = N

    @property
    def subject(self) -> Subject:
        """Whom it is about."""
        return Subject(self.reference.model, self.reference.version, segment_key(self.segment))


def day(story: Story, number: int, rng: np.random.Generator) -> Profile:
    """One day of traffic whose confidences are calibrated, with some of it labelled."""
    made, n, accuracy = Profile(), story.n, story.accuracy(number)
    top = np.clip(rng.normal(accuracy, 0.02, n), 0.5, 1.0)
    yes = rng.random(n) < 0.5
    scores = np.where(yes[:, None], np.stack((top, 1 - top), 1), np.stack((1 - top, top), 1)).astype(np.float32)
    income = rng.normal(story.shift(number), 1.0, n)
    income[rng.random(n) < story.filled(number)] = -1.0
    rows = Inferences(
        offset=np.arange(n), time=np.arange(n), numeric={"income": income}, scores=scores,
        label=Categories((~yes).astype(np.int32), ("yes", "no")),
    )  # fmt: skip
    made.add(rows, story.reference)
    many = story.labels
    outcomes = Outcomes(
        offset=np.arange(many), time=np.arange(many), event_time=np.arange(many),
        correct=rng.random(many) < accuracy, truth=Categories(rng.integers(0, 2, many).astype(np.int32), ("yes", "no")),
        confidence=np.full(many, accuracy), feedback=np.zeros(many, np.bool_),
    )  # fmt: skip
    if many:
        made.add(outcomes, story.reference)
    return made


class Told(NamedTuple):
    """What came of one day of a story."""

    notes: list[Note]
    conclusions: list[Conclusion]
    counts: WindowCounts


def tell(story: Story, today_us: int, seed: int = 3) -> Iterator[Told]:
    """Day after day, what the assessor makes of it; the last day ends at `today_us`, or `ends` days before."""
    rng = np.random.default_rng(seed)
    state = fresh(story.reference)
    for change in story.changes:
        take_in(state.life, change)
    first = today_us - (story.days + story.ends) * DAY_US
    for number in range(story.days):
        start = first + number * DAY_US
        profile = day(story, number, rng)
        state.assembly.add(start, start, profile)
        state.assembly.heard("inference/0", start + DAY_US)
        notes, conclusions = assess(state, story.subject, story.reference)
        counts = WindowCounts(
            model=story.subject.model, version=story.subject.version, segment=story.subject.segment,
            window_start_us=start, window_end_us=start + DAY_US, n=profile.n, n_labelled=story.labels,
        )  # fmt: skip
        yield Told(notes, conclusions, counts)


def write(store: EventStore, told: Sequence[Told]) -> None:
    """Put it into the store, as `assess` does."""
    estimates = [
        WindowEstimate(
            model=c.subject.model, version=c.subject.version, segment=c.subject.segment, window_start_us=c.start_us,
            window_end_us=c.end_us, estimate=c.estimate.estimate, low=c.estimate.low, high=c.estimate.high,
            basis=c.estimate.basis, best_before_us=c.best_before_us,
        )
        for one in told for c in one.conclusions
    ]  # fmt: skip
    with store.transaction() as transaction:
        transaction.append_events([event_of(note) for one in told for note in one.notes])
        transaction.add_windows([one.counts for one in told])
        transaction.set_estimates(estimates)


def falling(onset: int, slope: float, top: float = 0.95) -> Callable[[int], float]:
    """Good until `onset`, then worse by `slope` a day."""
    return lambda number: max(top - slope * max(number - onset, 0), 0.55)


def stories(today_us: int) -> list[Story]:
    """One of each state that the page can show."""
    change = Change(id="release-7", at_us=today_us - 12 * DAY_US, kind="deployed", version="7", previous="6")
    camera = reference("defect-camera", "3")
    told: list[Story] = [
        Story(reference("credit-risk", "12"), falling(10, 0.0012)),
        Story(reference("churn", "4"), falling(12, 0.0095)),
        Story(reference("digits", "3"), falling(22, 0.0036), shift=lambda d: 0.03 * max(d - 25, 0)),
        Story(reference("fraud", "9", owner="payments"), falling(28, 0.014), filled=lambda d: 0.4 * (d > 25)),
        Story(reference("pricing", "2", threshold=None), falling(99, 0.0), days=20),
        Story(reference("triage", "5"), falling(99, 0.0), days=9),
        Story(unregistered("search-ranking", "1", window_us=DAY_US, lateness_us=0), falling(99, 0.0), days=12),
        Story(reference("weather", "8"), falling(99, 0.0), days=24, ends=9),
        Story(reference("demand", "2"), falling(99, 0.0), days=30, shift=lambda d: 0.8 * (d > 24)),
        Story(reference("loan", "6"), falling(14, 0.004), days=30, changes=(change,)),
        Story(reference("loan", "7"), falling(99, 0.0), days=12, changes=(change,)),
        Story(camera, falling(18, 0.0034)),
    ]  # fmt: skip
    for site, slope in (("Bern", 0.0), ("Genève", 0.001), ("Zürich", 0.02), (HOSTILE, 0.0)):
        told.append(Story(camera, falling(17, slope), days=30, segment={"site": site}, n=150, labels=40))
    return told


def fill(url: str, today_us: int) -> None:
    """Make the tables and put all stories in."""
    upgrade(url)
    store = EventStore(url)
    for model, version in (("vision-qa", "1"), ("credit-risk", "12"), ("loan", "7")):
        store.register(model, version, "d", b"{}", today_us - 50 * DAY_US)
    for seed, story in enumerate(stories(today_us)):
        write(store, list(tell(story, today_us, seed)))
    change = next(story.changes[0] for story in stories(today_us) if story.changes)
    with store.transaction() as transaction:
        transaction.append_events([event_of(recorded(change, "loan"))])
    store.close()


def copies(url: str, many: int) -> None:
    """As many models more, each a copy of how one that is in the store stands."""
    store = EventStore(url)
    known = [event for event in store.latest_status() if not event.segment and event.model != "loan"]
    made = [
        _renamed(known[n * 5 % len(known)], f"site-{n:03d}-{('demand', 'quality', 'risk')[n % 3]}") for n in range(many)
    ]
    with store.transaction() as transaction:
        transaction.append_events(made)
    store.close()


def _renamed(event: StoredEvent, model: str) -> Event:
    fields = {name: getattr(event, name) for name in Event.__struct_fields__}
    return Event(
        **fields | {"event_id": f"{model}/{event.event_id}", "model": model, "body": {**event.body, "model": model}}
    )


def sqlite(folder: Path) -> str:
    """The URL of a store in a file of `folder`."""
    return URL.create("sqlite", database=str(folder / "store.db")).render_as_string()
