"""Opened capsules: the costly step is paid once a channel, and remembered for ten minutes (DESIGN section 5)."""

import hashlib
from collections import OrderedDict

from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from exchange.core.sealing import open_capsule

LIFETIME = 600_000
MOST = 10_000


class Channels:
    """Channel secrets by capsule and what it is bound to: another requester's capsule finds nothing here."""

    def __init__(self) -> None:
        self._opened: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()

    def open(self, capsule: bytes, key: MLKEM768X25519PrivateKey, info: bytes, now: int) -> bytes:
        """The channel secret of a capsule, 32 bytes.

        Args:
            capsule: 1,168 bytes; info: what it must be bound to.
            key: the sealing key that the request names.
            now: milliseconds.

        Raises:
            SealError: it is not sealed to this key, or bound to something else.
        """
        digest = hashlib.sha256(len(info).to_bytes(4, "big") + info + capsule).digest()
        found = self._opened.get(digest)
        if found is not None and found[1] > now:
            return found[0]
        channel = open_capsule(capsule, key, info)
        self._opened[digest] = (channel, now + LIFETIME)
        self._opened.move_to_end(digest)
        self._forget(now)
        return channel

    def _forget(self, now: int) -> None:
        while self._opened:
            digest, (_, expires) = next(iter(self._opened.items()))
            if expires > now and len(self._opened) <= MOST:
                return
            del self._opened[digest]
