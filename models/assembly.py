"""Merging the profiles of a subject over its sources, and telling when a window is complete.

A source is one partition of one input topic. It says with every profile how far it has come (its watermark). A window
is complete when every source that reports on the subject has passed it, so the order in which profiles of different
sources arrive does not matter: live and replay see the same windows. What comes for a window already assessed is a
revision.
"""

import msgspec

from models.profile import Profile

IDLE = 1 << 62  # watermark of a source nobody waits for
SILENT = 3  # windows without any row that are still assessed; then the silence has been told


class Revision(msgspec.Struct):
    """A profile for window `start` that became known in window `arrival`."""

    start: int
    arrival: int
    profile: bytes


class Tick(msgspec.Struct):
    """One complete window: its profile (None: nothing but revisions) and the revisions that came with it."""

    start: int
    profile: Profile | None
    revisions: list[tuple[int, Profile]]


class Assembly(msgspec.Struct):
    """What is known of the sources of one subject, and the windows that wait for them."""

    length: int
    sources: dict[str, int] = {}
    windows: dict[int, bytes] = {}
    revisions: list[Revision] = []
    done: int = -(1 << 62)  # end of the newest window assessed
    silent: int = 0  # windows without any row since the last one with some

    def heard(self, source: str, watermark: int, *, retired: bool = False, idle: bool = False) -> None:
        """A source has come as far as `watermark`."""
        if retired:
            self.sources.pop(source, None)
            return
        before = self.sources.get(source, watermark)
        self.sources[source] = IDLE if idle else watermark if before == IDLE else max(before, watermark)

    def add(self, start: int, arrival: int, profile: Profile) -> None:
        """Take in a profile that was not taken in before."""
        if start == arrival and start + self.length > self.done:
            have = self.windows.get(start)
            self.windows[start] = (Profile.unpack(have).merge(profile) if have else profile).pack()
            return
        for known in self.revisions:
            if (known.start, known.arrival) == (start, arrival):
                known.profile = Profile.unpack(known.profile).merge(profile).pack()
                return
        self.revisions.append(Revision(start, arrival, profile.pack()))

    def complete(self, *, silence: bool = False) -> list[Tick]:
        """Take out, in order, the windows that all sources have passed.

        `silence` True: also up to SILENT windows in a row of which no source had a row, each with an empty profile.
        """
        passed = self.passed
        ticks = []
        while (start := self._next(passed, silence)) is not None:
            due = sorted((r for r in self.revisions if r.arrival == start), key=lambda r: r.start)
            self.revisions = [r for r in self.revisions if r.arrival != start]
            body = self.windows.pop(start, None)
            profile = Profile.unpack(body) if body else None
            if profile is None and silence and start >= self.done:
                profile, self.silent = Profile(), self.silent + 1
            elif profile is not None:
                self.silent = 0 if profile.n else self.silent + 1
            self.done = max(self.done, start + self.length)
            ticks.append(Tick(start, profile, [(r.start, Profile.unpack(r.profile)) for r in due]))
        return ticks

    def _next(self, passed: int, silence: bool) -> int | None:
        """Start of the next window to take out."""
        start = min((*self.windows, *(r.arrival for r in self.revisions)), default=None)
        began = self.done > -(1 << 62) and self.silent < SILENT
        if silence and began and passed < IDLE and (start is None or start > self.done):
            start = self.done
        return start if start is not None and start + self.length <= passed else None

    def fall_silent(self) -> bool:
        """Say, by the wall clock, that the next window has no row; False where somebody is still waited for."""
        known = self.done > -(1 << 62) and not self.waiting() and self.silent < SILENT
        if not known or self.passed < IDLE:
            return False
        self.windows[self.done] = Profile().pack()
        return True

    @property
    def passed(self) -> int:
        """Time that every source that somebody waits for has passed."""
        return min(self.sources.values(), default=IDLE)

    @property
    def untouched(self) -> bool:
        """Whether nobody has reported anything."""
        return not (self.sources or self.windows or self.revisions) and self.done == -(1 << 62)

    def waiting(self) -> bool:
        """Whether a window waits for a source."""
        return bool(self.windows or self.revisions)

    def give_up(self) -> None:
        """Stop waiting: sources behind the newest waiting window count as idle until they speak again."""
        newest = max((*self.windows, *(r.arrival for r in self.revisions)), default=None)
        if newest is not None:
            late = [s for s, mark in self.sources.items() if mark < newest + self.length]
            self.sources.update(dict.fromkeys(late, IDLE))
