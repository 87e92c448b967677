"""The worked example of docs/protocol.md, made with exchange.core out of secrets that never change.

directory   11 entries, from the broker's key to the agreement
request     one LOOKUP: capsule, sealed query, signature
response    its answer, with the provider's ledger row
access      a refusal, the release of the answer, and one of three refusals that were signed together
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from exchange.core import entries, sealing
from exchange.core.access import access_body, refusal_draft
from exchange.core.decision import Deny
from exchange.core.entries import ObjectVersion
from exchange.core.envelope import REQUEST, RESPONSE, Draft, Envelope, batch_statement, sign_batch
from exchange.core.errors import SealError
from exchange.core.key_rules import possession_statement
from exchange.core.keys import EcdsaSigner, key_id, sealing_private_key, sealing_public_bytes
from exchange.core.merkle import root_of
from exchange.core.names import Party
from exchange.core.wire import decode, encode
from exchange.v1.access_pb2 import AccessKind, AccessLeaf, Code
from exchange.v1.directory_pb2 import Agreement, Application, Dataset, Field, FieldType, Purpose, Role
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.ledger_pb2 import LedgerRow
from exchange.v1.relay_pb2 import RefusalDetail, SubmitRequest
from exchange.v1.request_pb2 import Answer, Lookup, Operation, Query, RequestHeader, ResponseHeader, Sealed, Value
from tests.vectors.chosen import ASKED, DIRECTORY_SIZE, FIELDS, NUMBERS, SIGNERS, TEXTS, Example, Log

CAPSULE = Path(__file__).with_name("capsule.hex")
LOOKUP = Operation.OPERATION_LOOKUP


def build() -> Example:
    """The whole example, the same every time."""
    example = Example()
    _keys(example)
    directory = Log(example, "directory")
    dataset, agreement = _directory(example, directory)
    channel = _channel(example)
    header = _header(example, dataset, agreement)
    request = _request(example, "request", header, channel)
    response = _response(example, header, request, channel)
    refused = _refused(example, header, channel)
    _access(example, request, response, refused, _batch(example))
    return example


def _keys(example: Example) -> None:
    for name in SIGNERS:
        private = ec.derive_private_key(int.from_bytes(example.secret(f"keys.{name}.private"), "big"), ec.SECP256R1())
        signer = example.signers[name] = EcdsaSigner.of(private)
        example.keep(f"keys.{name}.spki", signer.public_key)
        example.keep(f"keys.{name}.key_id", key_id(signer.public_key))
    # The 32-byte seed of an X-Wing library; SHAKE-256 makes the two private keys of it.
    private = example.keep("sealing.private", hashlib.shake_256(example.secret("sealing.seed")).digest(96))
    public = example.keep("sealing.public", sealing_public_bytes(private))
    example.keep("sealing.key_id", key_id(public))
    for name in ("directory", "access"):
        verifier = Log(example, name).signer.verifier
        example.keep(f"logs.{name}.public", verifier.public_key)
        example.keep(f"logs.{name}.vkey", str(verifier).encode())


def _directory(example: Example, log: Log) -> tuple[bytes, bytes]:
    """The directory log, from the broker's key to the agreement: the dataset's object id, the agreement's digest."""

    def add(name: str, signer: str, draft: Draft) -> Envelope:
        envelope = example.signed(name, signer, draft)
        time = NUMBERS["first_entry_time"] + 1000 * len(log.leaves)
        log.add(entries.directory_leaf(envelope, time))
        return envelope

    add("broker_key", "root", _key(example, "broker", "root", Role.ROLE_BROKER))
    add("coordinator_key", "root", _key(example, "coordinator", "root", Role.ROLE_COORDINATOR))
    add("owner_key", "root", _key(example, "owner", "root", Role.ROLE_DEPARTMENT))
    add("provider_key", "owner", _key(example, "provider", "owner", Role.ROLE_SYSTEM))
    add("sealing_key", "provider", _sealing_key(example))
    add("applicant_key", "root", _key(example, "applicant", "root", Role.ROLE_DEPARTMENT))
    add("requester_key", "applicant", _key(example, "requester", "applicant", Role.ROLE_SYSTEM))
    purpose = Purpose(
        code=TEXTS["purpose"],
        label=TEXTS["purpose_label"],
        label_en=TEXTS["purpose_label_en"],
        legal_basis=TEXTS["legal_basis"],
    )
    version = ObjectVersion(example.secret("purpose.object_id", 16))
    add("purpose", "coordinator", entries.purpose_entry(Party.parse(TEXTS["coordinator"]), version, purpose))
    add("dataset", "owner", _body(example, "dataset", "owner", _dataset()))
    object_id = example.secrets["dataset.object_id"]
    application = add("application", "applicant", _body(example, "application", "applicant", _application(object_id)))
    granted = _agreement(object_id, application.digest)
    agreement = add("agreement", "owner", _body(example, "agreement", "owner", granted))
    log.checkpoint(DIRECTORY_SIZE)
    log.inclusion(8, DIRECTORY_SIZE)
    return object_id, agreement.digest


