"""A small exchange in memory: the parties' side of the protocol and both logs, for every test.

    world = World.standard()                   # one dataset, one agreement for housing/applications
    request = world.request(fields=["name"])   # signed and sealed, any header field overridden
    response = world.respond(request, [{"name": "王芳"}])
    receipt = world.release(request, response)

Everything is reproducible but capsules: HPKE draws its own randomness.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from exchange.core import entries, sealing
from exchange.core.access import access_body, refusal_draft
from exchange.core.case import Case
from exchange.core.decision import Deny, Usage, read_request
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion
from exchange.core.envelope import REQUEST, RESPONSE, Draft, Envelope, sign
from exchange.core.fold import Applied
from exchange.core.keys import EcdsaSigner, key_id, sealing_public_bytes
from exchange.core.names import Party
from exchange.core.state import RULES_OBJECT
from exchange.core.terms import AgreementTerms, ApplicationTerms, DatasetTerms
from exchange.core.usage import usage_of
from exchange.core.wire import decode, encode
from exchange.v1.access_pb2 import AccessKind, AccessLeaf, Code
from exchange.v1.directory_pb2 import Agreement, Application, Dataset, Field, FieldType, Purpose, Role
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.guardrail_pb2 import Guardrail, Suspension, Test
from exchange.v1.ledger_pb2 import LedgerRow
from exchange.v1.people_pb2 import Mandate, OfficerStanding
from exchange.v1.procedure_pb2 import Action, Rules, StandingApproval, Step
from exchange.v1.request_pb2 import Answer, Lookup, Operation, Query, RequestHeader, ResponseHeader, Sealed, Value
from tests.memory import MemoryLog, fixed, sealing_private, sealing_public, signer

ORIGIN = "city.example"
EXCHANGE = Party(ORIGIN)
COORDINATOR = Party(ORIGIN, "data-bureau")
AUDITOR = Party(ORIGIN, "auditor")
BROKER = Party(ORIGIN, "broker")
POPULATION = Party(ORIGIN, "population")
REGISTRY = Party(ORIGIN, "population", "registry")
CIVIL_AFFAIRS = Party(ORIGIN, "civil-affairs")
MARRIAGE = Party(ORIGIN, "civil-affairs", "marriage")
HOUSING = Party(ORIGIN, "housing")
APPLICATIONS = Party(ORIGIN, "housing", "applications")
POPULATION_HEAD = Party(ORIGIN, "population", "head")
HOUSING_HEAD = Party(ORIGIN, "housing", "head")

MINUTE, DAY, YEAR = 60_000, 86_400_000, 365 * 86_400_000
START = 1_800_000_000_000  # 2027-01-15T08:00:00Z

PURPOSE = "housing.allocation"
LOOKUP, QUERY = Operation.OPERATION_LOOKUP, Operation.OPERATION_QUERY
FIELDS: Mapping[str, FieldType.ValueType] = {
    "id_number": FieldType.FIELD_TYPE_TEXT,
    "name": FieldType.FIELD_TYPE_TEXT,
    "birth_date": FieldType.FIELD_TYPE_DATE,
    "address": FieldType.FIELD_TYPE_TEXT,
    "household_id": FieldType.FIELD_TYPE_TEXT,
    "area_m2": FieldType.FIELD_TYPE_DECIMAL,
}
GRANTED = ("id_number", "name", "address", "area_m2")
ID_NUMBER = "110101199003074610"
ROWS = ({"id_number": ID_NUMBER, "name": "王芳", "address": "和平路 1 号", "area_m2": "58.40"},)


class World:
    """All parties of one exchange, its directory and both of its logs. `now` is everybody's clock, milliseconds."""

    def __init__(self) -> None:
        self.now = START
        self.keys: dict[Party, EcdsaSigner] = {EXCHANGE: signer("root")}
        self.sealing: dict[Party, bytes] = {}
        self.directory = Directory.genesis(ORIGIN, signer("root").public_key)
        self.directory_log = MemoryLog(f"{ORIGIN}/directory")
        self.access_log = MemoryLog(f"{ORIGIN}/access")
        self.entries: list[Envelope] = []
        self.requests: dict[tuple[str, bytes], bytes] = {}
        self.uses: list[tuple[bytes, Party, int]] = []
        self._ledgers: dict[Party, tuple[int, bytes]] = {}
        self._capsules: dict[bytes, bytes] = {}
        self._count = 0

    @classmethod
    def founded(cls) -> "World":
        """Every party admitted, every system with a sealing key; nothing is shared yet."""
        return _founded().copy()

    @classmethod
    def standard(cls) -> "World":
        """`founded`, with `dataset` published by the registry and `agreement` granted to housing/applications."""
        return _standard().copy()

    def copy(self) -> "World":
        """Another world with the same history, which goes on by itself."""
        twin = copy.copy(self)
        twin.directory_log, twin.access_log = self.directory_log.copy(), self.access_log.copy()
        for name in ("keys", "sealing", "entries", "requests", "uses", "_ledgers", "_capsules"):
            setattr(twin, name, copy.copy(getattr(self, name)))
        return twin

    def fresh(self, size: int) -> bytes:
        """Bytes that no call gave before, instead of random ones."""
        self._count += 1
        return fixed(f"fresh {self._count}", size)

    # The directory: what everyone knows.

    def sign(self, draft: Draft, party: Party) -> Envelope:
        """Sign with a party's current key."""
        return sign(self.keys[party], ORIGIN, draft)

    def append(self, draft: Draft, party: Party) -> Applied:
        """Sign an entry as a party, append it to the directory log, fold it. `reason` says what is wrong with it."""
        return self.append_envelope(self.sign(draft, party))

    def append_envelope(self, envelope: Envelope) -> Applied:
        """Append a signed entry to the directory log, and fold it."""
        leaf = entries.directory_leaf(envelope, self.now)
        body = envelope.attachments[0] if envelope.attachments else b""
        self.directory_log.append(leaf, body)
        self.entries.append(envelope)
        self.directory, applied = self.directory.apply(leaf, body)
        return applied

    def admit(self, party: Party, role: Role.ValueType, key: EcdsaSigner | None = None, **changes: Any) -> Applied:
        """A key for a party, signed by its parent; a later key of the party is vouched for by the current one."""
        key = key or signer(str(party))
        validity = changes.get("validity", (self.now - DAY, self.now + 10 * YEAR))
        later = None if role in {Role.ROLE_SYSTEM, Role.ROLE_HEAD, Role.ROLE_STEWARD} else self.keys.get(party)
        statement = entries.signing_key_statement(ORIGIN, party, role, key, validity, predecessor=later)
        parent = party.parent or EXCHANGE
        applied = self._valid(entries.key_entry(parent, self.fresh(16), statement), parent)
        self.keys[party] = key
        return applied

    def give_sealing_key(self, system: Party, label: str = "") -> Applied:
        """A sealing key for a system, signed by itself, for 30 days from now."""
        public, self.sealing[system] = sealing_public(label or str(system)), sealing_private(label or str(system))
        validity = (self.now, self.now + 30 * DAY)
        draft = entries.key_entry(system, self.fresh(16), entries.sealing_key_statement(system, public, validity))
        return self._valid(draft, system)

    def register(self, code: str, version: ObjectVersion | None = None, **changes: Any) -> Applied:
        """A purpose, registered by the coordinator."""
        texts = {"label": "住房分配", "label_en": "Housing allocation", "legal_basis": "Housing Act, article 12"}
        purpose = Purpose(code=code, **(texts | changes))
        return self._valid(
            entries.purpose_entry(COORDINATOR, version or ObjectVersion(self.fresh(16)), purpose), COORDINATOR
        )

    def publish(
        self, code: str = "residents", system: Party = REGISTRY, version: ObjectVersion | None = None, **changes: Any
    ) -> DatasetTerms:
        """A dataset with the fields of `FIELDS`, signed by the system's department."""
        defaults: dict[str, Any] = {
            "title": "常住人口",
            "fields": [Field(name=name, label=name, type=kind) for name, kind in FIELDS.items()],
            "key": "id_number",
            "operations": [LOOKUP, QUERY],
            "filterable": ["birth_date", "area_m2"],
        }
        owner = Party(ORIGIN, system.department)
        body = Dataset(format=1, code=code, system=str(system), **(defaults | changes))
        self._valid(self.body_draft(owner, body, version), owner)
        found = self.directory.dataset_named(str(owner), code)
        assert found is not None
        return found

    def apply_for(
        self,
        dataset: DatasetTerms,
        grantee: Party = APPLICATIONS,
        version: ObjectVersion | None = None,
        **changes: Any,
    ) -> ApplicationTerms:
        """An application for a dataset, signed by the grantee's department."""
        owner = Party(ORIGIN, grantee.department)
        body = self.application_body(dataset, grantee, **changes)
        digest = self._valid(self.body_draft(owner, body, version), owner).digest
        return self.directory.terms.applications[digest]

    def application_body(self, dataset: DatasetTerms, grantee: Party = APPLICATIONS, **changes: Any) -> Application:
        """What an application for a dataset says."""
        body = Application(format=1, **(self._granted(dataset, grantee) | changes))
        body.legal_basis, body.scenario = "Housing Act, article 12", "queue for public housing"
        return body

    def grant(
        self, application: ApplicationTerms, version: ObjectVersion | None = None, **changes: Any
    ) -> AgreementTerms:
        """The dataset's owner grants what was applied for, or what `changes` leave of it."""
        dataset = self.directory.terms.datasets[application.dataset]
        owner = dataset.version.owner
        asked = {
            "operations": sorted(application.operations),
            "fields": application.fields,
            "filterable": sorted(application.filterable),
            "purposes": sorted(application.purposes),
            "application": application.version.digest,
            "not_before": self.now,
        }
        body = Agreement(format=1, **(self._granted(dataset, application.grantee) | asked | changes))
        digest = self._valid(self.body_draft(owner, body, version), owner).digest
        return self.directory.terms.agreements[digest]

    def approve_standing(self, dataset: DatasetTerms, version: ObjectVersion | None = None, **changes: Any) -> bytes:
        """The dataset's owner approves what everybody may have at once; the digest of the approval."""
        granted = self._granted(dataset, APPLICATIONS) | {"grantees": [str(EXCHANGE)], "days": 400}
        del granted["grantee"]
        body = StandingApproval(format=1, **(granted | {"not_after": self.now + 2 * YEAR} | changes))
        owner = dataset.version.owner
        return self._valid(self.body_draft(owner, body, version), owner).digest

    def adopt(self, **changes: Any) -> Applied:
        """The coordinator's rules of procedures, with the next ones superseding these."""
        rules = Rules(format=1, jurisdiction="cn-national", rules_sha256=bytes(32), **changes)
        before = self.directory.state.objects.get(RULES_OBJECT, b"")
        return self._valid(entries.rules_entry(COORDINATOR, rules, before), COORDINATOR)

    def admit_heads(self) -> None:
        """Keys for the heads of both departments' sharing offices."""
        for head in (POPULATION_HEAD, HOUSING_HEAD):
            self.admit(head, Role.ROLE_HEAD)

    def step(self, party: Party, action: Action.ValueType, subject: bytes, **fields: Any) -> Applied:
        """A party takes a step in a procedure; `reason` says why it cannot."""
        return self.append(self.body_draft(party, Step(format=1, action=action, subject=subject, **fields)), party)

    def do(self, party: Party, action: Action.ValueType, subject: bytes, **fields: Any) -> Applied:
        """A party takes a step that it can take."""
        applied = self.step(party, action, subject, **fields)
        assert not applied.reason, applied.reason
        return applied

    def case(self, application: bytes) -> Case:
        """The case of an application, by its object id."""
        found = self.directory.case(application)
        assert found is not None
        return found

    def revoke(self, target: bytes, party: Party, reason: str = "no longer needed") -> Applied:
        """A party revokes a version by its digest, or a key by its id."""
        return self._valid(entries.revocation_entry(party, self.fresh(16), target, reason), party)

    def forbid(
        self, test: Test, code: str = "no-exports", version: ObjectVersion | None = None, **changes: Any
    ) -> Applied:
        """A guardrail, signed by the coordinator."""
        texts = {"label": "禁止", "label_en": "Not allowed", "legal_basis": "Data Security Law, article 21"}
        body = Guardrail(format=1, code=code, test=test, **(texts | changes))
        draft = entries.guardrail_entry(COORDINATOR, version or ObjectVersion(self.fresh(16)), body)
        return self._valid(draft, COORDINATOR)

    def suspend(self, by: Party, /, **said: Any) -> Applied:
        """A party suspends something; without `until`, until it is lifted."""
        body = Suspension(**({"reason": "used for another purpose"} | said))
        return self._valid(entries.suspension_entry(by, self.fresh(16), body), by)

    def name_officer(self, department: Party, pseudonym: str, removed: bool = False) -> Applied:
        """A department registers one of its officers, or removes one."""
        latest = self.directory.state.people.officers.get(f"{department} {pseudonym}")
        before = self.directory.state.versions[latest] if latest is not None else None
        version = (
            ObjectVersion(before.object_id, before.digest) if before is not None else ObjectVersion(self.fresh(16))
        )
        said = OfficerStanding(pseudonym=pseudonym, removed=removed)
        return self._valid(entries.officer_entry(department, version, said), department)

    def mandate(self, auditor: Party = AUDITOR, **changes: Any) -> Applied:
        """The coordinator lets an auditor read everything, but for the changes."""
        said = Mandate(**({"auditor": str(auditor), "not_after": self.now + 10 * YEAR} | changes))
        return self._valid(entries.mandate_entry(COORDINATOR, self.fresh(16), said), COORDINATOR)

    def body_draft(self, owner: Party, body: entries.Body, version: ObjectVersion | None = None) -> Draft:
        """An unsigned entry with a body, of a new object where no version is given."""
        return entries.body_entry(owner, version or ObjectVersion(self.fresh(16)), body, self.fresh(32))

    @property
    def dataset(self) -> DatasetTerms:
        """The registry's dataset "residents"."""
        found = self.directory.dataset_named(str(POPULATION), "residents")
        assert found is not None
        return found

    @property
    def agreement(self) -> AgreementTerms:
        """The newest agreement of housing/applications for `dataset`."""
        return self.directory.agreements_of(APPLICATIONS, self.dataset.object_id, self.now)[0]

    def sealing_key(self, system: Party = REGISTRY) -> bytes:
        """The id of a system's sealing key."""
        return key_id(sealing_public_bytes(self.sealing[system]))

    # Requests and responses.

    def header(self, **changes: Any) -> RequestHeader:
        """A request's header that decide allows, but for the changes."""
        defaults: dict[str, Any] = {
            "format": 1,
            "request_id": self.request_id(),
            "requester": str(APPLICATIONS),
            "officer": "officer-7",
            "dataset": self.directory.terms.codes[str(POPULATION), "residents"],
            "agreement": self.agreement.digest if "agreement" not in changes else b"",
            "operation": LOOKUP,
            "fields": GRANTED,
            "purpose": PURPOSE,
            "case_id": "ZF-2027-0001",
            "issued_at": self.now,
            "expires_at": self.now + 5 * MINUTE,
            "directory_size": self.directory.size,
            "sealing_key": self.sealing_key(),
        }
        return RequestHeader(**(defaults | changes))

    def request(self, query: Query | None = None, party: Party = APPLICATIONS, **changes: Any) -> Envelope:
        """A sealed and signed request: by default a lookup of `ID_NUMBER`; the header's fields can be overridden."""
        return self.sign(self.request_draft(self.header(**({"requester": str(party)} | changes)), query), party)

    def request_draft(self, header: RequestHeader, query: Query | None = None) -> Draft:
        """Seal a query, by default a lookup of `ID_NUMBER`, under a header."""
        query = query or lookup(ID_NUMBER)
        data = encode(header)
        capsule = self._capsule(header.requester)
        key = sealing.message_key(self.channel(header.requester), sealing.TO_PROVIDER, data)
        ciphertext = sealing.seal_body(key, self.fresh(sealing.NONCE), encode(query))
        sealed = Sealed(header=data, capsule_sha256=_sha256(capsule), ciphertext_sha256=_sha256(ciphertext))
        return Draft(REQUEST, encode(sealed), (capsule, ciphertext))

    def respond(
        self, request: Envelope, rows: Sequence[Mapping[str, Any]] = ROWS, party: Party = REGISTRY, **changes: Any
    ) -> Envelope:
        """A system's sealed and signed answer to a request, with the header's fields overridden."""
        asked = read_request(request)
        body = json.dumps(list(rows), ensure_ascii=False, separators=(",", ":")).encode()
        answer = Answer(format=1, salt=self.fresh(32), rows=body)
        number, previous = self._ledgers.get(party, (0, bytes(32)))
        defaults: dict[str, Any] = {
            "format": 1,
            "provider": str(party),
            "request_digest": request.digest,
            "agreement": asked.agreement,
            "ledger_number": number + 1,
            "ledger_previous": previous,
            "directory_size": self.directory.size,
            "rows_sha256": _sha256(answer.salt + answer.rows),
            "answered_at": self.now,
        }
        header = encode(ResponseHeader(**(defaults | changes)))
        key = sealing.message_key(self.channel(asked.requester), sealing.TO_REQUESTER, header)
        ciphertext = sealing.seal_body(key, self.fresh(sealing.NONCE), encode(answer))
        sealed = Sealed(header=header, ciphertext_sha256=_sha256(ciphertext))
        response = self.sign(Draft(RESPONSE, encode(sealed), (ciphertext,)), party)
        row = LedgerRow(format=1, number=number + 1, request_digest=request.digest, response_digest=response.digest)
        self._ledgers[party] = (number + 1, _sha256(previous + encode(row)))
        return response

    def answer(self, request: Envelope, response: Envelope) -> Answer:
        """What the requester reads in a response."""
        header = decode(Sealed, response.payload).header
        key = sealing.message_key(self.channel(read_request(request).requester), sealing.TO_REQUESTER, header)
        return decode(Answer, sealing.open_body(key, response.attachments[-1]))

    def channel(self, requester: str, provider: Party = REGISTRY) -> bytes:
        """The channel secret of a requester and a provider, 32 bytes."""
        return fixed(f"channel {requester} {provider}")

    def request_id(self) -> bytes:
        """A UUIDv7 of now, 16 bytes."""
        tail = bytearray(self.fresh(10))
        tail[0] = 0x70 | tail[0] & 0x0F
        tail[2] = 0x80 | tail[2] & 0x3F
        return self.now.to_bytes(6, "big") + bytes(tail)

    def taken(self, requester: str, request_id: bytes) -> bytes | None:
        """Which message holds a request id: `hold` and `release` take it."""
        return self.requests.get((requester, request_id))

    def used(self, agreement: AgreementTerms, department: Party, now: int) -> Usage:
        """What was used of an agreement: `use` and `release` add to it."""
        uses = (time for used, by, time in self.uses if (used, by) == (agreement.object_id, department))
        return usage_of(uses, now)

    def use(self, agreement: AgreementTerms, department: Party, time: int) -> None:
        """One more request of a department under an agreement was answered."""
        self.uses.append((agreement.object_id, department, time))

    def hold(self, request: Envelope) -> None:
        """Take a request's id for its message."""
        header = read_request(request)
        self.requests[header.requester, header.request_id] = request.digest

    # The access log.

    def release(self, request: Envelope, response: Envelope) -> Receipt:
        """Log that an answer was released."""
        self.hold(request)
        asked = read_request(request)
        agreement = self.directory.terms.agreements.get(asked.agreement)
        if agreement is not None:
            self.use(agreement, Party.parse(asked.requester).own_department, self.now)
        return self._log(AccessKind.ACCESS_KIND_RELEASED, Code.CODE_UNSPECIFIED, request, response=response)

    def withhold(self, request: Envelope, response: Envelope, code: Code.ValueType = Code.CODE_INTERRUPTED) -> Receipt:
        """Log that an answer was committed, but not released."""
        return self._log(AccessKind.ACCESS_KIND_UNRELEASED, code, request, response=response)

    def refuse(self, request: Envelope, deny: Deny) -> tuple[Envelope, Receipt]:
        """The broker's signed refusal of a request, and its entry."""
        draft = refusal_draft(deny, str(BROKER), request.digest, self.directory.size, self.now)
        refusal = self.sign(draft, BROKER)
        return refusal, self._log(AccessKind.ACCESS_KIND_REFUSED, deny.code, request, refusal=refusal)

    def _log(self, kind: AccessKind.ValueType, code: Code.ValueType, request: Envelope, **answer: Envelope) -> Receipt:
        header, response, refusal = read_request(request), answer.get("response"), answer.get("refusal")
        leaf = AccessLeaf(
            format=1,
            time=self.now,
            kind=kind,
            code=code,
            requester=header.requester,
            provider=str(REGISTRY),
            request_id=header.request_id,
            request_digest=request.digest,
            response_digest=response.digest if response else b"",
            refusal_digest=refusal.digest if refusal else b"",
            directory_size=self.directory.size,
        )
        return self.access_log.receipt(self.access_log.append(encode(leaf), access_body(request, response, refusal)))

    def _valid(self, draft: Draft, party: Party) -> Applied:
        applied = self.append(draft, party)
        assert not applied.reason, applied.reason
        return applied

    def _granted(self, dataset: DatasetTerms, grantee: Party) -> dict[str, Any]:
        return {
            "dataset": dataset.object_id,
            "grantee": str(grantee),
            "operations": [LOOKUP, QUERY],
            "fields": GRANTED,
            "filterable": ["area_m2"],
            "purposes": [PURPOSE],
            "not_after": self.now + YEAR,
        }

    def _capsule(self, requester: str, provider: Party = REGISTRY) -> bytes:
        """One capsule for each channel, as a client would reuse it."""
        key = {str(party): key for party, key in self.keys.items()}.get(requester, signer("nobody"))
        info = sealing.capsule_info(
            ORIGIN, requester, key_id(key.public_key), str(provider), self.sealing_key(provider)
        )
        if info not in self._capsules:
            public = sealing_public_bytes(self.sealing[provider])
            self._capsules[info] = sealing.seal_capsule(self.channel(requester, provider), public, info)
        return self._capsules[info]


def lookup(*keys: str) -> Query:
    """A lookup by text keys."""
    return Query(format=1, lookup=Lookup(keys=[Value(text=key) for key in keys]))


@cache
def _founded() -> World:
    world = World()
    world.admit(COORDINATOR, Role.ROLE_COORDINATOR)
    world.admit(AUDITOR, Role.ROLE_AUDITOR)
    world.admit(BROKER, Role.ROLE_BROKER)
    for system in (REGISTRY, MARRIAGE, APPLICATIONS):
        world.admit(Party(ORIGIN, system.department), Role.ROLE_DEPARTMENT)
        world.admit(system, Role.ROLE_SYSTEM)
        world.give_sealing_key(system)
    world.mandate()
    return world


@cache
def _standard() -> World:
    world = World.founded()
    world.register(PURPOSE)
    world.grant(world.apply_for(world.publish()))
    return world


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
