"""Does the model run where, and on what, it was meant to run?

| | |
|---|---|
| left | `trained_model.model_components[].programming_languages` and `ml_frameworks`; opset, IR version and digest of the model file; `production_environment.bestbefore.providers` |
| right | `development_environment.programming_languages` and `ml_frameworks`; `production_environment.bestbefore.runtimes` {onnxruntime: version}; the runtime, file and execution provider that were really loaded, and the provider that sampled inputs name |
| mismatch | a language or framework that is not at hand, or in another version; an opset or IR version newer than a runtime loads; a file with another digest, or one that cannot be loaded; another execution provider than the first declared one: `CUDAExecutionProvider` is declared and the CPU serves |
| unknown | one side is not declared, no file was loaded, a runtime whose limits are not known, a provider that was not tried |

Names are compared without case, punctuation and version, versions where both sides give one (`2.x` allows `2.15`).
What a runtime loads is known by trial. One sampled input that names its provider is enough: a session that loses its
GPU goes on silently on the CPU. Where the check runs at design time, or with `provider_policy` `cpu`, the accelerator
of production was not tried, and nothing is said about it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.checks.check import Check
from models.checks.observed import Observed
from models.checks.shares import share_side
from models.checks.verdict import Effect, Side, Verdict
from models.checks.workplace import Workplace
from models.inspection import Inspection
from models.package_names import ONNX_RUNTIME, Package, compatible, package, version_numbers
from models.profile import WEIGHT

OWN = "trained_model.bestbefore"
DIGEST, OPSET, IR = f"{OWN}.digest", f"{OWN}.opset", f"{OWN}.ir_version"
RUNTIMES, PROVIDERS = (f"production_environment.bestbefore.{key}" for key in ("runtimes", "providers"))
COMPONENTS, FRAMEWORKS = "trained_model.model_components", "trained_model.ml_frameworks"
SKEW = "skew."  # histograms of served embeddings, by `<provider>|<batch size>`


def design(at: Workplace) -> Iterator[Verdict]:
    """Languages, frameworks, and the model file on the declared runtime and on the one at hand."""
    yield from _subset(at, "programming_languages", _languages(at), COMPONENTS, "tec:2")
    yield from _subset(at, "ml_frameworks", _listed(at, FRAMEWORKS), FRAMEWORKS, "tec:8")
    yield from _declared_runtime(at, at.inspection)
    yield from _file(at, at.inspection, designed=True)


def live(seen: Observed) -> Iterator[Verdict]:
    """The file, runtime and provider that are in use."""
    yield from _file(seen, seen.inspection, designed=False)
    yield _provider(seen, seen.inspection)


# -- languages and frameworks ------------------------------------------------------------------------------------


def _listed(at: Workplace, path: str) -> list[tuple[str, Package]]:
    found = at.value(path)
    values = found if isinstance(found, list) else []
    return [(f"{path}[{i}]", package(value)) for i, value in enumerate(values) if str(value or "").strip()]


def _languages(at: Workplace) -> list[tuple[str, Package]]:
    return [one for path, _ in at.items(COMPONENTS) for one in _listed(at, f"{path}.programming_languages")]


def _subset(at: Workplace, key: str, needed: list[tuple[str, Package]], path: str, alias: str) -> Iterator[Verdict]:
    """One verdict per distinct name that the model needs."""
    where = f"development_environment.{key}"
    given, named = _listed(at, where), path if path == FRAMEWORKS else f"{path}[].{key}"
    if not needed:
        if not _said(at, path, key):  # a list without anything in it asks for nothing
            yield CHECK.unknown(f"{named} is not declared", field=key, aliases=(alias,))
        return
    if at.value(where) is None:
        yield CHECK.unknown(f"{where} is not declared", field=key, aliases=(alias,))
        return
    for source, one in {one: (source, one) for source, one in reversed(needed)}.values():
        same = [(p, other) for p, other in given if other.name == one.name]
        fits = [compatible(one, other) for _, other in same]
        left = at.side(source)
        right = at.side(same[0][0]) if same else at.side(where)
        sides: dict[str, Any] = {"field": f"{key} {left.value}", "left": left, "right": right, "aliases": (alias,)}
        if any(fits):
            yield CHECK.ok(**sides)
        elif same and None in fits:
            yield CHECK.unknown(f"whether {left.value!r} and {right.value!r} have a version in common", **sides)
        else:
            has = f"has {right.value!r}" if same else f"does not name it ({where})"
            yield CHECK.mismatch(
                f"the model needs {left.value!r} ({source}), the development environment {has}",
                owner="software engineer", remedy="provide it, or build the model on what there is", **sides,
            )  # fmt: skip


def _said(at: Workplace, path: str, key: str) -> bool:
    return at.value(path) is not None if path == FRAMEWORKS else any(key in item for _, item in at.items(path))


# -- the model file ----------------------------------------------------------------------------------------------


def _versions(at: Workplace | Observed, found: Inspection | None) -> list[tuple[str, str, int | None]]:
    """Name, path and number of the opset and IR version: those of the file, else the declared ones."""
    opset: Any = found.opset if found is not None and found.opset else at.value(OPSET)
    if isinstance(opset, Mapping):
        opset = opset.get("ai.onnx", opset.get(""))
    ir: Any = (found.ir_version if found is not None else 0) or at.value(IR)
    return [
        (name, path, int(number) if isinstance(number, int | float) and number > 0 else None)
        for name, path, number in (("opset", OPSET, opset), ("IR version", IR, ir))
    ]


def _declared_runtime(at: Workplace, found: Inspection | None) -> Iterator[Verdict]:
    """The file's versions beside what the declared ONNX Runtime loads."""
    runtimes = at.value(RUNTIMES)
    known = {package(n).name: (n, str(v)) for n, v in runtimes.items()} if isinstance(runtimes, Mapping) else {}
    if "onnxruntime" not in known:
        if any(number for _, _, number in _versions(at, found)):
            yield CHECK.unknown(f"{RUNTIMES}.onnxruntime is not declared", field="declared runtime")
        return
    name, version = known["onnxruntime"]
    limits = ONNX_RUNTIME.get(version_numbers(version)[:2])
    side = Side(f"{RUNTIMES}.{name}", version, place=at.place(RUNTIMES))
    if limits is None:
        yield CHECK.unknown(
            f"what ONNX Runtime {version} loads is not known here", field="declared runtime", right=side
        )
        return
    yield from _newer(at, found, limits, side, f"the declared ONNX Runtime {version}", "declared ")


