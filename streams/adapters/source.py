"""One source: an adapter with the plan of its topic. The one door through which records of other servers come in."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from streams.adapters.contract import Adapter, Part, Record, Side, Thing, Unpaired
from streams.adapters.mapping import things_of
from streams.adapters.pairing import MOST, WITHIN_US, Pairing
from streams.adapters.plan import Plan
from streams.errors import BadRecord, Unadaptable


class PairPlan(NamedTuple):
    """Whether halves are paired, how long one waits (us), and how many may wait."""

    on: bool = True
    within_us: int = WITHIN_US
    most: int = MOST


class Source:
    """Adapts the records of the topics that it is for. Holds the halves that wait for their other half."""

    def __init__(self, adapter: Adapter, plan: Plan, *, extra: Any = None, pair: PairPlan | None = None) -> None:
        self.adapter, self.plan, self._extra = adapter, plan, extra
        pair = pair or PairPlan()
        self.pairing = Pairing(pair.within_us, pair.most) if adapter.pairs and pair.on else None
        self._given_up: list[Unpaired] = []  # not told yet, because the record they were given up with was refused

    def adapt(self, record: Record, names: Mapping[str, str] | None = None) -> list[Thing]:
        """The events of a record, and the halves that were given up with it; an empty list while a half waits.

        `names`: what the placeholders of the topic's pattern stand for. Raises Unadaptable (stage ADAPT) for a record
        that its adapter does not read, or that lacks what the source says is there, and nothing else.
        """
        try:
            around = _around(record, names or {})
            parts = [part._replace(trees={**around, **part.trees}) for part in self.adapter.read(record, self._extra)]
            found = [thing for part in parts for thing in self._things(part, record)]
        except Unadaptable:
            raise
        except BadRecord as error:
            raise Unadaptable(str(error)) from None
        except RecursionError:
            raise Unadaptable("the record is nested too deeply to be read") from None
        return [*self._told(), *found]

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
        return [*self._told(), *(self.pairing.rest() if self.pairing is not None else ())]

    def _told(self) -> list[Unpaired]:
        told, self._given_up = self._given_up, []
        return told

    def _things(self, part: Part, record: Record) -> Iterator[Thing]:
        if self.pairing is None:
            yield from things_of(part, self.plan, record)
            return
        for one in self.pairing.take(part, len(record.value or b""), record.timestamp):
            if isinstance(one, Unpaired):
                self._given_up.append(one)
            else:
                yield from self._of_pair(one, part, record)

    def _of_pair(self, pair: Part, last: Part, record: Record) -> list[Thing]:
        """The events of a pair. If it cannot be used, the record is refused, and so its other half is told."""
        try:
            return things_of(pair, self.plan, record)
        except BadRecord:
            if last.side != "both":
                other: Side = "response" if last.side == "request" else "request"
                self._given_up.append(
                    Unpaired(last.id, other, f"its {last.side} came, and together they are of no use")
                )
            raise


def _around(record: Record, names: Mapping[str, str]) -> dict[str, Any]:
    """What paths find outside of the body: header names in lower case, the first of each."""
    header: dict[str, str] = {}
    for key, value in record.headers:
        if value is not None:
            header.setdefault(key.lower(), value.decode("utf-8", "replace"))
    key = (record.key or b"").decode("utf-8", "replace")
    return {"header": header, "key": key, "topic": {"name": record.topic, **names}}
