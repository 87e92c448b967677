"""A request is answered exactly when every check holds; the first that fails names the code (DESIGN section 6)."""

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from exchange.core.access import code_name
from exchange.core.decision import Allow, Deny, check_attachments, decide, read_request
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, revocation_entry
from exchange.core.envelope import REQUEST, RESPONSE, Draft, Envelope, sign, sign_batch
from exchange.core.errors import DecodeError
from exchange.core.keys import EcdsaSigner, key_id
from exchange.core.names import Party
from exchange.core.terms import AgreementTerms, DatasetTerms
from exchange.core.wire import decode, encode
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Field, Role
from exchange.v1.request_pb2 import Sealed
from tests.memory import sealing_public, signer
from tests.world import (
    APPLICATIONS,
    COORDINATOR,
    FIELDS,
    HOUSING,
    LOOKUP,
    MARRIAGE,
    ORIGIN,
    POPULATION,
    PURPOSE,
    QUERY,
    REGISTRY,
    World,
)

CASES: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("decisions.toml").read_text())["case"]
INSPECTION = "housing.inspection"


@dataclass
class Attempt:
    """One request that is allowed, until a fault changes it. `agreement` grants less than `World.standard` does."""

    world: World
    agreement: AgreementTerms
    changes: dict[str, Any] = field(default_factory=dict)
    key: EcdsaSigner = field(default_factory=lambda: signer(str(APPLICATIONS)))
    origin: str = ORIGIN
    kind: str = REQUEST
    peer: Party | None = APPLICATIONS
    holder: Callable[[Envelope], bytes | None] = lambda envelope: None
    seal: Callable[[Sealed], None] = lambda sealed: None
    payload: Callable[[bytes], bytes] = lambda payload: payload
    frame: Callable[[Envelope], Envelope] = lambda envelope: envelope

    @classmethod
    def allowed(cls) -> "Attempt":
        """A lookup of two fields for one purpose, all of it granted and nothing more."""
        return cls(NARROW.copy(), NARROW.agreement, {"fields": ["name", "address"]})

    def request(self) -> Envelope:
        """The signed request, with every fault in it."""
        header = self.world.header(**({"agreement": self.agreement.digest} | self.changes))
        draft = self.world.request_draft(header)
        sealed = decode(Sealed, draft.payload)
        self.seal(sealed)
        draft = Draft(self.kind, self.payload(encode(sealed)), draft.attachments)
        return self.frame(sign(self.key, self.origin, draft))

    def decide(self) -> Allow | Deny:
        """What both broker and adapter say."""
        request = self.request()
        holder = self.holder(request)
        return decide(self.world.directory, request, self.world.now, taken=lambda *_: holder, peer=self.peer)


def _narrow() -> World:
    world = World.standard()
    world.register(INSPECTION)
    asked = world.apply_for(world.dataset, purposes=[PURPOSE, INSPECTION])
    world.grant(asked, operations=[LOOKUP], fields=["name", "address"], purposes=[PURPOSE])
    return world


NARROW = _narrow()
FAULTS: dict[str, Callable[[Attempt], None]] = {}


def fault(name: str) -> Callable[[Callable[[Attempt], None]], Callable[[Attempt], None]]:
    """Give a change of an attempt the name that the table uses."""

    def add(change: Callable[[Attempt], None]) -> Callable[[Attempt], None]:
        FAULTS[name] = change
        return change

    return add


# Faults of identity and signature.


@fault("connected as another")
def _connected_as_another(attempt: Attempt) -> None:
    attempt.peer = MARRIAGE


@fault("connected as its department")
def _connected_as_department(attempt: Attempt) -> None:
    attempt.peer = HOUSING


@fault("through a broker")
def _through_a_broker(attempt: Attempt) -> None:
    attempt.peer = None


@fault("asked as another")
def _asked_as_another(attempt: Attempt) -> None:
    attempt.changes["requester"] = str(MARRIAGE)


@fault("foreign key")
def _foreign_key(attempt: Attempt) -> None:
    attempt.key = signer("stranger")


