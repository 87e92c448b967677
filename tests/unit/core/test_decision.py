"""A request is answered exactly when every check holds; the first that fails names the code (DESIGN section 6)."""

import hashlib
from itertools import pairwise
from typing import Any

import pytest

from exchange.core.access import code_name
from exchange.core.decision import (
    Allow,
    Asked,
    Deny,
    Usage,
    authenticate,
    check_attachments,
    decide,
    decide_again,
    read_request,
    uncounted,
)
from exchange.core.entries import revocation_entry
from exchange.core.envelope import REQUEST, Draft, sign_batch
from exchange.core.errors import DecodeError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.terms import AgreementTerms
from exchange.v1 import guardrail_pb2
from exchange.v1.access_pb2 import Code
from tests.attempts import FAULTS, Attempt
from tests.deciding import CASES, attempt_of
from tests.world import (
    APPLICATIONS,
    HOUSING,
    MARRIAGE,
    ORIGIN,
    POPULATION,
    PURPOSE,
    REGISTRY,
    World,
)


def test_the_table_of_decisions_covers_every_code_that_decide_gives() -> None:
    covered = {case["code"] for case in CASES if "code" in case}
    outside = {"UNSPECIFIED", "OVERLOADED", "PROVIDER_UNAVAILABLE", "STATE_STALE"}
    outside |= {"RESPONSE_INVALID", "AUDIT_UNAVAILABLE", "INTERRUPTED"}
    assert covered == {code_name(number) for number in Code.values()} - outside
    assert len({case["that"] for case in CASES}) == len(CASES) >= 200


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
    "suspended",
    "operation not granted",
    "field not granted",
    "purpose not granted",
    "officer not granted",
    "outside the hours",
    "forbidden",
    "used up",
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
    (6, "SUSPENDED"),
    (6, "OPERATION_NOT_GRANTED"),
    (6, "FIELD_NOT_GRANTED"),
    (6, "PURPOSE_NOT_GRANTED"),
    (6, "OFFICER_NOT_GRANTED"),
    (6, "OUTSIDE_HOURS"),
    (7, "FORBIDDEN_BY_RULE"),
    (8, "QUOTA_EXHAUSTED"),
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


def test_the_pairs_cover_every_neighbour_of_checks_2_to_8() -> None:
    assert set(pairwise(ORDER)) <= set(PAIRS)
    assert {check for check, _ in CODES} == {1, 2, 3, 4, 5, 6, 7, 8}


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
    decide(world.directory, request, world.now, taken=lambda *key: asked.append(key), used=world.used)
    assert asked == [(str(APPLICATIONS), read_request(request).request_id)]


def test_the_same_id_with_the_same_bytes_is_a_retry_and_with_other_bytes_a_replay() -> None:
    world = World.standard()
    first = world.request(request_id=world.request_id())
    world.hold(first)
    header = read_request(first)
    other = world.request(request_id=header.request_id, case_id="ZF-2027-0002")
    assert isinstance(decide(world.directory, first, world.now, taken=world.taken, used=world.used), Allow)
    replay = decide(world.directory, other, world.now, taken=world.taken, used=world.used)
    assert isinstance(replay, Deny)
    assert replay.code == Code.CODE_REPLAYED


def test_nothing_was_used_of_what_is_not_counted() -> None:
    world = World.standard()
    assert uncounted(world.agreement, HOUSING, world.now) == Usage(minute=0, day=0, total=0)


def test_nobody_counts_where_nothing_is_limited() -> None:
    world = World.standard()

    def used(_agreement: AgreementTerms, _department: Party, _now: int) -> Usage:
        raise AssertionError("the agreement limits nothing")

    assert isinstance(decide(world.directory, world.request(), world.now, taken=world.taken, used=used), Allow)


def test_a_header_that_was_read_before_is_not_read_again() -> None:
    world = World.standard()
    request = world.request()
    header = read_request(request)
    asked = authenticate(world.directory, request, world.now, None, header)
    assert isinstance(asked, Asked)
    assert asked.header is header


