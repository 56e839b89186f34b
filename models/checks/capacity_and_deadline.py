"""Is there enough of everything for the model, and is it fast enough, also at the busiest hour?

| | |
|---|---|
| left | `trained_model.computing_resource_reqs` and `bestbefore.gpu_memory`; `trained_model.inference_time` and `bestbefore.inference_time` {percentile, value, unit, batch, device} |
| right | `computing_resources` of `development_environment` and `production_environment`, and its `bestbefore.gpu_memory`; `production_environment.required_inference_time` and `bestbefore.latency`; `production_data.bestbefore.rate` or `data_rates` |
| statistic | amounts and times in one unit; utilisation = rate x inference time / (processors x batch) |
| mismatch | the model needs more than there is; a time above its limit; utilisation above `production_environment.bestbefore.utilisation` (default 0.8) at the mean rate, or above 1 at the p99 rate |
| ok | need equal to what there is counts as enough |
| unknown | a side is absent; times that cannot be compared: a mean proves no p99 (a p99 proves a p95), another batch size, another device; a rate that is prose |

A server that answers in 20 ms meets a limit of 50 ms, and still falls behind on 400 events per second with four cores:
its utilisation is 2. Where a time without a percentile stands beside a limit with one, it can break the limit, but
not prove that it is kept. `data_rates` is read where it is a plain number, such as `100 per minute`.

What to do: give the service more, or a smaller model; measure the time at the percentile, batch and device of the
limit. A need that both environments fall short of is one mismatch, with both aliases.

Aliases: `tec:6`, `tec:7` (resources), `tec:12` (time). Sources: TEC rules 6, 7 and 12; the utilisation law of queues.
"""

import math
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from models.checks.check import Check
from models.checks.predicate import Judgement, judge
from models.checks.verdict import Effect, Side, Verdict
from models.checks.workplace import Workplace
from models.quantities import converted, number_of

NEED, DEVELOPMENT = "trained_model.computing_resource_reqs", "development_environment.computing_resources"
PRODUCTION = "production_environment.computing_resources"
GPU_MEMORY = "bestbefore.gpu_memory"
TIMES = ("trained_model.bestbefore.inference_time", "trained_model.inference_time")
LIMITS = ("production_environment.required_inference_time", "production_environment.bestbefore.latency")
RATE, PROSE = "production_data.bestbefore.rate", "production_data.data_rates"
BUSY = "production_environment.bestbefore.utilisation"
AMOUNTS = {"gpu": "", "cpu": "", "memory": "GB", "storage": "GB"}
UTILISATION = 0.8


class Time(NamedTuple):
    """An inference time or a limit of it; percentile None: a mean, or nobody said."""

    path: str
    seconds: float
    told: str
    percentile: float | None = None
    batch: float | None = None
    device: str = ""


def design(at: Workplace) -> Iterator[Verdict]:
    """One verdict per resource and environment, per limit of time, and per rate."""
    short = yield from _resources(at)
    late = yield from _deadlines(at)
    yield from _utilisation(at, "processors" if short else "inference time" if late else "")


def _resources(at: Workplace) -> Generator[Verdict, None, bool]:
    """Whether processors of production are found short."""
    short = False
    for name, unit in AMOUNTS.items():
        places = {"tec:6": f"{DEVELOPMENT}.{name}", "tec:7": f"{PRODUCTION}.{name}"}
        if name == "gpu" and all(at.value(path) is None for path in (f"{NEED}.gpu", *places.values())):
            continue  # nobody speaks of any
        broken = yield from _amount(at, name, f"{NEED}.{name}", places, unit)
        short = short or (name in ("cpu", "gpu") and broken)
    path = f"trained_model.{GPU_MEMORY}"
    asked = number_of(at.value(f"{NEED}.gpu"))
    if at.value(path) is not None or (asked and asked[0] > 0):
        yield from _amount(at, "gpu_memory", path, {"": f"production_environment.{GPU_MEMORY}"}, "GB")
    return short


def _amount(at: Workplace, name: str, need: str, places: dict[str, str], unit: str) -> Generator[Verdict, None, bool]:
    left, short = _side(at, need, unit), {}
    for alias, path in places.items():
        right = _side(at, path, unit)
        found = judge(left, "<=", right)
        sides: dict[str, Any] = {"field": f"{name}/{path.partition('.')[0]}", "left": left, "right": right}
        aliases = (alias,) if alias else ()
        if found.outcome == "ok":
            yield CHECK.ok(aliases=aliases, **sides)
        elif found.outcome == "unknown":
            yield CHECK.unknown(found.reason, aliases=aliases, **sides)
        else:
            short[alias] = sides
    if short:
        there = " and ".join(f"{_told(s['right'])} are declared in {s['right'].path}" for s in short.values())
        message = f"the model needs {_told(left)} of {name} ({need}), but {there}"
        # Where both fall short, the fact that they share is the need.
        yield CHECK.mismatch(
            message, aliases=tuple(alias for alias in short if alias), **next(reversed(short.values()))
        )
    return any(sides["right"].path.startswith("production") for sides in short.values())


