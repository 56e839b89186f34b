"""Whom a mismatch concerns: a role, or the contact that the system context names for it."""

import msgspec

from models.checks.verdict import Verdict
from models.descriptors.paths import Trees, value_at


def addressed(verdict: Verdict, trees: Trees, otherwise: str = "") -> Verdict:
    """The verdict with the contact to call as its owner.

    That is the one declared under `system_context.bestbefore.owners` for the check or for the role, for a user's own
    check the one in its entry, else `otherwise`, else the role.
    """
    contacts = value_at(trees, "system_context.bestbefore.owners")
    contacts = contacts if isinstance(contacts, dict) else {}
    own = verdict.owner if verdict.check.startswith("user:") else ""
    named = contacts.get(verdict.check) or own or contacts.get(verdict.owner) or otherwise or verdict.owner
    return msgspec.structs.replace(verdict, owner=str(named))
