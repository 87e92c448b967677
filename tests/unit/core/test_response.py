"""Check 11: an answer is taken from the system that the dataset names, to this request and no other."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exchange.core.decision import Allow, Deny, decide
from exchange.core.envelope import RESPONSE, Draft, Envelope, sign
from exchange.core.errors import DecodeError
from exchange.core.keys import EcdsaSigner, key_id
from exchange.core.names import Party
from exchange.core.response import check_response, read_response
from exchange.core.wire import decode, encode
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Role
from exchange.v1.request_pb2 import ResponseHeader, Sealed
from tests.memory import sealing_public, signer
from tests.world import APPLICATIONS, BROKER, MARRIAGE, ORIGIN, POPULATION, REGISTRY, World


class Flight:
    """One allowed request, and its answers."""

    def __init__(self) -> None:
        self.world = World.standard()
        self.request = self.world.request()
        allow = decide(self.world.directory, self.request, self.world.now, taken=self.world.taken, used=self.world.used)
        assert isinstance(allow, Allow)
        self.allow = allow

    def check(self, response: Envelope) -> ResponseHeader | Deny:
        """What the broker and the client say of an answer."""
        return check_response(self.world.directory, self.allow, response, self.world.now)

    def reseal(self, change: Callable[[Sealed], None], **changes: Any) -> Envelope:
        """An answer whose payload is changed before it is signed."""
        response = self.world.respond(self.request, **changes)
        sealed = decode(Sealed, response.payload)
        change(sealed)
        return self.world.sign(Draft(RESPONSE, encode(sealed), response.attachments), REGISTRY)


@pytest.fixture
def flight() -> Flight:
    return Flight()


def refused(decision: ResponseHeader | Deny, reason: str) -> None:
    """The answer is refused, for this reason."""
    assert isinstance(decision, Deny)
    assert (decision.check, decision.code) == (11, Code.CODE_RESPONSE_INVALID)
    assert reason in decision.reason


def test_takes_the_answer_of_the_system_that_the_dataset_names(flight: Flight) -> None:
    header = flight.check(flight.world.respond(flight.request))
    assert isinstance(header, ResponseHeader)
    assert (header.provider, header.request_digest) == (str(REGISTRY), flight.request.digest)


def test_what_was_read_before_is_not_read_again(flight: Flight) -> None:
    response = flight.world.respond(flight.request)
    read = read_response(response)
    assert check_response(flight.world.directory, flight.allow, response, flight.world.now, read) is read


def test_an_answer_without_its_ciphertext_is_evidence(flight: Flight) -> None:
    response = flight.world.respond(flight.request).bare()
    assert isinstance(flight.check(response), ResponseHeader)


def test_takes_an_answer_of_any_number_from_1(flight: Flight) -> None:
    for number in (1, 2, (1 << 64) - 1):
        assert isinstance(flight.check(flight.world.respond(flight.request, ledger_number=number)), ResponseHeader)


HEADER_FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("another request", {"request_digest": bytes(32)}, "answers another request"),
    ("another agreement", {"agreement": bytes(32)}, "answers another request"),
    ("another provider", {"provider": str(MARRIAGE)}, "does not answer for the dataset"),
    ("the department as the provider", {"provider": str(POPULATION)}, "does not answer for the dataset"),
    ("no provider", {"provider": ""}, "does not answer for the dataset"),
    ("no number", {"ledger_number": 0}, "numbered from 1"),
    ("a short request digest", {"request_digest": bytes(31)}, "impossible length"),
    ("a long request digest", {"request_digest": bytes(33)}, "impossible length"),
    ("a short agreement digest", {"agreement": bytes(31)}, "impossible length"),
    ("a short chain hash", {"ledger_previous": bytes(31)}, "impossible length"),
    ("no hash of the rows", {"rows_sha256": b""}, "impossible length"),
    ("a later format", {"format": 2}, "format 2"),
]


@pytest.mark.parametrize(("changes", "reason"), [f[1:] for f in HEADER_FAULTS], ids=[f[0] for f in HEADER_FAULTS])
def test_refuses_a_header_with(flight: Flight, changes: dict[str, Any], reason: str) -> None:
    refused(flight.check(flight.world.respond(flight.request, **changes)), reason)


@pytest.mark.parametrize("party", [POPULATION, MARRIAGE, APPLICATIONS, BROKER], ids=str)
def test_refuses_the_answer_of_any_other_party(flight: Flight, party: Party) -> None:
    refused(
        flight.check(flight.world.respond(flight.request, party=party)), f"signed by {party}, which does not answer"
    )
    claimed = flight.world.respond(flight.request, party=party, provider=str(REGISTRY))
    refused(flight.check(claimed), f"signed by {party}, which does not answer")


def test_refuses_a_neighbouring_system_of_the_same_department(flight: Flight) -> None:
    neighbour = Party(ORIGIN, "population", "registry-2")
    flight.world.admit(neighbour, Role.ROLE_SYSTEM)
    refused(flight.check(flight.world.respond(flight.request, party=neighbour)), "does not answer for the dataset")


@pytest.mark.parametrize("role", [Role.ROLE_HEAD, Role.ROLE_DEPARTMENT])
def test_refuses_an_answer_by_a_key_that_is_no_systems(flight: Flight, role: Role.ValueType) -> None:
    """A head's key lies below its department too; it signs consents, and no answer."""
    directory = flight.world.directory
    record = directory.state.keys[key_id(signer(str(REGISTRY)).public_key)]
    keys = directory.state.keys.set(record.key_id, replace(record, role=role))
    flight.world.directory = replace(directory, state=replace(directory.state, keys=keys))
    refused(flight.check(flight.world.respond(flight.request)), "does not answer for the dataset")


