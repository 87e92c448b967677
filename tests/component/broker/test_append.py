"""Append: who may, with what attached, and the certificate that comes back (DESIGN section 7)."""

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from exchange.broker.append import MAX_APPEND, AppendCommand, AppendedEntry
from exchange.broker.authority import found_authority
from exchange.broker.logs import AuditUnavailableError, EntryRefusedError
from exchange.broker.status import NotPermittedError
from exchange.core import entries
from exchange.core.checkpoint import open_checkpoint
from exchange.core.envelope import ENTRY, Draft, Envelope
from exchange.core.errors import DecodeError, NameFormatError
from exchange.core.keys import key_id
from exchange.core.merkle import leaf_hash, verify_inclusion
from exchange.core.names import Party
from exchange.core.wire import decode
from exchange.store.ports import Log, StoreBusyError
from exchange.transport import certificate_key, certificate_party
from exchange.v1.catalogue_pb2 import Sharing, SharingClass
from exchange.v1.directory_pb2 import Dataset, DirectoryLeaf, Entry, Field, FieldType, Role
from exchange.v1.guardrail_pb2 import Suspension
from tests.certificates import AUTHORITY_KEY, NOW, csr, uri
from tests.component.broker.parts import Broker
from tests.memory import signer
from tests.world import COORDINATOR, HOUSING, LOOKUP, ORIGIN, POPULATION, REGISTRY, YEAR, World

NEW = Party(ORIGIN, "population", "archive")


@pytest.fixture
def append(broker: Broker) -> AppendCommand:
    return AppendCommand(broker.logs, found_authority(AUTHORITY_KEY, ORIGIN, NOW), broker.clock)


def dataset_entry(world: World) -> Envelope:
    field = Field(name="plate", label="plate", type=FieldType.FIELD_TYPE_TEXT)
    body = Dataset(
        format=1, code="cars", title="cars", system=str(REGISTRY), fields=[field], key="plate", operations=[LOOKUP]
    )
    return world.sign(world.body_draft(POPULATION, body), POPULATION)


def key_entry(world: World, request: bytes = b"", party: Party = NEW) -> Envelope:
    validity = (world.now, world.now + YEAR)
    statement = entries.signing_key_statement(
        ORIGIN, party, Role.ROLE_SYSTEM, signer(str(party)), validity, csr=request
    )
    return world.sign(entries.key_entry(POPULATION, world.fresh(16), statement, request), POPULATION)


def purpose_entry(world: World) -> Envelope:
    copy = world.copy()
    copy.register("tax.audit")
    return copy.entries[-1]


def proven_leaf(world: World, appended: AppendedEntry) -> DirectoryLeaf:
    receipt = appended.receipt
    checkpoint = open_checkpoint(receipt.checkpoint, world.directory_log.signer.verifier)
    verify_inclusion(leaf_hash(receipt.leaf), receipt.index, checkpoint.size, tuple(receipt.path), checkpoint.root)
    return decode(DirectoryLeaf, receipt.leaf)


async def test_an_entry_is_proven_to_whoever_signed_it(append: AppendCommand, broker: Broker, world: World) -> None:
    envelope = dataset_entry(world)
    appended = await append(POPULATION, envelope.encode())
    leaf = proven_leaf(world, appended)
    assert leaf.envelope == envelope.bare().encode()
    assert leaf.time == world.now
    assert appended.certificate == b""
    stored = broker.store.entry(Log.DIRECTORY, appended.receipt.index)
    assert stored is not None
    assert stored.body == envelope.attachments[0]
    assert broker.logs.directory.dataset_named(str(POPULATION), "cars") is not None


async def test_the_same_entry_again_gives_its_receipt_again(append: AppendCommand, world: World) -> None:
    frame = dataset_entry(world).encode()
    first, again = await append(POPULATION, frame), await append(POPULATION, frame)
    assert first.receipt == again.receipt


@pytest.mark.parametrize("peer", [HOUSING, REGISTRY, COORDINATOR, Party(ORIGIN)], ids=str)
async def test_only_the_signer_itself_may_bring_its_entry(
    append: AppendCommand, broker: Broker, world: World, peer: Party
) -> None:
    size = broker.logs.directory.size
    with pytest.raises(NotPermittedError, match="but the entry is signed by"):
        await append(peer, dataset_entry(world).encode())
    assert broker.logs.directory.size == size


