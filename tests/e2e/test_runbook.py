"""docs/runbook.md: what each alert means is made so with real programs, shows in their figures, and can be mended."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exchange.core.lifetimes import DAY
from tests.e2e import adapter_faults, broker_faults
from tests.e2e.alarms import PROMTOOL, require_firing, require_quiet, rules
from tests.e2e.city import City
from tests.e2e.founding import BROKER
from tests.e2e.night_desk import Desk, Fault, chapters
from tests.e2e.processes import wait_until
from tests.e2e.witnessing import QUICK, Witnesses

FAULTS: dict[str, Fault] = {**broker_faults.FAULTS, **adapter_faults.FAULTS}
BEGINNING = "Before anything happens"

pytestmark = pytest.mark.timeout(120)


@contextmanager
def at_work(city: City, witnesses: Witnesses | None = None) -> Iterator[Desk]:
    desk = Desk(city, witnesses)
    with city.running():
        yield desk


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


def test_every_chapter_has_its_fault() -> None:
    assert [BEGINNING, *FAULTS] == list(chapters())


def test_what_comes_before_can_be_followed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.city.path)
    assert desk.follow(BEGINNING) >= 6


@pytest.mark.parametrize("alert", FAULTS)
def test_a_fault_shows_and_its_chapter_can_be_followed(
    alert: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = FAULTS[alert]
    desk: Desk = request.getfixturevalue(fault.city)
    monkeypatch.chdir(desk.city.path)
    before = desk.scrape()
    with fault.make(desk):
        wait_until(
            lambda: fault.shows(before[fault.home], desk.figures(fault.home)),
            f"figures of {alert}",
            explain=lambda: str(desk.figures(fault.home)),
        )
        if PROMTOOL is not None:
            require_firing(tmp_path, alert, before, desk.scrape())
        assert desk.follow(alert)
    mended = desk.scrape()
    wait_until(lambda: not fault.shows(mended[fault.home], desk.figures(fault.home)), f"an end of {alert}")
    if PROMTOOL is not None:
        require_quiet(tmp_path, [alert], desk.scrape())


@pytest.mark.skipif(PROMTOOL is None, reason="promtool, of Debian's package prometheus, is not in PATH")
def test_nothing_fires_where_nothing_is_wrong(desk: Desk, tmp_path: Path) -> None:
    # Whatever disk this machine has.
    for faults in (desk.broker_faults, desk.registry_faults):
        faults.switch_on("free", "1000000000000")
    wait_until(lambda: desk.figures(BROKER)["exchange_disk_free_bytes"] == 1e12, "a large disk")
    desk.ask()
    require_quiet(tmp_path, rules(), desk.scrape())
