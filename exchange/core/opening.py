"""Bodies opened: a dataset, an application or an agreement is read, and checked against what it rests on."""

import hashlib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar

from exchange.core.descriptor import MOST_SENSITIVE, check_descriptor, is_shared, may_see, shared_purposes
from exchange.core.errors import NameFormatError
from exchange.core.filters import FilterError, check_filter
from exchange.core.names import Party, is_code, is_field
from exchange.core.restrictions import read_hours, read_masks, read_officers
from exchange.core.state import MAX_ENTRY, MAX_TEXT, State, Version
from exchange.core.terms import (
    MAX_FIELDS,
    SALT,
    AgreementTerms,
    ApplicationTerms,
    DatasetTerms,
    FieldTerms,
    Terms,
    TermsError,
)
from exchange.core.values import replace
from exchange.core.wire import MAX_TIME, decode
from exchange.v1.directory_pb2 import Agreement, Application, Dataset, EntryKind, FieldType
from exchange.v1.procedure_pb2 import StandingApproval
from exchange.v1.request_pb2 import Filter, Operation

# An enum's attribute costs more than a hash, and every body asks for it.
_UNSPECIFIED = Operation.OPERATION_UNSPECIFIED

UNKNOWN_DATASET = "the dataset is not known here"

Grant = Application | Agreement | StandingApproval

H = TypeVar("H", bound=Hashable)


def checked_body(version: Version, attachment: bytes) -> bytes:
    """The serialised body in an attachment, or a TermsError where it is not the one that was signed."""
    if hashlib.sha256(attachment).digest() != version.body_sha256:
        raise TermsError("the body is not the one that was signed")
    if len(attachment) < SALT:
        raise TermsError(f"the body begins with {SALT} bytes of salt")
    return attachment[SALT:]


def open_terms(state: State, terms: Terms, version: Version, attachment: bytes) -> Terms:
    """Open the body of an entry and check it against the objects it names.

    Args:
        state: with `version` folded in.
        terms: of every entry before.
        version: of a dataset, application, agreement or standing approval.
        attachment: 32 bytes of salt, then the serialised body.

    Raises:
        CoreError: not this entry's body, or a rule is broken; the text says which.
    """
    body = checked_body(version, attachment)
    opener = _OPENERS.get(version.kind)
    if opener is None:
        raise TermsError("this kind of entry has no body of its own")
    return opener(state, terms, version, body)


def _dataset(_state: State, terms: Terms, version: Version, body: bytes) -> Terms:
    dataset = decode(Dataset, body, MAX_ENTRY)
    system = named_party(dataset.system)
    fields = {
        field.name: FieldTerms(field.name, field.label, field.type, field.sensitivity or MOST_SENSITIVE)
        for field in dataset.fields
    }
    _check_dataset(dataset, version, system, fields)
    check_descriptor(dataset, version.owner)
    name = (str(version.owner), dataset.code)
    if terms.codes.get(name, version.object_id) != version.object_id:
        raise TermsError(f"{version.owner} has another dataset with the code {dataset.code}")
    opened = DatasetTerms(
        version,
        dataset.code,
        dataset.title,
        dataset.abstract,
        system,
        MappingProxyType(fields),
        dataset.key,
        frozenset(dataset.operations),
        frozenset(dataset.filterable),
        dataset,
    )
    return replace(
        terms,
        datasets=terms.datasets.set(version.object_id, opened),
        codes=terms.codes.set(name, version.object_id),
    )


