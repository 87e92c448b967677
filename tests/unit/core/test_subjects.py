"""A person asks who saw their data: who may ask, who may answer, and what opens."""

from typing import Any

import pytest

from exchange.core.envelope import Draft, Envelope, sign
from exchange.core.errors import CoreError
from exchange.core.keys import key_id, sealing_private_key
from exchange.core.subjects import (
    answer_draft,
    open_answer,
    read_subject_request,
    request_draft,
    verify_answer,
    verify_subject_request,
)
from exchange.v1.subject_pb2 import SubjectAnswerHeader, SubjectDisclosure, SubjectRequest, SubjectRow
from tests.memory import fixed, sealing_private, sealing_public, signer
from tests.world import (
    APPLICATIONS,
    AUDITOR,
    BROKER,
    COORDINATOR,
    ID_NUMBER,
    ORIGIN,
    POPULATION,
    REGISTRY,
    Party,
    World,
)


@pytest.fixture
def world() -> World:
    return World.standard()


def asked(world: World, party: Party = AUDITOR, **changes: Any) -> Envelope:
    values: dict[str, Any] = {
        "format": 1,
        "request_id": fixed("subject", 16),
        "asked_by": str(party),
        "subject": ID_NUMBER,
        "reason": "asked in person",
        "answer_key": sealing_public("office"),
        "asked_at": world.now,
    }
    return world.sign(request_draft(SubjectRequest(**(values | changes))), party)


def answered(world: World, request: Envelope, party: Party = REGISTRY, **changes: Any) -> Envelope:
    header = SubjectAnswerHeader(
        **({"format": 1, "request_digest": request.digest, "answerer": str(party), "answered_at": world.now} | changes)
    )
    disclosure = SubjectDisclosure(
        format=1,
        last_number=2,
        last_previous=fixed("1"),
        last_chain=fixed("2"),
        rows=[SubjectRow(number=2, requester=str(APPLICATIONS))],
    )
    return world.sign(drafted(world, request, header, disclosure), party)


def drafted(world: World, request: Envelope, header: SubjectAnswerHeader, disclosure: SubjectDisclosure) -> Draft:
    signing = key_id(world.keys[Party.parse(header.answerer)].public_key)
    secrets = (fixed("channel"), fixed("nonce", 12))
    return answer_draft(ORIGIN, read_subject_request(request), header, disclosure, signing, secrets)


def opened(answer: Envelope, request: Envelope, label: str = "office") -> SubjectDisclosure:
    private = sealing_private_key(sealing_private(label))
    return open_answer(ORIGIN, answer, read_subject_request(request), private)


@pytest.mark.parametrize("party", [AUDITOR, COORDINATOR, POPULATION], ids=str)
def test_an_office_may_ask(world: World, party: Party) -> None:
    assert verify_subject_request(world.directory, asked(world, party), world.now).subject == ID_NUMBER


@pytest.mark.parametrize("party", [BROKER, APPLICATIONS], ids=str)
def test_nobody_else_may_ask(world: World, party: Party) -> None:
    with pytest.raises(CoreError, match="neither an auditor"):
        verify_subject_request(world.directory, asked(world, party), world.now)


def test_an_office_asks_in_its_own_name(world: World) -> None:
    with pytest.raises(CoreError, match="another office"):
        verify_subject_request(world.directory, asked(world, asked_by=str(POPULATION)), world.now)


def test_a_revoked_key_asks_nothing(world: World) -> None:
    request = asked(world)
    world.revoke(key_id(world.keys[AUDITOR].public_key), AUDITOR)
    with pytest.raises(CoreError, match="revoked"):
        verify_subject_request(world.directory, request, world.now)


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": ""},
        {"subject": "x" * 257},
        {"reason": ""},
        {"reason": "x" * 2001},
        {"request_id": b"short"},
        {"answer_key": b"short"},
        {"until": 1 << 62},
        {"format": 2},
    ],
    ids=str,
)
def test_a_malformed_request_is_refused(world: World, changes: dict[str, Any]) -> None:
    with pytest.raises(CoreError):
        verify_subject_request(world.directory, asked(world, **changes), world.now)


def test_the_office_opens_what_the_owner_sealed(world: World) -> None:
    request = asked(world)
    answer = answered(world, request)
    record, header = verify_answer(world.directory, answer, request.digest)
    assert (record.party, header.answerer) == (REGISTRY, str(REGISTRY))
    assert [row.number for row in opened(answer, request).rows] == [2]
    assert str(APPLICATIONS).encode() not in answer.encode()


def test_no_other_key_opens_it(world: World) -> None:
    request = asked(world)
    with pytest.raises(CoreError, match="does not open"):
        opened(answered(world, request), request, "another office")


def test_an_answer_is_to_one_request(world: World) -> None:
    first, second = asked(world), asked(world, reason="another")
    with pytest.raises(CoreError, match="another request"):
        verify_answer(world.directory, answered(world, first), second.digest)


def test_only_a_system_answers_in_its_own_name(world: World) -> None:
    request = asked(world)
    for answer in (answered(world, request, POPULATION), answered(world, request, answerer=str(APPLICATIONS))):
        with pytest.raises(CoreError, match="not the system"):
            verify_answer(world.directory, answer, request.digest)


def test_an_altered_seal_is_not_the_owners(world: World) -> None:
    request = asked(world)
    answer = answered(world, request)
    for place in (0, 1):
        parts = list(answer.attachments)
        parts[place] = parts[place][:-1] + bytes([parts[place][-1] ^ 1])
        altered = Envelope(answer.key_id, answer.kind, answer.payload, 1, 0, (), answer.signature, tuple(parts))
        with pytest.raises(CoreError, match="not the one that was signed"):
            verify_answer(world.directory, altered, request.digest)


def test_a_stranger_does_not_answer(world: World) -> None:
    request = asked(world)
    header = SubjectAnswerHeader(format=1, request_digest=request.digest, answerer=str(REGISTRY), answered_at=world.now)
    draft = drafted(world, request, header, SubjectDisclosure(format=1))
    with pytest.raises(CoreError, match="not in the directory"):
        verify_answer(world.directory, sign(signer("stranger"), ORIGIN, draft), request.digest)


@pytest.mark.parametrize(
    "disclosure",
    [
        SubjectDisclosure(format=1, last_number=1),
        SubjectDisclosure(format=1, last_chain=fixed("x"), last_previous=fixed("y")),
        SubjectDisclosure(format=1, rows=[SubjectRow(number=1)]),
        SubjectDisclosure(
            format=1,
            last_number=2,
            last_chain=fixed("x"),
            last_previous=fixed("y"),
            rows=[SubjectRow(number=2), SubjectRow(number=1)],
        ),
        SubjectDisclosure(
            format=1,
            last_number=2,
            last_chain=fixed("x"),
            last_previous=fixed("y"),
            rows=[SubjectRow(number=1), SubjectRow(number=1)],
        ),
    ],
)
def test_rows_are_those_of_the_ledger_that_is_claimed(world: World, disclosure: SubjectDisclosure) -> None:
    request = asked(world)
    header = SubjectAnswerHeader(format=1, request_digest=request.digest, answerer=str(REGISTRY), answered_at=world.now)
    answer = world.sign(drafted(world, request, header, disclosure), REGISTRY)
    with pytest.raises(CoreError):
        opened(answer, request)
