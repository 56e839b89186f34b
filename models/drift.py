"""Named drift detectors over one value per window, from river, with a state that outlives versions of river.

river's objects have no state format and their pickles do not load across versions; besides, one NaN silences them for
good and they forget themselves on the update after an alarm. So the state here is the list of standardised values
since the last alarm, at most `CAPACITY`; when it is full the newest `KEPT` stay and the detector is rebuilt from them.
The live detector does exactly the same, hence a restored estimator and the one that lived on never differ.

Values are standardised, (value - centre) / scale, clipped to +-`CLIP`: the detectors' parameters are in standard
deviations. Give `centre` and `scale` from the reference; otherwise they are learned from the first `WARM_UP` values.
An alarm here explains; it never pages and never triggers anything alone (autocorrelated input makes all three fire
often): for a promise see `models.change`. `system_context.bestbefore.detectors` selects among them.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import msgspec
from river.drift import ADWIN, KSWIN, PageHinkley

DETECTORS = "system_context.bestbefore.detectors"
DEFAULT = ("adwin", "page-hinkley")  # KSWIN costs a thousand times as much per update
CAPACITY = 256
KEPT = 128
WARM_UP = 10
CLIP = 8.0


class Detector(Protocol):
    """What is used of a river detector."""

    @property
    def drift_detected(self) -> bool: ...

    def update(self, x: float) -> object: ...


class EstimatorSpec(msgspec.Struct, frozen=True):
    """A selectable detector; `make` builds a fresh one, so the same values always give the same alarms."""

    name: str
    make: Callable[[], Detector]
    finds: str
    source: str


class DriftState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a drift estimator is, in plain numbers; at most `CAPACITY` values."""

    name: str
    version: int = 1
    centre: float | None = None
    scale: float | None = None
    values: tuple[float, ...] = ()  # standardised once centre and scale are known, as they came before that
    seen: int = 0
    skipped: int = 0
    alarms: int = 0
    drifted: bool = False


# ADWIN checks at every update, one value being a whole window. PageHinkley looks for shifts beyond half a standard
# deviation. KSWIN's level is low because it tests anew at every update. Run lengths without change: see the tests.
ESTIMATORS: Mapping[str, EstimatorSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            EstimatorSpec(
                "adwin",
                lambda: ADWIN(delta=0.002, clock=1),  # type: ignore[no-untyped-call]
                "a change of the mean, at any time scale",
                "Bifet and Gavalda 2007, doi:10.1137/1.9781611972771.42",
            ),
            EstimatorSpec(
                "page-hinkley",
                lambda: PageHinkley(min_instances=WARM_UP, delta=0.5, threshold=12.0, alpha=1.0),
                "a lasting shift of the mean",
                "Page 1954, doi:10.1093/biomet/41.1-2.100",
            ),
            EstimatorSpec(
                "kswin",
                lambda: KSWIN(alpha=1e-4, window_size=60, stat_size=20, seed=1),
                "a change of the distribution between recent and earlier windows",
                "Raab, Heusinger and Schleif 2020, doi:10.1016/j.neucom.2019.11.111",
            ),
        )
    }
)


def selected(declared: object) -> tuple[str, ...]:
    """The detectors that a descriptor asks for, by default ADWIN and Page-Hinkley; names unknown here are left out.

    >>> selected(None), selected(["kswin"]), selected([])
    (('adwin', 'page-hinkley'), ('kswin',), ())
    """
    if not isinstance(declared, list | tuple):
        return DEFAULT
    return tuple(name for name in ESTIMATORS if name in declared)


