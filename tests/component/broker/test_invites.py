"""An invite takes one key request, tells nobody anything, and admits nobody."""

import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from exchange.broker.invites import FORGOTTEN, LONGEST, MAX_PART, MOST_INVITES, MOST_REASON
from exchange.broker.joining import InvitationService, JoiningService
from exchange.broker.limits import AddressBuckets
from exchange.broker.status import InviteRefusedError, JoinRefusedError, NotPermittedError, TooManyReadsError
from exchange.core.errors import DecodeError, NameFormatError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.wire import MAX_FRAME, decode, encode
from exchange.transport import MAX_JOIN, certificate_key, certificate_party
from exchange.v1.directory_pb2 import Key, KeyStatement, Role
from exchange.v1.joining_pb2 import (
    InviteRequest,
    InviteResponse,
    Joining,
    JoinRequest,
    JoinResponse,
    JoinState,
    PendingRequest,
    PendingResponse,
    RejectRequest,
)
from tests.certificates import KEY, csr, uri
from tests.joining import APPROVED, CODE, SCHOOLS, WAITING, Office, key_request, public_key_of, tls_key
from tests.memory import signer
from tests.world import APPLICATIONS, DAY, EXCHANGE, HOUSING, ORIGIN, POPULATION, REGISTRY, World

ARCHIVE = Party(ORIGIN, "population", "archive")


@pytest.fixture
def office(world: World) -> Office:
    return Office(world)


@pytest.fixture
def request_of_schools(world: World) -> tuple[bytes, bytes]:
    return key_request(world)


Request = tuple[bytes, bytes]


# --- the way that it should go


def test_an_invited_department_waits_and_gets_its_certificate_once_it_is_approved(
    office: Office, request_of_schools: Request
) -> None:
    office.invite()
    office.now += DAY
    _, waiting = office.join(request_of_schools)
    assert (waiting.state, waiting.since) == (WAITING, office.now)
    office.approve(request_of_schools)
    invite, approved = office.join(request_of_schools)
    assert approved.state == APPROVED
    assert certificate_party(invite.certificate) == SCHOOLS
    assert certificate_key(invite.certificate) == key_id(signer(str(SCHOOLS)).public_key)
    assert public_key_of(invite.certificate) == tls_key()


def test_a_certificate_is_issued_once_and_kept(office: Office, request_of_schools: Request) -> None:
    office.invite()
    office.join(request_of_schools)
    office.approve(request_of_schools)
    first = office.join(request_of_schools)[0].certificate
    assert office.join(request_of_schools)[0].certificate == first


def test_a_system_joins_its_department_the_same_way(office: Office, world: World) -> None:
    request = key_request(world, ARCHIVE, Role.ROLE_SYSTEM)
    office.invite(ARCHIVE, Role.ROLE_SYSTEM)
    assert office.join(request, party=ARCHIVE)[1].state == WAITING
    office.approve(request, ARCHIVE)
    assert certificate_party(office.join(request, party=ARCHIVE)[0].certificate) == ARCHIVE


def test_a_steward_invites_systems_in_its_departments_place(office: Office, world: World) -> None:
    steward = Party(ORIGIN, "population", "steward-1")
    world.admit(steward, Role.ROLE_STEWARD)
    office.invite(ARCHIVE, Role.ROLE_SYSTEM, parent=steward)
    assert [invite.parent for invite, _ in office.invites.of_parent(POPULATION)] == [str(POPULATION)]
    assert office.invites.of_parent(steward) == office.invites.of_parent(POPULATION)
    with pytest.raises(NotPermittedError, match="is not the parent"):
        office.invite(Party(ORIGIN, "housing", "archive"), Role.ROLE_SYSTEM, parent=steward)
    with pytest.raises(NotPermittedError, match="is not the parent"):
        office.invite(SCHOOLS, parent=steward)
    world.revoke(key_id(world.keys[steward].public_key), POPULATION)
    with pytest.raises(NotPermittedError, match="no valid key"):
        office.invites.reject(steward, ARCHIVE, "left")


def test_what_was_handed_in_admits_nobody(office: Office, world: World, request_of_schools: Request) -> None:
    size = world.directory.size
    office.invite()
    office.join(request_of_schools)
    assert world.directory.size == size
    assert world.directory.state.keys_of(SCHOOLS) == ()
    assert office.join(request_of_schools)[0].certificate == b""


