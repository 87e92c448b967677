"""Who calls: the party that TLS names, by a certificate whose key still stands, and within its budget."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from exchange.broker.limits import TokenBuckets
from exchange.broker.logs import Logs
from exchange.broker.status import NotPermittedError, TooManyReadsError
from exchange.core.names import Party
from exchange.transport import peer_key, peer_party


class Call(Protocol):
    """What is asked of gRPC's context."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What TLS says of the peer."""
        ...


class Peers:
    """Lets peers in.

    Args:
        logs: the directory says which keys stand.
        buckets: how much a party may ask.
        clock: milliseconds.
    """

    def __init__(self, logs: Logs, buckets: TokenBuckets, clock: Callable[[], int]) -> None:
        self._logs = logs
        self._buckets = buckets
        self._clock = clock

    def identify(self, call: Call) -> Party:
        """Who calls. A certificate dies with the signing key that it came with (DESIGN section 3).

        Raises:
            PeerError: the session or its certificate does not say who the peer is.
            NotPermittedError: the certificate's key is revoked, or another party's.
        """
        auth = call.auth_context()
        peer = peer_party(auth)
        # A key that this broker has not read of yet gives no rights: every command asks the directory for the party.
        record = self._logs.directory.state.keys.get(peer_key(auth))
        if record is not None and record.revoked_index is not None:
            raise NotPermittedError("the key that this certificate came with is revoked")
        if record is not None and record.party != peer:
            raise NotPermittedError(f"the key that this certificate came with is not of {peer}")
        return peer

    def spend(self, call: Call) -> Party:
        """Who calls, once it has paid for the call.

        Raises:
            PeerError, NotPermittedError: as `identify` does.
            TooManyReadsError: its bucket is empty.
        """
        peer = self.identify(call)
        if not self._buckets.take(peer, self._clock()):
            raise TooManyReadsError("too many calls at once: slow down and try again")
        return peer
