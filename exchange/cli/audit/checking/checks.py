"""What must hold of one entry of the access log, each a line: signers, agreement, answer (DESIGN section 6).

Everything is judged as the broker had to judge it: at the entry's own time, under the directory of the size that the
entry names.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from exchange.cli.audit.checking.opening import READ, REFUSALS, REFUSED, RELEASED, OpenedEntry
from exchange.cli.frame.times import iso
from exchange.client.datasets import dataset_name
from exchange.core.access import code_name
from exchange.core.decision import LIFETIME, SKEW, Allow, Deny, authenticate, authorise, uncounted
from exchange.core.directory import Directory
from exchange.core.envelope import Envelope, verify_signature
from exchange.core.erasures import Erasures
from exchange.core.errors import CoreError, SignatureError
from exchange.core.names import Party
from exchange.core.response import check_response
from exchange.core.state import KeyRecord, is_signing
from exchange.core.summary import refusals_in
from exchange.v1.access_pb2 import AccessLeaf, Code, Refusal
from exchange.v1.directory_pb2 import EntryKind, Role
from exchange.v1.people_pb2 import Mandate
from exchange.v1.request_pb2 import Operation, RequestHeader, ResponseHeader

_UNAUTHENTIC = frozenset(
    {Code.CODE_MALFORMED, Code.CODE_IDENTITY_MISMATCH, Code.CODE_SIGNATURE_INVALID, Code.CODE_KEY_REVOKED}
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked.

    Args:
        subject: what, in a word.
        told: what holds, or what does not; or what gives it, as a long verification asks of few.
        ok: which of the two.
    """

    subject: str
    told: str | Callable[[], str]
    ok: bool = True

    @property
    def detail(self) -> str:
        """What holds, or what does not."""
        return self.told if isinstance(self.told, str) else self.told()


def judge(
    directory: Directory, entry: OpenedEntry, following: int | None, erasures: Erasures | None = None
) -> Iterator[Check]:
    """Check an entry: who signed what it holds, and whether it could be decided so.

    Args:
        directory: folded to exactly the size that the entry names.
        entry: its body opened.
        following: time of the directory entry after those, milliseconds; None where there is none.
        erasures: which bodies of the directory may be missing.
    """
    yield _newest(directory, entry.leaf, following)
    if entry.erased_by is not None:
        yield Check(
            "body", f"erased by entry {entry.erased_by} of the directory: its signatures cannot be checked any more"
        )
    elif entry.is_withheld:
        yield Check("body", "not here: no mandate of yours covers it, so its signatures cannot be checked")
    elif entry.leaf.kind == READ:
        yield _read(directory, entry.leaf)
    elif entry.leaf.kind == RELEASED:
        yield from _released(directory, entry, erasures or Erasures())
    elif entry.leaf.kind == REFUSED:
        yield from _refused(directory, entry)
    elif entry.leaf.kind == REFUSALS:
        yield from _summed_up(directory, entry)
    else:
        yield from _unreleased(directory, entry)


def _newest(directory: Directory, leaf: AccessLeaf, following: int | None) -> Check:
    """Both logs are written under one lock, so no entry is decided under less than the directory of its moment.

    Without this an exchange could go on releasing under the directory from before a revocation.
    """
    size = directory.size
    if following is not None and leaf.time > following + SKEW:
        detail = f"decided under {size} entries, {(leaf.time - following) // 1000} s after entry {size} stood there too"
        return Check("directory", detail, ok=False)
    if directory.state.time > leaf.time + SKEW:
        return Check("directory", f"decided under {size} entries, the last of which came later", ok=False)
    return Check("directory", lambda: f"decided under {size} entries, all that there were")


def short(name: Party | str) -> str:
    """A party without the exchange's name, which is the same everywhere."""
    party = Party.parse(name) if isinstance(name, str) else name
    return "/".join(party.segments[1:]) or party.domain


def _released(directory: Directory, entry: OpenedEntry, erasures: Erasures) -> Iterator[Check]:
    leaf, request, response = entry.leaf, _held(entry.request), _held(entry.response)
    asked = authenticate(directory, request, leaf.time, None, entry.asked)
    if isinstance(asked, Deny):
        yield Check("request", asked.reason, ok=False)
        return
    yield Check("request", lambda: _signed(asked.key))
    yield from _names(entry, asked.header)
    yield _fresh(asked.header, leaf.time)
    allow = authorise(directory, asked, leaf.time, uncounted)
    if isinstance(allow, Deny):
        yield _erased_agreement(directory, asked.header, erasures) or Check(
            "agreement", f"{code_name(allow.code)}: {allow.reason}", ok=False
        )
        return
    yield Check("agreement", lambda: _granted(allow))
    if leaf.provider != str(allow.dataset.system):
        yield Check("provider", f"the leaf names {leaf.provider[:200]}, the dataset {allow.dataset.system}", ok=False)
    header = check_response(directory, allow, response, leaf.time, entry.answered)
    if isinstance(header, Deny):
        yield Check("response", header.reason, ok=False)
        return
    yield Check("response", lambda: f"to this request, {_signed(directory.state.keys[response.key_id])}")
    yield Check("ledger", lambda: _ledger(header))