@fault("sealing key")
def _sealing_key(attempt: Attempt) -> None:
    attempt.frame = lambda envelope: replace(envelope, key_id=key_id(sealing_public(str(APPLICATIONS))))


@fault("wrong key")
def _wrong_key(attempt: Attempt) -> None:
    mine = key_id(attempt.key.public_key)
    attempt.key = signer(str(MARRIAGE))
    attempt.frame = lambda envelope: replace(envelope, key_id=mine)


@fault("another exchange")
def _another_exchange(attempt: Attempt) -> None:
    attempt.origin = "town.example"


@fault("another kind")
def _another_kind(attempt: Attempt) -> None:
    attempt.kind = RESPONSE


@fault("path too long")
def _path_too_long(attempt: Attempt) -> None:
    attempt.frame = lambda envelope: replace(envelope, path=(bytes(32),))


@fault("key revoked")
def _key_revoked(attempt: Attempt) -> None:
    attempt.world.revoke(key_id(attempt.key.public_key), HOUSING)


@fault("another key revoked")
def _another_key_revoked(attempt: Attempt) -> None:
    _new_key(attempt, -1, 1)
    attempt.world.revoke(key_id(signer(str(APPLICATIONS)).public_key), HOUSING)


def _new_key(attempt: Attempt, begins: int, ends: int) -> None:
    attempt.key = signer("applications, later")
    now = attempt.world.now
    attempt.world.admit(APPLICATIONS, Role.ROLE_SYSTEM, attempt.key, validity=(now + begins, now + ends))


@fault("key expired")
def _key_expired(attempt: Attempt) -> None:
    _new_key(attempt, -1000, -1)


@fault("key expires now")
def _key_expires_now(attempt: Attempt) -> None:
    _new_key(attempt, -1000, 0)


@fault("key begins now")
def _key_begins_now(attempt: Attempt) -> None:
    _new_key(attempt, 0, 1000)


@fault("key too young")
def _key_too_young(attempt: Attempt) -> None:
    _new_key(attempt, 1, 1000)


# Faults of form.


@fault("payload garbled")
def _payload_garbled(attempt: Attempt) -> None:
    attempt.payload = lambda payload: b"\xff" + payload


@fault("header garbled")
def _header_garbled(attempt: Attempt) -> None:
    attempt.seal = lambda sealed: setattr(sealed, "header", b"\xff")


@fault("unknown field")
def _unknown_field(attempt: Attempt) -> None:
    attempt.seal = lambda sealed: setattr(sealed, "header", sealed.header + b"\xf8\x06\x01")


@fault("no attachments")
def _no_attachments(attempt: Attempt) -> None:
    attempt.frame = Envelope.bare


def _attach(change: Callable[[bytes, bytes], tuple[bytes, ...]]) -> Callable[[Envelope], Envelope]:
    return lambda envelope: replace(envelope, attachments=change(*envelope.attachments))


@fault("ciphertext altered")
def _ciphertext_altered(attempt: Attempt) -> None:
    attempt.frame = _attach(lambda capsule, ciphertext: (capsule, ciphertext + b"\0"))


@fault("capsule altered")
def _capsule_altered(attempt: Attempt) -> None:
    attempt.frame = _attach(lambda capsule, ciphertext: (bytes(len(capsule)), ciphertext))


@fault("ciphertext missing")
def _ciphertext_missing(attempt: Attempt) -> None:
    attempt.frame = _attach(lambda capsule, ciphertext: (capsule,))


@fault("attachment added")
def _attachment_added(attempt: Attempt) -> None:
    attempt.frame = _attach(lambda capsule, ciphertext: (capsule, ciphertext, b""))


def _resize_capsule(attempt: Attempt, size: int) -> None:
    attempt.seal = lambda sealed: setattr(sealed, "capsule_sha256", hashlib.sha256(bytes(size)).digest())
    attempt.frame = _attach(lambda capsule, ciphertext: (bytes(size), ciphertext))


