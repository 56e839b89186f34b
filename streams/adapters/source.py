"""One source: an adapter with the plan of its topic. The one door through which records of other servers come in."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from streams.adapters.contract import Adapter, Part, Record, Side, Thing, Unpaired
from streams.adapters.mapping import things_of
from streams.adapters.pairing import MOST, WITHIN_US, Pairing
from streams.adapters.plan import Plan
from streams.errors import BadRecord, Unadaptable
from streams.records import InferenceEvent


class PairPlan(NamedTuple):
    """Whether halves are paired, how long one waits (us), and how many may wait."""

    on: bool = True
    within_us: int = WITHIN_US
    most: int = MOST


class Source:
    """Adapts the records of the topics that it is for. Holds the halves that wait for their other half."""

    def __init__(
        self,
        adapter: Adapter,
        plan: Plan,
        *,
        extra: Any = None,
        pair: PairPlan | None = None,
        admit: Callable[[InferenceEvent], None] | None = None,
    ) -> None:
        self.adapter, self.plan, self._extra, self._admit = adapter, plan, extra, admit
        self._pair = pair or PairPlan()
        self.pairing = Pairing(self._pair.within_us, self._pair.most) if adapter.pairs and self._pair.on else None
        self._joined: list[Unpaired] = []  # first halves of this record's pairs, told if it is refused
        self._given_up: list[Unpaired] = []  # not told yet, because the record they were given up with was refused

    def afresh(self, admit: Callable[[InferenceEvent], None]) -> "Source":
        """The same with nothing waiting; it refuses records with an event for which `admit` raises BadRecord."""
        return Source(self.adapter, self.plan, extra=self._extra, pair=self._pair, admit=admit)

    def adapt(self, record: Record, names: Mapping[str, str] | None = None) -> list[Thing]:
        """The events of a record, and the halves that were given up with it; an empty list while a half waits.

        `names`: what the placeholders of the topic's pattern stand for. Raises Unadaptable (stage ADAPT) for a record
        that its adapter does not read, or that lacks what the source says is there, and nothing else.
        """
        self._joined = []
        try:
            return self._events(record, names or {})
        except BadRecord as error:
            self._given_up += self._joined
            raise error if isinstance(error, Unadaptable) else Unadaptable(str(error)) from None
        except RecursionError:
            raise Unadaptable("the record is nested too deeply to be read") from None

    def _events(self, record: Record, names: Mapping[str, str]) -> list[Thing]:
        around = _around(record, names)
        parts = [part._replace(trees={**around, **part.trees}) for part in self.adapter.read(record, self._extra)]
        found = [thing for part in parts for thing in self._things(part, record)]
        return [*self.told(), *found]

    def try_read(self, record: Record) -> None:
        """Whether the adapter reads the record; nothing is paired or kept. Raises Unadaptable, as `adapt`."""
        try:
            self.adapter.read(record, self._extra)
        except Unadaptable:
            raise
        except BadRecord as error:
            raise Unadaptable(str(error)) from None
        except RecursionError:
            raise Unadaptable("the record is nested too deeply to be read") from None

    def rest(self) -> list[Unpaired]:
        """The halves that still wait, given up: nothing comes any more."""
        return [*self.told(), *(self.pairing.rest() if self.pairing is not None else ())]

    def told(self) -> list[Unpaired]:
        """The halves that were given up with a record that was refused; told once."""
        told, self._given_up = self._given_up, []
        return told

    def _things(self, part: Part, record: Record) -> Iterator[Thing]:
        if self.pairing is None:
            yield from self._admitted(things_of(part, self.plan, record))
            return
        for one in self.pairing.take(part, len(record.value or b""), record.timestamp, record):
            if isinstance(one, Unpaired):
                self._given_up.append(one)
                continue
            if part.side != "both":
                # If the pair cannot be used, the record is refused, and so its other half is told.
                other: Side = "response" if part.side == "request" else "request"
                why = f"its {part.side} came, and together they are of no use"
                self._joined.append(Unpaired(part.id, other, why, self.pairing.first))
            yield from self._admitted(things_of(one, self.plan, record))

    def _admitted(self, things: list[Thing]) -> list[Thing]:
        if self._admit is not None:
            for thing in things:
                if isinstance(thing, InferenceEvent):
                    self._admit(thing)
        return things


def _around(record: Record, names: Mapping[str, str]) -> dict[str, Any]:
    """What paths find outside of the body: header names in lower case, the first of each."""
    header: dict[str, str] = {}
    for key, value in record.headers:
        if value is not None:
            header.setdefault(key.lower(), value.decode("utf-8", "replace"))
    key = (record.key or b"").decode("utf-8", "replace")
    return {"header": header, "key": key, "topic": {"name": record.topic, **names}}