def _key(example: Example, name: str, parent: str, role: "Role.ValueType") -> Draft:
    party = Party.parse(TEXTS[name])
    validity = (NUMBERS["keys_not_before"], NUMBERS["keys_not_after"])
    statement = entries.signing_key_statement(TEXTS["exchange"], party, role, example.signers[name], validity)
    example.keep(f"{name}_key.key", statement.statement)
    example.keep(f"{name}_key.possession_statement", possession_statement(TEXTS["exchange"], statement.statement))
    example.keep(f"{name}_key.possession", statement.possession)
    object_id = example.secret(f"{name}_key.object_id", 16)
    return entries.key_entry(Party.parse(TEXTS[parent]), object_id, statement)


def _sealing_key(example: Example) -> Draft:
    provider = Party.parse(TEXTS["provider"])
    validity = (NUMBERS["keys_not_before"], NUMBERS["sealing_not_after"])
    statement = entries.sealing_key_statement(provider, example.values["sealing.public"], validity)
    example.keep("sealing_key.key", statement.statement)
    return entries.key_entry(provider, example.secret("sealing_key.object_id", 16), statement)


def _body(example: Example, name: str, owner: str, body: entries.Body) -> Draft:
    version = ObjectVersion(example.secret(f"{name}.object_id", 16))
    draft = entries.body_entry(Party.parse(TEXTS[owner]), version, body, example.secret(f"{name}.salt"))
    example.keep(f"{name}.body", encode(body))
    example.keep(f"{name}.attachment", draft.attachments[0])
    example.keep(f"{name}.body_sha256", _sha256(draft.attachments[0]))
    return draft


def _dataset() -> Dataset:
    fields = [Field(name=name, label=name, type=FieldType.ValueType(kind)) for name, kind in FIELDS]
    return Dataset(
        format=1,
        code=TEXTS["dataset_code"],
        title=TEXTS["dataset_title"],
        system=TEXTS["provider"],
        fields=fields,
        key="id_number",
        operations=[LOOKUP, Operation.OPERATION_QUERY],
        filterable=["birth_date"],
    )


def _application(dataset: bytes) -> Application:
    return Application(
        format=1,
        dataset=dataset,
        grantee=TEXTS["requester"],
        operations=[LOOKUP],
        fields=ASKED,
        purposes=[TEXTS["purpose"]],
        legal_basis=TEXTS["legal_basis"],
        scenario=TEXTS["scenario"],
        not_after=NUMBERS["agreement_not_after"],
    )


def _agreement(dataset: bytes, application: bytes) -> Agreement:
    return Agreement(
        format=1,
        dataset=dataset,
        grantee=TEXTS["requester"],
        application=application,
        operations=[LOOKUP],
        fields=ASKED,
        purposes=[TEXTS["purpose"]],
        not_before=NUMBERS["first_entry_time"],
        not_after=NUMBERS["agreement_not_after"],
    )


def _channel(example: Example) -> bytes:
    """The channel secret. Its capsule is the one value that cannot be made again: HPKE draws its own randomness."""
    secret = example.secret("channel.secret")
    info = sealing.capsule_info(
        TEXTS["exchange"],
        TEXTS["requester"],
        example.values["keys.requester.key_id"],
        TEXTS["provider"],
        example.values["sealing.key_id"],
    )
    example.keep("channel.info", info)
    capsule = example.secrets["channel.capsule"] = bytes.fromhex(CAPSULE.read_text()) if CAPSULE.exists() else b""
    try:
        opened = sealing.open_capsule(capsule, sealing_private_key(example.values["sealing.private"]), info)
    except SealError:
        opened = b""
    if opened != secret:
        capsule = sealing.seal_capsule(secret, example.values["sealing.public"], info)
        example.secrets["channel.capsule"] = capsule
    example.keep("channel.capsule_sha256", _sha256(capsule))
    return secret


