"""Records of use: what one says, what it concerns, what is due, what a report leaves out."""

import dataclasses
from typing import Any

import pytest

from exchange.core.envelope import Envelope
from exchange.core.errors import CoreError
from exchange.core.use_records import (
    START,
    Selection,
    UseRecordError,
    chained,
    check_record,
    concerns,
    dues,
    kept_answers,
    read_record,
    report_draft,
    selected,
    shortcomings,
    verify_report,
)
from exchange.core.wire import encode
from exchange.v1.use_pb2 import UseKind, UseRecord, UseReport
from tests.memory import fixed
from tests.world import APPLICATIONS, DAY, HOUSING, POPULATION, PURPOSE, YEAR, World

ANSWERED, USED, DISPOSED = UseKind.USE_KIND_ANSWERED, UseKind.USE_KIND_USED, UseKind.USE_KIND_DISPOSED


def answer(world: World, number: int = 1, **changes: Any) -> UseRecord:
    said: dict[str, Any] = {
        "format": 1,
        "number": number,
        "time": world.now,
        "kind": ANSWERED,
        "request_id": fixed(f"request {number}", 16),
        "request_digest": fixed(f"digest {number}", 32),
        "dataset": world.dataset.object_id,
        "agreement": world.agreement.digest if "agreement" not in changes else b"",
        "purpose": PURPOSE,
        "case_id": "ZF-1",
        "officer": "officer-7",
        "fields": ["name"],
        "rows": 1,
        "log_index": number + 10,
    }
    return UseRecord(**(said | changes))


def disposal(number: int, **about: Any) -> UseRecord:
    words = {"manner": "shredded", "disposed_at": 1_800_000_000_000, "officer": "officer-7"}
    return UseRecord(format=1, number=number, time=1_800_000_000_000, kind=DISPOSED, **(words | about))


def use(number: int, **about: Any) -> UseRecord:
    words = {"effect": "a flat was let", "officer": "officer-7"}
    return UseRecord(format=1, number=number, time=1_800_000_000_000, kind=USED, **(words | about))


@pytest.fixture
def world() -> World:
    return World.standard()


def test_each_kind_of_record_is_read_as_it_was_written(world: World) -> None:
    for record in (answer(world), use(2, case_id="ZF-1"), disposal(3, purpose=PURPOSE)):
        assert read_record(encode(record)) == record


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"kind": USED}, "unknown form"),
        ({"number": 0}, "unknown form"),
        ({"effect": "x"}, "unknown form"),
        ({"request_id": b"short"}, "impossible length"),
        ({"agreement": b"short"}, "impossible length"),
        ({"case_id": "no case"}, "not in its form"),
        ({"officer": "王芳"}, "pseudonym"),
        ({"officer": ""}, "pseudonym"),
        ({"fields": ["No Field"]}, "names its request and its fields"),
        ({"request_digest": b""}, "names its request and its fields"),
        ({"time": 1 << 60}, "unknown form"),
    ],
)
def test_an_answer_that_says_something_else_is_no_record(world: World, record: dict[str, Any], reason: str) -> None:
    with pytest.raises(UseRecordError, match=reason):
        check_record(answer(world, **record))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (use(1), "names the case"),
        (use(1, case_id="ZF-1", effect=""), "said in words"),
        (use(1, case_id="ZF-1", effect="x" * 2001), "2,000"),
        (use(1, case_id="ZF-1", rows=1), "unknown form"),
        (disposal(1, case_id="ZF-1", manner=""), "how and when"),
        (disposal(1, case_id="ZF-1", disposed_at=0), "how and when"),
    ],
)
def test_a_use_or_a_disposal_says_what_and_about_what(record: UseRecord, reason: str) -> None:
    with pytest.raises(UseRecordError, match=reason):
        check_record(record)


def test_a_record_concerns_what_was_handed_over_before_it_and_all_that_it_names(world: World) -> None:
    first = answer(world, 5)
    assert concerns(disposal(6, case_id="ZF-1"), first)
    assert not concerns(disposal(4, case_id="ZF-1"), first)
    assert not concerns(disposal(6, case_id="ZF-1", purpose="other.purpose"), first)
    assert concerns(disposal(6, agreement=world.agreement.digest, purpose=PURPOSE), first)
    later = answer(world, 7)
    assert kept_answers([first, disposal(6, case_id="ZF-1"), later]) == [later]


def test_a_selection_takes_its_answers_and_what_concerns_them(world: World) -> None:
    mine, other = answer(world, 1), answer(world, 2, agreement=fixed("other", 32), case_id="ZF-2")
    about_mine, about_other = use(3, case_id="ZF-1"), use(4, case_id="ZF-2")
    records = [mine, other, about_mine, about_other]
    assert selected(records, Selection(agreement=world.agreement.digest)) == [mine, about_mine]
    assert selected(records, Selection()) == records
    assert selected(records, Selection(since=world.now + 1)) == []
    assert selected(records, Selection(dataset=fixed("other", 16))) == []


# What is due.


def ended(world: World) -> None:
    world.revoke(world.agreement.digest, POPULATION)


def unregistered(world: World) -> None:
    world.revoke(
        world.directory.state.purposes[PURPOSE],
        world.directory.state.versions[world.directory.state.purposes[PURPOSE]].owner,
    )


