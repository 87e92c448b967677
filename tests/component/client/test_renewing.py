"""Keys are renewed without a moment at which a home holds none that works, wherever the power fails."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import exchange.succession as succession
from exchange.broker.authority import found_authority
from exchange.client.errors import ExchangeError, RefusedError, UnavailableError
from exchange.client.renewing import is_signing_key_due, renew_certificate, renew_if_due, renew_signing_key
from exchange.client.session import Session
from exchange.core.keys import key_id
from exchange.core.lifetimes import DAY, SYSTEM_KEY, SYSTEM_RENEWAL, TLS_CERTIFICATE, TLS_RENEWAL
from exchange.home import Home, HomeError
from exchange.succession import certificate_end, install_certificate, make_next_signer, next_signer, next_tls_request
from exchange.transport import APPEND, RENEW, certificate_key
from exchange.v1.directory_pb2 import Role
from tests.certificates import KEY, csr, uri
from tests.memory import signer
from tests.renewing import AUTHORITY, Renewing, certified_home, moment
from tests.world import APPLICATIONS, POPULATION, REGISTRY, START, World


class PowerLossError(Exception):
    """The power fails here."""


@pytest.fixture
def world() -> World:
    world = World.standard()
    # A year's key, as a system has it; the standard world's ends never.
    world.admit(REGISTRY, Role.ROLE_SYSTEM, signer("registry's"), validity=(START - DAY, START + SYSTEM_KEY))
    return world


@pytest.fixture
def broker(world: World) -> Renewing:
    return Renewing(world, REGISTRY)


@pytest.fixture
def home(tmp_path: Path, world: World) -> Home:
    return certified_home(tmp_path / "registry", world, REGISTRY)


@pytest.fixture
async def session(home: Home, broker: Renewing) -> AsyncIterator[Session]:
    async with Session(home, broker, broker.clock) as session:
        await session.sync()
        yield session


def fail_at(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Let the power fail before one of the home's own steps."""

    def fails(*_: object, **__: object) -> None:
        raise PowerLossError(step)

    monkeypatch.setattr(Home, step, fails)


def keys_of(home: Home) -> set[str]:
    return {path.name for path in home.keys.iterdir() if not path.name.startswith("sealing")}


# --- TLS ----------------------------------------------------------------------------------------------


async def test_a_certificate_is_renewed_with_another_tls_key(session: Session, home: Home, world: World) -> None:
    before = home.private_key("tls").public_key()
    world.now += 65 * DAY
    until = await renew_certificate(session)
    assert until == certificate_end(home) == world.now // 1000 * 1000 + TLS_CERTIFICATE
    assert home.private_key("tls").public_key() != before
    assert certificate_key(home.read("tls.pem")) == key_id(session.signer.public_key)
    assert keys_of(home) == {"signing.pem", "tls.pem"}
    home.tls_identity()


async def test_it_is_due_in_the_last_third_of_its_life(session: Session, broker: Renewing, world: World) -> None:
    world.now = START + TLS_CERTIFICATE - TLS_RENEWAL - 1
    assert not await renew_if_due(session)
    world.now += 1
    assert await renew_if_due(session)
    assert not await renew_if_due(session)
    assert broker.count(RENEW) == 1


@pytest.mark.parametrize("step", ["new_private_key", "write", "adopt_key"])
async def test_a_renewal_may_be_cut_short_anywhere(
    session: Session, home: Home, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, step)
        with pytest.raises(PowerLossError):
            await renew_certificate(session)
    # Whatever is there now works, and the same again completes it.
    home.tls_identity()
    await renew_certificate(session)
    home.tls_identity()
    assert keys_of(home) == {"signing.pem", "tls.pem"}


async def test_a_lost_answer_is_asked_for_again(session: Session, broker: Renewing, home: Home) -> None:
    broker.loses_certificate = True
    await renew_certificate(session)
    assert broker.count(RENEW) == 2
    home.tls_identity()


@pytest.mark.parametrize("ahead", [DAY, -DAY])
async def test_renewing_with_the_clock_off_says_which_clocks(
    session: Session, broker: Renewing, home: Home, ahead: int
) -> None:
    before = home.read("tls.pem")
    broker.ahead = ahead
    with pytest.raises(RefusedError, match=r"the clock of .*registry says 2027-01-15 .* set the clock that is wrong"):
        await renew_certificate(session)
    assert home.read("tls.pem") == before
    home.tls_identity()


async def test_a_revoked_key_cannot_renew_its_certificate(session: Session, home: Home, world: World) -> None:
    before = home.read("tls.pem")
    world.revoke(key_id(session.signer.public_key), POPULATION)
    with pytest.raises(RefusedError, match="is revoked: no certificate is issued"):
        await renew_certificate(session)
    assert home.read("tls.pem") == before


OTHER_AUTHORITY = found_authority(KEY, "city.example", moment(START))
WRONG: dict[str, tuple[Callable[[Home], bytes], str]] = {
    "no certificate": (lambda _: b"PEM", "cannot be read"),
    "another party's": (
        lambda _: AUTHORITY.issue(request_of(APPLICATIONS), APPLICATIONS, bytes(32), moment(START)),
        f"is of {APPLICATIONS}",
    ),
    "another key's": (
        lambda _: AUTHORITY.issue(request_of(REGISTRY), REGISTRY, bytes(32), moment(START)),
        "another TLS key than those in this home",
    ),
    "another authority's": (
        lambda home: OTHER_AUTHORITY.issue(next_tls_request(home), REGISTRY, bytes(32), moment(START)),
        "not signed by the exchange's TLS authority",
    ),
    "of last year": (
        lambda home: AUTHORITY.issue(next_tls_request(home), REGISTRY, bytes(32), moment(START - 365 * DAY)),
        "this machine's clock says 2027-01-15 08:00 UTC",
    ),
    "of next year": (
        lambda home: AUTHORITY.issue(next_tls_request(home), REGISTRY, bytes(32), moment(START + 365 * DAY)),
        "this machine's clock says 2027-01-15 08:00 UTC",
    ),
}