def _header(example: Example, dataset: bytes, agreement: bytes) -> RequestHeader:
    return RequestHeader(
        format=1,
        request_id=_uuid7(NUMBERS["issued_at"], example.secret("request.id_random", 10)),
        requester=TEXTS["requester"],
        officer=TEXTS["officer"],
        dataset=dataset,
        agreement=agreement,
        operation=LOOKUP,
        fields=ASKED,
        purpose=TEXTS["purpose"],
        case_id=TEXTS["case_id"],
        issued_at=NUMBERS["issued_at"],
        expires_at=NUMBERS["expires_at"],
        directory_size=DIRECTORY_SIZE,
        sealing_key=example.values["sealing.key_id"],
    )


def _request(example: Example, name: str, header: RequestHeader, channel: bytes) -> Envelope:
    data = example.keep(f"{name}.header", encode(header))
    example.keep(f"{name}.request_id", header.request_id)
    example.keep(f"{name}.header_sha256", _sha256(data))
    key = example.keep(f"{name}.key", sealing.message_key(channel, sealing.TO_PROVIDER, data))
    query = encode(Query(format=1, lookup=Lookup(keys=[Value(text=TEXTS["lookup_key"])])))
    example.keep(f"{name}.query", query)
    ciphertext = _sealed_body(example, name, key, query)
    capsule = example.secrets["channel.capsule"]
    sealed = Sealed(header=data, capsule_sha256=_sha256(capsule), ciphertext_sha256=_sha256(ciphertext))
    envelope = example.signed(name, "requester", Draft(REQUEST, encode(sealed), (capsule, ciphertext)))
    example.keep(f"{name}.submit", encode(SubmitRequest(envelope=envelope.encode())))
    return envelope


def _sealed_body(example: Example, name: str, key: bytes, body: bytes) -> bytes:
    nonce = example.secret(f"{name}.nonce", sealing.NONCE)
    example.keep(f"{name}.padded", sealing.pad(body))
    ciphertext = example.keep(f"{name}.ciphertext", sealing.seal_body(key, nonce, body))
    example.keep(f"{name}.ciphertext_sha256", _sha256(ciphertext))
    return ciphertext


def _response(example: Example, asked: RequestHeader, request: Envelope, channel: bytes) -> Envelope:
    rows = example.keep("response.rows", TEXTS["rows"].encode())
    answer = Answer(format=1, salt=example.secret("response.salt"), rows=rows)
    example.keep("response.answer", encode(answer))
    header = ResponseHeader(
        format=1,
        provider=TEXTS["provider"],
        request_digest=request.digest,
        agreement=asked.agreement,
        ledger_number=1,
        ledger_previous=bytes(32),
        directory_size=asked.directory_size,
        rows_sha256=example.keep("response.rows_sha256", _sha256(answer.salt + rows)),
        answered_at=NUMBERS["answered_at"],
    )
    data = example.keep("response.header", encode(header))
    example.keep("response.header_sha256", _sha256(data))
    key = example.keep("response.key", sealing.message_key(channel, sealing.TO_REQUESTER, data))
    ciphertext = _sealed_body(example, "response", key, encode(answer))
    sealed = Sealed(header=data, ciphertext_sha256=_sha256(ciphertext))
    response = example.signed("response", "provider", Draft(RESPONSE, encode(sealed), (ciphertext,)))
    row = LedgerRow(
        format=1,
        number=1,
        time=NUMBERS["answered_at"],
        requester=TEXTS["requester"],
        request_id=asked.request_id,
        request_digest=request.digest,
        response_digest=response.digest,
        query=example.values["request.query"],
        asked=[TEXTS["lookup_key"]],
        told=[TEXTS["lookup_key"]],
        rows=1,
    )
    example.keep("ledger.row", encode(row))
    example.keep("ledger.chain_hash", _sha256(bytes(32) + encode(row)))
    return response


