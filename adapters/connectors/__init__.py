"""Connectors: each answers the typed query from one kind of source.

Here is the port: what a connector is asked, what it answers, and how it fails.

ConnectorError    the source is down, slow, locked or not as configured; the same question may succeed later
QuestionError     the question itself cannot be answered, now or later
"""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from exchange.core.filters import Scalar
from exchange.core.masking import Masking
from exchange.v1.access_pb2 import Code
from exchange.v1.request_pb2 import Filter, Value


class ConnectorError(Exception):
    """The source cannot answer.

    Args:
        reason: for people; no value, and nothing that the driver or the database said.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class QuestionError(Exception):
    """The question cannot be answered.

    Args:
        code: what the refusal says.
        reason: for people; no value.
    """

    def __init__(self, code: Code.ValueType, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Question:
    """One question for one dataset: rows that match the keys and both filters, as far as each is there.

    Args:
        dataset: the dataset's code.
        fields: the fields to return, in this order, each once.
        keys: values of the key field, of its type; None for a question that goes by filter alone. Not for a key that
            is masked: that is a matter of the filter.
        filter: what the requester asks for; it reads masked fields as they are masked.
        row_filter: what the agreement allows; it reads every field as it stands.
        limit: the most rows to return, at least 1.
        masking: what the requester sees of the fields.
        key_shown: the requester may see each row's key, and so their order by it.

    Raises:
        ValueError: the limit is below 1, or a field is named twice.
    """

    dataset: str
    fields: tuple[str, ...]
    keys: tuple[Value, ...] | None
    filter: Filter | None
    row_filter: Filter | None
    limit: int
    masking: Masking = field(default_factory=Masking)
    key_shown: bool = True

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError("the limit is below 1")
        if len(set(self.fields)) != len(self.fields):
            raise ValueError("a field is asked for twice")


@dataclass(frozen=True, slots=True)
class Rows:
    """The answer to one question.

    Args:
        rows: exactly the fields asked for, in their order, as they stand in the source: the host masks them. Ordered by
            key, where that is shown, then by the fields asked for as the requester sees them.
        subjects: the text of each row's key, whether or not the key was asked for; empty where it is NULL.
        truncated: more rows match than the limit let through.
    """

    rows: tuple[dict[str, Scalar | None], ...]
    subjects: tuple[str, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the source that does not fit what the directory describes.

    Args:
        dataset: the dataset's code.
        field: the field concerned, or None for the dataset as a whole.
        problem: for the department's own people; it names tables and columns.
    """

    dataset: str
    field: str | None
    problem: str

    def __str__(self) -> str:
        where = self.dataset if self.field is None else f"{self.dataset}.{self.field}"
        return f"{where}: {self.problem}"


class Connector(Protocol):
    """Answers questions from one source, for any number of its datasets.

    It reads and never writes. It answers exactly what it is asked: granted fields, limits and the ledger are the
    host's, and so is masking what is returned. Which rows are selected, in which order, and where the limit cuts, is
    as if they had been masked before: nothing of that may depend on what a requester does not see (DESIGN section 6).

    Many questions may be asked at once, from one event loop; none of them blocks it. Two answers to one question may
    differ, since the source lives; rows of one answer are from one moment.
    """

    enforces: ClassVar[frozenset[str]]
    """Which of the terms in `exchange.core.enforcement.OF_SOURCE` hold here: agreements with others are not served."""

    async def answer(self, question: Question) -> Rows:
        """Answers one question.

        Raises:
            ConnectorError: the source is down, slow, locked or not as configured.
            QuestionError: the question does not fit the dataset.
        """
        ...

    def check(self) -> tuple[Finding, ...]:
        """Compares the source with the described datasets; blocks, for the start of a process.

        A dataset with a finding must not be served: comparisons with a column of another type can select wrong rows.

        Raises:
            ConnectorError: the source cannot be reached.
        """
        ...

    async def close(self) -> None:
        """Gives up all connections, after the statements that still run."""
        ...