@pytest.mark.parametrize(
    ("end", "reason"), [(ended, "the agreement has ended"), (unregistered, "the purpose is no longer registered")]
)
def test_data_is_due_once_its_purpose_is_met(world: World, end: Any, reason: str) -> None:
    record = answer(world)
    assert dues(world.directory, [record], world.now) == []
    end(world)
    [due] = dues(world.directory, [record], world.now)
    assert (due.answers, due.reason) == ((record,), reason)
    assert dues(world.directory, [record, disposal(2, case_id="ZF-1")], world.now) == []


def test_data_is_due_after_the_term_and_after_the_days_that_it_may_be_kept() -> None:
    world = World.founded()
    world.register(PURPOSE)
    world.grant(world.apply_for(world.publish()), retention_days=30)
    record = answer(world)
    assert dues(world.directory, [record], world.now + 30 * DAY) == []
    [due] = dues(world.directory, [record], world.now + 30 * DAY + 1)
    assert due.reason == "30 days are over for which it may be kept"
    [due] = dues(world.directory, [record], world.now + 2 * YEAR)
    assert due.reason == "the agreement's term is over"


def test_answers_of_one_case_are_due_together(world: World) -> None:
    records = [answer(world, 1), answer(world, 2), answer(world, 3, case_id="ZF-3")]
    ended(world)
    found = dues(world.directory, records, world.now)
    assert [[item.number for item in due.answers] for due in found] == [[1, 2], [3]]


def test_what_is_not_known_here_is_not_said_to_be_over(world: World) -> None:
    assert dues(world.directory, [answer(world, agreement=fixed("unknown", 32))], world.now) == []


# Reports.


def report(world: World, *records: UseRecord, **changes: Any) -> UseReport:
    said: dict[str, Any] = {
        "format": 1,
        "requester": str(APPLICATIONS),
        "made_at": world.now,
        "agreement": world.agreement.digest,
        "first_number": 1,
        "last_number": max((record.number for record in records), default=0),
        "last_chain": bytes(32) if records else b"",
        "records": [encode(record) for record in records],
    }
    return UseReport(**(said | changes))


def signed(world: World, said: UseReport, party: Any = APPLICATIONS) -> Envelope:
    return world.sign(report_draft(said), party)


def test_a_signed_report_verifies(world: World) -> None:
    records = (answer(world), use(2, case_id="ZF-1"))
    key, said, found = verify_report(world.directory, signed(world, report(world, *records)))
    assert (key.party, found) == (APPLICATIONS, records)
    assert said.agreement == world.agreement.digest
    empty = report(world)
    assert verify_report(world.directory, signed(world, empty))[2] == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"requester": str(HOUSING)}, "which is not the system"),
        ({"last_chain": b""}, "impossible length"),
        ({"last_number": 0, "last_chain": b""}, "not those of the ledger"),
        ({"first_number": 2}, "not those of the ledger"),
        ({"agreement": fixed("other", 32)}, "beyond what it is limited to"),
        ({"since": 1_900_000_000_000}, "beyond what it is limited to"),
        ({"made_at": 1 << 60}, "out of range"),
        ({"records": [b"x"]}, "cannot be parsed"),
    ],
)
def test_a_report_that_contradicts_itself_is_refused(world: World, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CoreError, match=reason):
        verify_report(world.directory, signed(world, report(world, answer(world), **changes)))


def test_records_out_of_order_or_twice_are_refused(world: World) -> None:
    for records in ((answer(world, 2), answer(world, 1)), (answer(world), answer(world))):
        with pytest.raises(CoreError, match="not those of the ledger"):
            verify_report(world.directory, signed(world, report(world, *records)))


def test_a_report_is_signed_by_the_system_and_by_nobody_else(world: World) -> None:
    said = report(world, answer(world), requester=str(HOUSING))
    with pytest.raises(CoreError, match="is not the system"):
        verify_report(world.directory, signed(world, said, HOUSING))
    whole = signed(world, report(world, answer(world)))
    altered = dataclasses.replace(whole, payload=whole.payload.replace(b"ZF-1", b"ZF-2"))
    with pytest.raises(CoreError):
        verify_report(world.directory, altered)
    request = world.request()
    with pytest.raises(CoreError, match="not a report of use"):
        verify_report(world.directory, request)


def test_every_released_answer_is_in_a_report_or_named(world: World) -> None:
    records = [answer(world, 1), answer(world, 2), use(3, case_id="ZF-1")]
    log = {record.log_index: record.request_digest for record in records[:2]}
    assert shortcomings(records, log, log, is_whole=True) == []
    [left_out] = shortcomings(records[1:], log, log, is_whole=True)
    assert (left_out.index, left_out.detail) == (11, "released, and not recorded")
    assert shortcomings(records[1:], log, [12], is_whole=True) == []
    [other] = shortcomings(records, log | {11: fixed("other", 32)}, log, is_whole=True)
    assert "another request" in other.detail
    later = {12: log[12], 20: fixed("later", 32)}
    assert shortcomings(records, later, [], is_whole=False) == []
    [more] = shortcomings(records, later, [], is_whole=True)
    assert (more.index, "does not have" in more.detail) == (11, True)


def test_an_answer_that_came_after_the_log_was_read_is_not_wrong(world: World) -> None:
    records = [answer(world, 1), answer(world, 2)]
    assert shortcomings(records, {11: records[0].request_digest}, [11], is_whole=True) == []


def test_the_chain_depends_on_every_record_and_their_order() -> None:
    assert chained(chained(START, b"a"), b"b") != chained(chained(START, b"b"), b"a")
