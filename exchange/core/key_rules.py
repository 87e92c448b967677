"""The rules of keys: who may give whom which key, what proves it, and from when on it holds (DESIGN sections 2, 3)."""

from exchange.core.envelope import pae, prefixed
from exchange.core.errors import SealError
from exchange.core.keys import is_signed, key_id, sealing_public_key
from exchange.core.lifetimes import HEAD_START, SEALING_KEY, SYSTEM_KEY
from exchange.core.names import Party
from exchange.core.signed import Signed
from exchange.core.state import EntryError, KeyRecord, State, is_digest, is_signing
from exchange.core.wire import MAX_TIME, decode
from exchange.v1.directory_pb2 import Key, KeyStatement, Role, Suite

POSSESSION = "exchange.v1/possession"
SUCCESSION = "exchange.v1/succession"
PUBLIC_VIEW = 72 * 3600 * 1000

# Roles whose keys the root signs, each for a name of one segment below the exchange.
ROOT_SIGNED = frozenset(
    {
        Role.ROLE_DEPARTMENT,
        Role.ROLE_COORDINATOR,
        Role.ROLE_AUDITOR,
        Role.ROLE_BROKER,
        Role.ROLE_WITNESS,
    }
)

# Roles whose keys a department signs, each for a name below it.
DEPARTMENT_SIGNED = frozenset({Role.ROLE_SYSTEM, Role.ROLE_HEAD, Role.ROLE_STEWARD})


def possession_statement(origin: str, statement: bytes) -> bytes:
    """What a new key signs to prove that its holder asked: PAE("exchange.v1/possession", origin ‖ statement)."""
    return pae(POSSESSION, prefixed(origin) + statement)


def succession_statement(origin: str, statement: bytes) -> bytes:
    """What an earlier key of the party signs for a later one: PAE("exchange.v1/succession", origin ‖ statement)."""
    return pae(SUCCESSION, prefixed(origin) + statement)


def new_key(state: State, signed: Signed, statement: KeyStatement) -> KeyRecord:
    """The key that an entry gives, as the directory is to have it.

    Args:
        state: before the entry; signed: the entry; statement: its body.

    Raises:
        CoreError: a rule is broken; the text says which.
    """
    key = decode(Key, statement.statement)
    party = Party.parse(key.party)
    # DESIGN section 3: the signer's path is a prefix, by whole segments, of the signed one's; the root's is the domain.
    if not signed.signer.party.covers(party):
        raise EntryError(f"{signed.signer.party} cannot sign a key of {party}")
    if not key.not_before < key.not_after <= MAX_TIME:
        raise EntryError("the key's validity is empty, or ends beyond the year 9999")
    if key_id(key.public_key) in state.keys:
        raise EntryError("the key is in the directory already")
    if key.suite == Suite.SUITE_MLKEM768_X25519:
        effective = _sealing(signed, statement, key)
    elif key.suite == Suite.SUITE_ECDSA_P256_SHA256:
        effective = _signing(state, signed, statement, key, party)
    else:
        raise EntryError("the key's suite is not known")
    return KeyRecord(
        key_id(key.public_key),
        party,
        key.role,
        key.suite,
        key.public_key,
        effective,
        key.not_after,
        signed.index,
    )


def _sealing(signed: Signed, statement: KeyStatement, key: Key) -> int:
    """A KEM key cannot sign: the system's own signing key vouches for it. Returns when it takes effect."""
    # A system covers nobody but itself, so a system that signs is the key's party.
    if key.role != Role.ROLE_SYSTEM or signed.signer.role != Role.ROLE_SYSTEM:
        raise EntryError("a sealing key is signed by its own system")
    if key.not_after - key.not_before > SEALING_KEY:
        raise EntryError("a sealing key is valid for at most 30 days")
    if statement.possession or statement.succession or statement.csr_sha256:
        raise EntryError("a sealing key's statement carries no proof, succession or certificate request")
    try:
        sealing_public_key(key.public_key)
    except SealError as error:
        raise EntryError(str(error)) from error
    return key.not_before


def _signing(state: State, signed: Signed, statement: KeyStatement, key: Key, party: Party) -> int:
    """A signing key below the root or a department. Returns when it takes effect."""
    renews = key.role == signed.signer.role == Role.ROLE_SYSTEM
    if key.role in DEPARTMENT_SIGNED:
        permitted = party.is_system and (renews or signed.signer.role == Role.ROLE_DEPARTMENT)
    else:
        permitted = key.role in ROOT_SIGNED and party.is_department and signed.signer.role == Role.ROLE_ROOT
    if not permitted:
        raise EntryError(f"{signed.signer.party} cannot give {party} this role")
    earlier = state.keys_of(party)
    if any(record.role != key.role for record in earlier):
        raise EntryError(f"{party} has another role already")
    if renews:
        _check_renewal(signed, key, earlier)
    if statement.csr_sha256 and not is_digest(statement.csr_sha256):
        raise EntryError("the certificate request's digest has an impossible length")
    proof = possession_statement(state.origin, statement.statement)
    if not is_signed(key.public_key, proof, statement.possession):
        raise EntryError("the new key does not prove its possession")
    return _effective(state, signed, statement, key, earlier)


def _check_renewal(signed: Signed, key: Key, earlier: tuple[KeyRecord, ...]) -> None:
    """A system's key gives its successor, once, for a year at most (ADR 0012)."""
    # Whoever stole a key and renewed it shows at the latest when its owner renews it too.
    if any(is_signing(record) and record.index > signed.signer.index for record in earlier):
        raise EntryError(f"{signed.signer.party} has a later key already: this one gives no other; ask its department")
    if key.not_before > signed.time + HEAD_START or key.not_after > signed.time + SYSTEM_KEY + HEAD_START:
        raise EntryError(
            "a system's renewed key is valid from now on, and for a year at most: is the clock of"
            f" {signed.signer.party} right?"
        )


def _effective(state: State, signed: Signed, statement: KeyStatement, key: Key, earlier: tuple[KeyRecord, ...]) -> int:
    """When a signing key takes effect: DESIGN section 2, "pose as a party"."""
    if key.role in DEPARTMENT_SIGNED or not earlier:
        if statement.succession:
            raise EntryError("only a later key of a party that the root signs carries a succession")
        return key.not_before
    if not statement.succession:
        return max(key.not_before, signed.time + PUBLIC_VIEW)
    data = succession_statement(state.origin, statement.statement)
    standing = (record for record in earlier if record.revoked_index is None and record.is_valid(signed.time))
    if not any(is_signed(record.public_key, data, statement.succession) for record in standing):
        raise EntryError("no valid earlier key of the party signed the succession")
    return key.not_before