@pytest.mark.parametrize(("label_en", "told"), [("Not allowed", "Not allowed"), ("", "禁止")])
def test_a_guardrail_says_in_english_what_it_forbids_where_it_can(label_en: str, told: str) -> None:
    world = World.standard()
    world.forbid(guardrail_pb2.Test(purpose=PURPOSE), label_en=label_en)
    decision = decide(world.directory, world.request(), world.now, taken=world.taken, used=world.used)
    assert isinstance(decision, Deny)
    assert decision.reason == f"the guardrail no-exports forbids it: {told}"


def test_a_retry_signed_anew_is_the_same_message() -> None:
    world = World.standard()
    request = world.request()
    world.hold(request)
    draft = Draft(request.kind, request.payload, request.attachments)
    again = sign_batch(world.keys[APPLICATIONS], ORIGIN, (draft, Draft(REQUEST, b"")))[0]
    assert again.signature != request.signature
    assert isinstance(decide(world.directory, again, world.now, taken=world.taken, used=world.used), Allow)


def test_another_requester_may_use_the_same_id() -> None:
    world = World.standard()
    agreement = world.grant(world.apply_for(world.dataset, MARRIAGE))
    request_id = world.request_id()
    world.hold(world.request(request_id=request_id))
    request = world.request(party=MARRIAGE, request_id=request_id, agreement=agreement.digest)
    assert isinstance(
        decide(world.directory, request, world.now, taken=world.taken, used=world.used, peer=MARRIAGE), Allow
    )


def test_a_retry_is_refused_once_the_agreement_is_revoked() -> None:
    world = World.standard()
    request = world.request()
    world.hold(request)
    world.revoke(world.agreement.digest, REGISTRY)
    decision = decide(world.directory, request, world.now, taken=world.taken, used=world.used)
    assert isinstance(decision, Deny)
    assert decision.code == Code.CODE_AGREEMENT_ENDED


def test_a_decision_keeps_the_directory_that_it_began_with() -> None:
    world = World.standard()
    before, request = world.directory, world.request()
    world.revoke(world.agreement.digest, POPULATION)
    assert isinstance(decide(before, request, world.now, taken=world.taken, used=world.used), Allow)
    assert isinstance(decide(world.directory, request, world.now, taken=world.taken, used=world.used), Deny)


def test_what_was_allowed_is_decided_again_by_the_directory_that_stands_then() -> None:
    world = World.standard()
    request = world.request()
    world.hold(request)
    # Neither its age nor its id counts again: only keys and grants.
    assert isinstance(decide_again(world.directory, request, world.now + 3_600_000, world.used), Allow)
    world.revoke(world.agreement.digest, POPULATION)
    ended = decide_again(world.directory, request, world.now, world.used)
    assert isinstance(ended, Deny)
    assert ended.code == Code.CODE_AGREEMENT_ENDED
    world.revoke(key_id(world.keys[APPLICATIONS].public_key), APPLICATIONS)
    revoked = decide_again(world.directory, request, world.now, world.used)
    assert isinstance(revoked, Deny)
    assert revoked.code == Code.CODE_KEY_REVOKED


def test_a_key_revoked_after_its_batch_was_verified_is_refused_for_the_next_message() -> None:
    world = World.standard()
    drafts = [world.request_draft(world.header()) for _ in range(3)]
    first, second, third = sign_batch(world.keys[APPLICATIONS], ORIGIN, drafts)
    assert isinstance(decide(world.directory, first, world.now, taken=world.taken, used=world.used), Allow)
    world.revoke(key_id(world.keys[APPLICATIONS].public_key), APPLICATIONS)
    for envelope in (first, second, third):
        decision = decide(world.directory, envelope, world.now, taken=world.taken, used=world.used)
        assert isinstance(decision, Deny)
        assert decision.code == Code.CODE_KEY_REVOKED


def test_an_invalid_revocation_takes_nothing_away() -> None:
    world = World.standard()
    request = world.request()
    draft = revocation_entry(HOUSING, world.fresh(16), world.agreement.digest, "not the owner")
    assert world.append(draft, HOUSING).reason
    assert isinstance(decide(world.directory, request, world.now, taken=world.taken, used=world.used), Allow)


def test_attachments_are_compared_in_their_order() -> None:
    request = World.standard().request()
    digests = tuple(hashlib.sha256(data).digest() for data in request.attachments)
    check_attachments(request, digests)
    check_attachments(request.bare(), digests)
    with pytest.raises(DecodeError, match="not the ones"):
        check_attachments(request, digests[::-1])