def request_of(party: object) -> bytes:
    return csr([uri(party)])


@pytest.mark.parametrize("name", WRONG)
def test_a_certificate_that_does_not_fit_changes_nothing(home: Home, name: str) -> None:
    make, reason = WRONG[name]
    before = home.read("tls.pem")
    with pytest.raises(HomeError, match=reason):
        install_certificate(home, make(home), START)
    assert home.read("tls.pem") == before
    home.tls_identity()


# --- a system's signing key ---------------------------------------------------------------------------


async def test_a_system_renews_its_signing_key_under_the_old_one(session: Session, home: Home, world: World) -> None:
    old = session.signer.public_key
    assert await renew_signing_key(session)
    new = home.signer().public_key
    assert new == session.signer.public_key != old
    record = world.directory.state.keys[key_id(new)]
    assert record.not_after == world.now + SYSTEM_KEY
    assert next_signer(home) is None


async def test_it_is_due_sixty_days_before_its_end(session: Session, world: World) -> None:
    world.now = START + SYSTEM_KEY - SYSTEM_RENEWAL - 1
    assert not is_signing_key_due(session)
    world.now += 1
    assert is_signing_key_due(session)
    old = session.signer.public_key
    assert await renew_if_due(session)
    assert session.signer.public_key != old
    # The certificate dies with the key that it came with, so that it is the new one's.
    assert certificate_key(session.home.read("tls.pem")) == key_id(session.signer.public_key)
    assert not await renew_if_due(session)


@pytest.mark.parametrize("step", ["new_private_key", "adopt_key"])
async def test_a_rotation_may_be_cut_short_anywhere(
    session: Session, home: Home, world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, step)
        with pytest.raises(PowerLossError):
            await renew_signing_key(session)
    # The key in its place stands in the directory, whichever it is.
    assert key_id(home.signer().public_key) in world.directory.state.keys
    assert await renew_signing_key(session)
    assert next_signer(home) is None
    assert key_id(home.signer().public_key) in world.directory.state.keys


async def test_a_rotation_cut_short_after_its_entry_enters_no_second_key(
    session: Session, broker: Renewing, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, "adopt_key")
        with pytest.raises(PowerLossError):
            await renew_signing_key(session)
    assert is_signing_key_due(session)
    assert await renew_signing_key(session)
    assert broker.count(APPEND) == 1


async def test_a_lost_receipt_enters_no_second_key(session: Session, broker: Renewing, world: World) -> None:
    broker.lost = 0
    entered = world.directory.size
    unary = broker.unary
    lost = iter([True])

    async def loses_first(method: str, request: bytes, timeout: float) -> bytes:
        answer = await unary(method, request, timeout)
        if method == APPEND and next(lost, False):
            raise UnavailableError("lost", retry=False)
        return answer

    broker.unary = loses_first  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        await renew_signing_key(session)
    assert await renew_signing_key(session)
    assert world.directory.size == entered + 1


async def test_a_directory_out_of_reach_keeps_the_old_key(session: Session, broker: Renewing, home: Home) -> None:
    before = home.signer().public_key
    broker.down = 100
    with pytest.raises(UnavailableError):
        await renew_signing_key(session)
    assert home.signer().public_key == before


async def test_a_revoked_key_that_renews_itself_is_refused_and_keeps_its_home_as_it_is(
    session: Session, home: Home, world: World
) -> None:
    before = home.signer().public_key
    world.revoke(key_id(before), POPULATION)
    with pytest.raises(RefusedError, match="is revoked"):
        await renew_signing_key(session)
    assert home.signer().public_key == before


async def test_a_thiefs_renewal_shows_when_the_owner_renews(session: Session, world: World) -> None:
    thief = signer("thief")
    world.admit(REGISTRY, Role.ROLE_SYSTEM, thief)
    world.keys[REGISTRY] = signer("registry's")
    with pytest.raises(ExchangeError, match="has a later key already"):
        await renew_signing_key(session)


async def test_a_waiting_key_that_was_revoked_is_given_up(session: Session, home: Home, world: World) -> None:
    waiting = make_next_signer(home)
    world.admit(REGISTRY, Role.ROLE_SYSTEM, waiting)
    world.keys[REGISTRY] = signer("registry's")
    world.revoke(key_id(waiting.public_key), POPULATION)
    await session.sync()
    assert not succession.adopt_signer(home, session.directory.state, world.now)
    assert next_signer(home) is None
    assert home.signer().public_key == signer("registry's").public_key


async def test_a_department_does_not_renew_its_signing_key_by_itself(tmp_path: Path, world: World) -> None:
    home = certified_home(tmp_path / "population", world, POPULATION)
    broker = Renewing(world, POPULATION)
    async with Session(home, broker, broker.clock) as session:
        await session.sync()
        make_next_signer(home)
        assert not is_signing_key_due(session)
