"""Which terms of an agreement somebody has to enforce, by name: what a provider's adapter says that it can.

A term without a name here is a term that this version does not know. An agreement with such a term is not decoded, so
it gives no rights: nothing is ever answered more widely because an adapter overlooked a restriction.
"""

from collections.abc import Iterable

from exchange.core.terms import AgreementTerms
from exchange.v1.directory_pb2 import Agreement
from exchange.v1.terms_pb2 import Limits, Mask

MASKS = frozenset(f"mask.{rule}" for rule in ("first", "last", "year_only", "hash"))
ROW_FILTER = "row_filter"
OFFICERS, HOURS, REVIEW = "officers", "hours", "review_at"
LIMITS = frozenset(f"limits.{limit.name}" for limit in Limits.DESCRIPTOR.fields)

OF_SOURCE = MASKS | {ROW_FILTER}
"""Terms that decide which rows a source selects, and in which order: whoever reads it must know them."""

OF_HOST = frozenset({OFFICERS, HOURS, REVIEW}) | LIMITS
"""Terms that are judged before a source is asked, or behind it."""

TERMS = OF_SOURCE | OF_HOST


def terms_of(agreement: AgreementTerms) -> frozenset[str]:
    """The terms of an agreement that have to be enforced."""
    found = _common(agreement.masks.values(), agreement.limits)
    found |= {ROW_FILTER} if agreement.row_filter is not None else set()
    found |= {OFFICERS} if agreement.officers else set()
    found |= {HOURS} if agreement.hours is not None else set()
    return frozenset(found | ({REVIEW} if agreement.review_at else set()))


def terms_of_draft(agreement: Agreement) -> frozenset[str]:
    """As `terms_of`, of an agreement that is still to be signed."""
    found = _common(agreement.masks, agreement.limits)
    found |= {name for name in (ROW_FILTER, HOURS) if agreement.HasField(name)}  # type: ignore[arg-type]
    found |= {OFFICERS} if agreement.officers else set()
    return frozenset(found | ({REVIEW} if agreement.review_at else set()))


def _common(masks: Iterable[Mask], limits: Limits) -> set[str]:
    rules = {f"mask.{mask.WhichOneof('rule')}" for mask in masks}
    return rules | {f"limits.{limit.name}" for limit, _ in limits.ListFields()}
