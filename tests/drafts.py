"""Directory entries for tests of their rules: each one right but for what the test changes."""

from dataclasses import replace
from typing import Any

from exchange.core.envelope import ENTRY, Draft
from exchange.core.fold import Applied
from exchange.core.key_rules import possession_statement, succession_statement
from exchange.core.keys import EcdsaSigner, key_id
from exchange.core.names import Party
from exchange.core.state import KeyRecord
from exchange.core.wire import encode
from exchange.v1.directory_pb2 import Entry, EntryKind, Key, KeyStatement, Role, Suite
from tests.memory import sealing_public, signer
from tests.world import (
    DAY,
    ORIGIN,
    REGISTRY,
    YEAR,
    World,
)

NEW = signer("new")
DAYS_30 = 2_592_000_000


def role(name: str) -> Role.ValueType:
    return Role.Value(f"ROLE_{name}")


def key_draft(
    world: World,
    party: Party | str,
    name: str,
    parent: Party,
    *,
    key: EcdsaSigner = NEW,
    succession: EcdsaSigner | None = None,
    entry: dict[str, Any] | None = None,
    statement: dict[str, Any] | None = None,
    **changes: Any,
) -> Draft:
    """A signing key's entry, right but for the changes of its key, its statement and its entry."""
    fields: dict[str, Any] = {
        "format": 1,
        "party": str(party),
        "role": role(name),
        "suite": Suite.SUITE_ECDSA_P256_SHA256,
        "public_key": key.public_key,
        "not_before": world.now - DAY,
        "not_after": world.now + YEAR,
    }
    data = encode(Key(**(fields | changes)))
    stated: dict[str, Any] = {
        "statement": data,
        "possession": key.sign(possession_statement(ORIGIN, data)),
        "succession": succession.sign(succession_statement(ORIGIN, data)) if succession else b"",
    }
    body = KeyStatement(**(stated | (statement or {})))
    return entry_draft(world, parent, "KEY", key=body, **(entry or {}))


def sealing_draft(world: World, system: Party = REGISTRY, parent: Party = REGISTRY, **changes: Any) -> Draft:
    """A sealing key's entry, right but for the changes."""
    fields = {
        "suite": Suite.SUITE_MLKEM768_X25519,
        "public_key": sealing_public("new"),
        "not_before": world.now,
        "not_after": world.now + DAYS_30,
    }
    statement = {"possession": b""} | changes.pop("statement", {})
    name = changes.pop("name", "SYSTEM")
    return key_draft(world, system, name, parent, statement=statement, **(fields | changes))


def entry_draft(world: World, owner: Party, kind: str, **changes: Any) -> Draft:
    """An entry of any kind, with any body."""
    fields = {"format": 1, "kind": EntryKind.Value(f"ENTRY_KIND_{kind}"), "owner": str(owner)}
    return Draft(ENTRY, encode(Entry(**(fields | {"object_id": world.fresh(16)} | changes))))


def refused(world: World, draft: Draft, party: Party, reason: str) -> None:
    """The entry is refused for this reason, and nothing but the size has changed."""
    before = world.directory
    applied = world.append(draft, party)
    assert reason in applied.reason
    assert world.directory.terms == before.terms
    assert world.directory.state == replace(before.state, size=before.state.size + 1)


def accepted(world: World, draft: Draft, party: Party) -> Applied:
    """The entry holds."""
    applied = world.append(draft, party)
    assert not applied.reason
    return applied


def record_of(world: World, key: EcdsaSigner = NEW) -> KeyRecord:
    """What the directory knows of a key."""
    return world.directory.state.keys[key_id(key.public_key)]