def _newer(
    at: Workplace | Observed, found: Inspection | None, limits: tuple[int, int], right: Side, what: str, prefix: str
) -> Iterator[Verdict]:
    for (name, path, number), limit in zip(_versions(at, found), limits, strict=True):
        field, left = f"{prefix}{name}", Side(path, number)
        if number is None:
            yield CHECK.unknown(f"{path} is not declared and no file was read", field=field, right=right)
        elif not limit:
            yield CHECK.unknown(f"what {what} loads is not known", field=field, left=left, right=right)
        elif number > limit:
            yield CHECK.mismatch(
                f"the model has {name} {number}, {what} loads {name}s up to {limit}",
                field=field, left=left, right=right, remedy="update the runtime, or export the model for it",
                effect=Effect(statistic=name, estimate=number, threshold=limit),
            )  # fmt: skip
        else:
            yield CHECK.ok(field=field, left=left, right=right)


def _file(at: Workplace | Observed, found: Inspection | None, *, designed: bool) -> Iterator[Verdict]:
    """Digest and versions of the file that was loaded."""
    declared = at.side(DIGEST)
    if found is None or not found.digest:
        reason = found.error if found is not None and found.error else "no model file was loaded"
        yield CHECK.unknown(reason, field="digest", left=declared)
        return
    if not declared.value:
        yield CHECK.unknown(f"{DIGEST} is not declared", field="digest")
    else:
        yield _digest(declared, found)
    if not found.opset:  # it is no ONNX file at all
        newer: list[Verdict] = []
    else:
        right = Side("inspection.runtime", found.runtime)
        limits, what = (found.newest_opset, found.newest_ir), f"ONNX Runtime {found.runtime}, which is installed here,"
        newer = list(_newer(at, found, limits, right, what, ""))
    yield from newer
    if not found.error:
        yield CHECK.ok(
            field="file", left=at.side(f"{OWN}.file"), right=Side("inspection.providers", list(found.providers))
        )
    elif designed and not any(v.verdict == "mismatch" for v in newer):
        yield CHECK.mismatch(
            f"the model file cannot be loaded: {found.error}", field="file", left=at.side(f"{OWN}.file"),
            severity="critical",
        )  # fmt: skip
    else:
        # At run time this is a mismatch of model-identity, and a version that is too new was told above.
        yield CHECK.unknown(f"the model file cannot be loaded: {found.error}", field="file")