@fault("capsule short")
def _capsule_short(attempt: Attempt) -> None:
    _resize_capsule(attempt, 1167)


@fault("capsule long")
def _capsule_long(attempt: Attempt) -> None:
    _resize_capsule(attempt, 1169)


@fault("capsule digest short")
def _capsule_digest_short(attempt: Attempt) -> None:
    attempt.seal = lambda sealed: setattr(sealed, "capsule_sha256", bytes(31))
    attempt.frame = Envelope.bare


@fault("ciphertext digest short")
def _ciphertext_digest_short(attempt: Attempt) -> None:
    attempt.seal = lambda sealed: setattr(sealed, "ciphertext_sha256", bytes(31))
    attempt.frame = Envelope.bare


@fault("department asks")
def _department_asks(attempt: Attempt) -> None:
    attempt.key, attempt.peer = signer(str(HOUSING)), HOUSING
    attempt.changes["requester"] = str(HOUSING)


@fault("malformed")
def _malformed(attempt: Attempt) -> None:
    attempt.changes["officer"] = ""


@fault("500 fields")
def _500_fields(attempt: Attempt) -> None:
    attempt.changes["fields"] = [f"field_{number}" for number in range(500)]


@fault("501 fields")
def _501_fields(attempt: Attempt) -> None:
    attempt.changes["fields"] = [f"field_{number}" for number in range(501)]


def _uuid(version: int, variant: int, rest: int) -> bytes:
    data = bytearray([rest] * 16)
    data[6] = version << 4 | rest & 0x0F
    data[8] = variant << 6 | rest & 0x3F
    return bytes(data)


@fault("uuid version 4")
def _uuid_version(attempt: Attempt) -> None:
    attempt.changes["request_id"] = _uuid(4, 2, 0x77)


@fault("uuid variant")
def _uuid_variant(attempt: Attempt) -> None:
    attempt.changes["request_id"] = _uuid(7, 3, 0x80)


@fault("uuid marks alone")
def _uuid_marks_alone(attempt: Attempt) -> None:
    attempt.changes["request_id"] = _uuid(7, 2, 0)


@fault("uuid of ones")
def _uuid_of_ones(attempt: Attempt) -> None:
    attempt.changes["request_id"] = _uuid(7, 2, 0xFF)


# Faults of time and order.


@fault("stale")
def _stale(attempt: Attempt) -> None:
    attempt.changes |= {"issued_at": 1, "expires_at": 2}


@fault("replayed")
def _replayed(attempt: Attempt) -> None:
    attempt.holder = lambda envelope: bytes(32)


@fault("retried")
def _retried(attempt: Attempt) -> None:
    attempt.holder = lambda envelope: envelope.digest


# Faults of agreement and dataset.


@fault("no agreement")
def _no_agreement(attempt: Attempt) -> None:
    attempt.changes["agreement"] = bytes(32)


@fault("no dataset")
def _no_dataset(attempt: Attempt) -> None:
    attempt.changes["dataset"] = bytes(16)


def _granted_to(attempt: Attempt, grantee: Party) -> None:
    world = attempt.world
    attempt.agreement = world.grant(world.apply_for(world.dataset, grantee))


@fault("another's agreement")
def _anothers_agreement(attempt: Attempt) -> None:
    _granted_to(attempt, MARRIAGE)


@fault("a neighbour's agreement")
def _neighbours_agreement(attempt: Attempt) -> None:
    _granted_to(attempt, Party(ORIGIN, "housing", "applications-2"))


@fault("the department's agreement")
def _departments_agreement(attempt: Attempt) -> None:
    _granted_to(attempt, HOUSING)


@fault("another dataset")
def _another_dataset(attempt: Attempt) -> None:
    attempt.changes["dataset"] = attempt.world.publish("households").object_id


def _forget(attempt: Attempt, digest: bytes) -> None:
    """Fold the log again, without the body of one entry."""
    world = attempt.world
    directory = Directory.genesis(ORIGIN, signer("root").public_key)
    for leaf, body, envelope in zip(world.directory_log.leaves, world.directory_log.bodies, world.entries, strict=True):
        directory, _ = directory.apply(leaf, b"" if envelope.digest == digest else body)
    world.directory = directory


