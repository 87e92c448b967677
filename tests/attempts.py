"""Requests that `decide` allows, until faults that have names are put into them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from exchange.core.decision import Allow, Deny, decide
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion
from exchange.core.envelope import REQUEST, RESPONSE, Draft, Envelope, sign
from exchange.core.keys import EcdsaSigner, key_id
from exchange.core.names import Party
from exchange.core.terms import AgreementTerms
from exchange.core.wire import decode, encode
from exchange.v1.catalogue_pb2 import Sharing, SharingClass
from exchange.v1.directory_pb2 import Field, Role
from exchange.v1.guardrail_pb2 import Test
from exchange.v1.request_pb2 import Sealed
from exchange.v1.terms_pb2 import Hours, Limits
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
    YEAR,
    World,
)

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
        return decide(
            self.world.directory, request, self.world.now, taken=lambda *_: holder, used=self.world.used, peer=self.peer
        )


def _narrow() -> World:
    world = World.standard()
    world.register(INSPECTION)
    asked = world.apply_for(world.dataset, purposes=[PURPOSE, INSPECTION])
    world.grant(asked, operations=[LOOKUP], fields=["name", "address"], purposes=[PURPOSE])
    return world


NARROW = _narrow()
Fault = Callable[[Attempt], None]


def _set(**values: Any) -> Fault:
    """Change attributes of the attempt."""

    def change(attempt: Attempt) -> None:
        for name, value in values.items():
            setattr(attempt, name, value)

    return change


def _header(**values: Any) -> Fault:
    """Change fields of the request's header."""
    return lambda attempt: attempt.changes.update(values)


def _seal(**change: Callable[[Sealed], bytes]) -> Fault:
    """Change one part of the payload before it is signed."""
    ((name, value),) = change.items()
    return _set(seal=lambda sealed: setattr(sealed, name, value(sealed)))


def _frame(**values: Any) -> Fault:
    """Change parts of the envelope after it is signed."""
    return _set(frame=lambda envelope: replace(envelope, **values))


def _attach(change: Callable[[bytes, bytes], tuple[bytes, ...]]) -> Fault:
    """Change the attachments, capsule and ciphertext, after the payload is signed."""
    return _set(frame=lambda envelope: replace(envelope, attachments=change(*envelope.attachments)))


def _all(*faults: Fault) -> Fault:
    """Several changes, in order."""

    def change(attempt: Attempt) -> None:
        for fault in faults:
            fault(attempt)

    return change


def _capsule_of(size: int) -> Fault:
    """A capsule of another length, that the payload names."""
    return _all(
        _seal(capsule_sha256=lambda sealed: hashlib.sha256(bytes(size)).digest()),
        _attach(lambda capsule, ciphertext: (bytes(size), ciphertext)),
    )


def _uuid(version: int, variant: int, rest: int) -> Fault:
    """A request id whose other bits are those of one byte."""
    data = bytearray([rest] * 16)
    data[6] = version << 4 | rest & 0x0F
    data[8] = variant << 6 | rest & 0x3F
    return _header(request_id=bytes(data))


def _new_key(begins: int, ends: int) -> Fault:
    """Another key of the requester, valid from and to so many milliseconds after now."""

    def change(attempt: Attempt) -> None:
        attempt.key, now = signer("applications, later"), attempt.world.now
        attempt.world.admit(APPLICATIONS, Role.ROLE_SYSTEM, attempt.key, validity=(now + begins, now + ends))

    return change


def _revoked(party: Party, target: Callable[[Attempt], bytes]) -> Fault:
    """A party revokes something."""

    def change(attempt: Attempt) -> None:
        attempt.world.revoke(target(attempt), party)

    return change


def _another_key_revoked(attempt: Attempt) -> None:
    """The requester has a new key, and the old one is revoked."""
    old = _key(attempt)
    _new_key(-1, 1)(attempt)
    attempt.world.revoke(old, HOUSING)


def _wrong_key(attempt: Attempt) -> None:
    """The requester's key id over another party's signature."""
    _frame(key_id=key_id(attempt.key.public_key))(attempt)
    attempt.key = signer(str(MARRIAGE))


def _granted_to(grantee: Party) -> Fault:
    """The agreement is another party's."""

    def change(attempt: Attempt) -> None:
        world = attempt.world
        attempt.agreement = world.grant(world.apply_for(world.dataset, grantee))

    return change


def approved(attempt: Attempt) -> AgreementTerms:
    """What a standing approval of the dataset gives to an application for the same."""
    world = attempt.world
    next_dataset(attempt, sharing=Sharing(sharing_class=SharingClass.SHARING_CLASS_UNCONDITIONAL))
    application = world.apply_for(world.dataset, standing_approval=world.approve_standing(world.dataset))
    found = world.directory.agreement(application.version.digest)
    assert found is not None
    return found