def _signed_by(flight: Flight, key: EcdsaSigner, origin: str = ORIGIN, kind: str = RESPONSE) -> Envelope:
    response = flight.world.respond(flight.request)
    return sign(key, origin, Draft(kind, response.payload, response.attachments))


def test_refuses_a_key_that_the_directory_does_not_hold(flight: Flight) -> None:
    refused(flight.check(_signed_by(flight, signer("stranger"))), "not in the directory")


def test_refuses_a_sealing_key(flight: Flight) -> None:
    response = replace(flight.world.respond(flight.request), key_id=key_id(sealing_public(str(REGISTRY))))
    refused(flight.check(response), "not in the directory")


def test_refuses_a_signature_for_another_exchange(flight: Flight) -> None:
    refused(flight.check(_signed_by(flight, signer(str(REGISTRY)), origin="town.example")), "does not verify")


def test_refuses_an_altered_header(flight: Flight) -> None:
    response = flight.world.respond(flight.request)
    altered = response.payload[:-1] + bytes([response.payload[-1] ^ 1])
    refused(flight.check(replace(response, payload=altered)), "does not verify")


def test_refuses_an_answer_under_another_kind(flight: Flight) -> None:
    refused(flight.check(_signed_by(flight, signer(str(REGISTRY)), kind="exchange.v1/request")), "not a response")


def test_refuses_a_refusal_in_place_of_an_answer(flight: Flight) -> None:
    refusal, _ = flight.world.refuse(flight.request, Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, "nobody is attached"))
    refused(flight.check(refusal), "not a response")


def test_refuses_the_request_in_place_of_its_answer(flight: Flight) -> None:
    refused(flight.check(flight.request), "not a response")


def test_refuses_a_revoked_key(flight: Flight) -> None:
    response = flight.world.respond(flight.request)
    assert isinstance(flight.check(response), ResponseHeader)
    flight.world.revoke(key_id(flight.world.keys[REGISTRY].public_key), POPULATION)
    refused(flight.check(response), "revoked")


@pytest.mark.parametrize(("begins", "ends"), [(1, 10), (-10, -1)])
def test_refuses_a_key_out_of_its_validity(flight: Flight, begins: int, ends: int) -> None:
    world = flight.world
    world.admit(REGISTRY, Role.ROLE_SYSTEM, signer("later"), validity=(world.now + begins, world.now + ends))
    refused(flight.check(world.respond(flight.request)), "not valid at this time")


@pytest.mark.parametrize(("begins", "ends"), [(0, 10), (-10, 0)])
def test_takes_a_key_at_the_ends_of_its_validity(flight: Flight, begins: int, ends: int) -> None:
    world = flight.world
    world.admit(REGISTRY, Role.ROLE_SYSTEM, signer("later"), validity=(world.now + begins, world.now + ends))
    assert isinstance(flight.check(world.respond(flight.request)), ResponseHeader)


def test_refuses_a_ciphertext_that_was_not_signed(flight: Flight) -> None:
    response = flight.world.respond(flight.request)
    for attachments in ((b"",), (*response.attachments, b""), flight.request.attachments):
        refused(flight.check(replace(response, attachments=attachments)), "not the ones that were signed")


def test_refuses_a_payload_or_header_that_is_no_message(flight: Flight) -> None:
    refused(flight.check(flight.reseal(lambda sealed: setattr(sealed, "header", b"\xff"))), "cannot be parsed")
    refused(flight.check(flight.world.sign(Draft(RESPONSE, b"\xff"), REGISTRY)), "cannot be parsed")
    unknown = flight.reseal(lambda sealed: setattr(sealed, "header", sealed.header + b"\xf8\x06\x01"))
    refused(flight.check(unknown), "canonical")


def test_refuses_a_capsule_in_an_answer(flight: Flight) -> None:
    capsule = hashlib.sha256(b"").digest()
    refused(flight.check(flight.reseal(lambda sealed: setattr(sealed, "capsule_sha256", capsule))), "impossible length")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_refuses_a_ciphertext_digest_of_another_length(flight: Flight, size: int) -> None:
    response = flight.reseal(lambda sealed: setattr(sealed, "ciphertext_sha256", bytes(size)))
    refused(flight.check(response.bare()), "impossible length")


def test_the_answer_to_one_request_is_not_the_answer_to_another(flight: Flight) -> None:
    other = flight.world.request(case_id="ZF-2027-0002")
    refused(flight.check(flight.world.respond(other)), "answers another request")


def test_reading_a_response_says_what_is_wrong_with_it(flight: Flight) -> None:
    response = flight.world.respond(flight.request)
    assert read_response(response).ledger_number == 1
    with pytest.raises(DecodeError, match="not a response"):
        read_response(flight.request)


def test_answers_of_one_provider_are_chained(flight: Flight) -> None:
    first = read_response(flight.world.respond(flight.request))
    second = read_response(flight.world.respond(flight.request))
    assert (first.ledger_number, second.ledger_number) == (1, 2)
    assert first.ledger_previous == bytes(32) != second.ledger_previous
