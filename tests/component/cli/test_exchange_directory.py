"""The commands that read and write the directory, against an exchange in memory."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace, TracebackType

import pytest
from typer.testing import CliRunner, Result

import exchange.cli.frame.acting
import exchange.cli.frame.times
from exchange.cli.agreements.grants import show_all
from exchange.cli.datasets.descriptors import TEMPLATE
from exchange.cli.frame.errors import say_once
from exchange.cli.frame.output import grouped
from exchange.cli.joining.admission import Admission, new_key_request
from exchange.cli.main import app
from exchange.client.answers import Answer
from exchange.client.errors import ExchangeError, RefusedError, UnavailableError
from exchange.client.receipt_file import KeptReceipt
from exchange.client.seconds import require_second
from exchange.client.session import Appended
from exchange.core import envelope as envelopes
from exchange.core.access import verify_release
from exchange.core.decision import read_request
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion
from exchange.core.envelope import Draft, Envelope
from exchange.core.filters import TYPE_NAMES
from exchange.core.names import Party
from exchange.core.terms import ApplicationTerms
from exchange.core.tlog_proof import parse_proof
from exchange.core.wire import MAX_TIME, decode, encode
from exchange.home import Home
from exchange.v1.access_pb2 import Code
from exchange.v1.catalogue_pb2 import Overlap
from exchange.v1.directory_pb2 import Field, Role
from exchange.v1.envelope_pb2 import Receipt
from tests.memory import signer
from tests.world import (
    APPLICATIONS,
    COORDINATOR,
    DAY,
    EXCHANGE,
    FIELDS,
    GRANTED,
    HOUSING,
    ID_NUMBER,
    MARRIAGE,
    POPULATION,
    PURPOSE,
    REGISTRY,
    ROWS,
    YEAR,
    World,
)

RESIDENTS = "population/residents"
FIELD = """
[[fields]]
name = "{name}"
type = "{type}"
"""
# The world's dataset as its steward's file would have it.
RESIDENTS_FILE = """
code = "residents"
title = "常住人口"
system = "registry"
key = "id_number"
operations = ["LOOKUP", "QUERY"]
filterable = ["birth_date", "area_m2"]
""" + "".join(FIELD.format(name=name, type=TYPE_NAMES[kind]) for name, kind in FIELDS.items())


class FakeSession:
    """A session whose log is the world's: it appends what the rules accept, and raises what a broker would say."""

    world: World
    # What is kept of the one receipt, where the trust file has a quorum.
    kept: KeptReceipt | None = None

    def __init__(self, home: Home) -> None:
        self.home = home
        self.party: Party = home.acts_for

    @property
    def cosignatures(self) -> SimpleNamespace:
        return SimpleNamespace(needed=type(self).kept is not None)

    @property
    def receipts(self) -> "FakeSession":
        return self

    async def receipt(self, _index: int) -> KeptReceipt | None:
        return type(self).kept

    async def cosigned(self, _index: int) -> Receipt:
        kept = type(self).kept
        if kept is None or not kept.cosigned:
            raise UnavailableError("the receipt of entry 0 was not cosigned within 60 s")
        return decode(Receipt, kept.receipt)

    async def __aenter__(self) -> "FakeSession":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def directory(self) -> Directory:
        return self.world.directory

    async def sync(self) -> Directory:
        return self.directory

    def sign(self, draft: Draft) -> Envelope:
        # A steward signs with a key of its own, which the command line has made.
        is_steward = self.home.role == "steward"
        return (
            envelopes.sign(self.home.signer(), self.world.directory.origin, draft)
            if is_steward
            else self.world.sign(draft, self.party)
        )

    async def append(self, envelope: Envelope) -> Appended:
        require_second(self.directory.state, envelope)
        applied = self.world.append_envelope(envelope)
        if applied.reason:
            raise ExchangeError(applied.reason)
        return Appended(applied.index, bytes(32), b"CERTIFICATE")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World.standard()
    monkeypatch.setattr(exchange.cli.frame.acting, "Session", type("WorldSession", (FakeSession,), {"world": world}))
    # The world has a clock of its own; so that sorting by time tells something, each look at it is a second later.
    monkeypatch.setattr(exchange.cli.frame.times, "time", SimpleNamespace(time_ns=lambda: world.now * 1_000_000))
    return world


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    for party, role in ((EXCHANGE, "root"), (COORDINATOR, "coordinator"), (REGISTRY, "system")):
        Home.create(tmp_path / str(party.segments[-1]), party, role)
    for party, role in ((POPULATION, "department"), (HOUSING, "department"), (APPLICATIONS, "system")):
        Home.create(tmp_path / str(party.segments[-1]), party, role)
    (tmp_path / "city.example" / "trust.toml").write_text("the trust file")
    (tmp_path / "housing" / "trust.toml").write_text("the trust file")
    return tmp_path


def run(home: Path, *arguments: object) -> Result:
    # Each command is a process of its own, and none has said anything before it.
    say_once.cache_clear()
    return CliRunner().invoke(app, [*(str(item) for item in arguments), "--home", str(home)])


def apply(homes: Path, *more: str, fields: str = "name,address", grantee: Party = APPLICATIONS) -> Result:
    return run(
        homes / "housing",
        *("agreement", "apply", "--dataset", RESIDENTS, "--grantee", grantee, "--operations", "lookup,query"),
        *("--fields", fields, "--purposes", PURPOSE, "--legal-basis", "Act", "--scenario", "queue"),
        *("--until", "2027-12-31", *more),
    )


