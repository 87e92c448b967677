"""From what is asked to a sealed and signed request: the dataset, the agreement, the keys, the header."""

from collections.abc import Callable
from typing import TypeVar

from exchange.client.datasets import choose_agreement, dataset_name, find_dataset, grants, shown_types
from exchange.client.errors import UnavailableError, UsageError
from exchange.client.questions import check_question
from exchange.client.sealer import Prepared, Sealer, request_id
from exchange.client.session import Session
from exchange.core.decision import LIFETIME, MAX_FIELDS
from exchange.core.directory import Directory
from exchange.core.keys import key_id
from exchange.core.names import is_case_id, is_code, is_field, is_officer
from exchange.core.restrictions import Types
from exchange.core.state import KeyRecord
from exchange.core.terms import AgreementTerms, DatasetTerms
from exchange.v1.request_pb2 import Query, RequestHeader

T = TypeVar("T")
Question = Callable[[Types], Query]


class Preparer:
    """Makes requests out of what the mirror knows; where that is too little, it is brought up to date first.

    Args:
        session: open.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sealer: Sealer | None = None

    async def dataset(self, text: str) -> DatasetTerms:
        """The dataset that a text names, as `find_dataset`.

        Raises:
            UsageError: there is none, even after a sync.
        """
        return await self._known(lambda directory: find_dataset(directory, text))

    async def prepare(
        self, dataset: DatasetTerms, question: Question, asked: RequestHeader, agreement: bytes | None, lifetime: int
    ) -> Prepared:
        """Seal and sign a request.

        Args:
            dataset: which one.
            question: makes what is sealed out of the fields' types, as the agreement shows them.
            asked: officer, operation, fields, purpose and case; the rest is filled in here.
            agreement: its message digest, or None for the best one.
            lifetime: milliseconds until the request expires.

        Raises:
            UsageError: an argument is not in its form, or nothing of the kind is known here.
            UnavailableError: the provider has no sealing key, or no broker can be asked.
        """
        party = self._session.party
        if not party.is_system:
            raise UsageError(f"{party} cannot ask: only a system can", "use the home of one of its systems")
        check_form(asked, lifetime)
        terms = await self._agreement(dataset, asked, agreement)
        query = question(shown_types(terms, dataset))
        check_question(query, dataset, terms)
        provider = await self._known(lambda directory: _sealing_key(directory, dataset, self._session.clock()))
        sealer = await self._own_sealer()
        now = self._session.clock()
        header = RequestHeader()
        header.CopyFrom(asked)
        header.request_id = request_id(now)
        header.requester = str(party)
        header.dataset = dataset.object_id
        header.agreement = terms.digest
        header.issued_at = now
        header.expires_at = now + lifetime
        header.directory_size = self._session.directory.size
        header.sealing_key = provider.key_id
        return await sealer.seal(header, query, (terms, dataset), provider)

    async def close(self) -> None:
        """Sign what is queued, and forget the channels."""
        if self._sealer is not None:
            await self._sealer.close()

    async def _agreement(self, dataset: DatasetTerms, asked: RequestHeader, digest: bytes | None) -> AgreementTerms:
        def find(directory: Directory) -> AgreementTerms:
            if digest is not None:
                return _named_agreement(directory, digest)
            return choose_agreement(
                directory, self._session.party, dataset, asked.operation, asked.fields, asked.purpose, now
            )

        now = self._session.clock()
        found = await self._known(find)
        directory = self._session.directory
        if directory.stands(found) and grants(found, asked.operation, asked.fields, asked.purpose):
            return found
        # A newer agreement may grant it; if none does, the refusal is the broker's to sign.
        return find(await self._session.sync())

    async def _own_sealer(self) -> Sealer:
        """The one that signs with the home's key, which may be another than a moment ago."""
        signer, before = self._session.signer, self._sealer
        if before is not None and before.key.public_key == signer.public_key:
            return before
        record = await self._known(lambda directory: _own_key(directory, key_id(signer.public_key)))
        made = self._sealer = Sealer(self._session.trust.name, signer, record)
        if before is None:
            return made
        await before.close()
        # Which has waited: by now there may be yet another key.
        return await self._own_sealer()

    async def _known(self, find: Callable[[Directory], T]) -> T:
        try:
            return find(self._session.directory)
        except (UsageError, UnavailableError):
            return find(await self._session.sync())


def check_form(asked: RequestHeader, lifetime: int) -> None:
    """Check what a broker would call malformed, before anything is signed.

    Raises:
        UsageError: an argument is not in its form; the text names it.
    """
    if not is_code(asked.purpose):
        raise UsageError(f"not a purpose code: {asked.purpose[:80]!r}")
    if not is_case_id(asked.case_id):
        raise UsageError("a case id is 1 to 64 letters, digits and hyphens")
    if not is_officer(asked.officer):
        raise UsageError("an officer is 1 to 64 letters, digits, dots, hyphens and underscores")
    fields = tuple(asked.fields)
    if not 1 <= len(fields) <= MAX_FIELDS or len(set(fields)) != len(fields):
        raise UsageError(f"a request names 1 to {MAX_FIELDS} fields, each once")
    for name in fields:
        if not is_field(name):
            raise UsageError(f"not a field's name: {name[:80]!r}")
    if not 0 < lifetime <= LIFETIME:
        raise UsageError(f"a request expires within {LIFETIME // 1000} seconds")


def _named_agreement(directory: Directory, digest: bytes) -> AgreementTerms:
    found = directory.agreement(digest)
    if found is None:
        raise UsageError(f"no agreement {digest.hex()[:64]} is known here")
    return found


def _own_key(directory: Directory, key: bytes) -> KeyRecord:
    record = directory.state.keys.get(key)
    if record is None:
        raise UsageError(
            "this party's signing key is not in the directory", "its department signs and appends the key request"
        )
    return record


def _sealing_key(directory: Directory, dataset: DatasetTerms, now: int) -> KeyRecord:
    record = directory.sealing_key(dataset.system, now)
    if record is None:
        raise UnavailableError(
            f"{dataset.system} has no valid sealing key, so {dataset_name(dataset)} cannot be asked",
            "its adapter publishes one when it runs",
        )
    return record
