"""Which functions read what comes from outside: by their names, in all modules, less what is exempt with a reason."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import agents
import infra
import models
import streams

READS = re.compile(
    r"(decode|read|load|parse|unpack|from_state|from_descriptor|trees_of|detect|fetch|unwrap|inspect)($|_)"
)
_NOT_IMPORTED = re.compile(r"infra\.(demo|migrations|local)\b|infra\.cli")
EXEMPT = {
    "models.passage_network.read": "reads the one file that is shipped, after its digest; see test_forecaster",
    "streams.inspecting.inspect_forever": "the loop around inspect, which the target model-file calls",
    "streams.fetching.LenientText.decode": "never fails; tests/faults/test_bad_records.py sends such headers",
    "streams.fetching.read_batch": "asks the broker",
    "streams.intake.Intake.decode": "abstract",
    "streams.intake.Intake.read": "hands on to decode",
    "agents.ingest.Ingest.read": "hands on to decode, or to a source, which are targets",
    "infra.web.site.read_file": "reads what is shipped with the page",
    "streams.store_transaction.Transaction.load_states": "asks the store; what it makes of a row is the target state",
    "streams.store_transaction.Transaction.load_versions": "as load_states",
    "infra.dead_letters.read": "asks the broker; what it makes of a record is the target dead-letter",
    "infra.worker.load_registrations": "asks the store; what it makes of a row is the target reference",
}


def modules() -> Iterator[ModuleType]:
    """Every module that may read."""
    for package in (streams, models, agents, infra):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not _NOT_IMPORTED.match(found.name):
                yield importlib.import_module(found.name)
