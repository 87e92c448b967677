"""A broker renews certificates for keys that stand, and its own; an adapter that leaves is delivered nothing more."""

import asyncio
from pathlib import Path

import pytest
from cryptography import x509
from structlog.testing import capture_logs

import exchange.broker.certificates as module
from exchange.broker.certificates import ServerCertificate, warn_daily
from exchange.broker.logs import EntryRefusedError
from exchange.broker.renewing import RenewCommand
from exchange.core.errors import DecodeError
from exchange.core.keys import key_id
from exchange.core.lifetimes import DAY, TLS_CERTIFICATE, TLS_RENEWAL
from exchange.core.names import Party
from exchange.core.renewal import renewal_request
from exchange.home import Home, HomeError
from exchange.succession import certificate_end
from exchange.transport import certificate_key, certificate_party
from exchange.v1.directory_pb2 import Role
from exchange.v1.gateway_pb2 import AdapterFrame, Leaving
from tests.certificates import csr, uri
from tests.component.broker.parts import Broker, nobody
from tests.drafts import accepted, key_draft
from tests.renewing import AUTHORITY, certified_home, moment
from tests.world import APPLICATIONS, BROKER, EXCHANGE, HOUSING, ORIGIN, POPULATION, REGISTRY, START, World

HOSTS = ("127.0.0.1",)


@pytest.fixture
def renew(broker: Broker) -> RenewCommand:
    return RenewCommand(broker.logs, AUTHORITY, broker.clock)


# --- others' ------------------------------------------------------------------------------------------


async def test_a_certificate_is_renewed_for_the_key_that_asks(renew: RenewCommand, world: World) -> None:
    request = renewal_request(ORIGIN, world.keys[REGISTRY], csr([uri(REGISTRY)]), world.now)
    certificate = await renew(REGISTRY, request)
    assert certificate_party(certificate) == REGISTRY
    assert certificate_key(certificate) == key_id(world.keys[REGISTRY].public_key)
    issued = x509.load_pem_x509_certificate(certificate)
    assert issued.not_valid_after_utc == moment(world.now + TLS_CERTIFICATE).replace(microsecond=0)
    # For a client alone: no party's certificate passes for a broker's.
    usage = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]


async def test_a_certificate_of_another_name_is_not_issued(renew: RenewCommand, world: World) -> None:
    request = renewal_request(ORIGIN, world.keys[REGISTRY], csr([uri(APPLICATIONS)]), world.now)
    with pytest.raises(DecodeError, match="must name"):
        await renew(REGISTRY, request)


async def test_nothing_enters_a_log(renew: RenewCommand, broker: Broker, world: World) -> None:
    size = broker.logs.directory.size
    await renew(REGISTRY, renewal_request(ORIGIN, world.keys[REGISTRY], csr([uri(REGISTRY)]), world.now))
    assert (broker.logs.directory.size, broker.size) == (size, 0)


async def test_a_revoked_key_renews_nothing_from_its_revocation_on(
    renew: RenewCommand, broker: Broker, world: World
) -> None:
    request = renewal_request(ORIGIN, world.keys[REGISTRY], csr([uri(REGISTRY)]), world.now)
    await renew(REGISTRY, request)
    world.revoke(key_id(world.keys[REGISTRY].public_key), POPULATION)
    await broker.publish()
    with pytest.raises(EntryRefusedError, match="is revoked"):
        await renew(REGISTRY, request)


async def test_a_clock_that_is_off_is_told(renew: RenewCommand, world: World) -> None:
    request = renewal_request(ORIGIN, world.keys[REGISTRY], csr([uri(REGISTRY)]), world.now - DAY)
    with pytest.raises(EntryRefusedError, match="set the clock that is wrong"):
        await renew(REGISTRY, request)