def _check_dataset(dataset: Dataset, version: Version, system: Party, fields: Mapping[str, FieldTerms]) -> None:
    # DESIGN section 7: the answering system lies under the owner.
    if not system.is_system or not version.owner.covers(system):
        raise TermsError(f"the answering system {system} does not lie under {version.owner}")
    if not is_code(dataset.code) or not dataset.title or len(dataset.title) > MAX_TEXT:
        raise TermsError("a dataset has a code and a title")
    if not 1 <= len(fields) == len(dataset.fields) <= MAX_FIELDS:
        raise TermsError(f"a dataset has 1 to {MAX_FIELDS} fields, each name once")
    for field in fields.values():
        if not is_field(field.name) or field.type == FieldType.FIELD_TYPE_UNSPECIFIED:
            raise TermsError(f"the field {field.name[:80]!r} has no valid name or no type")
    if dataset.key not in fields:
        raise TermsError("the key is not a field of the dataset")
    _check_names(dataset.operations, tuple(fields), dataset.filterable, fields)


def check_grant(grant: Grant, dataset: DatasetTerms) -> None:
    """What is asked for, or granted, is something that the dataset offers, or a TermsError is raised."""
    # Each list once: going through one of a message makes new values.
    operations, filterable = tuple(grant.operations[:]), tuple(grant.filterable[:])
    _check_names(operations, tuple(grant.fields[:]), filterable, dataset.fields)
    if not dataset.operations.issuperset(operations):
        raise TermsError("the dataset does not offer this operation")
    if not dataset.filterable.issuperset(filterable):
        raise TermsError("the dataset does not offer this field for filters")


def _check_within(agreement: Agreement, application: ApplicationTerms) -> None:
    """Nobody is granted what they did not ask for."""
    pairs: tuple[tuple[Iterable[object], Collection[object]], ...] = (
        (agreement.operations, application.operations),
        (agreement.fields, application.fields),
        (agreement.filterable, application.filterable),
        (agreement.purposes, application.purposes),
    )
    if any(item not in asked for granted, asked in pairs for item in granted):
        raise TermsError("the agreement grants more than its application asked for")


def _check_names(
    operations: Sequence["Operation.ValueType"],
    fields: Sequence[str],
    filterable: Sequence[str],
    known: Collection[str],
) -> None:
    """Operations, fields and filterable fields: at least one of the first two, each named once and known."""
    if not operations or _UNSPECIFIED in operations:
        raise TermsError("at least one operation is named, and each is known")
    if not fields:
        raise TermsError("at least one field is named")
    for names, what in ((operations, "operation"), (fields, "field"), (filterable, "filterable field")):
        if len(set(names)) != len(names):
            raise TermsError(f"each {what} is named once")
    strangers = [name for name in (*fields, *filterable) if name not in known]
    if strangers:
        raise TermsError(f"the dataset has no field {strangers[0][:80]!r}")


def _application(state: State, terms: Terms, version: Version, body: bytes) -> Terms:
    application = decode(Application, body, MAX_ENTRY)
    dataset = named_dataset(terms, application.dataset)
    if not may_see(dataset.descriptor, dataset.version.owner, version.owner):
        # The same words as for one that does not exist: nothing can be probed.
        raise TermsError(UNKNOWN_DATASET)
    grantee = named_party(application.grantee)
    # An agreement grants a party and those below it; a department applies for itself or its systems.
    if not version.owner.covers(grantee):
        raise TermsError(f"{version.owner} cannot apply for {grantee}")
    fields = tuple(application.fields)
    check_grant(application, dataset)
    check_purposes(state, dataset, application.purposes, version.index)
    if application.not_after > MAX_TIME:
        raise TermsError("the term asked for ends beyond the year 9999")
    opened = ApplicationTerms(
        version,
        application.dataset,
        grantee,
        frozenset(application.operations),
        fields,
        frozenset(application.filterable),
        frozenset(application.purposes),
        application.legal_basis,
        application.scenario,
        application.not_after,
        application.standing_approval,
    )
    return replace(terms, applications=terms.applications.set(version.digest, opened))


