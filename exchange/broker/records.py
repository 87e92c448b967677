"""What an access entry says, and how it is written: leaf, body and index columns."""

from dataclasses import dataclass

from exchange.core.access import access_body
from exchange.core.decision import Deny
from exchange.core.envelope import Envelope
from exchange.core.names import Party
from exchange.core.summary import Summary
from exchange.core.terms import AgreementTerms
from exchange.core.wire import FORMAT, encode
from exchange.store.ports import AccessIndex, NewEntry
from exchange.v1.access_pb2 import AccessKind, AccessLeaf, Code
from exchange.v1.people_pb2 import AuditorRead


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """What an access entry will say, but for its time and directory size.

    `counted` is whose use of which agreement it is counted as, where it releases anything.
    """

    kind: "AccessKind.ValueType"
    code: "Code.ValueType"
    requester: str
    provider: str = ""
    request_id: bytes = b""
    request_digest: bytes = b""
    request: Envelope | None = None
    response: Envelope | None = None
    refusal: Envelope | None = None
    deny: Deny | None = None
    counted: tuple[AgreementTerms, Party] | None = None
    summary: Summary | None = None
    read: AuditorRead | None = None


def access_entry(record: AccessRecord, time: int, directory_size: int) -> NewEntry:
    """The leaf, body and index of an access entry.

    Args:
        record: what it says.
        time: the broker's, milliseconds.
        directory_size: entries of the directory that it was decided under.
    """
    leaf = AccessLeaf(
        format=FORMAT,
        time=time,
        kind=record.kind,
        code=record.code,
        requester=record.requester,
        provider=record.provider,
        request_id=record.request_id,
        request_digest=record.request_digest,
        response_digest=record.response.digest if record.response is not None else b"",
        refusal_digest=record.refusal.digest if record.refusal is not None else b"",
        directory_size=directory_size,
    )
    if record.summary is not None:
        leaf.MergeFrom(record.summary.fields())
    if record.read is not None:
        leaf.read.CopyFrom(record.read)
    body = access_body(record.request, record.response, record.refusal)
    return NewEntry(encode(leaf), body, access_index(leaf))


def access_index(leaf: AccessLeaf) -> AccessIndex:
    """What an access entry is found by, copied from its leaf."""
    return AccessIndex(
        leaf.time,
        leaf.kind,
        leaf.code,
        leaf.requester,
        leaf.provider,
        leaf.request_id,
        leaf.request_digest,
        leaf.response_digest,
    )