@pytest.fixture
def waiting(world: World, homes: Path) -> ApplicationTerms:
    """A new application, by the command."""
    result = apply(homes, "--filterable", "area_m2", "--json")
    assert result.exit_code == 0, result.stderr
    return world.directory.terms.applications[bytes.fromhex(json.loads(result.stdout)["id"])]


# Purposes.


def test_a_purpose_is_registered_and_then_replaced(world: World, homes: Path) -> None:
    command = ("purpose", "register", "tax.relief", "--label", "减税", "--legal-basis", "Tax Act")
    first = run(homes / "data-bureau", *command)
    second = run(homes / "data-bureau", *command, "--label-en", "Tax relief", "--json")
    assert first.stdout.startswith("Registered the purpose tax.relief: entry ")
    assert json.loads(second.stdout)["replaced"] is True
    purpose = world.directory.state.purpose("tax.relief")
    assert purpose is not None
    assert purpose.label_en == "Tax relief"


def test_only_a_coordinator_registers(world: World, homes: Path) -> None:
    result = run(homes / "housing", "purpose", "register", "x", "--label", "x", "--legal-basis", "x")
    assert result.exit_code == 2
    assert "only a coordinator registers purposes" in result.stderr


def test_a_malformed_code_is_refused_before_the_broker_is_asked(world: World, homes: Path) -> None:
    size = world.directory.size
    result = run(homes / "data-bureau", "purpose", "register", "Tax!", "--label", "x", "--legal-basis", "x")
    assert (result.exit_code, world.directory.size) == (2, size)


def test_purposes_are_listed(world: World, homes: Path) -> None:
    assert PURPOSE in run(homes / "housing", "purpose", "list").stdout
    shown = json.loads(run(homes / "housing", "purpose", "list", "--json").stdout)
    assert [item["code"] for item in shown] == [PURPOSE]


# Datasets.


def test_a_dataset_is_published_and_then_superseded(world: World, homes: Path) -> None:
    path = homes / "data.toml"
    path.write_text(TEMPLATE)
    first = run(homes / "population", "dataset", "publish", path)
    path.write_text(TEMPLATE.replace("户籍登记", "户籍"))
    second = run(homes / "population", "dataset", "publish", path, "--json")
    assert first.stdout.startswith("Published population/household.registration: entry ")
    assert json.loads(second.stdout)["replaced"] is True
    found = world.directory.dataset_named(str(POPULATION), "household.registration")
    assert found is not None
    assert found.title == "户籍"
    assert found.version.superseded_by is None


