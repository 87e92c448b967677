"""What was released to a party and by it, as the access log's own entries tell (DESIGN section 7).

The broker says which entries are a party's own, and may leave some out: this helps to tidy up, and proves nothing.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from exchange.client.calls import brokers_checkpoint, call
from exchange.client.errors import EvidenceError
from exchange.client.session import Session
from exchange.core.access import body_problem, read_access_leaf
from exchange.core.decision import read_request
from exchange.core.envelope import REQUEST, decode_envelope
from exchange.core.errors import CoreError
from exchange.core.wire import decode
from exchange.transport import ACCESS_READ, ACCESS_SEARCH
from exchange.v1.access_pb2 import AccessBody, AccessKind
from exchange.v1.log_pb2 import ReadRequest, ReadResponse, Record, SearchRequest, SearchResponse

TIMEOUT = 30.0

Advance = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Use:
    """One released answer.

    Args:
        index, time: of its entry, milliseconds.
        requester, provider: the systems' names.
        agreement: message digest; dataset: object id; both empty where the body is not kept any more.
        request_digest: 32 bytes.
    """

    index: int
    time: int
    requester: str
    provider: str
    agreement: bytes
    dataset: bytes = b""
    request_digest: bytes = b""


async def own_uses(session: Session, advance: Advance) -> AsyncIterator[Use]:
    """Answers that were released to this party or by it, or to those below it, the oldest first.

    Args:
        advance: is told how far the log has been read, and how long it is.

    Raises:
        EvidenceError: the log did not sign the checkpoint that came with them.
        RefusedError, UnavailableError: the broker does not let them be read.
    """
    start = 0
    while True:
        response = await call(session.transport, ACCESS_READ, ReadRequest(start=start), ReadResponse, TIMEOUT)
        for use in map(_use, response.records):
            if use is not None:
                yield use
        if response.next <= start or not response.records:
            return
        start = response.next
        advance(start, _size(session, response.checkpoint))


async def all_uses(session: Session, since: int, until: int) -> AsyncIterator[Use]:
    """Answers that were released to anybody within a time, for auditors.

    Args:
        since, until: milliseconds, inclusive.

    Raises:
        RefusedError, UnavailableError: the broker does not let them be read.
    """
    start = 0
    while True:
        request = SearchRequest(start=start, since=since, until=until, kind=AccessKind.ACCESS_KIND_RELEASED)
        response = await call(session.transport, ACCESS_SEARCH, request, SearchResponse, TIMEOUT)
        for use in (_use(found.record) for found in response.entries):
            if use is not None:
                yield use
        if response.next <= start:
            return
        start = response.next


def _size(session: Session, note: bytes) -> int:
    try:
        return brokers_checkpoint(note, session.trust.access_log).size
    except CoreError as error:
        raise EvidenceError(f"the broker's checkpoint of the access log does not hold: {error}") from error


def _use(record: Record) -> Use | None:
    """A released answer; None for anything else, and for what cannot be read."""
    try:
        leaf = read_access_leaf(record.leaf)
        if leaf.kind != AccessKind.ACCESS_KIND_RELEASED:
            return None
        agreement = dataset = b""
        if record.body and not body_problem(leaf, record.body):
            request = decode_envelope(decode(AccessBody, record.body).request, REQUEST)
            header = read_request(request)
            agreement, dataset = header.agreement, header.dataset
    except CoreError:
        return None
    names = (leaf.requester, leaf.provider)
    return Use(record.index, leaf.time, *names, agreement, dataset, leaf.request_digest)