@fault("body of the agreement missing")
def _agreement_body_missing(attempt: Attempt) -> None:
    _forget(attempt, attempt.agreement.digest)


@fault("body of the dataset missing")
def _dataset_body_missing(attempt: Attempt) -> None:
    _forget(attempt, _next_dataset(attempt).version.digest)


@fault("dataset revoked")
def _dataset_revoked(attempt: Attempt) -> None:
    attempt.world.revoke(attempt.world.dataset.version.digest, POPULATION)


@fault("agreement revoked")
def _agreement_revoked(attempt: Attempt) -> None:
    attempt.world.revoke(attempt.agreement.digest, POPULATION)


@fault("agreement revoked by the system")
def _agreement_revoked_by_system(attempt: Attempt) -> None:
    attempt.world.revoke(attempt.agreement.digest, REGISTRY)


def _regrant(attempt: Attempt, **changes: Any) -> AgreementTerms:
    application = attempt.world.directory.terms.applications[attempt.agreement.application]
    version = ObjectVersion(attempt.agreement.version.object_id, attempt.agreement.digest)
    narrow = {"operations": [LOOKUP], "fields": ["name", "address"], "purposes": [PURPOSE]}
    return attempt.world.grant(application, version, **(narrow | changes))


@fault("agreement superseded")
def _agreement_superseded(attempt: Attempt) -> None:
    _regrant(attempt)


@fault("the newer agreement")
def _newer_agreement(attempt: Attempt) -> None:
    attempt.agreement = _regrant(attempt)


@fault("agreement begins now")
def _agreement_begins_now(attempt: Attempt) -> None:
    attempt.agreement = _regrant(attempt, not_before=attempt.world.now)


@fault("agreement too young")
def _agreement_too_young(attempt: Attempt) -> None:
    attempt.agreement = _regrant(attempt, not_before=attempt.world.now + 1)


@fault("agreement ends now")
def _agreement_ends_now(attempt: Attempt) -> None:
    now = attempt.world.now
    attempt.agreement = _regrant(attempt, not_before=now - 1, not_after=now)


@fault("agreement expired")
def _agreement_expired(attempt: Attempt) -> None:
    now = attempt.world.now
    attempt.agreement = _regrant(attempt, not_before=now - 2, not_after=now - 1)


@fault("operation not granted")
def _operation_not_granted(attempt: Attempt) -> None:
    attempt.changes["operation"] = QUERY


def _next_dataset(attempt: Attempt, **changes: Any) -> DatasetTerms:
    before = attempt.world.dataset
    return attempt.world.publish(version=ObjectVersion(before.object_id, before.version.digest), **changes)


@fault("operation withdrawn")
def _operation_withdrawn(attempt: Attempt) -> None:
    _next_dataset(attempt, operations=[QUERY])


@fault("field not granted")
def _field_not_granted(attempt: Attempt) -> None:
    attempt.changes["fields"] = ["name", "birth_date"]


@fault("field withdrawn")
def _field_withdrawn(attempt: Attempt) -> None:
    _next_dataset(attempt, fields=[Field(name=name, type=kind) for name, kind in FIELDS.items() if name != "address"])


@fault("purpose not granted")
def _purpose_not_granted(attempt: Attempt) -> None:
    attempt.changes["purpose"] = INSPECTION


@fault("purpose revoked")
def _purpose_revoked(attempt: Attempt) -> None:
    attempt.world.revoke(attempt.world.directory.state.purposes[PURPOSE], COORDINATOR)


