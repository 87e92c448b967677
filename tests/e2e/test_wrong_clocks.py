"""Renewals on a machine whose clock is wrong: each is refused with a word on the clock, and the home loses nothing."""

from pathlib import Path

import pytest

from exchange.client.session import wall_clock
from exchange.core.keys import key_id
from exchange.core.lifetimes import DAY, TLS_CERTIFICATE
from exchange.home import Home
from exchange.succession import certificate_end
from exchange.transport import certificate_key
from tests.e2e.asking import ask
from tests.e2e.city import City
from tests.e2e.clocks import HOUR, TYPED, timed
from tests.e2e.founding import APPLICATIONS, REGISTRY
from tests.e2e.processes import until
from tests.e2e.test_rotation import old_certificate
from tests.e2e.test_witnesses import answered

pytestmark = pytest.mark.timeout(600)

SET_IT = "set the clock that is wrong, and renew again"


def kept(home: Home) -> tuple[bytes, bytes, bytes]:
    """What a home shows and signs with."""
    return home.read("tls.pem"), (home.keys / "tls.pem").read_bytes(), (home.keys / "signing.pem").read_bytes()


def key_of(home: Home) -> bytes:
    """The id of the signing key."""
    return key_id(home.signer().public_key)


async def test_an_adapter_whose_clock_is_wrong_says_so_and_renews_once_it_is_set(
    template: City, tmp_path: Path
) -> None:
    with timed(template, tmp_path / "city") as clocks:
        city, home = clocks.city, clocks.city.home(REGISTRY)
        assert city.registry.stop() == 0
        old_certificate(city, REGISTRY, 61)
        before = kept(home)
        clocks.of(REGISTRY).switch_on("clock", str(2 * HOUR))
        city.registry.start()
        said = await city.registry.seen("keys cannot be renewed now")
        assert f"the clock of {home.party} says" in said
        assert SET_IT in said
        assert city.registry.stop() == 0
        assert kept(home) == before
        clocks.of(REGISTRY).switch_on("clock", "0")
        city.registry.start()
        await until(lambda: certificate_end(home) > wall_clock() + TLS_CERTIFICATE - DAY, "the certificate is renewed")
        async with city.client() as client:
            await answered(client)
        city.wait_settled()
        city.check()


@pytest.mark.parametrize("hours", [2, -2])
async def test_a_command_that_renews_by_a_wrong_clock_changes_nothing(
    template: City, tmp_path: Path, hours: int
) -> None:
    with timed(template, tmp_path / "city") as clocks:
        home = clocks.city.home(APPLICATIONS)
        before = kept(home)
        clocks.of(TYPED).switch_on("clock", str(hours * HOUR))
        said = await clocks.types(APPLICATIONS, "key", "renew", code=1)
        assert f"the clock of {home.party} says" in said
        assert SET_IT in said
        assert kept(home) == before
        # A signing key that would be valid from a time to come is refused; one of a time that has been is as good.
        if hours > 0:
            said = await clocks.types(APPLICATIONS, "key", "rotate", code=1)
            assert f"is the clock of {home.party} right?" in said
            assert kept(home) == before
            async with clocks.client() as client:
                await ask(client)
        # Set right, both come off; the key that was refused is the one that is entered now.
        clocks.of(TYPED).switch_on("clock", "0")
        await clocks.types(APPLICATIONS, "key", "rotate")
        assert kept(home) != before
        assert certificate_key(home.read("tls.pem")) == key_of(home)
        async with clocks.client() as client:
            assert (await ask(client)).request.key_id == key_of(home)
        clocks.city.wait_settled()
        clocks.city.check()
