"""`exchange use` and `exchange correction`, against an exchange in memory whose client is the real one."""

import json
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import exchange.cli.frame.times
from exchange.cli.frame import acting
from exchange.cli.main import app
from exchange.client import Session, use_file
from exchange.client.use_file import FILE, UseFile
from exchange.core.correction import Correction, Standing
from exchange.core.envelope import USE_REPORT, decode_envelope
from exchange.core.names import Party
from exchange.core.use_records import MAX_REPORT
from exchange.core.wire import decode
from exchange.v1.procedure_pb2 import Action
from exchange.v1.use_pb2 import UseReport
from tests.simulator import Simulator, make_home
from tests.world import (
    APPLICATIONS,
    AUDITOR,
    CIVIL_AFFAIRS,
    COORDINATOR,
    DAY,
    HOUSING,
    ID_NUMBER,
    POPULATION,
    PURPOSE,
    REGISTRY,
    YEAR,
    World,
)

PARTIES = (APPLICATIONS, HOUSING, POPULATION, REGISTRY, COORDINATOR, AUDITOR, CIVIL_AFFAIRS)


@pytest.fixture
def world() -> World:
    return World.standard()


@pytest.fixture(autouse=True)
def simulator(world: World, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    simulator = Simulator(world)
    monkeypatch.setattr(use_file, "SYNCHRONOUS", "OFF")
    monkeypatch.setattr(acting, "Session", lambda home: Session(home, simulator, simulator.clock))
    monkeypatch.setattr(exchange.cli.frame.times, "time", SimpleNamespace(time_ns=lambda: world.now * 1_000_000))
    return simulator


@pytest.fixture
def homes(tmp_path: Path, world: World) -> Path:
    for party in PARTIES:
        make_home(tmp_path / party.segments[-1], world, party)
    return tmp_path


def run(home: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*(str(item) for item in arguments), "--home", str(home)])


