"""From an opened query to the question for the source: what the agreement lets through of it (DESIGN section 6)."""

from collections.abc import Mapping
from dataclasses import replace

from adapters.connectors import Question
from exchange.core.decision import Allow
from exchange.core.filters import FilterError, Scalar, check_query
from exchange.core.masking import Masking, check_keys
from exchange.core.restrictions import RestrictionError, masked_types, read_masks
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.request_pb2 import Filter, Membership, Operation, Query


def read_question(allow: Allow, query: Query, row_limit: int, masking: Masking) -> Question:
    """Check a query against the terms, and restrict it by them.

    Args:
        allow: the request and the terms that allow it.
        query: as decoded from the sealed body.
        row_limit: the most rows of one answer, as the adapter is configured.
        masking: the agreement's masks.

    Raises:
        FilterError: it is malformed, asks for too many keys, or reads a field that it may not filter by.
    """
    dataset, agreement, header = allow.dataset, allow.agreement, allow.asked.header
    # A field that the dataset has no more needs no mask.
    masking = replace(masking, masks={name: mask for name, mask in masking.masks.items() if name in dataset.types})
    types = _shown_types(allow, masking)
    check_query(query, header.operation, types[dataset.key], agreement.filterable, types)
    limit, most = row_limit, agreement.limits.rows
    if most:
        limit = min(limit, most)
    if query.selection.limit:
        limit = min(limit, query.selection.limit)
    filter = query.selection.filter if query.selection.HasField("filter") else None
    keys = None
    if header.operation == Operation.OPERATION_LOOKUP:
        check_keys(query.lookup.keys, masking.masks.get(dataset.key), most)
        if dataset.key in masking.masks:
            # To find a row by the value behind a mask would be to read it.
            filter = Filter(membership=Membership(field=dataset.key, values=query.lookup.keys))
        else:
            keys = tuple(query.lookup.keys)
    return Question(
        dataset.code,
        tuple(header.fields),
        keys,
        filter,
        agreement.row_filter,
        limit,
        masking,
        key_shown=dataset.key not in masking.masks and (keys is not None or dataset.key in agreement.fields),
    )


def shown(question: Question, row: Mapping[str, Scalar | None]) -> dict[str, Scalar | None]:
    """What the requester sees of a row, whatever else a connector has put into it."""
    return question.masking.row({field: value for field, value in row.items() if field in question.fields})


def _shown_types(allow: Allow, masking: Masking) -> Mapping[str, FieldType.ValueType]:
    """The types of the fields as they are masked; the dataset may have changed since its owner signed the masks."""
    types = allow.dataset.types
    try:
        return masked_types(types, read_masks(list(masking.masks.values()), allow.agreement.fields, types))
    except RestrictionError:
        reason = "a mask of the agreement does not fit the dataset any more: its owner signs a new version"
        raise FilterError(Code.CODE_FIELD_NOT_GRANTED, reason) from None
