"""Everything is rotated while requests keep coming, and none of them fails; and what comes of keys that were stolen."""

import asyncio
import datetime
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from exchange.broker.genesis import load_authority
from exchange.client import ExchangeClient, RefusedError
from exchange.client.renewing import renew_certificate, renew_signing_key
from exchange.client.session import Session, wall_clock
from exchange.core.keys import key_id
from exchange.core.lifetimes import DAY, TLS_CERTIFICATE
from exchange.home import Home
from exchange.succession import certificate_end, install_certificate, next_tls_request
from exchange.transport import certificate_key
from exchange.v1.access_pb2 import Code
from tests.e2e.asking import ask, refused
from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import APPLICATIONS, BROKER, HOSTS, HOUSING, OPERATOR, POPULATION, REGISTRY
from tests.e2e.processes import until, wait_until
from tests.e2e.test_revocation import run

ASKERS = 4


@pytest.fixture
def city(new_city: NewCity) -> Iterator[City]:
    with new_city(faulty=True) as city:
        yield city
        city.check()


class Load:
    """Requests that keep coming: how many were answered."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed: list[BaseException] = []

    async def more(self, count: int = 10) -> None:
        """Wait until so many more were answered."""
        wanted = self.answered + count
        async with asyncio.timeout(30):
            while self.answered < wanted and not self.failed:  # noqa: ASYNC110 - others count
                await asyncio.sleep(0.01)
        assert not self.failed, self.failed


@asynccontextmanager
async def load(city: City) -> AsyncIterator[Load]:
    """A client of which much is asked until the block ends; no request may fail."""
    async with city.client() as client, asking(client) as found:
        yield found


@asynccontextmanager
async def asking(client: ExchangeClient) -> AsyncIterator[Load]:
    """Several who ask one thing after the other until the block ends; no request may fail."""
    done, found = asyncio.Event(), Load()

    async def one(first: int) -> None:
        number = first
        while not done.is_set():
            try:
                await ask(client, number % 300)
            except Exception as error:  # noqa: BLE001 - whatever it is, no request may end so
                found.failed.append(error)
                return
            found.answered += 1
            number += ASKERS

    tasks = [asyncio.create_task(one(first)) for first in range(ASKERS)]
    try:
        await found.more()
        yield found
    finally:
        done.set()
        await asyncio.gather(*tasks)
    assert not found.failed, found.failed


async def exchange(city: City, name: str, *arguments: str) -> str:
    code, text = await run("exchange.cli.main", *arguments, "--home", str(city.path / name))
    assert code == 0, text
    return text


def old_certificate(city: City, name: str, age: int) -> None:
    """Put a certificate into a home that was issued so many days ago."""
    home, authority = city.home(name), load_authority(city.home(BROKER))
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age)
    hosts = HOSTS if name == BROKER else ()
    key = key_id(home.signer().public_key)
    certificate = authority.issue(next_tls_request(home), home.party, key, moment, hosts)
    install_certificate(home, certificate, wall_clock())


def shown_certificate(city: City, name: str = APPLICATIONS) -> bytes:
    """What the broker shows to who connects now, DER."""
    home = city.home(name)
    context = ssl.create_default_context(cadata=home.trust.tls_ca)
    context.load_cert_chain(home.path / "tls.pem", home.keys / "tls.pem")
    host, _, port = city.address.partition(":")
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
        shown = tls.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def installed_certificate(home: Home) -> x509.Certificate:
    return x509.load_pem_x509_certificate(home.read("tls.pem"))


async def test_signing_sealing_and_tls_are_rotated_under_load_without_one_failed_request(city: City) -> None:
    registry = city.home(REGISTRY)
    old_key, old_tls = registry.signer().public_key, installed_certificate(registry)
    async with load(city) as asked:
        # The signing key, under the old one, by a command beside the running adapter; and its certificate with it.
        mark = city.registry.mark()
        await exchange(city, REGISTRY, "key", "rotate")
        await city.registry.seen("certificate replaced", mark)
        await city.registry.seen("the tunnel of the old certificate has ended", mark)
        await asked.more()
        # The sealing key: the old one opens what is sealed to it until it ends.
        mark = city.registry.mark()
        city.faults(REGISTRY).switch_on("sealing")
        await city.registry.seen("sealing key entered", mark)
        city.faults(REGISTRY).switch_off("sealing")
        await asked.more()
        # The adapter's certificate once more, and the broker's own.
        mark = city.registry.mark()
        await exchange(city, REGISTRY, "key", "renew")
        await city.registry.seen("the tunnel of the old certificate has ended", mark)
        old_certificate(city, BROKER, 1)
        assert shown_certificate(city) == installed_certificate(city.home(BROKER)).public_bytes(Encoding.DER)
        await asked.more()
        # Whoever attaches and connects from now on sees all of it.
        mark = city.registry.mark()
        await exchange(city, REGISTRY, "key", "renew")
        await city.registry.seen("the tunnel of the old certificate has ended", mark)
        await asked.more()
        # The old signing key ends: nothing that runs rests on it any more.
        await exchange(city, POPULATION, "key", "revoke", key_id(old_key).hex(), "--reason", "Replaced")
        await asked.more()
    assert registry.signer().public_key != old_key
    assert installed_certificate(registry) != old_tls
    assert certificate_key(registry.read("tls.pem")) == key_id(registry.signer().public_key)
    city.wait_settled()


async def test_certificates_near_their_end_are_renewed_by_the_services_themselves(new_city: NewCity) -> None:
    with new_city(faulty=True) as city:
        assert city.registry.stop() == 0
        assert city.broker.stop() == 0
        old_certificate(city, BROKER, 61)
        old_certificate(city, REGISTRY, 61)
        city.broker.start()
        city.registry.start()
        for name in (BROKER, REGISTRY):
            home = city.home(name)
            wait_until(
                lambda home=home: certificate_end(home) > wall_clock() + TLS_CERTIFICATE - DAY, f"{name} is renewed"
            )
        await city.registry.seen("certificate replaced")
        await city.registry.seen("the tunnel of the old certificate has ended")
        async with city.client() as client:
            await ask(client)
        city.check()


async def test_an_open_client_renews_its_certificate_and_goes_over_to_other_keys_without_one_failed_request(
    city: City,
) -> None:
    home = city.home(APPLICATIONS)
    old_certificate(city, APPLICATIONS, 61)
    async with city.client() as client:
        old = client.session.signer.public_key
        async with asking(client) as asked:
            await until(lambda: certificate_end(home) > wall_clock() + TLS_CERTIFICATE - DAY, "it is renewed")
            await asked.more()
            # A command beside it enters another signing key, with a certificate that is good for that alone.
            await exchange(city, APPLICATIONS, "key", "rotate")
            await until(lambda: client.session.signer.public_key != old, "the client signs with the new key")
            await asked.more()
        # Without the old key nobody is let in by a certificate that came with it.
        await exchange(city, HOUSING, "key", "revoke", key_id(old).hex(), "--reason", "Replaced")
        answer = await ask(client)
        assert answer.request.key_id == key_id(home.signer().public_key) != key_id(old)
    city.wait_settled()


async def test_a_broker_whose_certificate_has_expired_while_it_stood_still_starts_again(new_city: NewCity) -> None:
    with new_city() as city:
        assert city.registry.stop() == 0
        assert city.broker.stop() == 0
        expired(city, BROKER)
        city.broker.start()
        assert certificate_end(city.home(BROKER)) > wall_clock()


def expired(city: City, name: str) -> None:
    home, authority = city.home(name), load_authority(city.home(BROKER))
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=100)
    csr = home.tls_request(home.private_key("tls"))
    home.write("tls.pem", authority.issue(csr, home.party, key_id(home.signer().public_key), moment, HOSTS))


async def test_a_stolen_key_that_renewed_itself_ends_with_what_it_gave(city: City, tmp_path: Path) -> None:
    """The thief has a copy of the home; the steward revokes, and the list says what the key signed since."""
    began = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    stolen = tmp_path / "stolen"
    shutil.copytree(city.path / APPLICATIONS, stolen)
    async with ExchangeClient(Session(Home(stolen))) as thief:
        await ask(thief)
        assert await renew_signing_key(thief.session)
        await renew_certificate(thief.session)
        old = key_id(city.home(APPLICATIONS).signer().public_key)
        text = await exchange(
            city, HOUSING, "key", "revoke", old.hex()[:16], "--since", began, "--reason", "Laptop stolen"
        )
        assert text.count("Revoked the signing key") == 2
        assert "It signed 1 entry of the access log" in text
        # Neither key does anything any more: no request, no certificate, no successor.
        with pytest.raises(RefusedError):
            await ask(thief)
        with pytest.raises(RefusedError):
            await renew_certificate(thief.session)
        with pytest.raises(RefusedError):
            await renew_signing_key(thief.session)
    # The department gives its system another key, at once.
    await exchange(city, APPLICATIONS, "key", "rotate", "--by-department")
    request, admission = city.path / APPLICATIONS / "request-next.json", city.path / "admission.json"
    await exchange(city, HOUSING, "system", "add", str(request), "--unchecked", "--out", str(admission))
    await exchange(city, APPLICATIONS, "key", "install", str(admission))
    async with city.client() as client:
        await ask(client)


async def test_a_home_whose_key_is_stolen_ends_it_itself(city: City) -> None:
    old = key_id(city.home(REGISTRY).signer().public_key)
    text = await exchange(city, REGISTRY, "key", "revoke", old.hex()[:16], "--reason", "Broken into")
    assert f"Revoked the signing key {old.hex()[:4]}" in text
    # From that entry on no broker lets it in: neither the adapter that runs, nor a command.
    code, text = await run("exchange.cli.main", "key", "renew", "--home", str(city.path / REGISTRY))
    assert code == 1
    assert "is revoked" in text
    await city.registry.seen("not attached")
    async with city.client() as client:
        with refused(Code.CODE_PROVIDER_UNAVAILABLE):
            await ask(client)


async def test_a_department_recovers_its_key_in_public_view_and_the_old_key_can_cancel_it(city: City) -> None:
    await exchange(city, HOUSING, "key", "recover")
    request, admission = city.path / HOUSING / "request-next.json", city.path / "admission.json"
    text = await exchange(city, OPERATOR, "department", "admit", str(request), "--unchecked", "--out", str(admission))
    assert "takes effect after 72 hours in public view" in text
    pending = await exchange(city, POPULATION, "key", "pending")
    assert f"exchange://city.test/{HOUSING}" in pending
    status = await exchange(city, REGISTRY, "status")
    assert f"exchange://city.test/{HOUSING}" in status
    assert "in public view" in status
    key = next(word for word in pending.split() if len(word) == 16)
    await exchange(city, HOUSING, "key", "cancel", key)
    assert "No key stands in public view" in await exchange(city, POPULATION, "key", "pending")


async def test_a_department_rotates_its_key_at_once_with_the_old_ones_word(city: City) -> None:
    old = city.home(HOUSING).signer().public_key
    await exchange(city, HOUSING, "key", "rotate")
    request, admission = city.path / HOUSING / "request-next.json", city.path / "admission.json"
    text = await exchange(city, OPERATOR, "department", "admit", str(request), "--unchecked", "--out", str(admission))
    assert "72 hours" not in text
    # Until its admission is installed, the home goes on with the old one.
    assert city.home(HOUSING).signer().public_key == old
    await exchange(city, HOUSING, "key", "install", str(admission))
    new = city.home(HOUSING).signer().public_key
    assert new != old
    await exchange(city, HOUSING, "key", "revoke", key_id(old).hex()[:16], "--reason", "Replaced")
    await city.revoke()