def _side(at: Workplace, path: str, unit: str) -> Side:
    number = number_of(at.value(path))
    return at.side(path, unit=unit if number and not number[1] else "")


def _told(side: Side) -> str:
    return f"{side.value} {side.unit}".strip()


def time_at(at: Workplace, path: str) -> Time | None:
    """The time that stands at `path`, as {time, unit} or {value, unit, percentile, batch, device} or `50 ms`."""
    fact = at.value(path)
    inner = fact if isinstance(fact, dict) else {"value": fact}
    number = number_of(inner.get("time") if inner.get("value") is None else inner["value"])
    if number is None:
        return None
    unit = str(inner.get("unit") or number[1])
    seconds = converted(number[0], unit, "s") if unit else None
    if seconds is None:
        return None
    percentile, batch = (number_of(inner.get(key)) for key in ("percentile", "batch"))
    return Time(
        path, seconds, f"{number[0]:g} {unit}", percentile[0] if percentile else None, batch[0] if batch else None,
        _device(inner.get("device")),
    )  # fmt: skip


def _device(text: Any) -> str:
    word = str(text or "").strip().casefold().removesuffix("executionprovider")
    return "gpu" if word.startswith(("cuda", "gpu", "tensorrt")) else word


def meets(time: Time, limit: Time) -> Judgement:
    """Does a time prove that a limit is kept, or broken?

    A percentile proves every lower one, and breaks every higher one. Times that nobody gave a percentile compare with
    each other; beside a limit with a percentile they may break it but not prove it.
    """
    if time.device and limit.device and time.device != limit.device:
        return Judgement("unknown", f"{time.path} is for {time.device}, {limit.path} for {limit.device}")
    if time.batch and limit.batch and time.batch != limit.batch:
        return Judgement("unknown", f"{time.path} is for batches of {time.batch:g}, {limit.path} of {limit.batch:g}")
    found = judge(Side(time.path, time.seconds, "s"), "<=", Side(limit.path, limit.seconds, "s"))
    p, q = time.percentile, limit.percentile
    proves = q is None or (p is not None and p >= q)
    breaks = p is None or q is None or p <= q
    if (found.outcome == "ok" and proves) or (found.outcome == "mismatch" and breaks):
        return found
    told = "a time without percentile" if p is None else f"p{p:g}"
    return Judgement("unknown", f"{time.path} is {told}, which says nothing of p{q:g} in {limit.path}")


def _deadlines(at: Workplace) -> Generator[Verdict, None, bool]:
    """One verdict per limit; whether any is broken. A time that breaks both limits is one mismatch."""
    times = [time for path in TIMES if (time := time_at(at, path))]
    limits = [limit for path in LIMITS if (limit := time_at(at, path))]
    if not times or not limits:
        absent = "neither " + " nor ".join(LIMITS if times else TIMES) + " is declared as a time with its unit"
        yield CHECK.unknown(absent, field="inference_time", aliases=("tec:12",))
        return False
    broken: dict[str, list[tuple[Time, Time]]] = {}
    for limit in limits:
        judged = sorted(
            ((time, meets(time, limit)) for time in times),
            key=lambda one: ("mismatch", "ok", "unknown").index(one[1].outcome),
        )
        time, found = judged[0]
        if found.outcome == "mismatch":
            broken.setdefault(time.path, []).append((time, limit))
        else:
            yield _timed(at, time, limit, found)
    for pairs in broken.values():
        time, tightest = min(pairs, key=lambda pair: pair[1].seconds)
        also = "".join(f", nor the {limit.told} of {limit.path}" for _, limit in pairs if limit is not tightest)
        message = (
            f"one inference takes {time.told} ({time.path}), which does not meet the {tightest.told} of "
            f"{tightest.path}{also}"
        )
        yield _timed(at, time, tightest, Judgement("mismatch", message))
    return bool(broken)