def regrant(attempt: Attempt, **changes: Any) -> AgreementTerms:
    """The next version of the agreement."""
    application = attempt.world.directory.terms.applications[attempt.agreement.application]
    version = ObjectVersion(attempt.agreement.version.object_id, attempt.agreement.digest)
    narrow = {"operations": [LOOKUP], "fields": ["name", "address"], "purposes": [PURPOSE]}
    return attempt.world.grant(application, version, **(narrow | changes))


def _superseded(attempt: Attempt) -> None:
    """The agreement has a next version, and the request names the one before."""
    regrant(attempt)


def _term(begins: int, ends: int = YEAR) -> Fault:
    """The agreement is in force from and to so many milliseconds after now."""

    def change(attempt: Attempt) -> None:
        now = attempt.world.now
        attempt.agreement = regrant(attempt, not_before=now + begins, not_after=now + ends)

    return change


def next_dataset(attempt: Attempt, **changes: Any) -> None:
    """The dataset's next version."""
    before = attempt.world.dataset
    attempt.world.publish(version=ObjectVersion(before.object_id, before.version.digest), **changes)


def _next_dataset(**changes: Any) -> Fault:
    return lambda attempt: next_dataset(attempt, **changes)


def another_agreement(attempt: Attempt) -> AgreementTerms:
    """Another agreement of the requester's for the dataset: the one that was there before."""
    return next(
        terms
        for terms in attempt.world.directory.terms.agreements.values()
        if terms.object_id != attempt.agreement.object_id
    )


def _next_version(attempt: Attempt) -> None:
    """The agreement has a next version, and the request names that."""
    terms = attempt.agreement
    changes = {"limits": terms.limits, "officers": sorted(terms.officers)}
    attempt.agreement = regrant(attempt, **changes)


def _reviewed(attempt: Attempt) -> None:
    """The review date has passed, and the owner has signed the next version."""
    attempt.agreement = regrant(attempt, review_at=attempt.world.now - 1)
    attempt.agreement = regrant(attempt, review_at=attempt.world.now + YEAR)


def _more_terms(**terms: Any) -> Fault:
    """The agreement says more, beside what a fault before has made it say."""

    def change(attempt: Attempt) -> None:
        before = attempt.agreement
        kept = {"limits": before.limits, "officers": sorted(before.officers), "hours": before.hours}
        attempt.agreement = regrant(attempt, **(kept | terms))

    return change


def _suspended(attempt: Attempt) -> None:
    attempt.world.suspend(COORDINATOR, agreement=attempt.agreement.digest)


def _forbidden(attempt: Attempt) -> None:
    attempt.world.forbid(Test(requester=str(HOUSING)))


def _used_up(attempt: Attempt) -> None:
    _more_terms(limits=Limits(in_total=1))(attempt)
    attempt.world.use(attempt.agreement, HOUSING, attempt.world.now)


def _given_role(role: Role.ValueType) -> Fault:
    """The requester's key is of another role, as if the directory had let it in under such a name."""

    def change(attempt: Attempt) -> None:
        directory = attempt.world.directory
        record = directory.state.keys[_key(attempt)]
        keys = directory.state.keys.set(record.key_id, replace(record, role=role))
        attempt.world.directory = replace(directory, state=replace(directory.state, keys=keys))

    return change


def _guardrail_revoked(attempt: Attempt) -> None:
    [guardrail] = attempt.world.directory.state.bars.guardrails
    attempt.world.revoke(guardrail.digest, COORDINATOR)


def _guardrail_superseded(attempt: Attempt) -> None:
    [guardrail] = attempt.world.directory.state.bars.guardrails
    object_id = attempt.world.directory.state.versions[guardrail.digest].object_id
    attempt.world.forbid(Test(operation=QUERY), "rule-1", ObjectVersion(object_id, guardrail.digest))


def _another_dataset(attempt: Attempt) -> None:
    """A dataset that the agreement does not grant."""
    attempt.changes["dataset"] = attempt.world.publish("households").object_id


def _forgotten(target: Callable[[Attempt], bytes]) -> Fault:
    """A mirror that has folded the same log, without the body of one entry."""

    def change(attempt: Attempt) -> None:
        world, missing = attempt.world, target(attempt)
        directory, log = Directory.genesis(ORIGIN, signer("root").public_key), world.directory_log
        for leaf, body, envelope in zip(log.leaves, log.bodies, world.entries, strict=True):
            directory, _ = directory.apply(leaf, b"" if envelope.digest == missing else body)
        world.directory = directory

    return change


def _purpose(attempt: Attempt) -> bytes:
    return attempt.world.directory.state.purposes[PURPOSE]


def _dataset(attempt: Attempt) -> bytes:
    return attempt.world.dataset.version.digest


def _agreement(attempt: Attempt) -> bytes:
    return attempt.agreement.digest


def _key(attempt: Attempt) -> bytes:
    return key_id(attempt.key.public_key)