def test_the_same_key_may_come_again_after_a_lost_answer(office: Office, request_of_schools: Request) -> None:
    office.invite()
    first = office.join(request_of_schools)
    office.now += 30 * DAY
    assert office.join(request_of_schools) == first


# --- invites that are used, expired, altered or guessed


def test_refuses_a_used_invite_with_another_key(office: Office, world: World, request_of_schools: Request) -> None:
    office.invite()
    office.join(request_of_schools)
    with pytest.raises(JoinRefusedError, match="used already, with another key"):
        office.join(key_request(world, label="thief"))
    [(invite, _)] = office.invites.of_parent(EXCHANGE)
    assert (invite.statement, invite.csr) == request_of_schools


def test_refuses_a_used_invite_with_another_certificate_request(office: Office, request_of_schools: Request) -> None:
    office.invite()
    office.join(request_of_schools)
    with pytest.raises(JoinRefusedError, match="used already"):
        office.join((request_of_schools[0], csr([uri(SCHOOLS)], KEY)))


def test_refuses_an_expired_invite(office: Office, request_of_schools: Request) -> None:
    office.invite(expires_at=office.now + DAY)
    office.now += DAY + 1
    with pytest.raises(JoinRefusedError, match="the invite has expired"):
        office.join(request_of_schools)


def test_a_guess_tells_nobody_which_invites_there_are(office: Office, request_of_schools: Request) -> None:
    office.invite()
    told = set()
    for code, party in (
        (bytes(32), SCHOOLS),
        (b"", SCHOOLS),
        (CODE[:-1], SCHOOLS),
        (CODE + b"\0", SCHOOLS),
        (hashlib.sha256(CODE).digest(), SCHOOLS),
        (CODE, HOUSING),
        (CODE, Party(ORIGIN, "nobody")),
        (bytes(32), Party(ORIGIN, "nobody")),
        (CODE, ARCHIVE),
    ):
        with pytest.raises(JoinRefusedError) as caught:
            office.join(request_of_schools, code, party)
        told.add(str(caught.value))
    assert len(told) == 1
    assert office.invites.of_parent(EXCHANGE)[0][1].state == JoinState.JOIN_STATE_INVITED


def test_a_new_invite_makes_the_earlier_one_useless(office: Office, request_of_schools: Request) -> None:
    office.invite()
    office.invite(code=b"\1" * 32)
    with pytest.raises(JoinRefusedError, match="no such invite"):
        office.join(request_of_schools)
    assert office.join(request_of_schools, b"\1" * 32)[1].state == WAITING


