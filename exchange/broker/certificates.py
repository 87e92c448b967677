"""A broker's own TLS certificate: it signs it itself, in time, and shows it to whoever connects from then on."""

import asyncio
import datetime
from collections.abc import Callable, Sequence

import structlog

from exchange.broker.authority import Authority
from exchange.broker.logs import Logs
from exchange.core.errors import CoreError
from exchange.core.expiry import expiring, pending_keys, said, said_pending, warnings
from exchange.core.keys import key_id
from exchange.core.lifetimes import WARNINGS
from exchange.core.names import Party
from exchange.home import Home, HomeError
from exchange.succession import Stamp, certificates_of, install_certificate, is_certificate_due, next_tls_request
from exchange.transport import TlsIdentity

LOOK_SECONDS = 3600
WARN_SECONDS = 24 * 3600

logger = structlog.get_logger("exchange.broker")


class ServerCertificate:
    """What the broker shows in TLS.

    Args:
        home: the broker's.
        authority: the exchange's.
        hosts: DNS names and addresses for the certificate.
        clock: milliseconds.
    """

    def __init__(self, home: Home, authority: Authority, hosts: Sequence[str], clock: Callable[[], int]) -> None:
        self._home = home
        self._authority = authority
        self._hosts = tuple(hosts)
        self._clock = clock
        self._stamp = Stamp.of(home)

    def begin(self) -> TlsIdentity:
        """The identity to begin with, renewed first where it is due: a broker that stood still for long needs nobody.

        Raises:
            HomeError: a key or the certificate cannot be used, or written.
        """
        self.renew_if_due()
        self._stamp = Stamp.of(self._home)
        return self._home.tls_identity()

    def renew_if_due(self) -> bool:
        """Sign a new certificate where the present one is in the last third of its life; whether it was.

        Raises:
            HomeError: a key or the certificate cannot be used, or written.
        """
        now = self._clock()
        if not is_certificate_due(self._home, now):
            return False
        key = key_id(self._home.signer().public_key)
        moment = datetime.datetime.fromtimestamp(now / 1000, datetime.UTC)
        request = next_tls_request(self._home)
        certificate = self._authority.issue(request, self._home.party, key, moment, self._hosts)
        install_certificate(self._home, certificate, now)
        logger.info("certificate renewed", party=str(self._home.party), key=key.hex()[:16])
        return True

    def read(self) -> TlsIdentity | None:
        """What to show from now on, where that has changed; called before each handshake, on a thread of gRPC's."""
        stamp = Stamp.of(self._home)
        if stamp == self._stamp:
            return None
        try:
            identity = self._home.tls_identity()
        except HomeError as error:
            logger.error("the certificate in the home cannot be used; the old one is shown", reason=str(error))
            return None
        self._stamp = stamp
        return identity

    def reader(self) -> Callable[[], TlsIdentity | None]:
        """`read` for one more server: each takes up a change by itself."""
        return ServerCertificate(self._home, self._authority, self._hosts, self._clock).read

    async def run(self) -> None:
        """Renew in time, for as long as the broker runs; what fails is tried again, and said."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await asyncio.to_thread(self.renew_if_due)
            except (HomeError, CoreError) as error:
                logger.error("the certificate cannot be renewed now", reason=str(error))


async def warn_daily(home: Home, logs: Logs, clock: Callable[[], int]) -> None:
    """Say once a day in the log what expires, of everybody's, and which keys stand in public view."""
    while True:
        try:
            certificates = certificates_of(home)
        except HomeError as error:
            certificates = ()
            logger.error("when the certificates end is not known", reason=str(error))
        directory, now = logs.directory, clock()
        for days, item in warnings(
            expiring(directory, [Party(home.party.domain)], certificates, now, WARNINGS[0]), now
        ):
            logger.warning("expires", **said(days, item))
        for record in pending_keys(directory.state, now):
            logger.warning("a key stands in public view", **said_pending(record))
        await asyncio.sleep(WARN_SECONDS)
