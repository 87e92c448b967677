"""docs/runbook.md, where an alert is about witnesses: as tests/e2e/test_runbook.py, in a city that has three."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import adapter_faults, broker_faults
from tests.e2e.city import City
from tests.e2e.night_desk import WITNESSED, Desk, at_work, go_through
from tests.e2e.witnessing import QUICK, Witnesses

FAULTS = {
    alert: fault
    for alert, fault in (*broker_faults.FAULTS.items(), *adapter_faults.FAULTS.items())
    if fault.city == WITNESSED
}


@pytest.fixture(scope="module")
def shared_witnessed_desk(template: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    city = template.copy(tmp_path_factory.mktemp("desk") / "city", faulty=True)
    witnesses = Witnesses(city, QUICK)
    try:
        witnesses.start(*witnesses.urls)
        with at_work(city, witnesses) as desk:
            yield desk
    finally:
        witnesses.close()


@pytest.fixture
def witnessed_desk(shared_witnessed_desk: Desk) -> Iterator[Desk]:
    yield shared_witnessed_desk
    shared_witnessed_desk.recover()


@pytest.mark.parametrize("alert", FAULTS)
def test_a_fault_shows_and_its_chapter_can_be_followed(
    alert: str, witnessed_desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(witnessed_desk.city.path)
    go_through(alert, FAULTS[alert], witnessed_desk, tmp_path)
