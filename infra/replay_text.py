"""What a replay came to, in words: each model version as its last window left it, what is unknown, and what to add."""

from collections.abc import Iterator, Mapping
from typing import Any

from infra import show
from infra.replay import Result
from models.checks.needs import NEEDS


def lines_of(result: Result) -> Iterator[str]:
    """The lines, a paragraph for each model version."""
    for body in result.latest:
        yield ""
        yield f"{body['model']} {body['version']}, as of {show.day(body['window']['end'])}"
        yield f"  quality      {_quality(body)}"
        yield f"  best before  {_best_before(body)}"
        yield f"  asked for    {_asked(body, result)}"
        yield f"  mismatches   {', '.join(body['open_mismatches']) or 'none open'}"
        yield from _unknown(body, result)
    if result.latest:
        yield ""
    for plot in result.plots[::2]:
        yield f"plot: {plot}, and as .svg"


def _quality(body: Mapping[str, Any]) -> str:
    threshold = body["forecast"].get("threshold")
    limit = f"; threshold {threshold:g}" if threshold is not None else "; no threshold is declared"
    quality = body["quality"]
    basis = "" if quality["estimate"] is None else f", from {_BASIS.get(quality['basis'], quality['basis'])}"
    return f"{quality['metric']} {show.interval(quality)}{basis}{limit}"


def _best_before(body: Mapping[str, Any]) -> str:
    high, threshold = body["quality"]["high"], body["forecast"].get("threshold")
    if high is not None and threshold is not None and high < threshold:
        return "passed: the whole interval of the quality is below the threshold"
    return show.best_before(body["forecast"])


_BASIS = {"both": "labels and confidences", "label-free": "confidences, without labels"}


def _asked(body: Mapping[str, Any], result: Result) -> str:
    open_now = show.asked_for(dict(body))
    mine = [t for t in result.asked if (t["model_name"], t["model_version"]) == (body["model"], body["version"])]
    if not mine:
        return "nothing" if open_now == "-" else open_now
    first = mine[0]
    told = f"{first['action']} since {show.day(first['created_at'])}, best before then {_date(first['forecast'])}"
    return told if open_now != "-" else f"nothing any more; {told}"


def _date(forecast: Mapping[str, Any]) -> str:
    return show.day(forecast["best_before"]) if forecast.get("best_before") else "unknown or beyond the horizon"


def _unknown(body: Mapping[str, Any], result: Result) -> Iterator[str]:
    """The checks that had no evidence, by what the recording lacks."""
    left = [check for check, verdict in body["verdicts"].items() if verdict == "unknown"]
    lacking = {"labels": not result.labels, "sampled inputs": not result.inputs}
    title = "unknown"
    for need in NEEDS:
        found = [check for check in left if check in need.checks] if lacking.get(need.field) else []
        if found:
            yield f"  {title:<12} {', '.join(found)}: no {need.field}; {need.remedy}"
            left, title = [check for check in left if check not in found], ""
    if left:
        yield f"  {title:<12} {', '.join(left)}: `bestbefore check --explain NAME` tells what each needs"