# --- its own ------------------------------------------------------------------------------------------


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def home(tmp_path: Path, world: World) -> Home:
    return certified_home(tmp_path / "broker", world, BROKER, "broker")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_broker_renews_its_certificate_in_the_last_third_of_its_life(home: Home, clock: Clock) -> None:
    certificate = ServerCertificate(home, AUTHORITY, HOSTS, clock)
    clock.now = START + TLS_CERTIFICATE - TLS_RENEWAL - 1
    assert not certificate.renew_if_due()
    assert certificate.read() is None
    clock.now += 1
    before = home.tls_identity()
    assert certificate.renew_if_due()
    shown = certificate.read()
    assert shown is not None
    assert (shown.certificate, shown.private_key) != (before.certificate, before.private_key)
    assert certificate.read() is None
    names = x509.load_pem_x509_certificate(shown.certificate).extensions
    assert names.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.IPAddress)
    assert certificate_end(home) == (clock.now + TLS_CERTIFICATE) // 1000 * 1000


def test_a_broker_that_stood_still_for_long_begins_with_a_new_certificate(home: Home, clock: Clock) -> None:
    clock.now = START + 2 * TLS_CERTIFICATE
    ServerCertificate(home, AUTHORITY, HOSTS, clock).begin()
    assert certificate_end(home) > clock.now


@pytest.mark.parametrize("step", ["new_private_key", "write", "adopt_key"])
def test_a_renewal_may_be_cut_short_anywhere(
    home: Home, clock: Clock, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    certificate = ServerCertificate(home, AUTHORITY, HOSTS, clock)
    clock.now = START + 70 * DAY

    def fails(*_: object, **__: object) -> None:
        raise HomeError(step)

    with monkeypatch.context() as patch:
        patch.setattr(Home, step, fails)
        with pytest.raises(HomeError, match=step):
            certificate.renew_if_due()
    home.tls_identity()
    certificate.renew_if_due()
    assert certificate_end(home) > clock.now + TLS_RENEWAL
    home.tls_identity()


def test_what_does_not_fit_is_not_shown(home: Home, clock: Clock) -> None:
    certificate = ServerCertificate(home, AUTHORITY, HOSTS, clock)
    good = home.read("tls.pem")
    home.write("tls.pem", b"no certificate")
    with capture_logs() as logs:
        assert certificate.read() is None
    assert "the old one is shown" in logs[0]["event"]
    home.write("tls.pem", good)
    assert certificate.read() is not None


async def test_the_log_says_once_a_day_what_expires_and_what_stands_in_public_view(
    home: Home, broker: Broker, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = START + 20 * DAY
    accepted(world, key_draft(world, HOUSING, "DEPARTMENT", EXCHANGE), EXCHANGE)
    world.admit(Party(ORIGIN, "transport"), Role.ROLE_DEPARTMENT, validity=(START - DAY, soon))
    await broker.publish()

    class EnoughError(Exception):
        """A day would pass."""

    async def sleep(seconds: float) -> None:
        assert seconds == module.WARN_SECONDS == 24 * 3600
        raise EnoughError

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    with capture_logs() as logs, pytest.raises(EnoughError):
        await warn_daily(home, broker.logs, broker.clock)
    [expires] = [line for line in logs if line["event"] == "expires" and line["what"] == "signing key"]
    assert (expires["party"], expires["within_days"]) == (f"exchange://{ORIGIN}/transport", 30)
    [pending] = [line for line in logs if "public view" in line["event"]]
    assert pending["party"] == str(HOUSING)


# --- an adapter whose other tunnel takes over ---------------------------------------------------------


async def test_nothing_is_delivered_through_a_tunnel_that_is_left(broker: Broker, world: World) -> None:
    old, new = await broker.attach(), await broker.attach()
    await old.say(AdapterFrame(leaving=Leaving()))
    await broker.submit(world.request())
    await broker.submit(world.request())
    assert len(new.deliveries) == 2
    assert not old.deliveries
    await old.until(lambda: old.is_left)


async def test_what_was_delivered_before_is_answered_through_the_tunnel_that_is_left(
    broker: Broker, world: World
) -> None:
    old = await broker.attach()
    old.respond = nobody
    request = world.request()
    waiting = asyncio.create_task(broker.submit(request))
    delivery = await old.delivered()
    await old.say(AdapterFrame(leaving=Leaving()))
    await old.until(lambda: old.is_left)
    answer = world.respond(request)
    await old.reply(delivery, answer)
    await waiting
    await old.settlement(answer)