class DriftEstimator:
    """One detector over one stream of window values.

    Raises ValueError for an unknown name, or a scale that is not positive.

    >>> estimator = DriftEstimator("page-hinkley", centre=0.9, scale=0.01)
    >>> for value in [0.9, 0.91] * 10 + [0.8] * 5:
    ...     estimator.update(value)
    >>> estimator.alarms
    1
    """

    def __init__(self, name: str, *, centre: float | None = None, scale: float | None = None) -> None:
        if name not in ESTIMATORS:
            raise ValueError(f"no drift estimator {name!r}; choose one of {', '.join(sorted(ESTIMATORS))}")
        if (centre is None) != (scale is None):
            raise ValueError("centre and scale belong together; give both, or neither to learn them")
        if centre is not None and scale is not None and not (math.isfinite(centre) and 0 < scale < math.inf):
            raise ValueError(f"centre {centre} and scale {scale} of {name} must be finite, the scale positive")
        self.name = name
        self._centre, self._scale = centre, scale
        self._values: list[float] = []
        self._seen = self._skipped = self._alarms = 0
        self._drifted = False
        self._detector: Detector | None = None

    @property
    def drifted(self) -> bool:
        """Did the last update raise an alarm?"""
        return self._drifted

    @property
    def alarms(self) -> int:
        """Alarms so far; river's own count forgets."""
        return self._alarms

    @property
    def skipped(self) -> int:
        """Values that were not finite and therefore never fed."""
        return self._skipped

    def update(self, value: float) -> None:
        """Take the value of the next window; NaN and infinities are counted and skipped."""
        self._drifted = False
        if not math.isfinite(value):
            self._skipped += 1
            return
        self._seen += 1
        if self._scale is None:
            self._learn(value)
        else:
            self._feed(self._standardised(value))

    @property
    def state(self) -> DriftState:
        """What `from_state` needs to go on exactly where this one stands."""
        return DriftState(
            name=self.name,
            centre=self._centre,
            scale=self._scale,
            values=tuple(self._values),
            seen=self._seen,
            skipped=self._skipped,
            alarms=self._alarms,
            drifted=self._drifted,
        )

    @classmethod
    def from_state(cls, state: DriftState) -> "DriftEstimator":
        """The estimator whose state this was; ValueError for a version this code does not know."""
        if state.version != 1:
            raise ValueError(f"drift state of {state.name} has version {state.version}, known is 1; start it afresh")
        estimator = cls(state.name, centre=state.centre, scale=state.scale)
        estimator._values = list(state.values)
        estimator._seen, estimator._skipped = state.seen, state.skipped
        estimator._alarms, estimator._drifted = state.alarms, state.drifted
        return estimator

    def _learn(self, value: float) -> None:
        """Collect the first values as they are, then turn them into standard deviations and feed them."""
        self._values.append(value)
        if len(self._values) < WARM_UP:
            return
        warm, self._values = self._values, []
        # Scaled by n before summing: huge finite values must not overflow into an infinite centre.
        self._centre = math.fsum(v / WARM_UP for v in warm)
        spread = math.hypot(*(v / math.sqrt(WARM_UP - 1) - self._centre / math.sqrt(WARM_UP - 1) for v in warm))
        self._scale = min(max(spread, 1e-6 * abs(self._centre), 1e-12), 1e300)
        for v in warm:
            self._feed(self._standardised(v))

    def _standardised(self, value: float) -> float:
        if self._centre is None or self._scale is None:
            raise ValueError(f"{self.name} has no scale yet; update it first")
        return min(max(value / self._scale - self._centre / self._scale, -CLIP), CLIP)

    def _feed(self, z: float) -> None:
        if self._detector is None:
            self._detector = self._rebuilt()
        self._values.append(z)
        self._detector.update(z)
        if self._detector.drift_detected:
            self._drifted = True
            self._alarms += 1
            self._values = []
            self._detector = None
        elif len(self._values) >= CAPACITY:
            self._values = self._values[-KEPT:]
            self._detector = None

    def _rebuilt(self) -> Detector:
        """A fresh detector that has seen the kept values; alarms on the way were counted when they happened."""
        detector = ESTIMATORS[self.name].make()
        for z in self._values:
            detector.update(z)
        return detector
