"""Guardrails: exchange-wide rules that only deny, over what is clear in a request (DESIGN section 6, check 7).

A guardrail's test is a typed tree. It is read strictly and bounded, into values that say for themselves whether
they hold; nothing in it is text that anybody would have to interpret.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from exchange.core.errors import CoreError, NameFormatError
from exchange.core.names import Party, is_code
from exchange.v1.guardrail_pb2 import Guardrail, Test, Tests
from exchange.v1.request_pb2 import Operation

FORMAT = 1
MAX_DEPTH = 8
MAX_NODES = 64
MAX_TEXT = 2000
OBJECT_ID = 16
MOST_SENSITIVE = 4


class GuardrailError(CoreError):
    """A guardrail is not in its form; the text names the node by its number, parents first, from 1."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a guardrail judges.

    Args:
        requester: the system that asks; provider: the dataset's owner.
        dataset: object id, 16 bytes.
        sensitivity: of the most sensitive field asked for, 1 to 4.
        purpose: code.
        operation: what is asked for.
    """

    requester: Party
    provider: Party
    dataset: bytes
    sensitivity: int
    purpose: str
    operation: "Operation.ValueType"


class Condition(Protocol):
    """One node of a test."""

    def holds(self, case: Case) -> bool:
        """Whether it is true of a request."""
        ...


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of its conditions holds."""

    conditions: tuple[Condition, ...]

    def holds(self, case: Case) -> bool:
        """See `Condition`."""
        return all(condition.holds(case) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of its conditions holds."""

    conditions: tuple[Condition, ...]

    def holds(self, case: Case) -> bool:
        """See `Condition`."""
        return any(condition.holds(case) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Negation:
    """Its condition does not hold."""

    condition: Condition

    def holds(self, case: Case) -> bool:
        """See `Condition`."""
        return not self.condition.holds(case)


@dataclass(frozen=True, slots=True)
class RequesterIs:
    """The requester is this party or lies below it."""

    party: Party

    def holds(self, case: Case) -> bool:
        """See `Condition`."""
        return self.party.covers(case.requester)


@dataclass(frozen=True, slots=True)
class ProviderIs:
    """The dataset's owner is this party or lies below it."""

    party: Party

    def holds(self, case: Case) -> bool:
        """See `Condition`."""
        return self.party.covers(case.provider)


@dataclass(frozen=True, slots=True)
class DatasetIs:
    """The dataset has this object id."""

    object_id: bytes

    def holds(self, case: Case) -> bool:
        """See `Condition`."""
        return self.object_id == case.dataset


@dataclass(frozen=True, slots=True)
class SensitivityFrom:
    """The most sensitive field asked for is of this level or above it."""

    level: int

    def holds(self, case: Case) -> bool:
        """See `Condition`."""
        return case.sensitivity >= self.level


@dataclass(frozen=True, slots=True)
class PurposeIs:
    """The request is for this purpose."""

    code: str

    def holds(self, case: Case) -> bool:
        """See `Condition`."""
        return self.code == case.purpose


@dataclass(frozen=True, slots=True)
class OperationIs:
    """The request is for this operation."""

    operation: "Operation.ValueType"

    def holds(self, case: Case) -> bool:
        """See `Condition`."""
        return self.operation == case.operation


def read_guardrail(guardrail: Guardrail) -> Condition:
    """What a guardrail forbids.

    Args:
        guardrail: as the coordinator signed it.

    Raises:
        GuardrailError: its form is broken; the text says where.
    """
    texts = (guardrail.label, guardrail.label_en, guardrail.legal_basis)
    if guardrail.format != FORMAT:
        raise GuardrailError(f"this version reads guardrails of format {FORMAT}")
    if not is_code(guardrail.code) or not guardrail.label or any(len(text) > MAX_TEXT for text in texts):
        raise GuardrailError("a guardrail has a code, a label and texts of at most 2,000 characters")
    return _Reading().read(guardrail.test, 1)


class _Reading:
    """Reads one tree, and counts its nodes."""

    def __init__(self) -> None:
        self._nodes = 0

    def read(self, test: Test, depth: int) -> Condition:
        """The condition of a node; no tree gets deeper, or wider, than its bounds."""
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise GuardrailError(f"the test is more than {MAX_DEPTH} levels deep")
        if self._nodes > MAX_NODES:
            raise GuardrailError(f"the test has more than {MAX_NODES} nodes")
        number, kind = self._nodes, test.WhichOneof("node")
        if kind == "all_of":
            return AllOf(self._several(test.all_of, number, depth))
        if kind == "any_of":
            return AnyOf(self._several(test.any_of, number, depth))
        if kind == "negation":
            return Negation(self.read(test.negation, depth + 1))
        reader = _LEAVES.get(kind or "")
        if reader is None:
            raise GuardrailError(f"node {number} of the test is empty")
        try:
            return reader(test)
        except (GuardrailError, NameFormatError) as error:
            raise GuardrailError(f"node {number} of the test: {error}") from error

    def _several(self, tests: Tests, number: int, depth: int) -> tuple[Condition, ...]:
        if not tests.tests:
            raise GuardrailError(f"node {number} of the test combines nothing")
        return tuple(self.read(test, depth + 1) for test in tests.tests)


def _dataset(test: Test) -> Condition:
    if len(test.dataset) != OBJECT_ID:
        raise GuardrailError(f"a dataset's object id has {OBJECT_ID} bytes")
    return DatasetIs(test.dataset)


def _sensitivity(test: Test) -> Condition:
    if not 1 <= test.sensitivity <= MOST_SENSITIVE:
        raise GuardrailError(f"a sensitivity is 1 to {MOST_SENSITIVE}")
    return SensitivityFrom(test.sensitivity)


def _purpose(test: Test) -> Condition:
    if not is_code(test.purpose):
        raise GuardrailError("a purpose is named by its code")
    return PurposeIs(test.purpose)


def _operation(test: Test) -> Condition:
    if test.operation == Operation.OPERATION_UNSPECIFIED:
        raise GuardrailError("an operation is named")
    return OperationIs(test.operation)


_LEAVES: Mapping[str, Callable[[Test], Condition]] = MappingProxyType(
    {
        "requester": lambda test: RequesterIs(Party.parse(test.requester)),
        "provider": lambda test: ProviderIs(Party.parse(test.provider)),
        "dataset": _dataset,
        "sensitivity": _sensitivity,
        "purpose": _purpose,
        "operation": _operation,
    }
)