async def test_an_unknown_key_signs_nothing(append: AppendCommand, world: World) -> None:
    envelope = replace(purpose_entry(world), key_id=bytes(32))
    with pytest.raises(EntryRefusedError, match="not in the directory"):
        await append(COORDINATOR, envelope.encode())


async def test_what_the_log_has_already_is_not_answered_without_a_signature(
    append: AppendCommand, world: World
) -> None:
    envelope = key_entry(world, csr([uri(NEW)]))
    await append(POPULATION, envelope.encode())
    unsigned = replace(envelope, signature=bytes(64))
    with pytest.raises(EntryRefusedError, match="does not verify"):
        await append(POPULATION, unsigned.encode())
    stolen = replace(unsigned, key_id=key_id(world.keys[HOUSING].public_key))
    with pytest.raises(EntryRefusedError, match="does not verify"):
        await append(HOUSING, stolen.encode())
    resigned = world.sign(Draft(ENTRY, envelope.payload, envelope.attachments), HOUSING)
    with pytest.raises(EntryRefusedError, match="but owned by"):
        await append(HOUSING, resigned.encode())


async def test_a_broken_signature_is_refused(append: AppendCommand, broker: Broker, world: World) -> None:
    envelope = purpose_entry(world)
    broken = replace(envelope, signature=dataset_entry(world).signature)
    with pytest.raises(EntryRefusedError, match="does not verify"):
        await append(COORDINATOR, broken.encode())
    # Nothing is remembered of it.
    assert (await append(COORDINATOR, envelope.encode())).receipt.index == broker.logs.directory.size - 1


async def test_what_a_standing_approval_gave_is_suspended_by_its_owner_alone(
    append: AppendCommand, broker: Broker, world: World
) -> None:
    dataset = world.publish("open", sharing=Sharing(sharing_class=SharingClass.SHARING_CLASS_UNCONDITIONAL))
    application = world.apply_for(dataset, standing_approval=world.approve_standing(dataset))
    for envelope in world.entries[broker.logs.directory.size :]:
        await append(Party.parse(decode(Entry, envelope.payload).owner), envelope.encode())
    size, said = broker.logs.directory.size, Suspension(agreement=application.version.digest, reason="misused")
    for party in (HOUSING, POPULATION):
        envelope = world.sign(entries.suspension_entry(party, world.fresh(16), said), party)
        if party == HOUSING:
            with pytest.raises(EntryRefusedError, match="cannot suspend what is not its own"):
                await append(party, envelope.encode())
        else:
            assert (await append(party, envelope.encode())).receipt.index == size
    assert broker.logs.directory.is_suspended(application.version.digest, world.now)


async def test_an_entry_that_breaks_a_rule_is_refused(append: AppendCommand, broker: Broker, world: World) -> None:
    size = broker.logs.directory.size
    draft = world.body_draft(POPULATION, Dataset(format=1), entries.ObjectVersion(world.dataset.object_id))
    with pytest.raises(EntryRefusedError, match="object id is in use"):
        await append(POPULATION, world.sign(draft, POPULATION).encode())
    assert broker.logs.directory.size == size


@pytest.mark.parametrize(
    "attachments", [(), (b"another body",), "twice", "beside another"], ids=["missing", "other", "twice", "extra"]
)
async def test_a_body_is_attached_just_once_and_as_it_was_signed(
    append: AppendCommand, broker: Broker, world: World, attachments: tuple[bytes, ...] | str
) -> None:
    envelope = dataset_entry(world)
    if attachments == "twice":
        attachments = envelope.attachments * 2
    elif attachments == "beside another":
        attachments = (*envelope.attachments, b"another")
    assert isinstance(attachments, tuple)
    size = broker.logs.directory.size
    with pytest.raises(DecodeError):
        await append(POPULATION, replace(envelope, attachments=attachments).encode())
    assert broker.logs.directory.size == size


async def test_an_entry_without_a_body_carries_no_attachment(append: AppendCommand, world: World) -> None:
    with pytest.raises(DecodeError, match="no attachment"):
        await append(COORDINATOR, replace(purpose_entry(world), attachments=(b"x",)).encode())


async def test_a_body_that_is_too_long_is_refused(append: AppendCommand, world: World) -> None:
    body = Dataset(format=1, code="cars", abstract="x" * 33_000)
    envelope = world.sign(world.body_draft(POPULATION, body), POPULATION)
    with pytest.raises(DecodeError, match="at most"):
        await append(POPULATION, envelope.encode())


