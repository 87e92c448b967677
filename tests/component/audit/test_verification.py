"""The verification by itself: an untouched log, and one test for each attack on it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from exchange.cli.audit.checking.findings import Level, exit_code
from exchange.cli.audit.checking.ledgers import Numbers
from exchange.cli.audit.checking.remembered import Remembered
from exchange.cli.audit.checking.tree import Expected, ProvenLeaves, WholeTree, place_of, prove
from exchange.cli.audit.checking.verification import LoggedEntry, Verification
from exchange.core.access import read_access_leaf, refusal_draft
from exchange.core.decision import Deny, read_request
from exchange.core.envelope import Envelope
from exchange.core.keys import key_id
from exchange.core.merkle import Frontier, NodeId, leaf_hash
from exchange.core.wire import encode
from exchange.v1.access_pb2 import AccessBody, AccessKind, Code
from tests.component.audit.copies import (
    DENY,
    ask,
    busy_world,
    changed,
    checkpoint_of,
    failures,
    findings_of,
    log_entry,
    log_released,
    rebuilt,
    rows_of,
    warnings,
)
from tests.memory import MemoryLog, signer
from tests.simulator import trust_of
from tests.world import (
    APPLICATIONS,
    AUDITOR,
    BROKER,
    DAY,
    HOUSING,
    MARRIAGE,
    MINUTE,
    POPULATION,
    REGISTRY,
    YEAR,
    Role,
    World,
)

ACCESS = "city.example/access"
UNRELEASED, REFUSED = AccessKind.ACCESS_KIND_UNRELEASED, AccessKind.ACCESS_KIND_REFUSED
Rows = list[LoggedEntry]


@pytest.fixture(scope="module")
def busy() -> World:
    return busy_world()


@pytest.fixture
def world() -> World:
    return World.standard()


def test_an_untouched_log_is_verified(busy: World) -> None:
    assert findings_of(busy) == []


def test_an_empty_access_log_is_verified(world: World) -> None:
    assert findings_of(world) == []


# Attacks on what is stored: the checkpoint is the honest log's.


@pytest.mark.parametrize("index", range(5))
def test_finds_an_edited_leaf(busy: World, index: int) -> None:
    rows = rows_of(busy.access_log)
    rows[index] = changed(rows[index], time=read_time(rows[index]) + 1)
    assert any("do not make the root" in text for text in failures(findings_of(busy, rows)))


@pytest.mark.parametrize("field", ["requester", "provider", "request_id", "request_digest", "response_digest"])
def test_names_an_entry_whose_leaf_says_something_else_than_its_body(busy: World, field: str) -> None:
    rows = rows_of(busy.access_log)
    value = str(MARRIAGE) if field in ("requester", "provider") else bytes(16 if field == "request_id" else 32)
    rows[0] = changed(rows[0], **{field: value})
    assert any(text.startswith(f"FAIL  entry 0 of {ACCESS}: ") for text in failures(findings_of(busy, rows)))


def test_names_an_entry_with_an_edited_body(busy: World) -> None:
    rows = rows_of(busy.access_log)
    rows[2] = replace(rows[2], body=rows[0].body)
    found = failures(findings_of(busy, rows))
    assert found == [f"FAIL  entry 2 of {ACCESS}: the body's request is not the one that the leaf names"]


@pytest.mark.parametrize("body", [b"", b"\xff"])
def test_names_an_entry_without_its_body(busy: World, body: bytes) -> None:
    rows = rows_of(busy.access_log)
    rows[1] = replace(rows[1], body=body)
    assert [text.split(": ")[0] for text in failures(findings_of(busy, rows))] == [f"FAIL  entry 1 of {ACCESS}"]


def test_finds_a_deleted_entry(busy: World) -> None:
    rows = rows_of(busy.access_log)
    del rows[2]
    assert f"FAIL  entry 2 of {ACCESS}: missing" in failures(findings_of(busy, rows))


def test_finds_an_inserted_entry(busy: World) -> None:
    rows = rows_of(busy.access_log)
    rows = [*rows[:2], changed(rows[1], index=2), *(replace(row, index=row.index + 1) for row in rows[2:])]
    assert f"FAIL  entry 5 of {ACCESS}: not in the signed checkpoint, which counts 5" in failures(
        findings_of(busy, rows)
    )


def test_finds_an_entry_that_stands_twice(busy: World) -> None:
    rows = rows_of(busy.access_log)
    assert any("out of place" in text for text in failures(findings_of(busy, [*rows[:2], rows[1], *rows[2:]])))


def test_finds_reordered_entries(busy: World) -> None:
    rows = rows_of(busy.access_log)
    rows[1], rows[2] = replace(rows[2], index=1), replace(rows[1], index=2)
    found = failures(findings_of(busy, rows))
    assert f"FAIL  entry 2 of {ACCESS}: its time runs backwards" in found
    assert any("do not make the root" in text for text in found)


def test_finds_a_truncated_log(busy: World) -> None:
    found = failures(findings_of(busy, rows_of(busy.access_log)[:3]))
    text = f"FAIL  {ACCESS}: entries 3 to 4: missing, though the signed checkpoint counts 5"
    assert text in found


def test_finds_a_log_that_was_truncated_and_continued(busy: World) -> None:
    rows = rows_of(busy.access_log)
    other = busy.copy()
    ask(other)
    ask(other)
    rows[3:] = [replace(row, index=index) for index, row in enumerate(rows_of(other.access_log)[5:], 3)]
    assert any("do not make the root" in text for text in failures(findings_of(busy, rows)))


def test_an_older_checkpoint_is_a_rollback(busy: World) -> None:
    log = busy.access_log
    seen = (checkpoint_of(log, 3), checkpoint_of(log, 5))
    findings = findings_of(busy, rows_of(log)[:4], checkpoint=checkpoint_of(log, 4), seen=seen)
    assert [finding.level for finding in findings] == [Level.BROKEN]
    assert "it has 4 entries, but the log had signed 5" in findings[0].text
    assert exit_code(findings) == 4


def test_rows_cut_off_below_what_was_seen_are_a_rollback(busy: World) -> None:
    findings = findings_of(busy, rows_of(busy.access_log)[:4], seen=(checkpoint_of(busy.access_log),))
    assert exit_code(findings) == 4


def test_a_fork_with_the_stolen_log_key_is_found_by_what_was_seen(busy: World) -> None:
    honest = busy.access_log
    other = busy.copy()
    other.access_log = rebuilt(
        honest, [*honest.leaves[:1], honest.leaves[1], *honest.leaves[3:]], bodies_without(honest, 2)
    )
    ask(other)
    findings = findings_of(other, seen=(checkpoint_of(honest, 2), checkpoint_of(honest)))
    assert [finding.level for finding in findings if finding.level] == [Level.BROKEN]
    assert "fork" in str(findings)
    assert exit_code(findings) == 4


def test_an_edited_leaf_is_no_fork_while_the_signed_root_tells_it(busy: World) -> None:
    rows = rows_of(busy.access_log)
    rows[0] = changed(rows[0], time=read_time(rows[0]) - 1)
    findings = findings_of(busy, rows, seen=(checkpoint_of(busy.access_log, 3), checkpoint_of(busy.access_log)))
    assert exit_code(findings) == 1


# Attacks by an exchange that signs a false log from the beginning.


def test_finds_a_request_released_twice(world: World) -> None:
    request, response = ask(world)
    world.release(request, response)
    assert failures(findings_of(world)) == [
        f"FAIL  entry 1 of {ACCESS}: its request was released before, as entry 0: one request, one release"
    ]


def test_finds_another_message_under_a_released_request_id(world: World) -> None:
    identity = world.request_id()
    ask(world, request_id=identity)
    ask(world, request_id=identity, case_id="ANOTHER")
    assert any("released before, as entry 0" in text for text in failures(findings_of(world)))


@pytest.mark.parametrize(
    ("revoke", "said"),
    [
        (lambda world: world.revoke(key_id(world.keys[APPLICATIONS].public_key), HOUSING), "is revoked"),
        (lambda world: world.revoke(key_id(world.keys[REGISTRY].public_key), POPULATION), "is revoked"),
        (lambda world: world.revoke(world.agreement.digest, POPULATION), "AGREEMENT_ENDED"),
        (lambda world: world.revoke(world.dataset.version.digest, POPULATION), "NO_AGREEMENT"),
    ],
    ids=["requester's key", "provider's key", "agreement", "dataset"],
)
def test_finds_a_release_after_a_revocation(world: World, revoke: Callable[[World], object], said: str) -> None:
    request = world.request()
    response = world.respond(request)
    world.release(request, response)
    revoke(world)
    later = world.request(agreement=request_agreement(world), dataset=request_dataset(world))
    world.release(later, world.respond(later))
    found = failures(findings_of(world))
    assert len(found) == 1
    assert found[0].startswith(f"FAIL  entry 1 of {ACCESS}: ")
    assert said in found[0]


def test_finds_a_release_that_pretends_an_older_directory(world: World) -> None:
    """The revocation stands before entry 1, which says it was decided before it; entry 0 gives it away."""
    request = world.request()
    response = world.respond(request)
    size = world.directory.size
    world.revoke(world.agreement.digest, POPULATION)
    world.refuse(request, Deny(6, Code.CODE_AGREEMENT_ENDED, "the agreement is revoked or superseded"))
    log_released(world, request, response, directory_size=size)
    assert any("ran backwards" in text for text in failures(findings_of(world)))


def test_finds_a_release_that_goes_on_as_if_there_had_been_no_revocation(world: World) -> None:
    """Nothing in the access log gives it away: only when the revocation was entered."""
    request = world.request()
    response = world.respond(request)
    size = world.directory.size
    world.revoke(world.agreement.digest, POPULATION)
    world.now += 2 * MINUTE
    log_released(world, request, response, directory_size=size)
    found = failures(findings_of(world))
    assert found == [
        f"FAIL  entry 0 of {ACCESS}: directory: decided under {size} entries, 120 s after entry {size} stood there too"
    ]


def test_finds_a_release_under_a_directory_of_later(world: World) -> None:
    request = world.request()
    response = world.respond(request)
    world.now += 2 * MINUTE
    world.register("tax.assessment")
    log_released(world, request, response, time=world.now - 2 * MINUTE)
    assert "the last of which came later" in failures(findings_of(world))[0]


def test_finds_a_release_under_a_directory_that_never_was(world: World) -> None:
    request = world.request()
    log_released(world, request, world.respond(request), directory_size=10_000)
    assert any("of which only" in text for text in failures(findings_of(world)))


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"fields": ["birth_date"]}, "FIELD_NOT_GRANTED"),
        ({"purpose": "tax.assessment"}, "PURPOSE_NOT_GRANTED"),
        ({"agreement": bytes(32)}, "NO_AGREEMENT"),
        ({"expires_at": 1}, "time: "),
    ],
)
def test_finds_a_release_that_was_never_granted(world: World, header: dict[str, object], code: str) -> None:
    ask(world, **header)
    assert code in failures(findings_of(world))[0]


def test_finds_a_release_after_the_agreement_has_run_out(world: World) -> None:
    world.now += YEAR + DAY
    request = world.request(agreement=request_agreement(world))
    world.release(request, world.respond(request))
    assert "AGREEMENT_ENDED" in failures(findings_of(world))[0]


def test_finds_the_response_of_another_system(world: World) -> None:
    request = world.request()
    world.release(request, world.respond(request, party=MARRIAGE))
    assert "does not answer for the dataset" in failures(findings_of(world))[0]


def test_finds_the_response_to_another_request(world: World) -> None:
    _, response = ask(world)
    world.release(world.request(), response)
    assert "the response answers another request" in failures(findings_of(world))[0]


def test_finds_a_request_that_its_requester_never_signed(world: World) -> None:
    forged = replace(world.request(), signature=world.request().signature)
    world.release(forged, world.respond(forged))
    assert "the signature does not verify" in failures(findings_of(world))[0]


def test_finds_a_leaf_that_names_another_party(world: World) -> None:
    request = world.request()
    log_released(world, request, world.respond(request), requester=str(MARRIAGE))
    assert any("names another requester" in text for text in failures(findings_of(world)))
    assert any(text.startswith("FAIL  entry 0") for text in failures(findings_of(world)))


def test_finds_a_leaf_that_names_another_provider(world: World) -> None:
    request = world.request()
    log_released(world, request, world.respond(request), provider=str(MARRIAGE))
    assert any("provider: " in text for text in failures(findings_of(world)))


def test_finds_time_that_runs_backwards(world: World) -> None:
    world.now += 1
    ask(world)
    world.now -= 1
    ask(world)
    assert f"FAIL  entry 1 of {ACCESS}: its time runs backwards" in failures(findings_of(world))


def test_finds_a_leaf_that_is_none(world: World) -> None:
    world.access_log.append(b"\xff", b"")
    assert failures(findings_of(world))[0].startswith(f"FAIL  entry 0 of {ACCESS}: AccessLeaf")


# Refusals and answers that were not released.


def refusal(world: World, request: Envelope, refuser: str = str(BROKER), deny: Deny = DENY) -> Envelope:
    party = next(party for party in world.keys if str(party) == refuser)
    return world.sign(refusal_draft(deny, refuser, request.digest, world.directory.size, world.now), party)


def refused_fields(world: World, request: Envelope) -> dict[str, object]:
    return {"requester": str(APPLICATIONS), "request_id": request_id_of(world, request), "request": request}


def test_a_refusal_by_the_provider_is_verified(world: World) -> None:
    request = world.request()
    signed = refusal(world, request, str(REGISTRY))
    log_entry(world, REFUSED, DENY.code, **refused_fields(world, request), refusal=signed, provider=str(REGISTRY))
    assert findings_of(world) == []


def test_a_refusal_of_what_was_no_request_is_verified(world: World) -> None:
    deny = Deny(1, Code.CODE_MALFORMED, "Envelope cannot be parsed")
    signed = world.sign(refusal_draft(deny, str(BROKER), bytes(32), world.directory.size, world.now), BROKER)
    log_entry(world, REFUSED, deny.code, refusal=signed, requester=str(APPLICATIONS), request_digest=bytes(32))
    assert findings_of(world) == []


@pytest.mark.parametrize("party", [AUDITOR, MARRIAGE])
def test_finds_a_refusal_by_nobody_who_may_refuse(world: World, party: object) -> None:
    request = world.request()
    signed = refusal(world, request, str(party))
    log_entry(world, REFUSED, DENY.code, **refused_fields(world, request), refusal=signed, provider=str(REGISTRY))
    assert "neither a broker nor the provider" in failures(findings_of(world))[0]


def test_finds_a_refusal_in_anothers_name(world: World) -> None:
    request = world.request()
    draft = refusal_draft(DENY, str(REGISTRY), request.digest, world.directory.size, world.now)
    signed = world.sign(draft, BROKER)
    log_entry(world, REFUSED, DENY.code, **refused_fields(world, request), refusal=signed)
    assert "in the name of" in failures(findings_of(world))[0]


def test_finds_a_refusal_for_another_reason_than_its_leaf_says(world: World) -> None:
    request = world.request()
    signed = refusal(world, request)
    log_entry(world, REFUSED, Code.CODE_NO_AGREEMENT, **refused_fields(world, request), refusal=signed)
    assert "for another reason" in failures(findings_of(world))[0]


def test_finds_a_refusal_by_a_key_that_was_revoked(world: World) -> None:
    world.admit(BROKER, Role.ROLE_BROKER, signer("second broker"))
    world.revoke(key_id(signer(str(BROKER)).public_key), next(iter(world.keys)))
    world.keys[BROKER] = signer(str(BROKER))
    world.refuse(world.request(), DENY)
    assert "did not stand" in failures(findings_of(world))[0]


def test_a_refusal_signed_just_before_the_directory_moved_is_verified(world: World) -> None:
    request = world.request()
    signed = refusal(world, request)
    world.revoke(key_id(world.keys[BROKER].public_key), next(iter(world.keys)))
    log_entry(world, REFUSED, DENY.code, **refused_fields(world, request), refusal=signed)
    assert findings_of(world) == []


def test_a_request_revoked_meanwhile_is_unreleased_and_verified(world: World) -> None:
    request = world.request()
    response = world.respond(request)
    world.revoke(key_id(world.keys[APPLICATIONS].public_key), HOUSING)
    world.withhold(request, response, Code.CODE_KEY_REVOKED)
    assert findings_of(world) == []


def test_an_answer_whose_requester_nobody_knows_is_settled_and_verified(world: World) -> None:
    stranger = world.copy()
    stranger.keys[APPLICATIONS] = signer("stranger")
    request = stranger.request()
    answer = world.respond(request)
    code = Code.CODE_SIGNATURE_INVALID
    log_entry(world, UNRELEASED, code, request=request, response=answer, provider=str(REGISTRY))
    assert findings_of(world) == []
    log_entry(world, UNRELEASED, Code.CODE_INTERRUPTED, request=request, response=answer, provider=str(REGISTRY))
    assert "not its signer's" in failures(findings_of(world))[0]


def test_an_invalid_answer_is_unreleased_and_verified(world: World) -> None:
    request = world.request()
    world.withhold(request, world.respond(request, party=MARRIAGE), Code.CODE_RESPONSE_INVALID)
    assert findings_of(world) == []


def test_finds_an_interrupted_answer_that_was_never_the_providers(world: World) -> None:
    request = world.request()
    world.withhold(request, world.respond(request, party=MARRIAGE), Code.CODE_INTERRUPTED)
    assert "not fit for release" in failures(findings_of(world))[0]


def test_finds_a_refusal_by_a_key_that_has_run_out(world: World) -> None:
    world.admit(BROKER, Role.ROLE_BROKER, signer("second broker"), validity=(world.now - DAY, world.now + DAY))
    world.now += 2 * DAY
    world.refuse(world.request(), DENY)
    assert "is not valid at the entry's time" in failures(findings_of(world))[0]


def test_finds_a_refused_request_that_another_party_signed(world: World) -> None:
    request = world.request(party=MARRIAGE, requester=str(APPLICATIONS))
    signed = refusal(world, request)
    log_entry(world, REFUSED, DENY.code, **refused_fields(world, request), refusal=signed)
    assert failures(findings_of(world))[0].startswith(f"FAIL  entry 0 of {ACCESS}: request: signed by")


def test_finds_an_unreleased_request_that_another_party_signed(world: World) -> None:
    request = world.request(party=MARRIAGE, requester=str(APPLICATIONS))
    world.withhold(request, world.respond(request))
    assert "asked as exchange://city.example/housing/applications" in failures(findings_of(world))[0]


def test_finds_an_interrupted_answer_by_a_key_that_was_revoked(world: World) -> None:
    request = world.request()
    answer = world.respond(request)
    world.revoke(key_id(world.keys[REGISTRY].public_key), POPULATION)
    world.withhold(request, answer)
    assert "did not stand" in failures(findings_of(world))[0]


# Bodies.


def test_finds_ciphertext_in_a_log(world: World) -> None:
    request, response = ask(world)
    parts = {"request": request.encode(), "response": response.bare().encode()}
    world.access_log.bodies[0] = encode(AccessBody(**parts))
    assert "carries ciphertext, which no log holds" in failures(findings_of(world))[0]


@pytest.mark.parametrize("without", ["request", "response"])
def test_finds_a_release_whose_body_lacks_an_envelope(world: World, without: str) -> None:
    request, response = ask(world)
    parts = {"request": request.bare().encode(), "response": response.bare().encode()}
    world.access_log.bodies[0] = encode(AccessBody(**(parts | {without: b""})))
    assert f"the body lacks the {without} that the leaf names" in failures(findings_of(world))[0]


def test_finds_a_refusal_that_is_missing(world: World) -> None:
    request = world.request()
    refused, _ = world.refuse(request, DENY)
    world.access_log.bodies[0] = encode(AccessBody(request=request.bare().encode()))
    assert refused.digest
    assert "the body lacks the refusal that the leaf names" in failures(findings_of(world))[0]


@pytest.mark.parametrize(
    ("kind", "code", "parts"),
    [
        (REFUSED, DENY.code, ("request", "response", "refusal")),
        (REFUSED, DENY.code, ("request",)),
        (UNRELEASED, Code.CODE_INTERRUPTED, ("request",)),
        (UNRELEASED, Code.CODE_INTERRUPTED, ("request", "response", "refusal")),
        (UNRELEASED, Code.CODE_INTERRUPTED, ("response",)),
    ],
)
def test_finds_an_entry_that_names_what_its_kind_has_not(
    world: World, kind: AccessKind.ValueType, code: Code.ValueType, parts: tuple[str, ...]
) -> None:
    request = world.request()
    whole = {"request": request, "response": world.respond(request), "refusal": refusal(world, request)}
    fields = {"requester": str(APPLICATIONS), "provider": str(REGISTRY), "request_id": request_id_of(world, request)}
    log_entry(world, kind, code, **fields, **{name: whole[name] for name in parts})
    assert len(failures(findings_of(world))) == 1


# Ledgers.


def test_a_missing_ledger_number_is_a_warning(world: World) -> None:
    for number in (2, 3, 7):
        request = world.request()
        world.release(request, world.respond(request, ledger_number=number))
    findings = findings_of(world)
    said = "missing from the ledger of exchange://city.example/population/registry: answered, but never settled here"
    assert warnings(findings) == [f"answer 1 is {said}", f"answers 4 to 6 are {said}"]
    assert exit_code(findings) == 0


def test_a_ledger_number_that_was_given_twice_is_a_warning(world: World) -> None:
    for _ in range(2):
        request = world.request()
        world.release(request, world.respond(request, ledger_number=1))
    assert "to two answers" in warnings(findings_of(world))[0]


def test_numbers_may_come_in_any_order() -> None:
    numbers = Numbers(1)
    assert all(numbers.add(number) for number in (5, 1, 3, 2, 9))
    assert not numbers.add(3)
    assert list(numbers.gaps()) == [(4, 4), (6, 8)]
    assert numbers.add(4)
    assert list(numbers.gaps()) == [(6, 8)]


def test_where_a_ledger_begins_may_be_unknown() -> None:
    numbers = Numbers(None)
    numbers.add(50)
    numbers.add(52)
    assert list(numbers.gaps()) == [(51, 51)]


# The directory.


def test_names_a_directory_entry_with_another_body(busy: World) -> None:
    rows = rows_of(busy.directory_log)
    index = max(row.index for row in rows if row.body)
    rows[index] = replace(rows[index], body=rows[index].body + b"\0")
    found = failures(findings_of(busy, directory=rows))
    assert f"FAIL  entry {index} of city.example/directory: the body is not the one that was signed" in found
    assert any("NO_AGREEMENT" in text for text in found)


def test_names_a_directory_entry_without_its_body(busy: World) -> None:
    rows = [replace(row, body=b"") for row in rows_of(busy.directory_log)]
    assert sum("its body is missing" in text for text in failures(findings_of(busy, directory=rows))) == 3


def test_names_a_directory_entry_with_a_body_that_nobody_signed(busy: World) -> None:
    rows = rows_of(busy.directory_log)
    rows[0] = replace(rows[0], body=b"surplus")
    assert failures(findings_of(busy, directory=rows)) == [
        "FAIL  entry 0 of city.example/directory: it has a body that its leaf does not name"
    ]


def test_names_an_invalid_entry_of_the_directory(world: World) -> None:
    world.directory_log.append(world.directory_log.leaves[0], b"")
    found = failures(findings_of(world))
    assert found[0].startswith(f"FAIL  entry {world.directory_log.size - 1} of city.example/directory: ")


def test_folds_nothing_behind_a_gap_in_the_directory(busy: World) -> None:
    rows = rows_of(busy.directory_log)
    del rows[3]
    found = failures(findings_of(busy, directory=rows))
    assert "FAIL  entry 3 of city.example/directory: missing" in found
    assert sum("could be folded" in text for text in found) == 5


# Trees.


def nodes_of(log: MemoryLog) -> dict[int, bytes]:
    _, nodes = Frontier().extend([leaf_hash(leaf) for leaf in log.leaves])
    return {place_of(node.level, node.index): node.hash for node in nodes}


def whole(expected: Expected, log: MemoryLog) -> list[str]:
    tree = WholeTree(expected)
    found = [finding for index, leaf in enumerate(log.leaves) for finding in tree.add(index, leaf)]
    return failures([*found, *tree.finish()])


def test_places_count_the_complete_nodes_in_their_order(busy: World) -> None:
    nodes = nodes_of(busy.directory_log)
    assert list(nodes) == list(range(place_of(0, busy.directory_log.size)))


@pytest.mark.parametrize("node", [NodeId(0, 2), NodeId(1, 1), NodeId(2, 0)])
def test_names_an_altered_node(busy: World, node: NodeId) -> None:
    log = busy.access_log
    nodes = nodes_of(log) | {place_of(node.level, node.index): bytes(32)}
    expected = Expected(ACCESS, checkpoint_of(log), nodes=nodes.get)
    first, last = node.index << node.level, ((node.index + 1) << node.level) - 1
    found = whole(expected, log)
    assert any(f"the stored node over entr{'y' if first == last else 'ies'} {first}" in text for text in found)
    assert all("the leaves were not" in text for text in found)
    assert str(last) in found[0]


def test_names_an_altered_leaf_by_its_node_alone(busy: World) -> None:
    log = busy.access_log
    leaves = [*log.leaves[:3], log.leaves[3] + b"\0", *log.leaves[4:]]
    expected = Expected(ACCESS, checkpoint_of(log), nodes=nodes_of(log).get)
    assert whole(expected, rebuilt(log, leaves)) == [
        f"FAIL  {ACCESS}: its leaves do not make the root that the log signed at 5",
        f"FAIL  entry 3 of {ACCESS}: its leaf is not the one that the tree was built from",
    ]


def test_names_an_altered_leaf_by_the_mirror_alone(busy: World) -> None:
    log = busy.access_log
    other = rebuilt(log, [*log.leaves[:3], log.leaves[3] + b"\0", *log.leaves[4:]])
    known = dict(enumerate(leaf_hash(leaf) for leaf in log.leaves)).get
    expected = Expected(ACCESS, checkpoint_of(log), nodes=nodes_of(other).get, known=known)
    assert f"FAIL  entry 3 of {ACCESS}: its leaf is not the one that this home's mirror has" in whole(expected, other)
    forked = whole(replace(expected, checkpoint=checkpoint_of(other)), other)
    assert forked == [
        f"BROKEN  entry 3 of {ACCESS}: the log signed another entry here than the one that this home's mirror has"
    ]


def test_without_a_signature_of_its_own_a_copy_is_measured_by_what_was_seen(busy: World) -> None:
    log = busy.access_log
    other = rebuilt(log, [*log.leaves[:3], log.leaves[3] + b"\0", *log.leaves[4:]])
    found = whole(Expected(ACCESS, None, (checkpoint_of(log, 3), checkpoint_of(log))), other)
    assert found == [f"FAIL  {ACCESS}: its leaves do not make the root that the log had signed to this home at 5"]


def test_proves_a_part_of_a_log_by_its_nodes(busy: World) -> None:
    log = busy.access_log
    nodes = nodes_of(log)
    expected = Expected(ACCESS, checkpoint_of(log), nodes=nodes.get)
    part = ProvenLeaves(expected, 1)
    assert [finding for index in (1, 2, 3) for finding in part.add(index, log.leaves[index])] == []
    assert list(part.finish()) == []
    assert failures(list(ProvenLeaves(expected, 1).add(3, log.leaves[3]))) == [
        f"FAIL  {ACCESS}: entries 1 to 2: missing"
    ]
    assert prove(expected, 1, log.leaves[2])
    assert prove(replace(expected, nodes={}.get), 1, log.leaves[1])
    assert prove(replace(expected, checkpoint=None), 1, log.leaves[1])


def test_a_part_is_judged_under_the_directory_of_its_entries(busy: World) -> None:
    log = busy.access_log
    expected = Expected(ACCESS, checkpoint_of(log), nodes=nodes_of(log).get)
    directory = WholeTree(Expected("city.example/directory", checkpoint_of(busy.directory_log)))
    with Remembered() as remembered:
        trees = directory, ProvenLeaves(expected, 3)
        verification = Verification(trust_of(busy), *trees, remembered, from_start=False)
        assert list(verification.walk(rows_of(busy.directory_log), rows_of(log)[3:])) == []
        assert list(verification.finish()) == []


def read_time(row: LoggedEntry) -> int:
    return read_access_leaf(row.leaf).time


def bodies_without(log: MemoryLog, index: int) -> list[bytes]:
    return [*log.bodies[:index], *log.bodies[index + 1 :]]


def request_agreement(world: World) -> bytes:
    return next(iter(world.directory.terms.agreements))


def request_dataset(world: World) -> bytes:
    return next(iter(world.directory.terms.datasets))


def request_id_of(world: World, request: Envelope) -> bytes:
    return read_request(request).request_id