def test_an_agreement_stands_when_its_dataset_gets_a_version_that_takes_nothing_away(world: World, homes: Path) -> None:
    agreement, path = world.agreement, homes / "data.toml"
    path.write_text(RESIDENTS_FILE + FIELD.format(name="nickname", type="text"))
    result = run(homes / "population", "dataset", "publish", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "the field nickname is new" in result.stdout
    assert world.agreement == agreement


def test_a_breaking_version_names_the_agreements_that_it_breaks_first(world: World, homes: Path) -> None:
    agreement, before, path = world.agreement, world.dataset, homes / "data.toml"
    path.write_text(RESIDENTS_FILE.replace(FIELD.format(name="address", type="text"), ""))
    result = run(homes / "population", "dataset", "publish", path)
    assert result.exit_code == 1
    assert f"breaks an agreement: {agreement.digest.hex()[:12]} of {APPLICATIONS}" in result.stderr
    assert "the field address is gone" in result.stderr
    assert world.dataset == before
    result = run(homes / "population", "dataset", "publish", path, "--breaking", "--json")
    assert json.loads(result.stdout)["broken"] == [agreement.digest.hex()]
    assert world.dataset != before


def test_a_related_dataset_that_nobody_knows_is_named_with_its_line(world: World, homes: Path) -> None:
    path = homes / "data.toml"
    path.write_text('related = ["population/resident"]\n' + RESIDENTS_FILE)
    result = run(homes / "population", "dataset", "publish", path)
    assert result.exit_code == 2
    assert f"{path}:1: related: no dataset 'population/resident' is known here" in result.stderr
    assert "did you mean population/residents?" in result.stderr


def test_all_that_an_owner_says_is_shown(world: World, homes: Path) -> None:
    path = homes / "data.toml"
    overlap = (
        '[[overlaps]]\ndataset = "population/residents"\nfields = ["full_name"]\nsource = "population"\n'
        'justification = "Names change here first."\n'
    )
    path.write_text(TEMPLATE.replace("related = []", 'related = ["population/residents"]') + overlap)
    assert run(homes / "population", "dataset", "publish", path).exit_code == 0
    shown = run(homes / "housing", "dataset", "show", "population/household.registration").stdout
    for text in (
        "户籍登记 · Household registration",
        "户籍, 住址, household, residence",
        "unconditional",
        "legal basis: Decree 809, article 14",
        "full_name with population/residents, source population: Names change here first.",
        "男 · male",
    ):
        assert text in shown, text
    described = json.loads(
        run(homes / "housing", "dataset", "show", "population/household.registration", "--json").stdout
    )
    assert described["related"] == ["population/residents"]
    assert described["sharing"]["class"] == "unconditional"
    assert described["fields"][2]["codes"] == {"1": "男", "2": "女"}


def test_datasets_are_listed_and_shown(world: World, homes: Path) -> None:
    assert RESIDENTS in run(homes / "housing", "dataset", "list").stdout
    assert str(REGISTRY) in run(homes / "housing", "dataset", "list", "--all").stdout
    shown = run(homes / "housing", "dataset", "show", RESIDENTS).stdout
    assert "id_number     text     key" in shown
    assert "area_m2       decimal  filter" in shown
    described = json.loads(run(homes / "housing", "dataset", "show", RESIDENTS, "--json").stdout)
    assert described["filterable"] == ["area_m2", "birth_date"]


def test_a_dataset_goes_its_way_through_the_catalogue_with_its_clock(world: World, homes: Path) -> None:
    world.adopt(review=True)
    path, bureau, office = homes / "data.toml", homes / COORDINATOR.segments[-1], homes / "population"
    path.write_text(TEMPLATE)
    name = "population/household.registration"
    assert run(office, "dataset", "publish", path).exit_code == 0
    assert "submitted; it waits for the coordinator to publish it (due " in run(office, "dataset", "show", name).stdout
    both = run(bureau, "dataset", "review", name)
    assert (both.exit_code, "either --publish, or --missing" in both.stderr) == (2, True)
    returned = run(bureau, "dataset", "review", name, "--missing", "the legal basis", "--missing", "a contact")
    assert "Returned population/household.registration: entry " in returned.stdout
    assert "missing: the legal basis; a contact" in returned.stdout
    extended = run(bureau, "dataset", "extend", name, "--reason", "two registers", "--json")
    assert json.loads(extended.stdout)["review"]["state"] == "returned"
    twice = run(bureau, "dataset", "extend", name, "--reason", "again")
    assert (twice.exit_code, "once, while it runs" in twice.stderr) == (1, True)
    assert run(office, "dataset", "publish", path).exit_code == 0
    assert "It is published since" in run(bureau, "dataset", "review", name, "--publish").stdout
    assert "published" in run(homes / "housing", "dataset", "list").stdout
    notice = run(office, "dataset", "deprecate", name, "--until", "2029-06-30", "--reason", "replaced")
    assert "It is deprecated; it can be applied for until 2029-06-30: replaced." in notice.stdout
    described = json.loads(run(homes / "housing", "dataset", "show", name, "--json").stdout)
    assert described["review"]["can_be_applied_for"] is True


def test_publishing_an_overlap_needs_a_justification_that_names_the_source(world: World, homes: Path) -> None:
    world.publish("persons", MARRIAGE, fields=[Field(name="id_number", label="身份证号", type=1)], filterable=[])
    world.publish(
        "families",
        MARRIAGE,
        fields=[Field(name="id_number", type=1), Field(name="xm", label="姓名", type=1)],
        filterable=[],
    )
    path, office = homes / "data.toml", homes / "population"
    path.write_text(TEMPLATE)
    before = world.directory.size
    refused = run(office, "dataset", "publish", path)
    assert refused.exit_code == 1
    assert "full_name by civil-affairs/families (xm)" in refused.stderr
    assert world.directory.size == before
    # The key is what records are joined by.
    assert "id_number by" not in refused.stderr
    assert "say in [[overlaps]] why" in refused.stderr
    why = 'source = "population"\njustification = "Names change here first."\n'
    path.write_text(TEMPLATE + f'[[overlaps]]\ndataset = "civil-affairs/families"\nfields = ["full_name"]\n{why}')
    published = run(office, "dataset", "publish", path)
    assert published.exit_code == 0, published.stderr
    shown = run(office, "dataset", "show", "population/household.registration").stdout
    assert "full_name with civil-affairs/families, source population: Names change here first." in shown


def test_a_source_that_the_other_department_names_explains_nothing_itself(world: World, homes: Path) -> None:
    fields = [Field(name="id_number", type=1), Field(name="xm", label="姓名", type=1)]
    path, office = homes / "data.toml", homes / "population"
    path.write_text(TEMPLATE)

    def overlap(source: Party) -> list[Overlap]:
        about = {"dataset": world.dataset.object_id, "fields": ["xm"], "source": str(source)}
        return [Overlap(justification="For notices.", **about)]

    its_own = overlap(Party(MARRIAGE.domain, "civil-affairs"))
    families = world.publish("families", MARRIAGE, fields=fields, filterable=[], overlaps=its_own)
    refused = run(office, "dataset", "publish", path)
    assert (refused.exit_code, "full_name by civil-affairs/families" in refused.stderr) == (1, True)
    version = ObjectVersion(families.object_id, families.version.digest)
    world.publish("families", MARRIAGE, version, fields=fields, filterable=[], overlaps=overlap(POPULATION))
    published = run(office, "dataset", "publish", path)
    assert published.exit_code == 0, published.stderr


def test_only_the_coordinator_reviews_and_only_the_owner_retires(world: World, homes: Path) -> None:
    assert run(homes / "population", "dataset", "review", RESIDENTS, "--publish").exit_code == 2
    other = run(homes / "housing", "dataset", "deprecate", RESIDENTS, "--until", "2029-06-30", "--reason", "no")
    assert (other.exit_code, f"{POPULATION} alone" in other.stderr) == (1, True)


def test_a_search_shows_the_best_and_counts_the_rest(world: World, homes: Path) -> None:
    world.publish("households", title="户籍登记", title_en="Household registration", theme="population")
    home = homes / "housing"
    found = run(home, "dataset", "search", "户籍").stdout
    assert "population/households  户籍登记 · Household registration  not classed yet  population" in found
    assert "theme    population (1)" in found
    described = json.loads(run(home, "dataset", "search", "人口", "--only", "owner=population", "--json").stdout)
    assert [item["dataset"] for item in described["datasets"]] == [RESIDENTS]
    some = run(home, "dataset", "search", "户籍", "常住").stdout
    assert some.startswith("No dataset has all of these words. These have some of them:")
    assert "No dataset fits." in run(home, "dataset", "search", "企业").stdout
    wrong = run(home, "dataset", "search", "--only", "colour=red")
    assert (wrong.exit_code, "hint: facets are owner, theme" in wrong.stderr) == (2, True)
    assert "… and 1 more" in run(home, "dataset", "search", "--limit", "1").stdout


def test_an_unknown_dataset_gets_a_near_one(world: World, homes: Path) -> None:
    result = run(homes / "housing", "dataset", "show", "population/resident")
    assert result.exit_code == 2
    assert f"hint: did you mean {RESIDENTS}?" in result.stderr


# Applications and agreements.


def test_an_application_prints_its_id_and_the_next_step(world: World, homes: Path) -> None:
    result = apply(homes)
    assert result.exit_code == 0, result.stderr
    newest = show_all(world.directory, world.now)[0]
    assert newest.state == "waiting"
    assert f"application  {newest.id}" in result.stdout
    assert f"exchange agreement sign {newest.id[:12]}" in result.stdout


@pytest.mark.parametrize(
    ("more", "fields", "message", "hint"),
    [
        ((), "nam,address", "--fields: nam is not known here", "did you mean name?"),
        ((), "name,name", "--fields: each is named once", ""),
        ((), " , ", "--fields: nothing is named", "known are address, area_m2"),
        (("--filterable", "name"), "name", "--filterable: name is not known here", "known are area_m2, birth_date"),
        (("--purposes", "fun"), "name", "--purposes: fun is not known here", f"known are {PURPOSE}"),
        (("--operations", "EXPORT"), "name", "--operations: EXPORT is not known here", "known are LOOKUP, QUERY"),
        (("--until", "2020-01-01"), "name", "--until: 2020-01-01 is over", "choose a day to come"),
    ],
)
def test_an_application_for_what_is_not_offered_is_wrong_usage(
    world: World, homes: Path, more: tuple[str, ...], fields: str, message: str, hint: str
) -> None:
    size = world.directory.size
    result = apply(homes, *more, fields=fields)
    assert result.exit_code == 2
    assert message in result.stderr
    assert hint in result.stderr
    assert world.directory.size == size


def test_a_department_applies_for_itself_and_its_systems_alone(world: World, homes: Path) -> None:
    result = apply(homes, grantee=REGISTRY)
    assert result.exit_code == 2
    assert f"{REGISTRY} is not {HOUSING} or one of its systems" in result.stderr


def sign(homes: Path, application: ApplicationTerms, *more: str) -> Result:
    return run(homes / "population", "agreement", "sign", application.version.digest.hex()[:8], *more)


def test_signing_grants_what_was_asked_for(world: World, homes: Path, waiting: ApplicationTerms) -> None:
    result = sign(homes, waiting)
    assert result.exit_code == 0, result.stderr
    agreement = world.agreement
    assert agreement.application == waiting.version.digest
    assert (agreement.fields, agreement.filterable) == (("name", "address"), frozenset({"area_m2"}))
    assert agreement.not_after == waiting.not_after
    assert "in force" in result.stdout


def test_signing_can_grant_less(world: World, homes: Path, waiting: ApplicationTerms) -> None:
    narrow = ("--fields", "name", "--until", "2027-06-30", "--where", "birth_date < '2000-01-01'")
    assert sign(homes, waiting, *narrow).exit_code == 0
    agreement = world.agreement
    assert agreement.fields == ("name",)
    assert agreement.not_after < waiting.not_after
    assert agreement.row_filter is not None
    shown = run(homes / "housing", "agreement", "show", agreement.digest.hex()).stdout
    assert "rows         birth_date < '2000-01-01'" in shown


def test_a_field_that_is_struck_out_cannot_be_filtered_by(world: World, homes: Path) -> None:
    shown = json.loads(apply(homes, "--filterable", "area_m2", "--json", fields="name,area_m2").stdout)
    application = world.directory.terms.applications[bytes.fromhex(shown["id"])]
    assert sign(homes, application, "--fields", "name").exit_code == 0
    assert world.agreement.filterable == frozenset()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--fields", "id_number"), "--fields: id_number was not asked for"),
        (("--filterable", "birth_date"), "--filterable: birth_date was not asked for"),
        (("--until", "2028-01-01"), "--until: the application asks until 2027-12-31"),
        (("--where", "income > 1"), "--where: there is no field income"),
        (("--where", "name = = 1"), "--where: this cannot be read as a condition"),
    ],
)
def test_signing_more_than_was_asked_for_is_wrong_usage(
    world: World, homes: Path, waiting: ApplicationTerms, more: tuple[str, ...], message: str
) -> None:
    result = sign(homes, waiting, *more)
    assert result.exit_code == 2
    assert message in result.stderr


