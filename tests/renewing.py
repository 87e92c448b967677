"""A party's home with a TLS certificate, and an exchange in memory that renews it."""

import datetime
from pathlib import Path

from exchange.broker.authority import Authority, found_authority
from exchange.client.errors import ExchangeError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.renewal import RenewalError, check_renewal
from exchange.core.trust import Trust, encode_trust
from exchange.core.wire import decode, encode
from exchange.home import Home
from exchange.transport import RENEW
from exchange.v1.log_pb2 import RenewRequest, RenewResponse
from tests.certificates import AUTHORITY_KEY
from tests.memory import signer
from tests.simulator import Simulator, lost_connection, refused, trust_of
from tests.world import ORIGIN, START, World


def moment(now: int) -> datetime.datetime:
    """A time in milliseconds as an aware datetime."""
    return datetime.datetime.fromtimestamp(now / 1000, datetime.UTC)


AUTHORITY = found_authority(AUTHORITY_KEY, ORIGIN, moment(START))


class Renewing(Simulator):
    """The simulator with a TLS authority, whose broker renews certificates for `peer`.

    Args:
        world: whose directory says which keys stand.
        peer: whom TLS authenticates.
    """

    def __init__(self, world: World, peer: Party) -> None:
        super().__init__(world)
        self.peer = peer
        self.authority: Authority = AUTHORITY
        # How far the broker's clock is ahead, and whether the answer to a renewal is lost.
        self.ahead = 0
        self.loses_certificate = False

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        """One call."""
        if method != RENEW:
            return await super().unary(method, request, timeout)
        self.calls.append((method, request))
        answer = self._renew(decode(RenewRequest, request))
        if self.loses_certificate:
            self.loses_certificate = False
            raise lost_connection()
        return encode(answer)

    def _renew(self, request: RenewRequest) -> RenewResponse:
        now = self.world.now + self.ahead
        try:
            record = check_renewal(self.world.directory.state, self.peer, request, now)
        except RenewalError as error:
            raise self._refusal(str(error)) from error
        return RenewResponse(certificate=self.authority.issue(request.csr, self.peer, record.key_id, moment(now)))

    def _refusal(self, reason: str) -> ExchangeError:
        error = refused("ENTRY_REFUSED", reason)
        assert isinstance(error, ExchangeError)
        return error


def trusted(world: World) -> Trust:
    """The world's trust file, with the authority that renews here."""
    trust = trust_of(world)
    return Trust(
        trust.name, trust.root_key, trust.directory_log, trust.access_log, AUTHORITY.pem.decode(), trust.brokers
    )


def certified_home(path: Path, world: World, party: Party, role: str = "", age: int = 0) -> Home:
    """A party's home with everything in it, whose certificate was issued `age` milliseconds ago."""
    home = Home.create(path, party, role or ("system" if party.is_system else "department"))
    home.write("trust.toml", encode_trust(trusted(world)).encode())
    key = world.keys.get(party) or signer(str(party))
    home.new_private_key("signing", key.private_key)
    request = home.new_tls_request()
    home.write("tls.pem", AUTHORITY.issue(request, party, key_id(key.public_key), moment(world.now - age)))
    return home