def done(home: Path, *arguments: object) -> Result:
    result = run(home, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def read(home: Path, *arguments: object) -> Any:
    return json.loads(done(home, *arguments, "--json").stdout)


def ask(homes: Path, case: str = "ZF-2027-0001") -> Result:
    return done(
        homes / "applications",
        *("request", "population/residents", "--key", ID_NUMBER, "--fields", "name,address"),
        *("--purpose", PURPOSE, "--case", case, "--officer", "officer-7"),
    )


def use(homes: Path, *arguments: object) -> Result:
    return run(homes / "applications", "use", *arguments)


# The ledger of use.


def test_what_was_asked_used_and_destroyed_is_reported(homes: Path, world: World) -> None:
    ask(homes)
    ask(homes, "ZF-2027-0002")
    told = done(
        homes / "applications",
        *("use", "record", "--case", "ZF-2027-0001", "--effect", "a flat was let", "--process", "compared by hand"),
        *("--place", "file room 2", "--by", "officer-9"),
    )
    assert told.stdout == "Recorded: record 3, about 1 answer.\n"
    done(homes / "applications", "use", "dispose", "--case", "ZF-2027-0001", "--how", "shredded", "--by", "officer-9")
    first, second = read(homes / "applications", "use", "report")
    assert first["dataset"] == "population/residents"
    assert (first["case"], first["purpose"], first["officer"], first["rows"]) == (
        *("ZF-2027-0001", PURPOSE, "officer-7"),
        1,
    )
    assert first["uses"] == [
        {"effect": "a flat was let", "process": "compared by hand", "place": "file room 2", "by": "officer-9"}
    ]
    assert first["destroyed"]["how"] == "shredded"
    assert (second["uses"], second["destroyed"]) == ([], None)
    shown = done(homes / "applications", "use", "report").stdout
    assert "a flat was let, processed: compared by hand, kept: file room 2" in shown
    assert ID_NUMBER not in shown
    lines = done(homes / "applications", "use", "report", "--csv").stdout.splitlines()
    assert lines[0].startswith("ANSWERED,CASE,DATASET")
    assert len(lines) == 3


def test_a_report_is_limited_to_a_month_an_agreement_a_dataset(homes: Path, world: World) -> None:
    ask(homes)
    home = homes / "applications"
    agreement = world.agreement.digest.hex()
    assert len(read(home, "use", "report", "--month", "2027-01")) == 1
    assert read(home, "use", "report", "--month", "2026-12") == []
    assert len(read(home, "use", "report", "--agreement", agreement, "--dataset", "population/residents")) == 1
    assert "not a month" in run(home, "use", "report", "--month", "January").stderr
    assert "Nothing came here" in done(home, "use", "report", "--month", "2027-02").stdout


def test_a_request_is_named_by_its_id(homes: Path) -> None:
    ask(homes)
    [line] = read(homes / "applications", "use", "report")
    done(
        homes / "applications",
        *("use", "record", "--request", line["request_id"], "--effect", "checked", "--by", "officer-7"),
    )
    [line] = read(homes / "applications", "use", "report")
    assert [item["effect"] for item in line["uses"]] == ["checked"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("record", "--effect", "x", "--by", "officer-7"), 2, "one of --case, --request"),
        (("record", "--case", "ZF-2027-0001", "--by", "officer-7"), 2, "one of --effect"),
        (("record", "--case", "ZF-9", "--effect", "x", "--by", "officer-7"), 1, "nothing that came here"),
        (("record", "--case", "ZF-2027-0001", "--effect", "x", "--by", "王芳"), 2, "--by: not in its form"),
        (("record", "--case", "no case", "--effect", "x", "--by", "officer-7"), 2, "--case: not in its form"),
        (("record", "--request", "7", "--effect", "x", "--by", "officer-7"), 2, "not a request's id"),
        (("record", "--request", str(uuid.UUID(int=7)), "--effect", "x", "--by", "o-7"), 1, "nothing that came here"),
        (("record", "--agreement", "7", "--effect", "x", "--by", "officer-7"), 2, "not an id"),
        (("record", "--agreement", "0" * 12, "--effect", "x", "--by", "officer-7"), 2, "0 agreements"),
        (("dispose", "--case", "ZF-2027-0001", "--how", " ", "--by", "officer-7"), 2, "nothing is said"),
        (("dispose", "--case", "ZF-2027-0001", "--how", "x", "--by", "o-7", "--when", "2030-01-01"), 2, "to come"),
        (("dispose", "--case", "ZF-2027-0001", "--how", "x", "--by", "o-7", "--when", "soon"), 2, "not a day"),
    ],
)
def test_a_slip_is_told_and_nothing_is_recorded(homes: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    ask(homes)
    result = use(homes, *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert UseFile(homes / "applications" / FILE).head().number == 1


def test_a_steward_keeps_no_ledger_of_use(homes: Path) -> None:
    for arguments in (("record", "--case", "ZF-1", "--effect", "x", "--by", "o-7"), ("report",), ("prune",)):
        result = run(homes / "housing", "use", *arguments)
        assert result.exit_code == 2
        assert "only a system keeps a ledger of use" in result.stderr


def test_what_is_due_is_listed_until_it_is_destroyed(homes: Path, world: World) -> None:
    ask(homes)
    ask(homes)
    assert "Nothing is to be destroyed" in use(homes, "due").stdout
    world.revoke(world.agreement.digest, POPULATION)
    [due] = read(homes / "applications", "use", "due")
    assert (due["case"], due["answers"], due["why"]) == ("ZF-2027-0001", 2, "the agreement has ended")
    assert "the agreement has ended" in use(homes, "due").stdout
    done(homes / "applications", "use", "dispose", "--purpose", PURPOSE, "--how", "wiped", "--by", "officer-7")
    assert read(homes / "applications", "use", "due") == []


def test_young_records_are_never_pruned_and_old_ones_leave_a_ledger_that_verifies(homes: Path, world: World) -> None:
    ask(homes)
    home = homes / "applications"
    world.now += 3 * YEAR - 2 * DAY
    assert read(home, "use", "prune")["pruned"] == 0
    assert "Every record is to be kept" in use(homes, "prune").stdout
    world.now += 5 * DAY
    done(home, "use", "record", "--case", "ZF-2027-0001", "--effect", "a flat was let", "--by", "officer-7")
    assert read(home, "use", "prune") == {"pruned": 1, "last_number": 1}
    assert [record.number for record in UseFile(home / FILE).records()] == [2]
    assert read(home, "use", "prune")["pruned"] == 0


# Inspection.


def signed(homes: Path, *arguments: object) -> Path:
    path = homes / "report.use"
    done(homes / "applications", "use", "report", "--sign", path, *arguments)
    return path


@pytest.mark.parametrize("home", ["population", "registry", "auditor", "applications"])
def test_who_sees_the_log_verifies_a_report_against_it(homes: Path, home: str) -> None:
    ask(homes)
    ask(homes)
    verified = read(homes / home, "use", "verify", signed(homes))
    assert verified == {
        "requester": str(APPLICATIONS),
        "answers": 2,
        "released": 2,
        "compared": True,
        "missing": [],
        "caveats": [],
    }


def test_a_coordinator_verifies_who_signed_it_and_says_that_no_more_was_checked(homes: Path) -> None:
    ask(homes)
    result = done(homes / "data-bureau", "use", "verify", signed(homes))
    assert "1 answer recorded" in result.stdout
    assert "! not compared with the access log" in result.stdout


def test_an_answer_that_a_report_leaves_out_is_named(homes: Path) -> None:
    ask(homes)
    ledger = homes / "applications" / FILE
    kept = ledger.read_bytes()
    ask(homes)
    # As if the second was never recorded.
    ledger.write_bytes(kept)
    result = run(homes / "population", "use", "verify", signed(homes))
    assert result.exit_code == 1
    assert "released, and not recorded" in result.stdout
    own = run(homes / "applications", "use", "verify", "--json")
    assert own.exit_code == 1
    assert json.loads(own.stdout)["missing"] == [{"log_index": 1, "detail": "released, and not recorded"}]


def test_this_homes_own_ledger_is_compared_with_the_log(homes: Path) -> None:
    ask(homes)
    assert "Every answer that was released is recorded." in use(homes, "verify").stdout


def test_a_report_about_another_agreement_need_not_have_the_answer(homes: Path, world: World) -> None:
    ask(homes)
    other = world.grant(world.apply_for(world.dataset), fields=["name"])
    path = signed(homes, "--agreement", other.digest.hex())
    assert decode(UseReport, decode_envelope(path.read_bytes(), USE_REPORT, MAX_REPORT).payload).records == []
    assert read(homes / "population", "use", "verify", path)["released"] == 0


def test_an_altered_report_is_refused(homes: Path) -> None:
    ask(homes)
    path = signed(homes)
    for data in (path.read_bytes().replace(b"ZF-2027-0001", b"ZF-2027-0002"), b"no report"):
        path.write_bytes(data)
        result = run(homes / "population", "use", "verify", path)
        assert result.exit_code == 1
        assert "the report does not hold" in result.stderr


def test_a_report_is_not_signed_where_it_cannot_be_written(homes: Path) -> None:
    ask(homes)
    assert use(homes, "report", "--sign", homes / "missing" / "report.use").exit_code == 3


# Corrections.


def filed(homes: Path, world: World) -> str:
    result = read(
        homes / "housing",
        *("correction", "file", world.agreement.digest.hex()[:12], "--fields", "address"),
        *("--case", "ZF-2027-0001", "--text", "the street was renamed"),
    )
    return str(result["id"])


def correction(world: World, id: str) -> Correction:
    return world.directory.terms.corrections[bytes.fromhex(id)]


def notified(world: World, id: str, *requests: bytes, recipient: Party = HOUSING) -> None:
    world.do(
        REGISTRY,
        Action.ACTION_NOTIFY,
        bytes.fromhex(id),
        about=world.dataset.object_id,
        fields=["address"],
        recipient=str(recipient),
        request_ids=requests,
    )


def test_a_correction_is_filed_and_answered_in_time(homes: Path, world: World) -> None:
    id = filed(homes, world)
    [listed] = read(homes / "population", "correction", "list", "--open")
    assert (listed["id"], listed["standing"], listed["fields"]) == (id, "filed", ["address"])
    assert (listed["case"], listed["clock"], listed["dataset"]) == ("ZF-2027-0001", "running", "population/residents")
    world.now += 2 * DAY
    answered = done(homes / "population", "correction", "answer", id[:12], "--corrected", "--text", "put right").stdout
    assert f"Corrected: correction {id[:12]} of population/residents is corrected." in answered
    assert "exchange-adapter notify" in answered
    assert correction(world, id).standing == Standing.CORRECTED
    assert "No correction waits" in done(homes / "population", "correction", "list", "--open").stdout
    shown = done(homes / "housing", "correction", "show", id).stdout
    assert "put right" in shown
    assert "nobody yet" in shown


def test_what_is_not_answered_after_ten_working_days_is_overdue(homes: Path, world: World) -> None:
    filed(homes, world)
    world.now += 30 * DAY
    [listed] = read(homes / "population", "correction", "list")
    assert listed["clock"] == "overdue"
    assert "overdue" in done(homes / "population", "correction", "list").stdout


def test_a_rejection_says_why_and_is_the_end(homes: Path, world: World) -> None:
    id = filed(homes, world)
    result = run(homes / "population", "correction", "answer", id, "--rejected")
    assert result.exit_code == 2
    done(homes / "population", "correction", "answer", id, "--rejected", "--text", "the register is right")
    again = run(homes / "population", "correction", "answer", id, "--corrected")
    assert again.exit_code == 1
    assert "the correction is rejected" in again.stderr


@pytest.mark.parametrize(
    ("home", "arguments", "code", "words"),
    [
        ("population", ("answer", "ffffffff", "--corrected"), 2, "no correction that is known here begins"),
        ("population", ("answer", "f", "--corrected"), 2, "not a correction's id"),
        ("population", ("answer", "ffffffff"), 2, "one of --corrected and --rejected"),
        ("registry", ("answer", "ffffffff", "--corrected"), 2, "only a department's steward"),
        ("applications", ("acknowledge", "ID"), 1, "no notice of this correction waits"),
        ("housing", ("answer", "ID", "--corrected"), 1, "may not do this"),
    ],
)
def test_what_cannot_be_done_is_told(
    homes: Path, world: World, home: str, arguments: tuple[str, ...], code: int, words: str
) -> None:
    id = filed(homes, world)
    result = run(homes / home, "correction", *(id if item == "ID" else item for item in arguments))
    assert result.exit_code == code
    assert words in result.stderr


def test_a_field_that_the_dataset_lacks_is_a_slip(homes: Path, world: World) -> None:
    agreement = world.agreement.digest.hex()
    about = ("--case", "ZF-1", "--text", "wrong")
    result = run(homes / "housing", "correction", "file", agreement, "--fields", "adress", *about)
    assert result.exit_code == 2
    about = ("--case", "no case", "--text", "wrong")
    assert run(homes / "housing", "correction", "file", agreement, "--fields", "address", *about).exit_code == 2


def test_a_recipient_is_told_at_its_next_contact_and_acknowledges(homes: Path, world: World) -> None:
    ask(homes)
    [line] = read(homes / "applications", "use", "report")
    id = filed(homes, world)
    done(homes / "population", "correction", "answer", id, "--corrected")
    assert "concerns records" not in ask(homes, "ZF-2027-0002").stderr
    notified(world, id, uuid.UUID(line["request_id"]).bytes)
    assert "! 1 correction concerns records that came here" in ask(homes, "ZF-2027-0003").stderr
    [notice] = read(homes / "applications", "use", "corrections")
    assert notice["correction"] == id
    assert (notice["cases"], notice["requests"]) == (["ZF-2027-0001"], [line["request_id"]])
    assert "ZF-2027-0001" in use(homes, "corrections").stdout
    assert len(read(homes / "housing", "use", "corrections")) == 1
    assert "NOT acknowledged yet" in done(homes / "population", "correction", "show", id).stdout

    done(homes / "applications", "correction", "acknowledge", id[:8], "--text", "asked again")
    [told] = read(homes / "population", "correction", "show", id)["notices"]
    assert told["acknowledged_by"] == str(APPLICATIONS)
    assert "1 request: acknowledged" in done(homes / "population", "correction", "show", id).stdout
    assert read(homes / "applications", "use", "corrections") == []
    assert "concerns records" not in ask(homes, "ZF-2027-0004").stderr
    assert run(homes / "applications", "correction", "acknowledge", id).exit_code == 1


def test_a_notice_about_requests_of_another_system_is_for_the_steward(homes: Path, world: World) -> None:
    ask(homes)
    id = filed(homes, world)
    done(homes / "population", "correction", "answer", id, "--corrected")
    notified(world, id, bytes(16))
    assert read(homes / "applications", "use", "corrections") == []
    assert "1 request" in done(homes / "housing", "use", "corrections").stdout