def test_only_the_owner_signs(world: World, homes: Path, waiting: ApplicationTerms) -> None:
    result = run(homes / "housing", "agreement", "sign", waiting.version.digest.hex())
    assert result.exit_code == 1
    assert f"{RESIDENTS} belongs to {POPULATION}" in result.stderr


def test_an_application_is_not_answered_twice_unless_it_supersedes(
    world: World, homes: Path, waiting: ApplicationTerms
) -> None:
    assert sign(homes, waiting).exit_code == 0
    first = world.agreement.digest.hex()
    again = sign(homes, waiting)
    assert again.exit_code == 1
    assert f"hint: --supersedes {first[:12]} replaces it" in again.stderr
    assert sign(homes, waiting, "--supersedes", first[:8], "--fields", "name").exit_code == 0
    states = {item.id: item.state for item in show_all(world.directory, world.now)}
    assert states[first] == "superseded"
    assert states[world.agreement.digest.hex()] == "in force"


def test_an_agreement_with_somebody_else_cannot_be_superseded(
    world: World, homes: Path, waiting: ApplicationTerms
) -> None:
    other = world.grant(world.apply_for(world.dataset, Party("city.example", "civil-affairs", "marriage")))
    result = sign(homes, waiting, "--supersedes", other.digest.hex())
    assert "with another grantee" in result.stderr