def _agreement(state: State, terms: Terms, version: Version, body: bytes) -> Terms:
    agreement = decode(Agreement, body, MAX_ENTRY)
    dataset = named_dataset(terms, agreement.dataset)
    # DESIGN section 7: the agreement's owner is the dataset's, the application matches.
    if dataset.version.owner != version.owner:
        raise TermsError(f"{version.owner} does not own the dataset")
    grantee = named_party(agreement.grantee)
    application = terms.applications.get(agreement.application)
    if application is None or application.dataset != agreement.dataset or application.grantee != grantee:
        raise TermsError("the agreement answers no application of this grantee for this dataset")
    if not state.versions[agreement.application].stood_at(version.index):
        raise TermsError("the application was withdrawn or superseded")
    _check_within(agreement, application)
    fields = tuple(agreement.fields)
    check_grant(agreement, dataset)
    check_purposes(state, dataset, agreement.purposes, version.index)
    if not is_shared(dataset.descriptor):
        raise TermsError("the dataset's descriptor says that it is not shared")
    if not agreement.not_before < agreement.not_after <= MAX_TIME:
        raise TermsError("the agreement's term is empty, or ends beyond the year 9999")
    opened = AgreementTerms(
        version,
        dataset.object_id,
        grantee,
        application.version.digest,
        _shared(frozenset(agreement.operations)),
        _shared(fields),
        _shared(frozenset(agreement.filterable)),
        _shared(frozenset(agreement.purposes)),
        agreement.not_before,
        agreement.not_after,
        read_row_filter(agreement, dataset),
        read_masks(agreement.masks, fields, dataset.types),
        read_officers(agreement.officers),
        read_hours(agreement),
        agreement.limits,
        agreement.review_at,
        agreement.retention_days,
    )
    return replace(terms, agreements=terms.agreements.set(version.digest, opened))


def read_row_filter(agreement: Agreement | StandingApproval, dataset: DatasetTerms) -> Filter | None:
    """The filter that is ANDed into every question, or None; a TermsError where it does not fit the dataset."""
    if not agreement.HasField("row_filter"):
        return None
    try:
        check_filter(agreement.row_filter, frozenset(dataset.fields), dataset.types)
    except FilterError as error:
        raise TermsError(f"the row filter: {error}") from error
    return agreement.row_filter


def check_purposes(state: State, dataset: DatasetTerms, codes: Sequence[str], size: int) -> None:
    """Each purpose is named once, registered, and one that the dataset is shared for, or a TermsError is raised."""
    if not codes or len(set(codes)) != len(codes):
        raise TermsError("at least one purpose is named, and each once")
    only = shared_purposes(dataset.descriptor)
    for code in codes:
        if only is not None and code not in only:
            raise TermsError(f"the dataset is shared for {', '.join(sorted(only))} alone, not for {code[:80]!r}")
        version = state.purpose_at(code, size)
        if version is None or not version.stood_at(size):
            raise TermsError(f"the purpose {code[:80]!r} is not registered")


def named_dataset(terms: Terms, object_id: bytes) -> DatasetTerms:
    """The dataset of an object id, or a TermsError where it is not known."""
    dataset = terms.datasets.get(object_id)
    if dataset is None:
        raise TermsError(UNKNOWN_DATASET)
    return dataset


@lru_cache(maxsize=4096)
def _shared(value: H) -> H:
    """The value that is known already, where an equal one is: a million agreements name few sets of fields."""
    return value


@lru_cache(maxsize=4096)
def named_party(text: str) -> Party:
    """The party of a name, or a TermsError where none is named like this."""
    try:
        return Party.parse(text)
    except NameFormatError as error:
        raise TermsError(str(error)) from error


Opener = Callable[[State, Terms, Version, bytes], Terms]

_OPENERS: Mapping["EntryKind.ValueType", Opener] = MappingProxyType(
    {
        EntryKind.ENTRY_KIND_DATASET: _dataset,
        EntryKind.ENTRY_KIND_APPLICATION: _application,
        EntryKind.ENTRY_KIND_AGREEMENT: _agreement,
    }
)