def attempt_of(case: dict[str, Any]) -> Attempt:
    """The attempt that a row of the table describes."""
    attempt = Attempt.allowed()
    for name in case.get("fault", ()):
        FAULTS[name](attempt)
    attempt.changes |= case.get("header", {})
    now = attempt.world.now
    if "issued" in case:
        attempt.changes |= {"issued_at": now + case["issued"], "expires_at": now + case["issued"] + 300_000}
    if "expires" in case:
        attempt.changes["expires_at"] = now + case["expires"]
    for name, size in case.get("size", {}).items():
        header = attempt.world.header(**({"agreement": attempt.agreement.digest} | attempt.changes))
        attempt.changes[name] = (getattr(header, name) + bytes(size))[:size]
    return attempt


def test_the_table_of_decisions_covers_every_code_that_decide_gives() -> None:
    covered = {case["code"] for case in CASES if "code" in case}
    outside = {"UNSPECIFIED", "OVERLOADED", "PROVIDER_UNAVAILABLE", "STATE_STALE"}
    outside |= {"RESPONSE_INVALID", "AUDIT_UNAVAILABLE", "INTERRUPTED"}
    assert covered == {code_name(number) for number in Code.values()} - outside
    assert len({case["that"] for case in CASES}) == len(CASES) > 100


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["that"])
def test_decides_as_the_table_says(case: dict[str, Any]) -> None:
    decision = attempt_of(case).decide()
    if "code" not in case:
        assert isinstance(decision, Allow), decision
        return
    assert isinstance(decision, Deny)
    assert (decision.check, code_name(decision.code)) == (case["check"], case["code"]), decision.reason
    assert case["reason"] in decision.reason


# The order in which `decide` looks: every fault here hides those behind it. What the payload says comes after the
# signature, so the requester's name in the header (check 2) and the form (check 1) stand behind check 3.
ORDER = [
    "foreign key",
    "connected as another",
    "another exchange",
    "key revoked",
    "key expired",
    "malformed",
    "asked as another",
    "stale",
    "replayed",
    "no agreement",
    "agreement revoked",
    "operation not granted",
    "field not granted",
    "purpose not granted",
]
CODES = [
    (3, "SIGNATURE_INVALID"),
    (2, "IDENTITY_MISMATCH"),
    (3, "SIGNATURE_INVALID"),
    (3, "KEY_REVOKED"),
    (3, "SIGNATURE_INVALID"),
    (1, "MALFORMED"),
    (2, "IDENTITY_MISMATCH"),
    (4, "EXPIRED"),
    (4, "REPLAYED"),
    (5, "NO_AGREEMENT"),
    (6, "AGREEMENT_ENDED"),
    (6, "OPERATION_NOT_GRANTED"),
    (6, "FIELD_NOT_GRANTED"),
    (6, "PURPOSE_NOT_GRANTED"),
]
PAIRS = [(first, second) for place, first in enumerate(ORDER) for second in ORDER[place + 1 :]]


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda name: name)
def test_of_two_faults_the_earlier_check_names_the_code(first: str, second: str) -> None:
    attempt = Attempt.allowed()
    # The later fault first: a revocation must find the key that a new one replaces.
    for name in (second, first):
        FAULTS[name](attempt)
    decision = attempt.decide()
    assert isinstance(decision, Deny)
    assert (decision.check, code_name(decision.code)) == CODES[ORDER.index(first)], decision.reason


def test_the_pairs_cover_every_neighbour_of_checks_2_to_6() -> None:
    assert set(pairwise(ORDER)) <= set(PAIRS)
    assert {check for check, _ in CODES} == {1, 2, 3, 4, 5, 6}


def test_unknown_and_foreign_agreements_cannot_be_told_apart() -> None:
    probes = ["no agreement", "no dataset", "another's agreement", "another dataset", "body of the agreement missing"]
    answers = set()
    for name in probes:
        attempt = Attempt.allowed()
        FAULTS[name](attempt)
        answers.add(attempt.decide())
    assert len(answers) == 1


def test_an_allowed_request_carries_the_terms_that_allow_it() -> None:
    attempt = Attempt.allowed()
    decision = attempt.decide()
    assert isinstance(decision, Allow)
    assert decision.agreement == attempt.agreement
    assert decision.dataset == attempt.world.dataset
    assert (decision.asked.requester, decision.asked.key.party) == (APPLICATIONS, APPLICATIONS)
    assert decision.asked.header == read_request(decision.asked.envelope)