def _erased_agreement(directory: Directory, header: RequestHeader, erasures: Erasures) -> Check | None:
    """Where the agreement's body was erased, nobody can say any more what it granted: nothing is held against it."""
    version = directory.state.versions.get(header.agreement)
    erased_by = erasures.of_object(version.object_id) if version is not None else None
    if version is None or erased_by is None or directory.agreement(header.agreement) is not None:
        return None
    stood = version.kind == EntryKind.ENTRY_KIND_AGREEMENT and version.ended_index is None
    detail = f"erased by entry {erased_by} of the directory: what it granted cannot be checked any more"
    return Check("agreement", detail if stood else "it did not stand", ok=stood)


def _unreleased(directory: Directory, entry: OpenedEntry) -> Iterator[Check]:
    """An answer that the provider committed; the request may have lost its rights meanwhile, or never had them."""
    leaf, request = entry.leaf, _held(entry.request)
    if entry.is_anonymous:
        fits = leaf.code in _UNAUTHENTIC and not leaf.request_id
        yield Check("request", f"not its signer's, {code_name(leaf.code)}", ok=fits)
        return
    asked = _signer(directory, request)
    if isinstance(asked, str) or entry.asked is None:
        yield Check("request", str(asked), ok=False)
        return
    yield Check("request", f"signed by {short(asked.party)}, key {_key(asked)}")
    yield from _names(entry, entry.asked)
    if str(asked.party) != leaf.requester:
        yield Check("request", f"signed by {asked.party}, asked as {leaf.requester[:200]}", ok=False)
    problem = _answer_problem(directory, entry)
    if not problem and entry.answered is not None and entry.response is not None:
        yield Check("response", f"to this request, {_signed(directory.state.keys[entry.response.key_id])}")
        yield Check("ledger", _ledger(entry.answered))
    else:
        # Only an answer that the broker would have released says so: any other may be anything.
        yield Check("response", f"not fit for release: {problem}", ok=leaf.code != Code.CODE_INTERRUPTED)


def _read(directory: Directory, leaf: AccessLeaf) -> Check:
    """Bodies are read under a mandate of the reader's that stands."""
    version = directory.state.versions.get(leaf.read.mandate)
    mandate = version.named if version is not None else None
    if version is None or not isinstance(mandate, Mandate) or mandate.auditor != leaf.requester:
        return Check("mandate", f"{leaf.read.mandate.hex()[:12]} is no mandate of {leaf.requester[:200]}", ok=False)
    if version.ended_index is not None or leaf.time > mandate.not_after:
        return Check("mandate", f"{version.digest.hex()[:12]} had ended", ok=False)
    return Check("mandate", lambda: f"{version.digest.hex()[:12]} of {short(version.owner)}, which stood then")


def ledger_number(directory: Directory, entry: OpenedEntry) -> int | None:
    """The number that the provider itself gave the answer of an entry; None where it is not the provider's."""
    if entry.answered is None or entry.response is None:
        return None
    signer = _signer(directory, entry.response)
    is_own = not isinstance(signer, str) and str(signer.party) == entry.leaf.provider == entry.answered.provider
    return entry.answered.ledger_number if is_own else None


def _answer_problem(directory: Directory, entry: OpenedEntry) -> str:
    """Why an answer is not the provider's to this request; empty where it is."""
    if entry.answered is None or entry.response is None:
        return "it cannot be read"
    signer = _signer(directory, entry.response)
    if isinstance(signer, str):
        return signer
    if str(signer.party) != entry.leaf.provider or entry.answered.request_digest != entry.leaf.request_digest:
        return f"signed by {signer.party}, or to another request"
    if not signer.stood_at(directory.size) or not signer.is_valid(entry.leaf.time):
        return f"the key of {signer.party} did not stand"
    return ""


def _refused(directory: Directory, entry: OpenedEntry) -> Iterator[Check]:
    leaf, refused, refusal = entry.leaf, entry.refused, _held(entry.refusal)
    if entry.request is not None and entry.asked is not None:
        asked = _signer(directory, entry.request)
        is_right = not isinstance(asked, str) and str(asked.party) == leaf.requester
        detail = asked if isinstance(asked, str) else f"signed by {short(asked.party)}, key {_key(asked)}"
        yield Check("request", detail, ok=is_right)
        yield from _names(entry, entry.asked)
    signer = _signer(directory, refusal)
    if isinstance(signer, str) or refused is None:
        yield Check("refusal", str(signer), ok=False)
        return
    problem = ""
    if signer.role != Role.ROLE_BROKER and str(signer.party) != leaf.provider:
        problem = f"{signer.party} is neither a broker nor the provider"
    elif refused.refuser != str(signer.party):
        problem = f"signed by {signer.party} in the name of {refused.refuser[:200]}"
    elif (refused.code, refused.request_digest) != (leaf.code, leaf.request_digest):
        problem = "it refuses another request, or for another reason than the leaf says"
    elif refused.summed_up:
        problem = f"it says that it is number {refused.summed_up} of a summary, and has an entry of its own"
    problem = problem or _standing_problem(signer, refused, leaf)
    said = f"check {refused.check}, signed by {short(signer.party)}, key {_key(signer)}: {refused.reason}"
    yield Check("refusal", problem or said, ok=not problem)


