"""Standing approvals: the terms that every fitting application gets at once (Decree 809, article 21)."""

from dataclasses import replace
from types import MappingProxyType

from exchange.core.opening import check_grant, check_purposes, named_dataset, named_party, read_row_filter
from exchange.core.procedure_terms import ApprovalTerms
from exchange.core.restrictions import read_hours, read_masks
from exchange.core.state import MAX_ENTRY, State, Version
from exchange.core.terms import AgreementTerms, ApplicationTerms, DatasetTerms, Terms, TermsError
from exchange.core.wire import MAX_TIME, decode
from exchange.v1.catalogue_pb2 import SharingClass
from exchange.v1.procedure_pb2 import StandingApproval

MAX_DAYS = 3660
DAY = 86_400_000

# The clock of a broker or an adapter may be behind the one that wrote the entry's time.
_SKEW = 60_000

# An enum's attribute costs more than a hash, and every body asks for it.
_UNCONDITIONAL = SharingClass.SHARING_CLASS_UNCONDITIONAL


def open_approval(state: State, terms: Terms, version: Version, body: bytes) -> Terms:
    """Open the body of a standing approval.

    Args:
        state: with `version` folded in; terms: of every entry before.
        version: of the approval; body: serialised.

    Raises:
        CoreError: a rule is broken; the text says which.
    """
    approval = decode(StandingApproval, body, MAX_ENTRY)
    dataset = named_dataset(terms, approval.dataset)
    if dataset.version.owner != version.owner:
        raise TermsError(f"{version.owner} does not own the dataset")
    if not is_unconditional(dataset):
        raise TermsError("a standing approval is for a dataset of unconditional sharing")
    check_grant(approval, dataset)
    check_purposes(state, dataset, approval.purposes, version.index)
    grantees = tuple(named_party(name) for name in approval.grantees)
    if not grantees or len(set(grantees)) != len(grantees):
        raise TermsError("a standing approval names grantees, each once")
    if not 1 <= approval.days <= MAX_DAYS or not version.time < approval.not_after <= MAX_TIME:
        raise TermsError(f"the longest term is 1 to {MAX_DAYS} days, and the approval ends later, by the year 9999")
    fields = tuple(approval.fields)
    opened = ApprovalTerms(
        version,
        approval.dataset,
        grantees,
        frozenset(approval.operations),
        fields,
        frozenset(approval.filterable),
        frozenset(approval.purposes),
        approval.days,
        approval.not_after,
        read_row_filter(approval, dataset),
        read_masks(approval.masks, fields, dataset.types),
        read_hours(approval),
        approval.limits,
    )
    return replace(terms, approvals=terms.approvals.set(version.digest, opened))


def is_unconditional(dataset: DatasetTerms) -> bool:
    """Whether a dataset is shared with everybody who has a purpose (Decree 809, article 14)."""
    return dataset.descriptor.sharing.sharing_class == _UNCONDITIONAL


def approve(state: State, terms: Terms, application: ApplicationTerms, version: Version) -> AgreementTerms | None:
    """What an application gets at once, under the standing approval that it names; None where it names none.

    Args:
        state: with `version` folded in; terms: of every entry before.
        application: as it is submitted.
        version: the entry that submits it, whose message digest requests will name.

    Raises:
        TermsError: the approval does not stand, or the application does not lie within it.
    """
    if not application.standing_approval:
        return None
    approval = terms.approvals.get(application.standing_approval)
    if approval is None or not state.versions[approval.version.digest].stood_at(version.index):
        raise TermsError("the standing approval that the application names does not stand")
    dataset = named_dataset(terms, application.dataset)
    if approval.dataset != application.dataset or not is_unconditional(dataset):
        raise TermsError("the standing approval is for another dataset, or the dataset is no longer unconditional")
    _check_fits(approval, application, version.time)
    owner = dataset.version.owner
    return AgreementTerms(
        replace(version, owner=owner),
        application.dataset,
        application.grantee,
        application.version.digest,
        application.operations,
        application.fields,
        application.filterable,
        application.purposes,
        version.time - _SKEW,
        application.not_after,
        approval.row_filter,
        MappingProxyType({name: mask for name, mask in approval.masks.items() if name in application.fields}),
        frozenset(),
        approval.hours,
        approval.limits,
        0,
        0,
        approval.version.digest,
    )


def _check_fits(approval: ApprovalTerms, application: ApplicationTerms, time: int) -> None:
    if not any(party.covers(application.grantee) for party in approval.grantees):
        raise TermsError(f"the standing approval is not for {application.grantee}")
    pairs = (
        (application.operations, approval.operations, "operation"),
        (application.fields, approval.fields, "field"),
        (application.filterable, approval.filterable, "filterable field"),
        (application.purposes, approval.purposes, "purpose"),
    )
    for asked, granted, what in pairs:
        if not set(asked) <= set(granted):
            raise TermsError(f"the standing approval does not give every {what} that the application asks for")
    longest = min(approval.not_after, time + approval.days * DAY)
    if not time < application.not_after <= longest:
        raise TermsError(f"the application asks for another term than the {approval.days} days that are approved")
