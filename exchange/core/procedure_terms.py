"""What the bodies of procedures say: steps, and standing approvals."""

from collections.abc import Mapping
from dataclasses import dataclass

from exchange.core.names import Party
from exchange.core.state import Version
from exchange.v1.procedure_pb2 import Step
from exchange.v1.request_pb2 import Filter, Operation
from exchange.v1.terms_pb2 import Hours, Limits, Mask


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """What an owner grants to every application that fits. Times are milliseconds, `days` run from the submission."""

    version: Version
    dataset: bytes
    grantees: tuple[Party, ...]
    operations: frozenset["Operation.ValueType"]
    fields: tuple[str, ...]
    filterable: frozenset[str]
    purposes: frozenset[str]
    days: int
    not_after: int
    row_filter: Filter | None
    masks: Mapping[str, Mask]
    hours: Hours | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class StepTerms:
    """A step that was taken; `about` is the object id of the application or dataset that it belongs to."""

    version: Version
    step: Step
    about: bytes


@dataclass(frozen=True, slots=True)
class ReviewEvent:
    """What happened to a dataset in the catalogue: a version of it, or a step of its review.

    Args:
        version: of the dataset, or of the step.
        step: its words, or None for a version.
        is_reviewed: whether the rules asked for a review when the version came.
    """

    version: Version
    step: Step | None = None
    is_reviewed: bool = False