def test_the_owner_revokes_at_once_and_is_told_what_still_stands(world: World, homes: Path) -> None:
    agreement, other = world.agreement, world.grant(world.apply_for(world.dataset))
    result = run(homes / "population", "agreement", "revoke", agreement.digest.hex()[:10], "--reason", "over")
    assert result.exit_code == 0
    assert " is revoked: entry " in result.stdout
    assert f"is still in force: {other.digest.hex()[:12]}" in result.stderr
    assert not world.directory.stands(agreement)
    assert (
        "is revoked already"
        in run(homes / "population", "agreement", "revoke", agreement.digest.hex(), "--reason", "over").stderr
    )


def test_a_system_revokes_for_its_own_department(world: World, homes: Path) -> None:
    agreement = world.agreement
    assert run(homes / "registry", "agreement", "revoke", agreement.digest.hex(), "--reason", "x").exit_code == 0
    assert not world.directory.stands(agreement)


def test_nobody_else_revokes_and_the_broker_is_not_asked(world: World, homes: Path) -> None:
    size = world.directory.size
    result = run(homes / "housing", "agreement", "revoke", world.agreement.digest.hex(), "--reason", "x")
    assert result.exit_code == 1
    assert "the owner alone revokes an agreement" in result.stderr
    assert world.directory.size == size


def test_an_applicant_withdraws(world: World, homes: Path, waiting: ApplicationTerms) -> None:
    id = waiting.version.digest.hex()
    assert "is withdrawn" in run(homes / "housing", "agreement", "revoke", id, "--reason", "x").stdout
    result = sign(homes, waiting)
    assert result.exit_code == 1
    assert "is withdrawn" in result.stderr


def test_lists_what_waits_and_what_is_mine(world: World, homes: Path, waiting: ApplicationTerms) -> None:
    other = Party("city.example", "civil-affairs")
    table = run(homes / "population", "agreement", "list").stdout.splitlines()
    assert [line.split()[1] for line in table] == ["STATE", "waiting", "in", "answered"]
    pending = json.loads(run(homes / "population", "agreement", "list", "--pending", "--json").stdout)
    assert [item["id"] for item in pending] == [waiting.version.digest.hex()]
    assert len(json.loads(run(homes / "population", "agreement", "list", "--json").stdout)) == 3
    Home.create(homes / "other", other, "department")
    assert json.loads(run(homes / "other", "agreement", "list", "--mine", "--json").stdout) == []


def test_an_agreement_ends_with_its_last_day(world: World, homes: Path) -> None:
    id = world.agreement.digest.hex()
    world.now += 2 * YEAR
    assert json.loads(run(homes / "housing", "agreement", "show", id, "--json").stdout)["state"] == "ended"
    world.now -= 2 * YEAR + DAY
    assert json.loads(run(homes / "housing", "agreement", "show", id, "--json").stdout)["state"] == "not yet in force"


@pytest.mark.parametrize(
    ("typed", "message"),
    [("1234567", "is not the id of"), ("hello world", "is not the id of"), ("00000000", "is known here")],
)
def test_an_id_is_eight_known_digits_or_more(world: World, homes: Path, typed: str, message: str) -> None:
    result = run(homes / "housing", "agreement", "show", typed)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_absurd_date_of_one_party_hides_nothing_from_the_others(
    world: World, homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # East of Greenwich, the year 9999 ends hours before.
    monkeypatch.setenv("TZ", "CST-8")
    time.tzset()
    absurd = world.grant(world.apply_for(world.dataset, not_after=MAX_TIME), not_after=MAX_TIME)
    assert "after 9999" in run(homes / "housing", "agreement", "list").stdout
    assert "after 9999" in run(homes / "housing", "agreement", "show", absurd.digest.hex()).stdout
    shown = json.loads(run(homes / "housing", "agreement", "list", "--json").stdout)
    monkeypatch.undo()
    time.tzset()
    assert "9999-12-31T23:59:59Z" in {item["not_after"] for item in shown}


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--legal-basis", "", "--legal-basis: nothing is said"),
        ("--scenario", " ", "--scenario: nothing is said"),
        ("--scenario", "x" * 2001, "--scenario: 2,001 characters"),
        ("--legal-basis", "\udcff", "--legal-basis: not valid Unicode"),
    ],
)
def test_an_application_says_why(world: World, homes: Path, option: str, text: str, message: str) -> None:
    size = world.directory.size
    result = apply(homes, option, text)
    assert (result.exit_code, world.directory.size) == (2, size)
    assert message in result.stderr


