"""Which entries of the access log a key signed: what to look at once it is known to have been stolen."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from exchange.client.calls import call
from exchange.client.session import TIMEOUT, Session
from exchange.core.access import body_problem, read_access_leaf
from exchange.core.envelope import decode_envelope
from exchange.core.errors import CoreError
from exchange.core.wire import decode
from exchange.transport import ACCESS_READ
from exchange.v1.access_pb2 import AccessBody, AccessKind
from exchange.v1.log_pb2 import ReadRequest, ReadResponse, Record

PARTS = ("request", "response", "refusal")


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """One entry that a key signed.

    Args:
        index: in the access log; time: of the entry, milliseconds.
        kind: of access; signed: which parts of it the key signed: request, response, refusal.
        requester, provider: as the leaf names them.
    """

    index: int
    time: int
    kind: "AccessKind.ValueType"
    signed: tuple[str, ...]
    requester: str
    provider: str


def signed_parts(body: AccessBody, key: bytes) -> tuple[str, ...]:
    """Which parts of an entry's body name a key as their signer.

    Raises:
        CoreError: a part is malformed.
    """
    parts = {name: getattr(body, name) for name in PARTS}
    return tuple(name for name, data in parts.items() if data and decode_envelope(data).key_id == key)


async def own_accesses_of(session: Session, key: bytes, since: int) -> AsyncIterator[KeyAccess]:
    """Entries about this party, or those below it, that a key signed, the oldest first.

    As the broker shows them: that it leaves none out, an auditor proves.

    Args:
        session: the party's open home.
        key: SHA-256 of the key; since: entries of this time or later, milliseconds.

    Raises:
        RefusedError, UnavailableError: the broker does not let them be read.
    """
    start = 0
    while True:
        response = await call(session.transport, ACCESS_READ, ReadRequest(start=start), ReadResponse, TIMEOUT)
        for record in response.records:
            found = _access(record, key)
            if found is not None and found.time >= since:
                yield found
        if response.next <= start or not response.records:
            return
        start = response.next


def _access(record: Record, key: bytes) -> KeyAccess | None:
    try:
        leaf = read_access_leaf(record.leaf)
        if not record.body or body_problem(leaf, record.body):
            return None
        signed = signed_parts(decode(AccessBody, record.body), key)
    except CoreError:
        return None
    if not signed:
        return None
    return KeyAccess(record.index, leaf.time, leaf.kind, signed, leaf.requester, leaf.provider)