FAULTS: dict[str, Fault] = {
    # Identity and signature.
    "connected as another": _set(peer=MARRIAGE),
    "connected as its department": _set(peer=HOUSING),
    "through a broker": _set(peer=None),
    "asked as another": _header(requester=str(MARRIAGE)),
    "foreign key": _set(key=signer("stranger")),
    "sealing key": _frame(key_id=key_id(sealing_public(str(APPLICATIONS)))),
    "wrong key": _wrong_key,
    "another exchange": _set(origin="town.example"),
    "another kind": _set(kind=RESPONSE),
    "path too long": _frame(path=(bytes(32),)),
    "key revoked": _revoked(HOUSING, _key),
    "another key revoked": _another_key_revoked,
    "key expired": _new_key(-1000, -1),
    "key expires now": _new_key(-1000, 0),
    "key begins now": _new_key(0, 1000),
    "key too young": _new_key(1, 1000),
    "the key is a head's": _given_role(Role.ROLE_HEAD),
    "the key is a witness's": _given_role(Role.ROLE_WITNESS),
    # Form.
    "malformed": _header(officer=""),
    "payload garbled": _set(payload=lambda payload: b"\xff" + payload),
    "header garbled": _seal(header=lambda sealed: b"\xff"),
    "unknown field": _seal(header=lambda sealed: sealed.header + b"\xf8\x06\x01"),
    "no attachments": _frame(attachments=()),
    "ciphertext altered": _attach(lambda capsule, ciphertext: (capsule, ciphertext + b"\0")),
    "capsule altered": _attach(lambda capsule, ciphertext: (bytes(len(capsule)), ciphertext)),
    "ciphertext missing": _attach(lambda capsule, ciphertext: (capsule,)),
    "attachment added": _attach(lambda capsule, ciphertext: (capsule, ciphertext, b"")),
    "capsule short": _capsule_of(1167),
    "capsule long": _capsule_of(1169),
    "capsule digest short": _all(_seal(capsule_sha256=lambda sealed: bytes(31)), _frame(attachments=())),
    "ciphertext digest short": _all(_seal(ciphertext_sha256=lambda sealed: bytes(31)), _frame(attachments=())),
    "department asks": _all(_set(key=signer(str(HOUSING)), peer=HOUSING), _header(requester=str(HOUSING))),
    "500 fields": _header(fields=[f"field_{number}" for number in range(500)]),
    "501 fields": _header(fields=[f"field_{number}" for number in range(501)]),
    "uuid version 4": _uuid(4, 2, 0x77),
    "uuid variant": _uuid(7, 3, 0x80),
    "uuid marks alone": _uuid(7, 2, 0),
    "uuid of ones": _uuid(7, 2, 0xFF),
    # Time and order.
    "stale": _header(issued_at=1, expires_at=2),
    "replayed": _set(holder=lambda envelope: bytes(32)),
    "retried": _set(holder=lambda envelope: envelope.digest),
    # Agreement and dataset.
    "no agreement": _header(agreement=bytes(32)),
    "no dataset": _header(dataset=bytes(16)),
    "another's agreement": _granted_to(MARRIAGE),
    "a neighbour's agreement": _granted_to(Party(ORIGIN, "housing", "applications-2")),
    "the department's agreement": _granted_to(HOUSING),
    "another dataset": _another_dataset,
    "body of the agreement missing": _forgotten(_agreement),
    "body of the dataset missing": _all(_next_dataset(), _forgotten(_dataset)),
    "dataset revoked": _revoked(POPULATION, _dataset),
    "agreement revoked": _revoked(POPULATION, _agreement),
    "agreement revoked by the system": _revoked(REGISTRY, _agreement),
    "agreement superseded": _superseded,
    "the newer agreement": _term(0),
    "agreement too young": _term(1),
    "agreement ends now": _term(-1, 0),
    "agreement expired": _term(-2, -1),
    "the next version": _next_version,
    "the dataset's next version": _next_dataset(),
    "reviewed": _reviewed,
    "the guardrail is revoked": _guardrail_revoked,
    "the guardrail is superseded": _guardrail_superseded,
    "operation not granted": _header(operation=QUERY),
    "operation withdrawn": _next_dataset(operations=[QUERY]),
    "field not granted": _header(fields=["name", "birth_date"]),
    "field withdrawn": _next_dataset(fields=[Field(name=n, type=kind) for n, kind in FIELDS.items() if n != "address"]),
    "purpose not granted": _header(purpose=INSPECTION),
    "suspended": _suspended,
    "officer not granted": _more_terms(officers=["officer-8"]),
    "outside the hours": _more_terms(hours=Hours(zone="UTC", weekdays=[6], opens=0, closes=1440)),
    "forbidden": _forbidden,
    "used up": _used_up,
    "purpose revoked": _revoked(COORDINATOR, _purpose),
}