def _standing_problem(signer: KeyRecord, refused: Refusal, leaf: AccessLeaf) -> str:
    """Signed before the entry was appended, so its key is asked at the size that the refusal itself names."""
    if refused.directory_size > leaf.directory_size or not signer.stood_at(refused.directory_size):
        return f"the key of {signer.party} did not stand in the directory of {refused.directory_size} entries"
    if not signer.is_valid(leaf.time):
        return f"the key of {signer.party} is not valid at the entry's time"
    return ""


def _summed_up(directory: Directory, entry: OpenedEntry) -> Iterator[Check]:
    """The last refusal of a summary is the broker's, and the number that it signed is how many there were."""
    leaf, refused, refusal = entry.leaf, entry.refused, _held(entry.refusal)
    signer = _signer(directory, refusal)
    if isinstance(signer, str) or refused is None:
        yield Check("refusal", str(signer), ok=False)
        return
    count = refusals_in(leaf)
    problem = ""
    if signer.role != Role.ROLE_BROKER or not leaf.refuser == refused.refuser == str(signer.party):
        problem = f"signed by {signer.party}, which is not the broker {leaf.refuser[:200]} that summed it up"
    elif refused.summed_up != count:
        problem = f"it says that it is number {refused.summed_up} of the summary, and the leaf counts {count}"
    elif refused.code not in {item.code for item in leaf.counts} or leaf.since > leaf.time + SKEW:
        problem = "the summary does not count its code, or is of a later time than its entry"
    problem = problem or _standing_problem(signer, refused, leaf)
    said = f"number {count}, signed by {short(signer.party)}, key {_key(signer)}: {refused.reason}"
    yield Check("refusal", problem or said, ok=not problem)
    yield Check("summary", f"{counts_of(leaf)}, refused {iso(leaf.since)} to {iso(leaf.until)}")


def counts_of(leaf: AccessLeaf) -> str:
    """How many refusals a summary counts with each code: 17 OVERLOADED, 2 NO_AGREEMENT."""
    return ", ".join(f"{item.count} {code_name(item.code)}" for item in leaf.counts)


def _names(entry: OpenedEntry, header: RequestHeader) -> Iterator[Check]:
    """The leaf, which indexes and the unique release go by, names the request as it names itself."""
    leaf = entry.leaf
    if (leaf.requester, leaf.request_id) != (header.requester, header.request_id):
        yield Check("request", "the leaf names another requester or request id than the request itself", ok=False)


def _fresh(header: RequestHeader, time: int) -> Check:
    """Check 4, as far as it can be judged afterwards: a retry may be answered until the request has expired."""
    issued, expires = header.issued_at, header.expires_at
    holds = issued < expires <= issued + LIFETIME and issued <= time + SKEW
    return Check("time", lambda: f"asked {iso(issued)}, to expire {iso(expires)}", ok=holds)


def _signer(directory: Directory, envelope: Envelope) -> KeyRecord | str:
    """The key that signed, whether or not it still stands; or why there is none."""
    record = directory.state.keys.get(envelope.key_id)
    if record is None or not is_signing(record):
        return "the signing key is not in the directory"
    try:
        verify_signature(envelope, directory.origin, record.public_key)
    except SignatureError as error:
        return str(error)
    return record


def _signed(record: KeyRecord) -> str:
    return f"signed by {short(record.party)}, key {_key(record)}, which stood then"


def _key(record: KeyRecord) -> str:
    return record.key_id.hex()[:12]


def _granted(allow: Allow) -> str:
    header, agreement = allow.asked.header, allow.agreement
    operation = Operation.Name(header.operation).removeprefix("OPERATION_")
    return (
        f"{agreement.digest.hex()[:12]} of {short(agreement.version.owner)} granted {operation} of"
        f" {dataset_name(allow.dataset)} ({', '.join(header.fields)}) for {header.purpose}"
    )


def _ledger(header: ResponseHeader) -> str:
    return f"answer {header.ledger_number} of {short(header.provider)}, after {header.ledger_previous.hex()[:12]}"


def _held(envelope: Envelope | None) -> Envelope:
    if envelope is None:
        raise CoreError("the body lacks an envelope")
    return envelope