@pytest.mark.parametrize("frame", [b"", b"\xff", bytes(MAX_APPEND + 1)], ids=["empty", "rubbish", "too long"])
async def test_bytes_that_are_no_entry_are_malformed(append: AppendCommand, frame: bytes) -> None:
    with pytest.raises(DecodeError):
        await append(POPULATION, frame)


async def test_a_request_is_no_entry(append: AppendCommand, world: World) -> None:
    with pytest.raises(DecodeError, match="kind"):
        await append(REGISTRY, world.request(party=REGISTRY, agreement=bytes(32)).encode())


async def test_a_failing_log_appends_nothing(append: AppendCommand, broker: Broker, world: World) -> None:
    broker.store.before = StoreBusyError("busy")
    with pytest.raises(AuditUnavailableError):
        await append(POPULATION, dataset_entry(world).encode())


# --- certificates -------------------------------------------------------------------------------------


async def test_a_key_statement_with_a_request_gives_a_certificate_for_its_party(
    append: AppendCommand, broker: Broker, world: World
) -> None:
    appended = await append(POPULATION, key_entry(world, csr([uri(NEW)])).encode())
    assert proven_leaf(world, appended)
    assert certificate_party(appended.certificate) == NEW
    assert certificate_key(appended.certificate) == key_id(signer(str(NEW)).public_key)
    assert broker.logs.directory.role_of(NEW, world.now) == Role.ROLE_SYSTEM
    stored = broker.store.entry(Log.DIRECTORY, appended.receipt.index)
    assert stored is not None
    assert stored.body == b""
    # Valid from the broker's own time.
    certificate = x509.load_pem_x509_certificate(appended.certificate)
    assert abs(certificate.not_valid_before_utc.timestamp() * 1000 - world.now) <= 300_000


async def test_a_lost_certificate_is_issued_again(append: AppendCommand, world: World) -> None:
    frame = key_entry(world, csr([uri(NEW)])).encode()
    first, again = await append(POPULATION, frame), await append(POPULATION, frame)
    assert first.receipt == again.receipt
    assert certificate_party(again.certificate) == NEW


async def test_a_key_statement_without_a_request_gives_none(append: AppendCommand, world: World) -> None:
    assert (await append(POPULATION, key_entry(world).encode())).certificate == b""


OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


OWN = csr([uri(NEW)])


@pytest.mark.parametrize(
    ("named", "sent"),
    [
        (OWN, ()),
        (OWN, (csr([uri(NEW)], key=OTHER_KEY),)),
        (OWN, (OWN, OWN)),
        (b"", (OWN,)),
        (csr([uri(REGISTRY)]), (csr([uri(REGISTRY)]),)),
        (csr([uri(NEW), x509.DNSName("localhost")]),) * 2,
        (b"no request at all", (b"no request at all",)),
    ],
    ids=["missing", "another key's", "twice", "unnamed", "another party's", "with a DNS name", "rubbish"],
)
async def test_a_certificate_request_is_the_one_that_was_signed_and_names_the_party(
    append: AppendCommand, broker: Broker, world: World, named: bytes, sent: tuple[bytes, ...] | bytes
) -> None:
    size = broker.logs.directory.size
    attachments = (sent,) if isinstance(sent, bytes) else sent
    with pytest.raises(DecodeError):
        await append(POPULATION, replace(key_entry(world, named), attachments=attachments).encode())
    # It is judged before anything is appended.
    assert broker.logs.directory.size == size


async def test_a_party_of_an_impossible_name_gets_no_certificate(append: AppendCommand, world: World) -> None:
    envelope = key_entry(world, OWN)
    entry = decode(Entry, envelope.payload)
    statement = entry.key.statement.replace(b"archive", b"ARCHIVE")
    entry.key.statement = statement
    draft = entries.key_entry(POPULATION, world.fresh(16), entry.key, OWN)
    with pytest.raises(NameFormatError):
        await append(POPULATION, world.sign(draft, POPULATION).encode())


async def test_no_certificate_without_an_entry(append: AppendCommand, broker: Broker, world: World) -> None:
    stranger = Party(ORIGIN, "housing", "archive")
    request = csr([uri(stranger)])
    with pytest.raises(EntryRefusedError, match="cannot sign a key of"):
        await append(POPULATION, key_entry(world, request, stranger).encode())
    broker.store.before = StoreBusyError("busy")
    with pytest.raises(AuditUnavailableError):
        await append(POPULATION, key_entry(world, OWN).encode())