@pytest.mark.parametrize("text", ["", "x" * 2001])
def test_a_revocation_says_why(world: World, homes: Path, text: str) -> None:
    result = run(homes / "population", "agreement", "revoke", world.agreement.digest.hex(), "--reason", text)
    assert result.exit_code == 2
    assert "--reason: " in result.stderr
    assert world.directory.stands(world.agreement)


@pytest.mark.parametrize("label", ["", "\udcff", "x" * 2001])
def test_a_purpose_has_a_label(world: World, homes: Path, label: str) -> None:
    size = world.directory.size
    result = run(homes / "data-bureau", "purpose", "register", "tax", "--label", label, "--legal-basis", "Act")
    assert (result.exit_code, world.directory.size) == (2, size)
    assert "--label: " in result.stderr


def test_a_system_that_nobody_added_cannot_answer_or_ask(world: World, homes: Path) -> None:
    size = world.directory.size
    path = homes / "data.toml"
    path.write_text(TEMPLATE.replace('system = "registry"', 'system = "regsitry"'))
    published = run(homes / "population", "dataset", "publish", path)
    applied = apply(homes, grantee=Party("city.example", "housing", "subsidees"))
    assert (published.exit_code, applied.exit_code, world.directory.size) == (2, 2, size)
    assert "system: exchange://city.example/population/regsitry has no key in the directory" in published.stderr
    assert "--grantee: exchange://city.example/housing/subsidees has no key in the directory" in applied.stderr
    assert "exchange system add" in published.stderr


# Admission.


@pytest.fixture
def request_file(world: World, homes: Path) -> Path:
    """A key request of the police."""
    party = Party("city.example", "police")
    new = Home.create(homes / "new", party, "department")
    request = new_key_request(party, "department", signer("new party"), new.new_tls_request(), world.now)
    return new.write("request.json", request.encode())


def admit_police(homes: Path, request: Path, *more: object) -> Result:
    return run(homes / "city.example", "department", "admit", request, "--unchecked", *more)


def test_nobody_is_admitted_unless_the_fingerprint_was_compared(world: World, homes: Path, request_file: Path) -> None:
    size = world.directory.size
    result = run(homes / "city.example", "department", "admit", request_file)
    assert (result.exit_code, world.directory.size) == (5, size)
    assert "nobody has compared the fingerprint; nothing was signed" in result.stderr
    assert "--fingerprint" in result.stderr
    knowingly = admit_police(homes, request_file)
    assert (knowingly.exit_code, world.directory.size) == (0, size + 1)
    assert "Nobody compared it" in knowingly.stderr


@pytest.mark.parametrize("kind", ["a key", "a folder", "a pipe", "another party's admission", "no folder", "itself"])
def test_an_admission_replaces_nothing_else(world: World, homes: Path, request_file: Path, kind: str) -> None:
    target = homes / "target"
    if kind == "a key":
        Home(homes / "new").new_private_key("signing")
        target = homes / "new" / "keys" / "signing.pem"
    elif kind == "a folder":
        target.mkdir()
    elif kind == "a pipe":
        os.mkfifo(target)
    elif kind == "another party's admission":
        target.write_bytes(Admission(HOUSING, b"", "").encode())
    elif kind == "no folder":
        target = homes / "none" / "admission.json"
    else:
        target = request_file
    before = target.read_bytes() if target.is_file() else None
    size = world.directory.size
    result = admit_police(homes, request_file, "--out", target)
    assert (result.exit_code, world.directory.size) == (2, size), result.stderr
    assert (target.read_bytes() if target.is_file() else None) == before
    assert "--out" in result.stderr


def test_an_admission_replaces_an_earlier_one_of_the_same_party(world: World, homes: Path, request_file: Path) -> None:
    target = homes / "admission.json"
    target.write_bytes(Admission(Party("city.example", "police"), b"old", "").encode())
    assert admit_police(homes, request_file, "--out", target).exit_code == 0
    assert json.loads(target.read_text())["certificate"] == "CERTIFICATE"