def _refused(example: Example, header: RequestHeader, channel: bytes) -> tuple[Envelope, Envelope]:
    """A second request, which asks for a field that is not granted, and the broker's refusal of it."""
    other = decode(RequestHeader, encode(header))
    other.request_id = _uuid7(NUMBERS["issued_at"], example.secret("refused.id_random", 10))
    other.fields.append(TEXTS["refused_field"])
    request = _request(example, "refused", other, channel)
    deny = Deny(6, Code.CODE_FIELD_NOT_GRANTED, TEXTS["refused_reason"])
    draft = refusal_draft(deny, TEXTS["broker"], request.digest, header.directory_size, NUMBERS["answered_at"])
    refusal = example.signed("refusal", "broker", draft)
    example.keep("refusal.detail", encode(RefusalDetail(envelope=refusal.encode())))
    return request, refusal


def _batch(example: Example) -> Sequence[Envelope]:
    """Three refusals of frames that came too fast, under one signature."""
    deny = Deny(1, Code.CODE_OVERLOADED, TEXTS["overloaded_reason"])
    drafts = []
    for number in range(3):
        digest = _sha256(example.secret(f"batch.refused_frame_{number}"))
        drafts.append(refusal_draft(deny, TEXTS["broker"], digest, DIRECTORY_SIZE, NUMBERS["answered_at"]))
    batch = sign_batch(example.signers["broker"], TEXTS["exchange"], drafts)
    root = root_of([envelope.digest for envelope in batch])
    for number, envelope in enumerate(batch):
        example.keep(f"batch.payload_{number}", envelope.payload)
        example.keep(f"batch.digest_{number}", envelope.digest)
        example.keep(f"batch.path_{number}", b"".join(envelope.path))
        example.keep(f"batch.frame_{number}", envelope.encode())
    example.keep("batch.root", root)
    example.keep("batch.statement", batch_statement(TEXTS["exchange"], batch[0].key_id, 3, root))
    example.keep("batch.signature", batch[0].signature)
    return batch


def _access(
    example: Example,
    request: Envelope,
    response: Envelope,
    refused: tuple[Envelope, Envelope],
    batch: Sequence[Envelope],
) -> None:
    log = Log(example, "access")
    named = {
        "format": 1,
        "time": NUMBERS["released_at"],
        "requester": TEXTS["requester"],
        "directory_size": DIRECTORY_SIZE,
    }
    leaves: tuple[Mapping[str, object], ...] = (
        {
            "kind": AccessKind.ACCESS_KIND_REFUSED,
            "code": Code.CODE_FIELD_NOT_GRANTED,
            "provider": TEXTS["provider"],
            "request_id": example.values["refused.request_id"],
            "request_digest": refused[0].digest,
            "refusal_digest": refused[1].digest,
        },
        {
            "kind": AccessKind.ACCESS_KIND_RELEASED,
            "provider": TEXTS["provider"],
            "request_id": example.values["request.request_id"],
            "request_digest": request.digest,
            "response_digest": response.digest,
        },
        {
            "kind": AccessKind.ACCESS_KIND_REFUSED,
            "code": Code.CODE_OVERLOADED,
            "request_digest": _sha256(example.secrets["batch.refused_frame_2"]),
            "refusal_digest": batch[2].digest,
        },
    )
    for leaf in leaves:
        log.add(encode(AccessLeaf(**(named | leaf))))
    example.keep("access.body_1", access_body(request, response))
    log.checkpoint(1)
    checkpoint = log.checkpoint(3)
    path = log.inclusion(1, 3)
    log.consistency(1, 3)
    receipt = Receipt(index=1, leaf=log.leaves[1], path=path, checkpoint=checkpoint)
    example.keep("access.receipt_1", encode(receipt))


def _uuid7(now: int, random: bytes) -> bytes:
    """RFC 9562 section 5.7: 48 bits of milliseconds, version 7, variant 10, the rest random."""
    tail = bytearray(random)
    tail[0] = 0x70 | tail[0] & 0x0F
    tail[2] = 0x80 | tail[2] & 0x3F
    return now.to_bytes(6, "big") + bytes(tail)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def as_json(example: Example) -> str:
    """The vector file: what was chosen (texts, numbers, secrets), then what follows from it (values)."""
    document = {
        "texts": TEXTS,
        "numbers": NUMBERS,
        "secrets": {name: data.hex() for name, data in example.secrets.items()},
        "values": {name: data.hex() for name, data in example.values.items()},
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"