def _timed(at: Workplace, time: Time, limit: Time, found: Judgement) -> Verdict:
    sides: dict[str, Any] = {
        "field": f"inference_time/{limit.path.rpartition('.')[2]}", "left": at.side(time.path),
        "right": at.side(limit.path), "aliases": ("tec:12",),
        "effect": Effect(statistic="inference time in s", estimate=time.seconds, threshold=limit.seconds),
    }  # fmt: skip
    if found.outcome == "ok":
        return CHECK.ok(**sides)
    return (
        CHECK.mismatch(found.reason, **sides) if found.outcome == "mismatch" else CHECK.unknown(found.reason, **sides)
    )


def rates(at: Workplace) -> Iterator[tuple[str, str, float]]:
    """Name, path and events per second of every declared rate; from prose where no number is declared."""
    declared = at.value(RATE)
    if isinstance(declared, dict):
        for name in ("mean", "p99"):
            number = number_of(declared.get(name))
            unit = str(declared.get("unit") or (number[1] if number else ""))
            found = converted(number[0], unit, "1/s") if number and unit else None
            if found is not None:
                yield name, f"{RATE}.{name}", found
        return
    path = PROSE if declared is None else RATE
    number = number_of(at.value(path))
    found = converted(number[0], number[1], "1/s") if number and number[1] else None
    if found is not None:
        yield "mean", path, found


def _utilisation(at: Workplace, fault: str) -> Iterator[Verdict]:
    """At the mean rate and at its p99. `fault` names what was already found wrong with a part of it."""
    times = [time for path in TIMES if (time := time_at(at, path))]
    known = list(rates(at))
    absent = next(
        (told for told, there in (
            (f"neither {RATE} nor a plain number in {PROSE} with its unit is declared", known),
            (f"neither {' nor '.join(TIMES)} is declared as a time with its unit", times),
        ) if not there), "",
    )  # fmt: skip
    if absent:
        yield CHECK.unknown(absent, field="utilisation")
        return
    found = [_busy(at, times, *rate, fault) for rate in known]
    # One rate that is too high is one mismatch: the one that exceeds its limit by more.
    broken = [v for v in found if v.verdict == "mismatch"]
    worst = max(broken, key=_excess, default=None)
    yield from (v for v in found if v.verdict != "mismatch" or v is worst)


def _excess(verdict: Verdict) -> float:
    effect = verdict.effect
    return effect.estimate / effect.threshold if effect and effect.threshold else math.inf


def _busy(at: Workplace, times: list[Time], name: str, path: str, rate: float, fault: str) -> Verdict:
    declared = number_of(at.value(BUSY))
    limit = 1.0 if name == "p99" else (declared[0] if declared else UTILISATION)
    left = at.side(path)
    loads = [(time, load) for time in times if (load := _load(at, time, rate)) is not None]
    if not loads:
        reason = f"{PRODUCTION}.{_processors(times[0])} is not declared"
        return CHECK.unknown(reason, field=f"utilisation/{name}", left=left)
    time, load = min(loads, key=lambda one: one[1])  # the best that was measured is what can be had
    device = _processors(time)
    right = at.side(f"{PRODUCTION}.{device}")
    sides: dict[str, Any] = {
        "field": f"utilisation/{name}", "left": left, "right": right,
        "effect": Effect(statistic="utilisation", estimate=round(load, 6), threshold=limit),
    }  # fmt: skip
    if load <= limit * (1 + 1e-9):
        return CHECK.ok(**sides)
    if fault:
        reason = f"utilisation would be {load:.3g}, but it rests on the {fault} that another mismatch is about"
        return CHECK.unknown(reason, **sides)
    if time.percentile is not None and time.percentile > 50:
        reason = f"{time.path} is p{time.percentile:g}; whether the mean time allows {rate:.4g} events/s is not known"
        return CHECK.unknown(reason, **sides)
    batches = f" in batches of {time.batch:g}" if time.batch and time.batch > 1 else ""
    return CHECK.mismatch(
        f"{rate:.4g} events/s ({path}) at {time.told}{batches} each ({time.path}) keep {right.value} {device} busy "
        f"{100 * load:.3g}% of the time, at most {100 * limit:g}% is allowed: a queue grows",
        **sides,
    )


def _processors(time: Time) -> str:
    return "gpu" if time.device == "gpu" else "cpu"


def _load(at: Workplace, time: Time, rate: float) -> float | None:
    """Busy share of all processors; infinite where there is none."""
    number = number_of(at.value(f"{PRODUCTION}.{_processors(time)}"))
    if number is None:
        return None
    return rate * time.seconds / (number[0] * max(time.batch or 1, 1)) if number[0] > 0 else math.inf


CHECK = Check(
    id="capacity-and-deadline",
    title="Enough and in time",
    owner="operations",
    remedy="give the service more, or choose a smaller model; measure the time as the limit is stated",
    aliases=("tec:6", "tec:7", "tec:12"),
    design=design,
)
