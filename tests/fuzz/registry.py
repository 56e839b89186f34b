"""All targets by name, and the groups that are fuzzed with coverage as a guide."""

from collections.abc import Mapping
from random import Random
from types import MappingProxyType

from tests.fuzz import adapters, bridge, client, descriptors, files, stored, telemetry
from tests.fuzz.damage import of_bytes
from tests.fuzz.target import FOUND, Target, tried

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for module in (telemetry, adapters, bridge, descriptors, stored, files, client)
        for target in module.TARGETS
    }
)  # fmt: skip
# What coverage guides, a process each: the first byte of an input says which target of the group it is for.
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "frames": ("frame",),
        "events": ("inference", "label", "lifecycle", "input", "dead-letter", "profile"),
        "descriptors": ("text", "descriptor-set", "artefact", "checks", "words"),
    }
)


def of_group(group: str, content: bytes) -> tuple[Target, bytes]:
    """The target that an input of a group is for, and what it gets."""
    names = GROUPS[group]
    return TARGETS[names[(content[0] if content else 0) % len(names)]], content[1:]


def group_seeds(group: str) -> list[bytes]:
    """Valid inputs of every target of a group, and what was once answered wrongly."""
    return [
        bytes([number]) + seed
        for number, name in enumerate(GROUPS[group])
        for seed in (*TARGETS[name].seeds(), *found(name))
    ]


def group_damage(group: str, content: bytes, random: Random) -> bytes:
    """An input of a group, damaged as its target knows how."""
    target, body = of_group(group, content)
    if random.random() < 0.02:
        return of_bytes(content, random)
    return content[:1] + target.damage(body, random)


def found(name: str) -> list[bytes]:
    """Inputs of a target that were once answered wrongly, smallest first."""
    return sorted((path.read_bytes() for path in (FOUND / name).glob("*")), key=len)


def replayed(name: str, content: bytes) -> bool:
    """Try one input of a target or a group again; see `tried`."""
    target, body = (TARGETS[name], content) if name in TARGETS else of_group(name, content)
    return tried(target, body)