def test_where_an_admission_can_be_written_is_found_out_before_it_is_signed(
    world: World, homes: Path, request_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def read_only(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode)

    size = world.directory.size
    monkeypatch.setattr(os, "open", read_only)
    result = admit_police(homes, request_file)
    assert (result.exit_code, world.directory.size) == (3, size)
    assert "Permission denied" in result.stderr
    assert "hint: this user may not: see the permissions of" in result.stderr


@pytest.mark.parametrize(
    ("home", "command", "party", "role"),
    [
        ("city.example", ("department", "admit"), Party("city.example", "police"), "department"),
        ("city.example", ("department", "admit"), Party("city.example", "audit-office"), "auditor"),
        ("housing", ("system", "add"), Party("city.example", "housing", "subsidies"), "system"),
    ],
)
def test_a_parent_admits(
    world: World, homes: Path, home: str, command: tuple[str, str], party: Party, role: str
) -> None:
    new = Home.create(homes / "new", party, role)
    new.new_private_key("signing")
    request = new_key_request(party, role, new.signer(), new.new_tls_request(), world.now)
    path = new.write("request.json", request.encode())
    result = run(homes / home, *command, path, "--fingerprint", grouped(request.fingerprint))
    assert result.exit_code == 0, result.stderr
    assert world.directory.role_of(party, world.now) == Role.Value(f"ROLE_{role.upper()}")
    admission = json.loads((homes / "new" / "admission.json").read_text())
    assert admission["certificate"] == "CERTIFICATE"
    assert admission["trust"] == "the trust file"


@pytest.mark.parametrize(
    ("home", "command", "party", "role", "message"),
    [
        ("housing", ("department", "admit"), Party("city.example", "police"), "department", "only the operator"),
        ("city.example", ("system", "add"), Party("city.example", "housing", "x"), "system", "only a department's"),
        ("city.example", ("department", "admit"), Party("city.example", "housing", "x"), "system", "cannot admit"),
        ("housing", ("system", "add"), Party("city.example", "police", "x"), "system", "cannot admit"),
        ("city.example", ("department", "admit"), Party("other.example", "police"), "department", "cannot admit"),
    ],
)
def test_a_party_is_admitted_by_its_own_parent_alone(
    world: World, homes: Path, home: str, command: tuple[str, str], party: Party, role: str, message: str
) -> None:
    new = Home.create(homes / "new", party, role)
    request = new_key_request(party, role, signer("new party"), new.new_tls_request(), world.now)
    path = new.write("request.json", request.encode())
    size = world.directory.size
    result = run(homes / home, *command, path)
    assert result.exit_code == 2
    assert message in result.stderr
    assert world.directory.size == size


def test_another_fingerprint_is_not_signed(world: World, homes: Path) -> None:
    party = Party("city.example", "police")
    new = Home.create(homes / "new", party, "department")
    request = new_key_request(party, "department", signer("new party"), new.new_tls_request(), world.now)
    path = new.write("request.json", request.encode())
    size = world.directory.size
    result = run(homes / "city.example", "department", "admit", path, "--fingerprint", "00" * 32)
    assert result.exit_code == 5
    assert "nothing was signed" in result.stderr
    assert world.directory.size == size


# Requests.


class FakeClient:
    """Answers from the world, and remembers what was asked."""

    asked: dict[str, object]
    world: World

    def __init__(self, session: FakeSession) -> None:
        self.session = session

    async def __aenter__(self) -> "FakeClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def lookup(self, dataset: str, keys: list[str], **asked: object) -> Answer:
        type(self).asked = {"dataset": dataset, "keys": keys, **asked}
        return self._answer()

    async def query(self, dataset: str, filter: object, **asked: object) -> Answer:
        type(self).asked = {"dataset": dataset, "filter": filter, **asked}
        return self._answer()

    def _answer(self) -> Answer:
        request = self.world.request()
        response = self.world.respond(request)
        receipt = self.world.release(request, response)
        proven = verify_release(receipt, self.world.access_log.signer.verifier, request.digest, response.digest)
        return Answer(
            rows=ROWS,  # type: ignore[arg-type]
            truncated=True,
            request_id=read_request(request).request_id,
            index=proven.index,
            proven=proven,
            request=request,
            response=response,
            receipt=receipt,
        )


@pytest.fixture
def client(world: World, monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    import exchange.cli.using.request as module

    fake = type("WorldClient", (FakeClient,), {"world": world, "asked": {}})
    monkeypatch.setattr(module, "ExchangeClient", fake)
    return fake


WHY = ("--purpose", PURPOSE, "--case", "ZF-1", "--officer", "officer-7")


def test_a_lookup_prints_rows_and_its_evidence(client: type[FakeClient], homes: Path) -> None:
    result = run(homes / "applications", "request", RESIDENTS, "--key", ID_NUMBER, "--fields", "name,area_m2", *WHY)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "name  area_m2\n王芳  58.40\n"
    assert result.stderr.splitlines()[-1] == (
        "entry 0 of city.example/access, verified; split view not excluded: no witnesses"
    )
    assert client.asked["keys"] == [ID_NUMBER]
    assert client.asked["officer"] == "officer-7"


def test_a_query_reads_its_condition_by_the_types_of_filterable_fields(client: type[FakeClient], homes: Path) -> None:
    condition = ("--where", "area_m2 >= 60", "--limit", "5", "--fields", "name")
    assert run(homes / "applications", "request", RESIDENTS, *condition, *WHY).exit_code == 0
    assert client.asked["limit"] == 5
    assert "decimal" in str(client.asked["filter"])


def test_a_request_prints_json_with_its_checkpoint(client: type[FakeClient], homes: Path) -> None:
    asked = ("--key", ID_NUMBER, "--fields", "name", "--json")
    shown = json.loads(run(homes / "applications", "request", RESIDENTS, *asked, *WHY).stdout)
    assert shown["rows"] == [dict(ROWS[0])]
    assert (shown["log_index"], shown["truncated"]) == (0, True)
    assert shown["checkpoint"]["origin"] == "city.example/access"
    assert shown["caveats"] == ["split view not excluded: no witnesses"]


NOT_COSIGNED = "split view not excluded: no quorum of witnesses has seen the entry yet"


@pytest.mark.parametrize(
    ("cosigned", "wait", "said"),
    [
        (False, (), f"verified; {NOT_COSIGNED}"),
        (True, (), "verified; a quorum of witnesses has seen it"),
        (True, ("--cosigned",), "verified; a quorum of witnesses has seen it"),
        (False, ("--cosigned",), f"verified; {NOT_COSIGNED}"),
    ],
)
def test_a_request_says_whether_witnesses_have_seen_its_entry(
    client: type[FakeClient],
    homes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cosigned: bool,
    wait: tuple[str, ...],
    said: str,
) -> None:
    better = Receipt(index=0, leaf=b"leaf", checkpoint=b"cosigned\n")
    kept = KeptReceipt(0, 0, encode(better), cosigned)
    monkeypatch.setattr(FakeSession, "kept", kept)
    proof = tmp_path / "entry.tlog-proof"
    asked = ("--key", ID_NUMBER, "--fields", "name,area_m2", "--proof", str(proof), *wait)
    result = run(homes / "applications", "request", RESIDENTS, *asked, *WHY)
    assert result.exit_code == 0, result.stderr
    # The rows were verified: they are handed over however late the witnesses are.
    assert "王芳  58.40" in result.stdout
    assert result.stderr.splitlines()[-1].endswith(said)
    assert ("was not cosigned within" in result.stderr) == (bool(wait) and not cosigned)
    assert (parse_proof(proof.read_bytes()).checkpoint == b"cosigned\n") == cosigned


def test_an_agreement_is_named_by_the_beginning_of_its_id(client: type[FakeClient], world: World, homes: Path) -> None:
    digest = world.agreement.digest
    asked = ("--key", ID_NUMBER, "--fields", "name", "--agreement", digest.hex()[:8])
    assert run(homes / "applications", "request", RESIDENTS, *asked, *WHY).exit_code == 0
    assert client.asked["agreement"] == digest


@pytest.mark.parametrize(
    ("home", "asked", "message"),
    [
        ("applications", ("--fields", "name"), "one of --key and --where is needed"),
        ("applications", ("--fields", "name", "--key", "1", "--where", "a = 1"), "give one of the two, not both"),
        ("applications", ("--fields", "name", "--key", ""), "--key: nothing is said"),
        ("applications", ("--fields", "name", "--key", "9" * 2001), "--key: 2,001 characters"),
        ("applications", ("--fields", "name", "--key", "1", "--timeout", "inf"), "--timeout: a number of seconds"),
        ("applications", ("--fields", "name", "--key", "1", "--timeout", "nan"), "--timeout"),
        ("applications", ("--fields", "name", "--where", "area_m2 = \u201c60\u201d"), "put values in '…'"),
        ("applications", ("--fields", "name", "--key", "1", "--limit", "2"), "--limit goes with --where"),
        ("applications", ("--fields", "nam", "--key", "1"), "--fields: nam is not known here"),
        ("applications", ("--fields", "name", "--where", "name = 'x'"), "--where: there is no field name"),
        ("housing", ("--fields", "name", "--key", "1"), "only a system asks"),
    ],
)
def test_a_question_that_cannot_be_meant_is_not_sent(
    client: type[FakeClient], homes: Path, home: str, asked: tuple[str, ...], message: str
) -> None:
    result = run(homes / home, "request", RESIDENTS, *asked, *WHY)
    assert result.exit_code == 2
    assert message in result.stderr
    assert client.asked == {}


@pytest.mark.parametrize(
    ("purpose", "hint"),
    [("housing.alocation", f"did you mean {PURPOSE}?"), ("zzz", "`exchange purpose list` shows what is")],
)
def test_a_misspelled_purpose_is_not_sent(client: type[FakeClient], homes: Path, purpose: str, hint: str) -> None:
    why = ("--purpose", purpose, "--case", "ZF-1", "--officer", "officer-7")
    result = run(homes / "applications", "request", RESIDENTS, "--key", ID_NUMBER, "--fields", "name", *why)
    assert (result.exit_code, client.asked) == (2, {})
    assert f"--purpose: {purpose} is not registered" in result.stderr
    assert hint in result.stderr


def test_a_registered_purpose_that_is_not_granted_is_sent(client: type[FakeClient], homes: Path) -> None:
    run(homes / "data-bureau", "purpose", "register", "tax", "--label", "Tax", "--legal-basis", "Act")
    why = ("--purpose", "tax", "--case", "ZF-1", "--officer", "officer-7")
    run(homes / "applications", "request", RESIDENTS, "--key", ID_NUMBER, "--fields", "name", *why)
    assert client.asked["purpose"] == "tax"


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (("--limit", "5"), "more rows match than --limit let through: narrow --where, or raise --limit"),
        ((), "more rows match than the provider lets through: narrow --where"),
    ],
)
def test_more_rows_are_had_by_a_higher_limit_only_where_one_was_given(
    client: type[FakeClient], homes: Path, limit: tuple[str, ...], message: str
) -> None:
    asked = ("--where", "area_m2 >= 60", "--fields", "name", *limit)
    assert message in run(homes / "applications", "request", RESIDENTS, *asked, *WHY).stderr.splitlines()


def test_a_refusal_is_a_result_for_programs(
    client: type[FakeClient], homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RefusedError("not granted", code=Code.CODE_FIELD_NOT_GRANTED, check=6, refuser="broker", verified=True)

    monkeypatch.setattr(client, "lookup", refuse)
    asked = ("--key", ID_NUMBER, "--fields", "name", "--json")
    result = run(homes / "applications", "request", RESIDENTS, *asked, *WHY)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "error": {
            "code": "FIELD_NOT_GRANTED",
            "check": 6,
            "reason": "not granted",
            "refuser": "broker",
            "verified": True,
            "summed_up": None,
        }
    }
    assert "FIELD_NOT_GRANTED (check 6)" in result.stderr


def test_what_is_granted_is_what_the_world_grants(world: World) -> None:
    assert world.agreement.fields == GRANTED