def test_of_two_that_come_at_once_with_one_code_one_is_refused(
    office: Office, world: World, request_of_schools: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.invite()
    replace, thief = office.store.replace, key_request(world, label="thief")

    def overtaken(*arguments: Any) -> bool:
        monkeypatch.setattr(office.store, "replace", replace)
        assert office.join(thief)[1].state == WAITING
        return replace(*arguments)

    monkeypatch.setattr(office.store, "replace", overtaken)
    with pytest.raises(JoinRefusedError, match="used already, with another key"):
        office.join(request_of_schools)


def _another_possession(statement: KeyStatement) -> None:
    statement.possession = signer("thief").sign(b"x")


def _another_digest(statement: KeyStatement) -> None:
    statement.csr_sha256 = bytes(32)


WRONG: dict[str, tuple[Callable[[World], Request], str]] = {
    "a key of another department": (lambda world: key_request(world, HOUSING), "SubjectAlternative|must name"),
    "a statement of another department": (
        lambda world: (key_request(world, HOUSING)[0], key_request(world)[1]),
        "not a signing key of exchange://city.example/schools",
    ),
    "another role": (lambda world: key_request(world, role=Role.ROLE_AUDITOR), "as ROLE_DEPARTMENT"),
    "no proof of possession": (lambda world: key_request(world, change=_another_possession), "possession"),
    "another certificate request": (
        lambda world: key_request(world, change=_another_digest),
        "the key statement names",
    ),
    "no certificate request": (lambda world: (key_request(world)[0], b""), "cannot be read"),
    "a certificate request that is too long": (
        lambda world: (key_request(world)[0], bytes(MAX_PART + 1)),
        "has at most 2,048",
    ),
    "a statement that is too long": (lambda world: (bytes(MAX_PART + 1), key_request(world)[1]), "at most 2,048"),
    "no statement": (lambda world: (b"\xff", key_request(world)[1]), "does not hold"),
    "no key": (lambda world: (encode(KeyStatement()), key_request(world)[1]), "does not hold"),
}


@pytest.mark.parametrize(("made", "says"), WRONG.values(), ids=WRONG)
def test_refuses_a_key_request_that_does_not_hold_and_takes_a_right_one_later(
    office: Office, world: World, made: Callable[[World], Request], says: str, request_of_schools: Request
) -> None:
    office.invite()
    with pytest.raises(JoinRefusedError, match=says):
        office.join(made(world))
    assert office.join(request_of_schools)[1].state == WAITING


def test_refuses_a_sealing_key(office: Office, world: World, request_of_schools: Request) -> None:
    from exchange.core.entries import sealing_key_statement
    from tests.memory import sealing_public

    office.invite()
    statement = sealing_key_statement(SCHOOLS, sealing_public("x"), (world.now, world.now + DAY))
    with pytest.raises(JoinRefusedError):
        office.join((encode(statement), request_of_schools[1]))


def test_refuses_what_is_no_name(office: Office, request_of_schools: Request) -> None:
    for name in ("exchange://city.example/Schools", "schools", "", "exchange://city.example/a\0b"):
        with pytest.raises(NameFormatError):
            office.join(request_of_schools, party=name)


# --- approval


def test_a_revoked_key_gets_no_certificate(office: Office, world: World, request_of_schools: Request) -> None:
    office.invite()
    office.join(request_of_schools)
    office.approve(request_of_schools)
    world.revoke(key_id(signer(str(SCHOOLS)).public_key), EXCHANGE)
    with pytest.raises(JoinRefusedError, match="revoked or expired"):
        office.join(request_of_schools)


def test_a_key_that_was_approved_with_another_certificate_request_gets_none(office: Office, world: World) -> None:
    approved, handed_in = key_request(world), key_request(world, csr=csr([uri(SCHOOLS)], KEY))
    office.invite()
    office.join(handed_in)
    office.approve(approved)
    with pytest.raises(JoinRefusedError, match="approved with another certificate request"):
        office.join(handed_in)


def test_whoever_was_rejected_is_told_why(office: Office, request_of_schools: Request) -> None:
    office.invite()
    office.join(request_of_schools)
    office.now += DAY
    office.invites.reject(EXCHANGE, SCHOOLS, "nobody answers the telephone")
    invite, standing = office.join(request_of_schools)
    assert (standing.state, standing.since) == (JoinState.JOIN_STATE_REJECTED, office.now)
    assert (invite.reason, invite.certificate) == ("nobody answers the telephone", b"")


def test_an_invite_can_be_taken_back_before_anybody_came(office: Office, request_of_schools: Request) -> None:
    office.invite()
    office.invites.reject(EXCHANGE, SCHOOLS, "sent to the wrong address")
    assert office.join(request_of_schools)[1].state == JoinState.JOIN_STATE_REJECTED
    assert office.invites.of_parent(EXCHANGE)[0][0].statement == b""


def test_the_rejected_may_be_invited_again_with_the_same_key(office: Office, request_of_schools: Request) -> None:
    office.invite()
    office.join(request_of_schools)
    office.invites.reject(EXCHANGE, SCHOOLS, "not yet")
    office.invite(code=b"\1" * 32)
    assert office.join(request_of_schools, b"\1" * 32)[1].state == WAITING


def test_who_is_approved_cannot_be_rejected(office: Office, request_of_schools: Request) -> None:
    office.invite()
    office.join(request_of_schools)
    office.approve(request_of_schools)
    with pytest.raises(InviteRefusedError, match="has been approved"):
        office.invites.reject(EXCHANGE, SCHOOLS, "too late")


@pytest.mark.parametrize("reason", ["", "x" * (MOST_REASON + 1), "two\nlines", "\x1b[31m", "a\0b"])
def test_a_reason_is_one_printable_line(office: Office, reason: str) -> None:
    office.invite()
    with pytest.raises(InviteRefusedError, match="a reason of 1 to"):
        office.invites.reject(EXCHANGE, SCHOOLS, reason)


def test_nobody_is_rejected_who_was_not_invited(office: Office) -> None:
    with pytest.raises(InviteRefusedError, match="is not invited"):
        office.invites.reject(EXCHANGE, SCHOOLS, "x")


# --- who may invite, and whom


@pytest.mark.parametrize(
    ("parent", "party"),
    [(HOUSING, SCHOOLS), (HOUSING, ARCHIVE), (EXCHANGE, ARCHIVE), (REGISTRY, ARCHIVE), (SCHOOLS, SCHOOLS)],
)
def test_only_the_parent_invites_and_rejects(office: Office, parent: Party, party: Party) -> None:
    role = Role.ROLE_SYSTEM if party.is_system else Role.ROLE_DEPARTMENT
    with pytest.raises(NotPermittedError, match="not the parent"):
        office.invite(party, role, parent=parent)
    with pytest.raises(NotPermittedError, match="not the parent"):
        office.invites.reject(parent, party, "x")


def test_a_parent_without_a_key_that_stands_invites_nobody(office: Office, world: World) -> None:
    world.revoke(key_id(world.keys[POPULATION].public_key), EXCHANGE)
    for act in (lambda: office.invite(ARCHIVE, Role.ROLE_SYSTEM), lambda: office.invites.of_parent(POPULATION)):
        with pytest.raises(NotPermittedError, match="has no valid key"):
            act()


@pytest.mark.parametrize(
    ("party", "role"),
    [
        (SCHOOLS, Role.ROLE_SYSTEM),
        (SCHOOLS, Role.ROLE_BROKER),
        (SCHOOLS, Role.ROLE_ROOT),
        (SCHOOLS, Role.ROLE_UNSPECIFIED),
        (ARCHIVE, Role.ROLE_DEPARTMENT),
    ],
)
def test_a_name_is_invited_only_in_a_role_that_it_can_have(office: Office, party: Party, role: Any) -> None:
    with pytest.raises(InviteRefusedError, match="cannot have the role"):
        office.invite(party, role)


def test_refuses_to_invite_under_another_partys_name(office: Office) -> None:
    with pytest.raises(InviteRefusedError, match="the name is taken"):
        office.invite(HOUSING)
    with pytest.raises(InviteRefusedError, match="the name is taken"):
        office.invite(REGISTRY, Role.ROLE_SYSTEM)


@pytest.mark.parametrize("name", ["hous1ng", "houslng", "h0using", "hou-sing", "housing-", "hou5ing"])
def test_refuses_a_name_that_looks_like_a_partys(office: Office, name: str) -> None:
    with pytest.raises(InviteRefusedError, match=r"looks like exchange://city\.example/housing"):
        office.invite(Party(ORIGIN, name))


def test_refuses_a_name_that_looks_like_that_of_somebody_invited(office: Office) -> None:
    office.invite()
    with pytest.raises(InviteRefusedError, match=r"looks like exchange://city\.example/schools"):
        office.invite(Party(ORIGIN, "sch00ls"))


def test_what_looks_alike_below_another_parent_is_no_lookalike(office: Office) -> None:
    office.invite(Party(ORIGIN, "population", "hous1ng"), Role.ROLE_SYSTEM)
    assert APPLICATIONS.system is not None
    office.invite(Party(ORIGIN, "population", APPLICATIONS.system), Role.ROLE_SYSTEM)


def test_nobody_is_invited_anew_while_a_key_request_waits(office: Office, request_of_schools: Request) -> None:
    office.invite()
    office.join(request_of_schools)
    with pytest.raises(InviteRefusedError, match="waits for an answer already"):
        office.invite(code=b"\1" * 32)


@pytest.mark.parametrize(
    "changes",
    [{"digest": b"short"}, {"expires_at": 0}, {"expires_at": 2**63 - 1}],
)
def test_an_invite_ends_and_its_code_is_hashed(office: Office, changes: dict[str, Any]) -> None:
    with pytest.raises(InviteRefusedError, match="at most 30 days"):
        office.invite(**changes)
    office.invite(expires_at=office.now + LONGEST)


def test_a_parent_has_only_so_many_invites_and_old_ones_are_forgotten(office: Office) -> None:
    for number in range(MOST_INVITES):
        office.invite(Party(ORIGIN, f"office-{number:o}-x".replace("0", "a").replace("1", "b").replace("5", "c")))
    with pytest.raises(InviteRefusedError, match="500 invites"):
        office.invite()
    office.now += 7 * DAY + FORGOTTEN + 2
    office.invite()
    assert len(office.invites.of_parent(EXCHANGE)) == 1


# --- the services


class Call:
    """What a handler asks of a call: who it is from."""

    def __init__(self, address: str = "ipv4:192.0.2.7:40000") -> None:
        self._address = address

    def peer(self) -> str:
        return self._address


def services(office: Office, peer: Party = EXCHANGE, address: str = "b.test:7444") -> tuple[Any, Any]:
    peers: Any = SimpleNamespace(spend=lambda call: peer)
    joining = JoiningService(office.invites, AddressBuckets(1, 3), lambda: office.now)
    return InvitationService(office.invites, peers, address).handlers(), joining.handlers()["Join"]


def message_of(request: Request, code: bytes = CODE) -> bytes:
    return encode(JoinRequest(party=str(SCHOOLS), code=code, statement=request[0], csr=request[1]))


async def test_the_services_lead_through_a_joining(office: Office, request_of_schools: Request) -> None:
    parents, join = services(office)
    asked = InviteRequest(
        party=str(SCHOOLS),
        role=Role.ROLE_DEPARTMENT,
        code_sha256=hashlib.sha256(CODE).digest(),
        expires_at=office.now + DAY,
    )
    answer = decode(InviteResponse, await parents["Invite"](encode(asked), Call()))
    assert answer.address == "b.test:7444"
    assert decode(JoinResponse, await join(message_of(request_of_schools), Call())).state == WAITING
    [pending] = decode(PendingResponse, await parents["Pending"](encode(PendingRequest()), Call())).joinings
    assert (pending.party, pending.role, pending.state) == (str(SCHOOLS), Role.ROLE_DEPARTMENT, WAITING)
    assert (pending.statement, pending.csr) == request_of_schools
    key = decode(Key, decode(KeyStatement, pending.statement).statement)
    assert key.party == str(SCHOOLS)
    await parents["Reject"](encode(RejectRequest(party=str(SCHOOLS), reason="no")), Call())
    refused = decode(JoinResponse, await join(message_of(request_of_schools), Call()))
    assert (refused.state, refused.reason) == (JoinState.JOIN_STATE_REJECTED, "no")


async def test_a_guess_is_logged_without_what_was_guessed(
    office: Office, request_of_schools: Request, logged: list[dict[str, Any]]
) -> None:
    office.invite()
    _, join = services(office)
    with pytest.raises(JoinRefusedError):
        await join(message_of(request_of_schools, b"\7" * 32), Call())
    [refused] = [entry for entry in logged if entry["event"] == "join refused"]
    assert refused["network"] == "192.0.2.7"
    assert CODE.hex() not in str(logged)
    assert (b"\7" * 32).hex() not in str(logged)


async def test_the_most_invites_of_one_parent_fit_into_one_message() -> None:
    most = Joining(
        party=f"exchange://{'d' * 253}/{'a' * 63}/{'b' * 63}",
        role=Role.ROLE_SYSTEM,
        state=WAITING,
        since=2**63,
        expires_at=2**63,
        statement=bytes(MAX_PART),
        csr=bytes(MAX_PART),
        reason="字" * MOST_REASON,
    )
    assert len(encode(PendingResponse(joinings=[most] * MOST_INVITES))) < MAX_FRAME


async def test_a_broker_without_a_port_for_it_invites_nobody(office: Office) -> None:
    parents, _ = services(office, address="")
    with pytest.raises(InviteRefusedError, match="join_listen"):
        await parents["Invite"](encode(InviteRequest(party=str(SCHOOLS))), Call())


async def test_an_address_may_ask_only_so_often(office: Office) -> None:
    _, join = services(office)
    for _ in range(3):
        with pytest.raises(DecodeError):
            await join(b"\xff", Call())
    with pytest.raises(TooManyReadsError):
        await join(b"\xff", Call())
    # Another one is not held up by it.
    with pytest.raises(DecodeError):
        await join(b"\xff", Call("ipv4:192.0.2.8:40000"))


async def test_what_is_too_long_is_refused_before_it_is_parsed(office: Office, request_of_schools: Request) -> None:
    _, join = services(office)
    with pytest.raises(DecodeError, match="at most 16,384"):
        await join(message_of((bytes(MAX_JOIN), request_of_schools[1])), Call())
