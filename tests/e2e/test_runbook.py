"""docs/runbook.md: what each alert means is made so with real programs, shows in their figures, and can be mended."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.core.lifetimes import DAY
from tests.e2e import adapter_faults, broker_faults
from tests.e2e.alarms import PROMTOOL, require_quiet, rules
from tests.e2e.city import City
from tests.e2e.founding import BROKER
from tests.e2e.night_desk import WITNESSED, Desk, Fault, at_work, chapters, go_through
from tests.e2e.processes import wait_until

FAULTS: dict[str, Fault] = {**broker_faults.FAULTS, **adapter_faults.FAULTS}
BEGINNING = "Before anything happens"


@pytest.fixture(scope="module")
def shared_desk(template: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with at_work(template.copy(tmp_path_factory.mktemp("desk") / "city", faulty=True)) as desk:
        yield desk


@pytest.fixture
def desk(shared_desk: Desk) -> Iterator[Desk]:
    yield shared_desk
    shared_desk.recover()


@pytest.fixture
def other_desk(template: City, tmp_path: Path) -> Iterator[Desk]:
    """Of a city of this test's own."""
    with at_work(template.copy(tmp_path / "city", faulty=True)) as desk:
        yield desk


@pytest.fixture
def sealing_desk(tmp_path: Path) -> Iterator[Desk]:
    """Of a city whose sealing keys end in five days, while the broker takes no entry."""
    city = City.build(tmp_path / "template", sealing=5 * DAY).copy(tmp_path / "city", faulty=True)
    city.faults(BROKER).switch_on("refuse")
    with at_work(city) as desk:
        yield desk


def test_every_chapter_has_its_fault() -> None:
    assert [BEGINNING, *FAULTS] == list(chapters())


def test_what_comes_before_can_be_followed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.city.path)
    assert desk.follow(BEGINNING) >= 6


@pytest.mark.parametrize("alert", [alert for alert, fault in FAULTS.items() if fault.city != WITNESSED])
def test_a_fault_shows_and_its_chapter_can_be_followed(
    alert: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk: Desk = request.getfixturevalue(FAULTS[alert].city)
    monkeypatch.chdir(desk.city.path)
    go_through(alert, FAULTS[alert], desk, tmp_path)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool, of Debian's package prometheus, is not in PATH")
def test_nothing_fires_where_nothing_is_wrong(desk: Desk, tmp_path: Path) -> None:
    # Whatever disk this machine has.
    for faults in (desk.broker_faults, desk.registry_faults):
        faults.switch_on("free", "1000000000000")
    wait_until(lambda: desk.figures(BROKER)["exchange_disk_free_bytes"] == 1e12, "a large disk")
    desk.ask()
    require_quiet(tmp_path, rules(), desk.scrape())