def _digest(declared: Side, found: Inspection) -> Verdict:
    right = Side("inspection.digest", found.digest)
    if _bare(str(declared.value)) == _bare(found.digest):
        return CHECK.ok(field="digest", left=declared, right=right)
    return CHECK.mismatch(
        f"the model file hashes to {found.digest[:23]}…, {str(declared.value)[:23]}… is declared ({DIGEST}): the file "
        "was exchanged",
        field="digest", left=declared, right=right, action="roll-back", severity="critical",
        remedy="put the declared file back, or register the new one under a new version",
    )  # fmt: skip


def _bare(digest: str) -> str:
    return digest.strip().lower().removeprefix("sha256:")


# -- execution providers -----------------------------------------------------------------------------------------


def _provider(seen: Observed, found: Inspection | None) -> Verdict:
    """The provider that serves: as sampled inputs name it, else as the worker's own session got it."""
    declared = seen.value(PROVIDERS)
    wanted = [str(p) for p in declared] if isinstance(declared, list) else []
    if not wanted:
        return CHECK.unknown(f"{PROVIDERS} is not declared", field="provider")
    left, served = Side(PROVIDERS, wanted), _served(seen)
    if sum(served.values()):
        return _by_events(left, wanted[0], served)
    if found is None or not found.providers:
        return CHECK.unknown(
            "no sampled input names its provider and no model file runs here", field="provider", left=left
        )
    sides: dict[str, Any] = {
        "field": "provider", "left": left, "right": Side("inspection.providers", list(found.providers)),
    }  # fmt: skip
    if _short(found.providers[0]) == _short(wanted[0]):
        return CHECK.ok(**sides)
    if found.policy == "cpu":
        return CHECK.unknown(
            f"provider_policy is cpu, so {wanted[0]} was not tried here, and no sampled input names its provider",
            **sides,
        )
    return CHECK.mismatch(_silently(wanted[0], "the model file runs", found.providers[:1]), **sides)


def _by_events(left: Side, wanted: str, served: Mapping[str, int]) -> Verdict:
    total = sum(served.values())
    other = {name: weight for name, weight in served.items() if _short(name) != _short(wanted)}
    share, n = sum(other.values()) / total, max(total / WEIGHT, 1.0)
    right = share_side("telemetry.provider.other", share, n)
    effect = Effect(
        statistic="share served elsewhere", estimate=share, low=right.low, high=right.high, threshold=0.0, n=n
    )
    sides: dict[str, Any] = {"field": "provider", "left": left, "right": right, "effect": effect}
    if not other:
        return CHECK.ok(**sides)
    return CHECK.mismatch(_silently(wanted, f"{n * share:.6g} of {n:.6g} sampled inputs ran", sorted(other)), **sides)


def _silently(wanted: str, what: str, others: Sequence[str]) -> str:
    return f"{wanted} is declared ({PROVIDERS}), but {what} on {', '.join(others)}"


def _served(seen: Observed) -> dict[str, int]:
    """Weight of sampled inputs by the provider that they name."""
    found: dict[str, int] = {}
    for name, counts in seen.window.histograms.items():
        provider = name.removeprefix(SKEW).split("|")[0]
        if name.startswith(SKEW) and provider not in ("", "?", "other"):
            found[provider] = found.get(provider, 0) + int(counts.sum())
    return found


def _short(provider: str) -> str:
    return provider.strip().casefold().removesuffix("executionprovider")


CHECK = Check(
    id="runtime-fingerprint",
    title="Runs where it was meant to run",
    owner="operations",
    remedy="give the model the runtime and the device that were declared",
    action="fix-pipeline",
    aliases=("tec:2", "tec:8"),
    design=design,
    live=live,
)
