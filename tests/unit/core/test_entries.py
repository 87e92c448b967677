"""What a party writes is what everyone reads: payload, salted body, key statement, leaf."""

import hashlib

import pytest

from exchange.core.entries import (
    ObjectVersion,
    body_entry,
    directory_leaf,
    key_entry,
    purpose_entry,
    revocation_entry,
    sealing_key_statement,
    signing_key_statement,
)
from exchange.core.envelope import ENTRY, Draft, decode_envelope, sign
from exchange.core.errors import DecodeError
from exchange.core.key_rules import possession_statement, succession_statement
from exchange.core.keys import is_signed
from exchange.core.terms import SALT
from exchange.core.wire import decode, encode
from exchange.v1.directory_pb2 import (
    Agreement,
    Application,
    Dataset,
    DirectoryLeaf,
    Entry,
    EntryKind,
    Key,
    Purpose,
    Role,
    Suite,
)
from tests.memory import fixed, sealing_public, signer
from tests.world import COORDINATOR, HOUSING, ORIGIN, POPULATION, REGISTRY, START, YEAR

FIRST = ObjectVersion(fixed("object", 16))
NEXT = ObjectVersion(fixed("object", 16), fixed("before"))
VALIDITY = (START, START + YEAR)


def read(draft: Draft) -> Entry:
    """The entry in a draft."""
    assert draft.kind == ENTRY
    return decode(Entry, draft.payload)


BODIES = [
    (Dataset(format=1, code="residents"), EntryKind.ENTRY_KIND_DATASET),
    (Application(format=1, legal_basis="a law"), EntryKind.ENTRY_KIND_APPLICATION),
    (Agreement(format=1, not_after=7), EntryKind.ENTRY_KIND_AGREEMENT),
]


@pytest.mark.parametrize(("body", "kind"), BODIES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("version", [FIRST, NEXT], ids=["first", "next"])
def test_a_body_travels_beside_its_entry(
    body: Dataset | Application | Agreement, kind: EntryKind.ValueType, version: ObjectVersion
) -> None:
    salt = fixed("salt")
    draft = body_entry(POPULATION, version, body, salt)
    entry = read(draft)
    assert (entry.format, entry.kind, entry.owner) == (1, kind, str(POPULATION))
    assert (entry.object_id, entry.supersedes) == (version.object_id, version.supersedes)
    assert draft.attachments == (salt + encode(body),)
    assert entry.body_sha256 == hashlib.sha256(draft.attachments[0]).digest()


def test_the_salt_hides_equal_bodies() -> None:
    bodies = {read(body_entry(POPULATION, FIRST, Dataset(format=1), fixed(salt))).body_sha256 for salt in "ab"}
    assert len(bodies) == 2
    assert SALT == 32


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_refuses_a_salt_of_another_length(size: int) -> None:
    with pytest.raises(DecodeError, match="32 bytes"):
        body_entry(POPULATION, FIRST, Dataset(format=1), bytes(size))


def test_a_purpose_is_inline() -> None:
    purpose = Purpose(code="housing.allocation", label="住房分配", legal_basis="a law")
    draft = purpose_entry(COORDINATOR, NEXT, purpose)
    assert draft.attachments == ()
    entry = read(draft)
    assert (entry.kind, entry.owner, entry.purpose) == (EntryKind.ENTRY_KIND_PURPOSE, str(COORDINATOR), purpose)
    assert entry.supersedes == NEXT.supersedes


def test_a_revocation_names_its_target_and_reason() -> None:
    draft = revocation_entry(REGISTRY, FIRST.object_id, fixed("target"), "misuse")
    assert draft.attachments == ()
    entry = read(draft)
    assert (entry.kind, entry.owner, entry.supersedes) == (EntryKind.ENTRY_KIND_REVOCATION, str(REGISTRY), b"")
    assert (entry.revocation.target, entry.revocation.reason) == (fixed("target"), "misuse")


def test_a_signing_keys_statement_proves_its_possession() -> None:
    new = signer("new")
    statement = signing_key_statement(ORIGIN, HOUSING, Role.ROLE_DEPARTMENT, new, VALIDITY)
    key = decode(Key, statement.statement)
    assert (key.party, key.role, key.suite) == (str(HOUSING), Role.ROLE_DEPARTMENT, Suite.SUITE_ECDSA_P256_SHA256)
    assert (key.public_key, key.not_before, key.not_after) == (new.public_key, *VALIDITY)
    assert is_signed(new.public_key, possession_statement(ORIGIN, statement.statement), statement.possession)
    assert (statement.succession, statement.csr_sha256) == (b"", b"")


def test_a_later_keys_statement_is_signed_by_the_earlier_one() -> None:
    old, new = signer("old"), signer("new")
    statement = signing_key_statement(ORIGIN, HOUSING, Role.ROLE_DEPARTMENT, new, VALIDITY, csr=b"csr", predecessor=old)
    assert is_signed(old.public_key, succession_statement(ORIGIN, statement.statement), statement.succession)
    assert statement.csr_sha256 == hashlib.sha256(b"csr").digest()


def test_possession_and_succession_are_signed_apart_and_for_one_exchange() -> None:
    statement = b"statement"
    texts = {
        text(origin, statement)
        for text in (possession_statement, succession_statement)
        for origin in (ORIGIN, "town.example")
    }
    assert len(texts) == 4
    assert possession_statement(ORIGIN, statement) == (
        b"DSSEv1 22 exchange.v1/possession 23 \x00\x0ccity.examplestatement"
    )


def test_a_sealing_keys_statement_carries_no_proof() -> None:
    public = sealing_public(str(REGISTRY))
    statement = sealing_key_statement(REGISTRY, public, VALIDITY)
    key = decode(Key, statement.statement)
    assert (key.party, key.role, key.suite) == (str(REGISTRY), Role.ROLE_SYSTEM, Suite.SUITE_MLKEM768_X25519)
    assert (key.public_key, key.not_before, key.not_after) == (public, *VALIDITY)
    assert (statement.possession, statement.succession, statement.csr_sha256) == (b"", b"", b"")


@pytest.mark.parametrize(("csr", "attachments"), [(b"", ()), (b"csr", (b"csr",))])
def test_a_certificate_request_travels_beside_its_key(csr: bytes, attachments: tuple[bytes, ...]) -> None:
    statement = signing_key_statement(ORIGIN, REGISTRY, Role.ROLE_SYSTEM, signer("new"), VALIDITY, csr=csr)
    draft = key_entry(POPULATION, FIRST.object_id, statement, csr)
    assert draft.attachments == attachments
    entry = read(draft)
    assert (entry.kind, entry.owner, entry.key) == (EntryKind.ENTRY_KIND_KEY, str(POPULATION), statement)


def test_a_leaf_holds_the_envelope_without_its_body() -> None:
    envelope = sign(signer("any"), ORIGIN, body_entry(POPULATION, FIRST, Dataset(format=1), fixed("salt")))
    leaf = decode(DirectoryLeaf, directory_leaf(envelope, START))
    assert (leaf.format, leaf.time) == (1, START)
    assert decode_envelope(leaf.envelope) == envelope.bare() != envelope
