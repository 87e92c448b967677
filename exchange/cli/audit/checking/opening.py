"""One entry of the access log, opened: what its leaf says, and the envelopes that its body must hold."""

from dataclasses import dataclass, replace

from exchange.core.access import read_access_leaf, read_refusal
from exchange.core.decision import read_request
from exchange.core.envelope import DIGEST, REFUSAL, REQUEST, RESPONSE, Envelope, decode_envelope
from exchange.core.erasures import Erasures
from exchange.core.errors import CoreError
from exchange.core.reads import has_body
from exchange.core.response import read_response
from exchange.core.state import MAX_ENTRY
from exchange.core.wire import decode
from exchange.v1.access_pb2 import AccessBody, AccessKind, AccessLeaf, Code, Refusal
from exchange.v1.directory_pb2 import DirectoryLeaf
from exchange.v1.request_pb2 import RequestHeader, ResponseHeader

RELEASED = AccessKind.ACCESS_KIND_RELEASED
UNRELEASED = AccessKind.ACCESS_KIND_UNRELEASED
SETTLING = (RELEASED, UNRELEASED)
REFUSED = AccessKind.ACCESS_KIND_REFUSED
REFUSALS = AccessKind.ACCESS_KIND_REFUSALS
READ = AccessKind.ACCESS_KIND_READ


class EntryBodyError(CoreError):
    """A body is not the one that its leaf names, or holds what it must not."""


@dataclass(frozen=True, slots=True)
class OpenedEntry:
    """An entry whose body is the one that its leaf names; no signature is checked yet.

    Args:
        leaf: what the tree holds.
        request, response, refusal: the envelopes, without attachments.
        asked, answered, refused: what they say; None where there is none, or where a form was refused for its form.
        erased_by: the entry of the directory that erased the body; None where it is here.
        is_withheld: whether the body is missing because no mandate of this reader covers it.
    """

    leaf: AccessLeaf
    request: Envelope | None
    response: Envelope | None
    refusal: Envelope | None
    asked: RequestHeader | None
    answered: ResponseHeader | None
    refused: Refusal | None
    erased_by: int | None = None
    is_withheld: bool = False

    @property
    def is_anonymous(self) -> bool:
        """Whether the broker could not tell who had signed the request of an answer that it settled."""
        return self.leaf.kind == UNRELEASED and not self.leaf.requester


def open_entry(leaf: AccessLeaf, body: bytes) -> OpenedEntry:
    """Open a body against its leaf.

    Args:
        leaf: as `read_access_leaf` gave it.
        body: a serialised AccessBody.

    Raises:
        CoreError: it is not this leaf's body, or a part is malformed; the text says which.
    """
    parts = decode(AccessBody, body)
    request = _part("request", parts.request, REQUEST, leaf.request_digest)
    response = _part("response", parts.response, RESPONSE, leaf.response_digest)
    refusal = _part("refusal", parts.refusal, REFUSAL, leaf.refusal_digest)
    _check_parts(leaf, request, response, refusal)
    return OpenedEntry(
        leaf,
        request,
        response,
        refusal,
        _asked(leaf, request),
        _answered(leaf, response),
        read_refusal(refusal) if refusal is not None else None,
    )


def read_entry(leaf: bytes, body: bytes, index: int = 0, erasures: Erasures | None = None) -> OpenedEntry:
    """Read a leaf and open its body.

    Args:
        leaf, body: as they were appended.
        index: of the entry; erasures: which bodies may be missing, if any.

    Raises:
        CoreError: as `read_access_leaf` and `open_entry`.
    """
    return open_or_missing(read_access_leaf(leaf), body, index, erasures or Erasures())


def open_or_missing(leaf: AccessLeaf, body: bytes, index: int, erasures: Erasures) -> OpenedEntry:
    """The same of a leaf that was read: its body is opened, or may be missing.

    Raises:
        CoreError: as `open_entry`.
    """
    if body or not has_body(leaf):
        return open_entry(leaf, body)
    missing = OpenedEntry(leaf, None, None, None, None, None, None, erasures.of_access(index))
    if missing.erased_by is not None:
        return missing
    return replace(missing, is_withheld=True) if erasures.withholds(leaf) else open_entry(leaf, body)


def is_withheld(leaf: bytes, index: int, erasures: Erasures) -> bool:
    """Whether an entry that is here without a body lacks it for want of a mandate."""
    try:
        said = read_access_leaf(leaf)
    except CoreError:
        return False
    return has_body(said) and erasures.of_access(index) is None and erasures.withholds(said)


def directory_time(leaf: bytes) -> int | None:
    """When an entry of the directory was appended, milliseconds; None where its leaf cannot be read."""
    try:
        return decode(DirectoryLeaf, leaf, MAX_ENTRY).time
    except CoreError:
        return None


def _part(name: str, data: bytes, kind: str, digest: bytes) -> Envelope | None:
    if len(digest) not in (0, DIGEST):
        raise EntryBodyError(f"the leaf's digest of the {name} has an impossible length")
    if not data:
        return None
    envelope = decode_envelope(data, kind)
    if envelope.attachments:
        raise EntryBodyError(f"the body's {name} carries ciphertext, which no log holds")
    if envelope.digest != digest:
        raise EntryBodyError(f"the body's {name} is not the one that the leaf names")
    return envelope


def _check_parts(
    leaf: AccessLeaf, request: Envelope | None, response: Envelope | None, refusal: Envelope | None
) -> None:
    """Which envelopes an entry of this kind has: DESIGN section 6, "Refusals", and section 2, "Settlement"."""
    if leaf.kind == READ:
        if request is not None or response is not None or refusal is not None:
            raise EntryBodyError("a read has no body")
        return
    if leaf.kind == REFUSALS:
        if refusal is None or request is not None:
            raise EntryBodyError("the body of a summary holds the last refusal, and nothing else")
        return
    is_refused = leaf.kind == REFUSED
    if bool(leaf.response_digest) == is_refused or bool(leaf.refusal_digest) != is_refused:
        raise EntryBodyError("a refused entry names a refusal, any other a response")
    # A refusal may be of bytes that were no request, or not of the party that it names: then none is kept.
    if not leaf.request_digest or (request is None and not is_refused):
        raise EntryBodyError("the body lacks the request that the leaf names")
    if (refusal if is_refused else response) is None:
        raise EntryBodyError(f"the body lacks the {'refusal' if is_refused else 'response'} that the leaf names")


def _asked(leaf: AccessLeaf, request: Envelope | None) -> RequestHeader | None:
    if request is None:
        return None
    try:
        return read_request(request)
    except CoreError:
        if leaf.kind == UNRELEASED and not leaf.requester:
            return None
        raise


def _answered(leaf: AccessLeaf, response: Envelope | None) -> ResponseHeader | None:
    if response is None:
        return None
    try:
        return read_response(response)
    except CoreError:
        # What was not released may have been refused before anybody looked at the answer.
        if leaf.kind == UNRELEASED and leaf.code != Code.CODE_INTERRUPTED:
            return None
        raise
