"""The commands by which a case moves, against an exchange in memory."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import Result

import exchange.cli.frame.acting
import exchange.cli.frame.times
from exchange.client.uses import Use
from exchange.core.entries import ObjectVersion
from exchange.core.procedure import Stage
from exchange.core.terms import DatasetTerms
from exchange.home import Home
from exchange.rules.reading import rules_digest
from exchange.v1.catalogue_pb2 import Sharing, SharingClass
from exchange.v1.procedure_pb2 import Action
from tests.component.cli.test_exchange_directory import FakeSession, run
from tests.world import (
    APPLICATIONS,
    COORDINATOR,
    DAY,
    HOUSING,
    HOUSING_HEAD,
    POPULATION,
    POPULATION_HEAD,
    PURPOSE,
    REGISTRY,
    World,
)

PARTIES = {
    "bureau": (COORDINATOR, "coordinator"),
    "population": (POPULATION, "department"),
    "housing": (HOUSING, "department"),
    "registry": (REGISTRY, "system"),
    "applications": (APPLICATIONS, "system"),
    "population-head": (POPULATION_HEAD, "head"),
    "housing-head": (HOUSING_HEAD, "head"),
}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World.founded()
    world.register(PURPOSE)
    world.admit_heads()
    world.publish(sharing=Sharing(sharing_class=SharingClass.SHARING_CLASS_UNCONDITIONAL))
    monkeypatch.setattr(exchange.cli.frame.acting, "Session", type("WorldSession", (FakeSession,), {"world": world}))
    monkeypatch.setattr(exchange.cli.frame.times, "time", SimpleNamespace(time_ns=lambda: world.now * 1_000_000))
    return world


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    for name, (party, role) in PARTIES.items():
        Home.create(tmp_path / name, party, role)
    return tmp_path


def done(home: Path, *arguments: object) -> Result:
    result = run(home, *arguments)
    assert result.exit_code == 0, result.stderr
    return result


def applied(homes: Path, *more: str) -> str:
    """An application, by the command; its id."""
    result = done(
        homes / "housing",
        *("agreement", "apply", "--dataset", "population/residents", "--grantee", APPLICATIONS),
        *("--operations", "lookup", "--fields", "name,address", "--purposes", PURPOSE),
        *("--legal-basis", "Act", "--scenario", "queue", "--until", "2027-12-31", "--json", *more),
    )
    return str(json.loads(result.stdout)["id"])


def stage(world: World, id: str) -> Stage:
    return world.case(world.directory.state.versions[bytes.fromhex(id)].object_id).stage


# Rules and heads.


def test_rules_are_adopted_replaced_and_shown(world: World, homes: Path) -> None:
    assert "No rules were adopted" in done(homes / "housing", "rules", "show").stdout
    adopted = done(homes / "bureau", "rules", "adopt", "cn-national").stdout
    assert "Heads of office are not asked to consent" in adopted
    done(homes / "bureau", "rules", "adopt", "cn-shanxi", "--consent", "--review")
    shown = json.loads(done(homes / "housing", "rules", "show", "--json").stdout)
    assert (shown["jurisdiction"], shown["review"], shown["consent"]) == ("cn-shanxi", True, True)
    assert shown["rules_sha256"] == rules_digest("cn-shanxi").hex()
    assert "of heads, to applications and answers" in done(homes / "housing", "rules", "show").stdout


def test_only_the_coordinator_adopts_rules_and_only_those_that_are_there(world: World, homes: Path) -> None:
    assert run(homes / "housing", "rules", "adopt", "cn-national").exit_code == 2
    missing = run(homes / "bureau", "rules", "adopt", "atlantis")
    assert missing.exit_code == 2
    assert "there are no rules 'atlantis'" in missing.stderr


def test_heads_are_listed_and_removed(world: World, homes: Path) -> None:
    assert f"{HOUSING_HEAD}  valid" in done(homes / "housing", "head", "list").stdout
    assert str(POPULATION_HEAD) not in done(homes / "housing", "head", "list").stdout
    both = json.loads(done(homes / "housing", "head", "list", "--all", "--json").stdout)
    assert {item["party"] for item in both} == {str(HOUSING_HEAD), str(POPULATION_HEAD)}
    done(homes / "housing", "head", "remove", HOUSING_HEAD, "--reason", "retired")
    assert "removed" in done(homes / "housing", "head", "list").stdout
    again = run(homes / "housing", "head", "remove", HOUSING_HEAD, "--reason", "retired")
    assert "is no head of" in again.stderr
    other = run(homes / "housing", "head", "remove", POPULATION_HEAD, "--reason", "no")
    assert "is no head of" in other.stderr


def test_the_request_of_a_system_does_not_make_a_head(world: World, homes: Path) -> None:
    done(homes / "new", "key", "new", "exchange://city.example/housing/clerk")
    result = run(homes / "housing", "head", "add", homes / "new" / "request.json", "--unchecked")
    assert result.exit_code == 2
    assert "the request is of a system, not of a head" in result.stderr
    done(homes / "chief", "key", "new", "exchange://city.example/housing/chief", "--role", "head")
    result = run(homes / "housing", "system", "add", homes / "chief" / "request.json", "--unchecked")
    assert "the request is of a head, not of a system" in result.stderr


# From application to agreement.


def test_an_application_goes_all_the_way_with_both_consents(world: World, homes: Path) -> None:
    done(homes / "bureau", "rules", "adopt", "cn-national", "--consent")
    id = applied(homes)
    early = run(homes / "housing", "agreement", "submit", id)
    assert early.exit_code == 1
    assert "the head of the applicant's office consents to this version first" in early.stderr
    assert "hint: possible are: " in early.stderr
    assert "Consented: entry" in done(homes / "housing-head", "agreement", "consent", id).stdout
    submitted = done(homes / "housing", "agreement", "submit", id).stdout
    assert "it waits for population's steward to answer (due 2027-01-18, 1 working day left" in submitted
    draft = homes / "answer.json"
    unconsented = run(homes / "population", "agreement", "sign", id)
    assert "the head of the owner's office consents to exactly this answer first" in unconsented.stderr
    assert "hint: write it down with --draft FILE" in unconsented.stderr
    done(homes / "population", "agreement", "sign", id, "--draft", draft)
    assert "Consented to the answer" in done(homes / "population-head", "agreement", "consent", draft).stdout
    done(homes / "population", "agreement", "answer", draft)
    assert stage(world, id) == Stage.AGREED
    done(homes / "registry", "agreement", "supply", id, "--text", "the adapter answers")
    assert stage(world, id) == Stage.SUPPLIED
    done(homes / "housing", "agreement", "rate", id, "--rating", "4", "--text", "quick")
    story = done(homes / "housing", "agreement", "show", id).stdout
    for line in ("applied", "consented to it", "submitted it", "consented to the answer", "agreed", "4 of 5"):
        assert line in story
    assert "answer an application for unconditional data: done 2027-01-15, in time" in story


def test_a_case_is_told_to_programs(world: World, homes: Path) -> None:
    id = applied(homes)
    done(homes / "population", "agreement", "return", id, "--missing", "the decision", "--missing", "a stamp")
    case = json.loads(done(homes / "housing", "agreement", "show", id, "--json").stdout)["case"]
    assert (case["state"], case["missing"]) == ("returned", ["the decision", "a stamp"])
    assert [item["act"] for item in case["history"]] == ["apply", "return"]
    assert case["waits_for"][0]["who"] == ["housing's steward"]
    assert case["clocks"][0]["state"] == "paused"


def test_a_refusal_is_consented_to_in_its_file(world: World, homes: Path) -> None:
    done(homes / "bureau", "rules", "adopt", "cn-national", "--consent")
    id = applied(homes)
    done(homes / "housing-head", "agreement", "consent", id)
    done(homes / "housing", "agreement", "submit", id)
    draft = homes / "refusal.json"
    assert (
        "Next: the head of the office runs"
        in done(homes / "population", "agreement", "refuse", id, "--reason", "no basis", "--draft", draft).stdout
    )
    done(homes / "population-head", "agreement", "consent", draft)
    published = json.loads(done(homes / "population", "agreement", "answer", draft, "--json").stdout)
    assert published["case"]["state"] == "refused"
    again = run(homes / "population", "agreement", "refuse", id, "--reason", "x", "--draft", draft)
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}", "is not an answer"),
        ("not json", "cannot be read as an answer"),
        ('{"format": "exchange.v1/answer", "payload": "AA==", "body": "AA=="}', "cannot be read as an answer"),
        ('{"format": "exchange.v1/answer", "payload": 1, "body": 2}', "cannot be read as an answer"),
    ],
)
def test_a_file_that_is_no_answer_is_refused(world: World, homes: Path, text: str, complaint: str) -> None:
    path = homes / "answer.json"
    path.write_text(text)
    for home, command in (("population-head", "consent"), ("population", "answer")):
        result = run(homes / home, "agreement", command, path)
        assert result.exit_code == 1
        assert complaint in result.stderr


def test_an_altered_answer_is_refused(world: World, homes: Path) -> None:
    id = applied(homes)
    path = homes / "answer.json"
    done(homes / "population", "agreement", "sign", id, "--draft", path)
    values = json.loads(path.read_text())
    values["body"] = "A" + values["body"][1:] if values["body"][0] != "A" else "B" + values["body"][1:]
    path.write_text(json.dumps(values))
    assert "do not belong together" in run(homes / "population-head", "agreement", "consent", path).stderr


def test_another_departments_answer_is_neither_consented_to_nor_published(world: World, homes: Path) -> None:
    path = homes / "answer.json"
    done(homes / "population", "agreement", "sign", applied(homes), "--draft", path)
    assert "the answer is" in run(homes / "housing-head", "agreement", "consent", path).stderr
    assert "the answer is" in run(homes / "housing", "agreement", "answer", path).stderr


@pytest.mark.parametrize(
    ("home", "command", "complaint"),
    [
        ("housing", ("consent", "ID"), "only the head of a sharing office consents"),
        ("housing-head", ("submit", "ID"), "only a department's steward submits"),
        ("registry", ("return", "ID", "--missing", "x"), "only a department's steward returns"),
        ("registry", ("refuse", "ID", "--reason", "x"), "only a department's steward refuses"),
        ("population", ("extend", "ID", "--reason", "x"), "only a coordinator extends"),
        ("applications", ("rate", "ID", "--rating", "3"), "only a department's steward rates"),
        ("applications", ("withdraw", "ID"), "only a department's steward withdraws"),
    ],
)
def test_a_command_of_somebody_else_is_wrong_usage(
    world: World, homes: Path, home: str, command: tuple[str, ...], complaint: str
) -> None:
    id = applied(homes)
    result = run(homes / home, "agreement", *(id if item == "ID" else item for item in command))
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_step_in_a_wrong_state_says_what_can_be_done_and_by_whom(world: World, homes: Path) -> None:
    id = applied(homes)
    done(homes / "housing", "agreement", "withdraw", id)
    size = world.directory.size
    result = run(homes / "population", "agreement", "refuse", id, "--reason", "no")
    assert result.exit_code == 1
    assert "error: the case is withdrawn, so nobody can refuse now" in result.stderr
    assert "hint: possible are: apply (the applicant's steward)" in result.stderr
    assert world.directory.size == size


def test_the_coordinator_extends_what_can_be_extended(world: World, homes: Path) -> None:
    unconditional = applied(homes)
    result = run(homes / "bureau", "agreement", "extend", unconditional, "--reason", "holidays")
    assert result.exit_code == 2
    assert "application.answer.unconditional cannot be extended" in result.stderr
    dataset = world.publish("register")
    application = world.apply_for(dataset)
    id = application.version.digest.hex()
    extended = done(homes / "bureau", "agreement", "extend", id, "--reason", "two registers").stdout
    assert "20 working days left" in extended


def test_either_side_ends_an_agreement(world: World, homes: Path) -> None:
    id = applied(homes)
    done(homes / "population", "agreement", "sign", id)
    assert "Ended: entry" in done(homes / "housing", "agreement", "end", id, "--reason", "the purpose is met").stdout
    states = json.loads(done(homes / "housing", "agreement", "list", "--json").stdout)
    assert {item["kind"]: item["state"] for item in states} == {"application": "ended", "agreement": "ended"}


def test_a_dispute_is_opened_escalated_and_settled(world: World, homes: Path) -> None:
    id = applied(homes)
    done(homes / "population", "agreement", "refuse", id, "--reason", "no basis")
    none = run(homes / "housing", "agreement", "dispute", "escalate", id, "--text", "x")
    assert "no dispute is open: the case is refused" in none.stderr
    opened = done(homes / "housing", "agreement", "dispute", "open", id, "--text", "article 12").stdout
    assert "waits for housing's steward or population's steward to settle the dispute" in opened
    done(homes / "housing", "agreement", "dispute", "escalate", id, "--text", "we differ")
    wrong = run(homes / "bureau", "agreement", "dispute", "settle", id, "--outcome", "maybe", "--text", "x")
    assert (wrong.exit_code, "known are continue, amend, end, agree" in wrong.stderr) == (2, True)
    settled = done(homes / "bureau", "agreement", "dispute", "settle", id, "--outcome", "agree", "--text", "it holds")
    assert "is settled; it waits for population's steward to answer" in settled.stdout
    done(homes / "population", "agreement", "sign", id)
    assert stage(world, id) == Stage.AGREED


# Standing approvals.


def approved(homes: Path, *more: object) -> dict[str, object]:
    result = done(
        homes / "population",
        *("agreement", "approve-standing", "--dataset", "population/residents", "--purposes", PURPOSE),
        *("--days", "400", "--until", "2028-12-31", "--json", *more),
    )
    return dict(json.loads(result.stdout))


def test_a_standing_approval_answers_at_once_and_is_ended_for_one(world: World, homes: Path) -> None:
    approval = str(approved(homes)["id"])
    id = applied(homes, "--standing", approval[:12])
    assert stage(world, id) == Stage.AGREED
    shown = json.loads(done(homes / "housing", "agreement", "show", id, "--json").stdout)
    assert (shown["kind"], shown["state"]) == ("agreement", "in force")
    done(homes / "population", "agreement", "revoke", id, "--reason", "misused")
    assert stage(world, id) == Stage.ENDED


def test_a_standing_approval_waits_for_its_head_too(world: World, homes: Path) -> None:
    done(homes / "bureau", "rules", "adopt", "cn-national", "--consent")
    draft = homes / "approval.json"
    approved(homes, "--draft", draft)
    early = run(homes / "population", "agreement", "answer", draft)
    assert "consents to exactly this standing approval first" in early.stderr
    done(homes / "population-head", "agreement", "consent", draft)
    done(homes / "population", "agreement", "answer", draft)
    assert len(world.directory.terms.approvals) == 1
    [approval] = world.directory.terms.approvals
    id = applied(homes, "--standing", approval.hex()[:12])
    done(homes / "housing-head", "agreement", "consent", id)
    done(homes / "housing", "agreement", "submit", id)
    [agreement] = [terms.digest.hex() for terms in world.directory.terms.agreements.values()]
    assert agreement != id
    held_up_and_resumed(world, homes, agreement, id)


def test_what_a_standing_approval_gave_is_suspended_by_its_owner_and_resumed(world: World, homes: Path) -> None:
    id = applied(homes, "--standing", str(approved(homes)["id"])[:12])
    refused = run(homes / "housing", "suspend", id[:12], "--reason", "under inquiry")
    assert (refused.exit_code, "cannot suspend what is not its own" in refused.stderr) == (1, True)
    held_up_and_resumed(world, homes, id, id)


def held_up_and_resumed(world: World, homes: Path, agreement: str, application: str) -> None:
    said = done(homes / "population", "suspend", agreement[:12], "--reason", "under inquiry").stdout
    assert said.startswith(f"Suspended agreement {agreement[:12]} until it is lifted.")
    assert world.directory.is_suspended(bytes.fromhex(agreement), world.now)
    [listed] = json.loads(done(homes / "housing", "suspensions", "--json").stdout)
    assert listed["suspended"] == f"agreement {agreement[:12]}"
    shown = json.loads(done(homes / "housing", "agreement", "show", application, "--json").stdout)
    assert shown["case"]["state"] == "suspended"
    done(homes / "population", "resume", agreement[:12], "--reason", "put right")
    assert not world.directory.is_suspended(bytes.fromhex(agreement), world.now)
    assert done(homes / "housing", "suspensions").stdout == "Nothing is suspended.\n"


def test_an_unknown_standing_approval_is_wrong_usage(world: World, homes: Path) -> None:
    result = run(
        homes / "housing",
        *("agreement", "apply", "--dataset", "population/residents", "--grantee", APPLICATIONS),
        *("--operations", "lookup", "--fields", "name", "--purposes", PURPOSE, "--legal-basis", "Act"),
        *("--scenario", "queue", "--until", "2027-12-31", "--standing", "abcd"),
    )
    assert result.exit_code == 2
    assert "no standing approvals begin with 'abcd'" in result.stderr


# What is due.


def rows(result: Result) -> list[list[str]]:
    return list(csv.reader(io.StringIO(result.stdout)))


@pytest.fixture
def due(world: World, homes: Path) -> dict[str, str]:
    """Four cases: one late, one that has time, one that was returned, one that is closed."""
    late = applied(homes)
    dataset = world.publish("register")
    world.now += 6 * DAY
    has_time = world.apply_for(dataset).version.digest.hex()
    returned = world.apply_for(dataset)
    world.do(POPULATION, Action.ACTION_RETURN, returned.version.object_id, missing=["a paper"])
    closed = world.apply_for(dataset)
    world.do(HOUSING, Action.ACTION_WITHDRAW, closed.version.object_id)
    return {"late": late, "has time": has_time, "returned": returned.version.digest.hex()}


def test_the_queue_has_the_most_urgent_first(world: World, homes: Path, due: dict[str, str]) -> None:
    found = json.loads(done(homes / "bureau", "agreement", "queue", "--json").stdout)
    assert [item["application"] for item in found] == [due["late"], due["has time"], due["returned"]]
    assert [item["overdue"] for item in found] == [True, False, False]
    assert found[0]["escalated_to"] == "coordinator"
    assert [item["departments"] for item in found] == [["population"], ["population"], ["housing"]]


def test_the_queue_is_of_one_department_or_of_what_is_late(world: World, homes: Path, due: dict[str, str]) -> None:
    housing = json.loads(done(homes / "bureau", "agreement", "queue", "--department", "housing", "--json").stdout)
    assert [item["application"] for item in housing] == [due["returned"]]
    late = rows(done(homes / "bureau", "agreement", "queue", "--overdue", "--csv"))
    assert late[0] == ["DUE", "CLOCK", "GOES TO", "WAITS FOR", "TO", "DATASET", "APPLICATION"]
    assert late[1][2:] == ["coordinator", "population's steward", "answer", "population/residents", due["late"][:12]]


def test_the_queue_is_told_to_people(world: World, homes: Path, due: dict[str, str]) -> None:
    table = done(homes / "population", "agreement", "queue").stdout
    assert "overdue by 3 working days" in table
    assert "paused since 2027-01-21, 10 working days left" in table
    assert done(homes / "housing", "agreement", "queue", "--department", "tax").stdout == "Nothing is due.\n"
    assert (
        "Nothing is late."
        in done(homes / "housing", "agreement", "queue", "--department", "housing", "--overdue").stdout
    )


def test_what_has_no_time_limit_is_due_last(world: World, homes: Path, due: dict[str, str]) -> None:
    done(homes / "bureau", "rules", "adopt", "cn-national", "--consent")
    drafted = applied(homes)
    last = rows(done(homes / "bureau", "agreement", "queue", "--csv"))[-1]
    assert last == [
        "",
        "no time limit",
        "",
        "housing's head of office",
        "consent",
        "population/residents",
        drafted[:12],
    ]


def test_other_rules_than_the_adopted_ones_are_pointed_out(world: World, homes: Path, due: dict[str, str]) -> None:
    world.adopt()
    result = done(homes / "bureau", "agreement", "queue")
    assert "are not the file that this exchange adopted" in result.stderr


@pytest.fixture
def reviewed(world: World, homes: Path) -> dict[str, DatasetTerms]:
    """Three datasets: one submitted a week ago, one returned that day, one published."""
    done(homes / "bureau", "rules", "adopt", "cn-national", "--review")
    found = {code: world.publish(code) for code in ("late", "returned", "fine")}
    for code, action, missing in (
        ("returned", Action.ACTION_RETURN_DATASET, ["a contact"]),
        ("fine", Action.ACTION_PUBLISH, []),
    ):
        version = found[code].version
        world.do(COORDINATOR, action, version.object_id, digest=version.digest, missing=missing)
    world.now += 6 * DAY
    return found


def test_reviews_are_in_the_queue_with_their_clocks(
    world: World, homes: Path, reviewed: dict[str, DatasetTerms]
) -> None:
    found = json.loads(done(homes / "bureau", "agreement", "queue", "--json").stdout)
    assert [(item["dataset"], item["act"], item["clock"], item["overdue"]) for item in found] == [
        ("population/late", "review", "catalogue.review", True),
        ("population/returned", "submit", "catalogue.update", False),
    ]
    assert [item["who"] for item in found] == [["the coordinator"], ["population's steward"]]
    assert [(item["application"], item["departments"]) for item in found] == [(None, []), (None, ["population"])]
    [_, late, returned] = rows(done(homes / "bureau", "agreement", "queue", "--csv"))
    assert late[1].startswith("overdue by 2 working days")
    assert late[2:] == ["head", "the coordinator", "review it", "population/late", ""]
    assert returned[3:] == ["population's steward", "put it right", "population/returned", ""]
    assert found[1]["left"] > 0
    before = returned[0]
    done(homes / "bureau", "dataset", "extend", "population/returned", "--reason", "two registers")
    assert rows(done(homes / "bureau", "agreement", "queue", "--csv"))[2][0] > before


def test_a_review_that_is_over_leaves_the_queue(world: World, homes: Path, reviewed: dict[str, DatasetTerms]) -> None:
    done(homes / "bureau", "dataset", "review", "population/late", "--publish")
    [*_, left] = rows(done(homes / "bureau", "agreement", "queue", "--csv"))
    assert left[5] == "population/returned"
    old = reviewed["returned"].version
    world.publish("returned", version=ObjectVersion(old.object_id, old.digest))
    [_, again] = rows(done(homes / "bureau", "agreement", "queue", "--csv"))
    assert again[3:6] == ["the coordinator", "review it", "population/returned"]


def test_reviews_are_told_to_their_owner_and_to_the_coordinator_alone(
    world: World, homes: Path, reviewed: dict[str, DatasetTerms]
) -> None:
    assert done(homes / "housing", "agreement", "queue").stdout == "Nothing is due.\n"
    for home in ("population", "population-head"):
        assert len(rows(done(homes / home, "agreement", "queue", "--csv"))) == 3
    of_owner = rows(done(homes / "bureau", "agreement", "queue", "--department", "population", "--csv"))
    assert [row[5] for row in of_owner[1:]] == ["population/returned"]
    late = rows(done(homes / "bureau", "agreement", "queue", "--overdue", "--csv"))
    assert [row[5] for row in late[1:]] == ["population/late"]


def test_reviews_and_applications_stand_in_one_order(world: World, homes: Path, due: dict[str, str]) -> None:
    done(homes / "bureau", "rules", "adopt", "cn-national", "--review")
    world.publish("waiting")
    found = json.loads(done(homes / "bureau", "agreement", "queue", "--json").stdout)
    assert [item["application"] for item in found] == [due["late"], None, due["has time"], due["returned"]]


# Reports.


def uses_of(world: World, *times: int) -> Callable[..., AsyncIterator[Use]]:
    digest = max(world.directory.terms.agreements.values(), key=lambda terms: terms.version.index).digest

    async def uses(_session: object, _advance: object) -> AsyncIterator[Use]:
        for index, time in enumerate(times):
            yield Use(index, time, str(APPLICATIONS), str(REGISTRY), digest)

    return uses


def test_a_month_is_reported(world: World, homes: Path, due: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    done(homes / "housing", "agreement", "withdraw", due["returned"])
    done(homes / "population", "agreement", "sign", due["has time"])
    done(homes / "housing", "agreement", "rate", due["has time"], "--rating", "5")
    monkeypatch.setattr(
        "exchange.cli.governing.report.own_uses", uses_of(world, world.now - 90 * DAY, world.now, world.now)
    )
    report = json.loads(done(homes / "housing", "report", "month", "2027-01", "--json").stdout)
    (population,) = report["departments"]
    assert (population["received"], population["decided"], population["on_time_rate"]) == (2, 2, 0.5)
    assert (population["satisfaction"], population["overdue"]) == (1.0, 1)
    assert report["most_wanted"][0]["dataset"] == "population/residents"
    assert report["documents_not_asked_for"] == 2
    shown = done(homes / "housing", "report", "month", "2027-01").stdout
    assert "Documents that nobody had to bring, one for each released answer: 2" in shown
    ranked = rows(done(homes / "housing", "report", "month", "2027-01", "--csv"))
    assert ranked[1][:3] == ["1", "population", "2"]


def test_a_coordinator_is_told_what_its_report_lacks(world: World, homes: Path) -> None:
    shown = done(homes / "bureau", "report", "month", "2027-01").stdout
    assert "No department was asked for anything." in shown
    assert "not known here; auditors and requesters read the access log" in shown


@pytest.mark.parametrize("text", ["2027", "2027-13", "2027-1", "0001-01", "january"])
def test_what_is_no_month_is_wrong_usage(world: World, homes: Path, text: str) -> None:
    result = run(homes / "bureau", "report", "month", text)
    assert (result.exit_code, "write it as YYYY-MM" in result.stderr) == (2, True)


def test_agreements_that_nobody_uses_are_listed(world: World, homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used, unused = (applied(homes) for _ in range(2))
    for id in (used, unused):
        done(homes / "population", "agreement", "sign", id)
    newest = world.agreement
    world.now += 100 * DAY
    monkeypatch.setattr("exchange.cli.agreements.stale.own_uses", uses_of(world, world.now - DAY))
    listed = json.loads(done(homes / "population", "agreement", "stale", "--json").stdout)
    assert [(item["why"], item["last_use"]) for item in listed] == [("never used", None)]
    assert listed[0]["agreement"] != newest.digest.hex()
    monkeypatch.setattr("exchange.cli.agreements.stale.own_uses", uses_of(world, world.now - 95 * DAY))
    listed = rows(done(homes / "housing", "agreement", "stale", "--csv"))
    assert {row[4] for row in listed[1:]} == {"never used", "not used since"}
    assert (
        "No agreement went unused for 200 days"
        in done(homes / "population", "agreement", "stale", "--days", "200").stdout
    )


def test_an_agreement_whose_purpose_is_over_is_listed_though_it_is_used(
    world: World, homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(homes / "population", "agreement", "sign", applied(homes))
    monkeypatch.setattr("exchange.cli.agreements.stale.own_uses", uses_of(world, world.now))
    world.revoke(world.directory.state.purposes[PURPOSE], COORDINATOR)
    assert f"no longer registered: {PURPOSE}" in done(homes / "population", "agreement", "stale").stdout
