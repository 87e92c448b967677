"""What the bodies of directory entries say: datasets, applications, agreements (DESIGN section 7, `open`).

The leaf authenticates, the body gives meaning. No body, no rights.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from immutables import Map

from exchange.core.case import Event
from exchange.core.correction import Correction
from exchange.core.descriptor import MOST_SENSITIVE
from exchange.core.errors import CoreError
from exchange.core.layered import Table
from exchange.core.names import Party
from exchange.core.procedure_terms import ApprovalTerms, ReviewEvent, StepTerms
from exchange.core.state import Version
from exchange.core.values import quick
from exchange.v1.directory_pb2 import Dataset, FieldType
from exchange.v1.request_pb2 import Filter, Operation
from exchange.v1.terms_pb2 import Hours, Limits, Mask

SALT = 32
MAX_FIELDS = 500


class TermsError(CoreError):
    """A body does not belong to its entry, or contradicts itself or another object."""


@dataclass(frozen=True, slots=True)
class FieldTerms:
    """One field of a dataset; `sensitivity` is 1 to 4, the most where the owner did not class it."""

    name: str
    label: str
    type: "FieldType.ValueType"
    sensitivity: int = MOST_SENSITIVE


@dataclass(frozen=True, slots=True)
class DatasetTerms:
    """A described set of records; `version` is its place in the directory, `descriptor` all that its owner says."""

    version: Version
    code: str
    title: str
    abstract: str
    system: Party
    fields: Mapping[str, FieldTerms]
    key: str
    operations: frozenset["Operation.ValueType"]
    filterable: frozenset[str]
    descriptor: Dataset

    @property
    def object_id(self) -> bytes:
        """The same for all versions of the dataset, 16 bytes."""
        return self.version.object_id

    @property
    def types(self) -> dict[str, "FieldType.ValueType"]:
        """The type of each field."""
        return {name: field.type for name, field in self.fields.items()}


@quick
@dataclass(frozen=True, slots=True)
class ApplicationTerms:
    """What a department asks for."""

    version: Version
    dataset: bytes
    grantee: Party
    operations: frozenset["Operation.ValueType"]
    fields: tuple[str, ...]
    filterable: frozenset[str]
    purposes: frozenset[str]
    legal_basis: str
    scenario: str
    not_after: int
    standing_approval: bytes = b""


@quick
@dataclass(frozen=True, slots=True)
class AgreementTerms:
    """What an owner grants. Times are milliseconds.

    Under a standing approval, whose message digest is `approval`, `version` is the entry that applied for it.
    """

    version: Version
    dataset: bytes
    grantee: Party
    application: bytes
    operations: frozenset["Operation.ValueType"]
    fields: tuple[str, ...]
    filterable: frozenset[str]
    purposes: frozenset[str]
    not_before: int
    not_after: int
    row_filter: Filter | None
    masks: Mapping[str, Mask]
    officers: frozenset[str]
    hours: Hours | None
    limits: Limits
    review_at: int
    retention_days: int
    approval: bytes = b""

    @property
    def digest(self) -> bytes:
        """The agreement's message digest: how requests name it, 32 bytes."""
        return self.version.digest

    @property
    def object_id(self) -> bytes:
        """The same for all versions of the agreement, 16 bytes."""
        return self.version.object_id


@quick
@dataclass(frozen=True, slots=True)
class Terms:
    """What bodies say; those before a snapshot are opened when they are looked up (`core/reopening.py`).

    The latest version of each dataset stands by object id, the others by message digest. Of each application, by object
    id: the events of its case, and the index of the entry that last ended what was agreed. Of each dispute: its
    application. Of each consent to a standing approval, by that body's digest: its dataset. Of each dataset: its way
    in the catalogue. Of each correction: how it stands. Of a dataset and a department: that it once had an agreement.
    """

    datasets: Table[bytes, DatasetTerms] = Map()  # noqa: RUF009 - an immutable value
    applications: Table[bytes, ApplicationTerms] = Map()  # noqa: RUF009
    agreements: Table[bytes, AgreementTerms] = Map()  # noqa: RUF009
    codes: Table[tuple[str, str], bytes] = Map()  # noqa: RUF009
    approvals: Table[bytes, ApprovalTerms] = Map()  # noqa: RUF009
    steps: Table[bytes, StepTerms] = Map()  # noqa: RUF009
    events: Table[bytes, tuple[Event, ...]] = Map()  # noqa: RUF009
    ends: Table[bytes, int] = Map()  # noqa: RUF009
    disputes: Table[bytes, bytes] = Map()  # noqa: RUF009
    consents: Table[bytes, bytes] = Map()  # noqa: RUF009
    reviews: Table[bytes, tuple[ReviewEvent, ...]] = Map()  # noqa: RUF009
    corrections: Table[bytes, Correction] = Map()  # noqa: RUF009
    granted: Table[tuple[bytes, Party], bool] = Map()  # noqa: RUF009