def test_the_holder_of_an_id_is_asked_for_by_requester_and_id() -> None:
    world = World.standard()
    request, asked = world.request(), []
    decide(world.directory, request, world.now, taken=lambda *key: asked.append(key))
    assert asked == [(str(APPLICATIONS), read_request(request).request_id)]


def test_the_same_id_with_the_same_bytes_is_a_retry_and_with_other_bytes_a_replay() -> None:
    world = World.standard()
    first = world.request(request_id=world.request_id())
    world.hold(first)
    header = read_request(first)
    other = world.request(request_id=header.request_id, case_id="ZF-2027-0002")
    assert isinstance(decide(world.directory, first, world.now, taken=world.taken), Allow)
    replay = decide(world.directory, other, world.now, taken=world.taken)
    assert isinstance(replay, Deny)
    assert replay.code == Code.CODE_REPLAYED


def test_a_retry_signed_anew_is_the_same_message() -> None:
    world = World.standard()
    request = world.request()
    world.hold(request)
    draft = Draft(request.kind, request.payload, request.attachments)
    again = sign_batch(world.keys[APPLICATIONS], ORIGIN, (draft, Draft(REQUEST, b"")))[0]
    assert again.signature != request.signature
    assert isinstance(decide(world.directory, again, world.now, taken=world.taken), Allow)


def test_another_requester_may_use_the_same_id() -> None:
    world = World.standard()
    agreement = world.grant(world.apply_for(world.dataset, MARRIAGE))
    request_id = world.request_id()
    world.hold(world.request(request_id=request_id))
    request = world.request(party=MARRIAGE, request_id=request_id, agreement=agreement.digest)
    assert isinstance(decide(world.directory, request, world.now, taken=world.taken, peer=MARRIAGE), Allow)


def test_a_retry_is_refused_once_the_agreement_is_revoked() -> None:
    world = World.standard()
    request = world.request()
    world.hold(request)
    world.revoke(world.agreement.digest, REGISTRY)
    decision = decide(world.directory, request, world.now, taken=world.taken)
    assert isinstance(decision, Deny)
    assert decision.code == Code.CODE_AGREEMENT_ENDED


def test_a_decision_keeps_the_directory_that_it_began_with() -> None:
    world = World.standard()
    before, request = world.directory, world.request()
    world.revoke(world.agreement.digest, POPULATION)
    assert isinstance(decide(before, request, world.now, taken=world.taken), Allow)
    assert isinstance(decide(world.directory, request, world.now, taken=world.taken), Deny)


def test_a_key_revoked_after_its_batch_was_verified_is_refused_for_the_next_message() -> None:
    world = World.standard()
    drafts = [world.request_draft(world.header()) for _ in range(3)]
    first, second, third = sign_batch(world.keys[APPLICATIONS], ORIGIN, drafts)
    assert isinstance(decide(world.directory, first, world.now, taken=world.taken), Allow)
    world.revoke(key_id(world.keys[APPLICATIONS].public_key), APPLICATIONS)
    for envelope in (first, second, third):
        decision = decide(world.directory, envelope, world.now, taken=world.taken)
        assert isinstance(decision, Deny)
        assert decision.code == Code.CODE_KEY_REVOKED


def test_an_invalid_revocation_takes_nothing_away() -> None:
    world = World.standard()
    request = world.request()
    draft = revocation_entry(HOUSING, world.fresh(16), world.agreement.digest, "not the owner")
    assert world.append(draft, HOUSING).reason
    assert isinstance(decide(world.directory, request, world.now, taken=world.taken), Allow)


def test_attachments_are_compared_in_their_order() -> None:
    request = World.standard().request()
    digests = tuple(hashlib.sha256(data).digest() for data in request.attachments)
    check_attachments(request, digests)
    check_attachments(request.bare(), digests)
    with pytest.raises(DecodeError, match="not the ones"):
        check_attachments(request, digests[::-1])
