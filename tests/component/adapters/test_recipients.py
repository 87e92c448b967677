"""Who was told of a wrong record, and the notices to them."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters import recipients as module
from adapters.cli import app
from adapters.recipients import notify, recipients
from exchange.client.errors import UsageError
from exchange.client.session import Session
from exchange.core.correction import Correction
from exchange.core.decision import read_request
from exchange.core.envelope import Envelope
from exchange.home import Home, HomeError
from exchange.v1.procedure_pb2 import Action
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.component.adapters.test_reconciling import settled
from tests.memory import MemoryLog, fixed
from tests.simulator import Simulator
from tests.world import APPLICATIONS, HOUSING, ID_NUMBER, ORIGIN, POPULATION, REGISTRY, World

ID = fixed("correction", 16)


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


class Office:
    """An adapter's home with a ledger, whose adapter is not running."""

    def __init__(self, home: Home, simulator: Simulator, requests: list[Envelope]) -> None:
        self.home = home
        self.simulator = simulator
        self.requests = requests

    @property
    def world(self) -> World:
        return self.simulator.world

    def ids(self) -> list[bytes]:
        return [read_request(request).request_id for request in self.requests]

    def file(self, *fields: str) -> None:
        """A correction that the owner has put right."""
        about = {"about": self.world.dataset.object_id, "fields": fields or ("address",)}
        self.world.do(HOUSING, Action.ACTION_OPEN_CORRECTION, ID, text="wrong", case_id="ZF-2027-0001", **about)

    def correct(self) -> None:
        self.world.do(POPULATION, Action.ACTION_CORRECT, ID)

    @property
    def correction(self) -> Correction:
        return self.world.directory.terms.corrections[ID]


@pytest.fixture
async def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    requests: list[Envelope] = []
    world = World.standard()
    ask = world.request

    def asked(*arguments: object, **changes: object) -> Envelope:
        requests.append(ask(*arguments, **changes))  # type: ignore[arg-type]
        return requests[-1]

    monkeypatch.setattr(world, "request", asked)
    async with provider_at(tmp_path, world) as provider:
        await filled(provider)
        home = provider.session.home
        simulator = provider.simulator
    (tmp_path / "ledger.db").rename(home.path / "ledger.db")
    monkeypatch.setattr(module, "Session", partial(Session, transport=simulator, clock=simulator.clock))
    return Office(home, simulator, requests)


async def filled(provider: Provider) -> None:
    """Released, withheld by the broker, released without its receipt, and one that the log has no word of."""
    await settled(provider)
    await settled(provider, withheld=True)
    await settled(provider, receipt=False)
    await provider.answer(provider.world.request(fields=["name"]))


async def test_everybody_who_was_told_is_found_with_the_entry_in_the_log(office: Office) -> None:
    first, third, fourth = await recipients(office.home, ID_NUMBER)
    ids = office.ids()
    assert [item.request_id for item in (first, third, fourth)] == [ids[0], ids[2], ids[3]]
    assert [(item.entry, bool(item.doubt)) for item in (first, third, fourth)] == [(0, False), (2, False), (None, True)]
    assert first.department == HOUSING
    assert (first.dataset, first.told.requester) == ("population/residents", str(APPLICATIONS))
    assert "no entry in the log" in fourth.doubt
    assert await recipients(office.home, "somebody else") == []


async def test_an_entry_that_the_broker_does_not_show_is_doubted(office: Office) -> None:
    office.simulator.access_log = MemoryLog(f"{ORIGIN}/access")
    first, *_ = await recipients(office.home, ID_NUMBER)
    assert (first.entry, "does not show the entry" in first.doubt) == (0, True)


async def test_only_who_was_told_a_field_that_is_wrong_concerns_a_correction(office: Office) -> None:
    office.file("address")
    found = await recipients(office.home, ID_NUMBER, ID.hex()[:8])
    assert [item.request_id for item in found] == [office.ids()[0], office.ids()[2]]
    assert not any(item.notified for item in found)


async def test_recipients_are_notified_once_and_what_they_acknowledge_is_seen(office: Office) -> None:
    office.file()
    office.correct()
    [done] = await notify(office.home, ID.hex(), ID_NUMBER)
    assert (done.recipient, done.requests) == (HOUSING, 2)
    [notice] = office.correction.notices
    assert notice.requests == (office.ids()[0], office.ids()[2])
    assert notice.version.owner == REGISTRY
    assert await notify(office.home, ID.hex(), ID_NUMBER) == []
    found = await recipients(office.home, ID_NUMBER, ID.hex())
    assert [(item.notified, item.acknowledged) for item in found] == [(True, False)] * 2
    office.world.do(APPLICATIONS, Action.ACTION_ACKNOWLEDGE, ID, digest=notice.version.digest)
    found = await recipients(office.home, ID_NUMBER, ID.hex())
    assert [item.acknowledged for item in found] == [True] * 2


async def test_many_requests_go_into_several_notices(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REQUESTS", 1)
    office.file()
    office.correct()
    assert [done.requests for done in await notify(office.home, ID.hex(), ID_NUMBER)] == [1, 1]
    assert len(office.correction.notices) == 2


async def test_no_notice_names_the_person(office: Office) -> None:
    office.file()
    office.correct()
    await notify(office.home, ID.hex(), ID_NUMBER)
    assert not any(ID_NUMBER.encode() in body for body in office.world.directory_log.bodies)


async def test_nobody_is_told_before_the_record_is_corrected(office: Office) -> None:
    office.file()
    with pytest.raises(UsageError, match="is filed: nobody is told"):
        await notify(office.home, ID.hex(), ID_NUMBER)
    for typed in ("f" * 8, "f", "no digits"):
        with pytest.raises(UsageError):
            await notify(office.home, typed, ID_NUMBER)


async def test_a_home_without_a_ledger_knows_nobody(office: Office) -> None:
    (office.home.path / "ledger.db").unlink()
    with pytest.raises(HomeError):
        await recipients(office.home, ID_NUMBER)


def test_the_commands_print_what_was_found_and_done(office: Office) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [*arguments, "--subject", ID_NUMBER, "--home", str(office.home.path)])
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout

    table = run("recipients", code=1)
    assert re.search(r"housing/applications +officer-7 +ZF-2027-0001 +population/residents", table)
    assert "no entry in the log" in table
    assert [item["log_index"] for item in json.loads(run("recipients", "--json", code=1))] == [0, 2, None]
    office.file()
    office.correct()
    assert re.search(r"^housing +2 ", run("notify", ID.hex()[:8]), re.MULTILINE)
    assert "notified already" in run("notify", ID.hex()[:8])
    assert json.loads(run("notify", ID.hex()[:8], "--json")) == []
    assert " given" in run("recipients", "--correction", ID.hex()[:8])
