"""Renew: a new TLS certificate for a key that stands; nothing enters a log, for nothing changes trust."""

import datetime
from collections.abc import Callable

import structlog

from exchange.broker.authority import Authority
from exchange.broker.following import Newcomers
from exchange.broker.logs import EntryRefusedError, Logs
from exchange.core.errors import CoreError
from exchange.core.names import Party
from exchange.core.renewal import check_renewal
from exchange.v1.log_pb2 import RenewRequest

logger = structlog.get_logger("exchange.broker")


class RenewCommand:
    """Renews certificates for authenticated peers.

    Args:
        logs: with the directory.
        authority: issues TLS certificates.
        clock: milliseconds.
    """

    def __init__(self, logs: Logs, authority: Authority, clock: Callable[[], int]) -> None:
        self._logs = logs
        self._authority = authority
        self._clock = clock
        self._newcomers = Newcomers(logs, clock)

    async def __call__(self, peer: Party, request: RenewRequest) -> bytes:
        """The new certificate, with the authority's behind it, PEM.

        Args:
            peer: whom TLS authenticated.
            request: signed by a signing key of the peer.

        Raises:
            EntryRefusedError: the key does not stand, did not sign this, or its clock is off.
            DecodeError: the certificate request is malformed, or another party's.
        """
        await self._newcomers.look_for(request.key_id, peer)
        now = self._clock()
        try:
            record = check_renewal(self._logs.directory.state, peer, request, now)
        except CoreError as error:
            raise EntryRefusedError(str(error)) from error
        moment = datetime.datetime.fromtimestamp(now / 1000, datetime.UTC)
        certificate = self._authority.issue(request.csr, peer, record.key_id, moment)
        logger.info("certificate renewed", party=str(peer), key=record.key_id.hex()[:16])
        return certificate
