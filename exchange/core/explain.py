"""Whether a question would be answered and, if not, the smallest change that would be: a dry run of checks 5 to 8.

It uses the very checks that `decide` uses, over what the asker's own mirror holds, and tells nobody anything new.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from exchange.core.bars import dataset_target, officer_target, party_target
from exchange.core.decision import Deny, Granted, Used, is_limited, weigh
from exchange.core.directory import Directory
from exchange.core.names import Party
from exchange.core.officers import officer_problem
from exchange.core.restrictions import next_open
from exchange.core.state import State
from exchange.core.suspending import suspension_target
from exchange.core.terms import AgreementTerms, DatasetTerms
from exchange.core.usage import DAY, MINUTE, day_of
from exchange.v1.request_pb2 import Operation, RequestHeader


@dataclass(frozen=True, slots=True)
class Question:
    """What would be asked, under which agreement, and when; without what is sealed.

    Args:
        agreement: message digest; dataset: object id.
        at: milliseconds.
    """

    agreement: bytes
    dataset: bytes
    operation: "Operation.ValueType"
    fields: tuple[str, ...]
    purpose: str
    officer: str
    at: int

    def header(self) -> RequestHeader:
        """The question as `weigh` takes it."""
        return RequestHeader(
            agreement=self.agreement,
            dataset=self.dataset,
            operation=self.operation,
            fields=self.fields,
            purpose=self.purpose,
            officer=self.officer,
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would become of a question.

    Args:
        denied: the check that would refuse it; None where it would be answered.
        changed: questions with the fewest changes that would be answered, the soonest first; none where it takes a
            new agreement, or somebody else's doing.
    """

    denied: Deny | None
    changed: tuple[Question, ...] = ()


def explain(directory: Directory, question: Question, requester: Party, used: Used) -> Explanation:
    """Whether a question would be answered, and what it takes if not.

    Args:
        directory: the asker's own mirror.
        question: what would be asked.
        requester: the system that would ask.
        used: what was used of an agreement, as far as the asker knows.
    """
    denied = weighed(directory, question, requester, used)
    dataset = directory.dataset(question.dataset)
    if denied is None or dataset is None:
        return Explanation(denied)
    candidates = list(dict.fromkeys(_candidates(directory, dataset, question, requester)))
    candidates.sort(key=lambda other: (changes(question, other), other.at))
    found: list[Question] = []
    for other in candidates:
        if found and changes(question, other) > changes(question, found[0]):
            break
        is_later = any(replace(other, at=sooner.at) == sooner for sooner in found)
        if not is_later and weighed(directory, other, requester, used) is None:
            found.append(other)
    return Explanation(denied, tuple(found))


def weighed(directory: Directory, question: Question, requester: Party, used: Used) -> Deny | None:
    """Why a question would be refused by checks 5 to 8; None where it would not."""
    answer = weigh(directory, question.header(), requester, question.at, used)
    return None if isinstance(answer, Granted) else answer


def changes(question: Question, other: Question) -> int:
    """How many things differ between two questions: each field that is left out counts as one."""
    pairs = (
        (question.agreement, other.agreement),
        (question.operation, other.operation),
        (question.purpose, other.purpose),
        (question.officer, other.officer),
        (question.at, other.at),
    )
    return sum(asked != changed for asked, changed in pairs) + len(left_out(question, other))


def left_out(question: Question, other: Question) -> tuple[str, ...]:
    """The fields of a question that another one does without."""
    return tuple(name for name in question.fields if name not in other.fields)


def _candidates(
    directory: Directory, dataset: DatasetTerms, question: Question, requester: Party
) -> Iterator[Question]:
    """Every question that is worth asking: whatever else is allowed takes more changes, or comes later."""
    for agreement in _agreements(directory, question, requester):
        operations = dict.fromkeys((question.operation, *sorted(agreement.operations & dataset.operations)))
        purposes = dict.fromkeys((question.purpose, *sorted(agreement.purposes)))
        for at in _times(directory.state, dataset, agreement, question, requester):
            officers = _officers(directory.state, agreement, question, requester, at)
            choices = product(operations, _field_lists(dataset, agreement, question), purposes, officers)
            for operation, fields, purpose, officer in choices:
                yield Question(agreement.digest, question.dataset, operation, fields, purpose, officer, at)


def _agreements(directory: Directory, question: Question, requester: Party) -> Iterator[AgreementTerms]:
    """The requester's own for the dataset that stand; no other one helps at any time."""
    for agreement in directory.terms.agreements.values():
        own = agreement.dataset == question.dataset and agreement.grantee.covers(requester)
        if own and directory.stands(agreement):
            yield agreement


def _field_lists(dataset: DatasetTerms, agreement: AgreementTerms, question: Question) -> Iterator[tuple[str, ...]]:
    """What is left of the fields: those that are granted, up to each level that a guardrail may look at."""
    granted = tuple(name for name in question.fields if name in agreement.fields and name in dataset.fields)
    for level in sorted({dataset.fields[name].sensitivity for name in granted}, reverse=True):
        yield tuple(name for name in granted if dataset.fields[name].sensitivity <= level)


def _officers(
    state: State, agreement: AgreementTerms, question: Question, requester: Party, at: int
) -> tuple[str, ...]:
    """The one who asks, and one whom the agreement names, nobody suspends and the department has not removed."""
    department = requester.own_department
    for name in sorted(agreement.officers - {question.officer}):
        is_held = state.bars.holding(officer_target(department, name), at) is not None
        if not is_held and not officer_problem(state, department, name):
            return question.officer, name
    return (question.officer,)


def _times(
    state: State, dataset: DatasetTerms, agreement: AgreementTerms, question: Question, requester: Party
) -> list[int]:
    """Now, and the moments at which something ends or begins that stands in the way, each within the hours."""
    moments = {question.at, max(question.at, agreement.not_before)}
    if is_limited(agreement):
        moments |= {question.at + MINUTE, day_of(question.at) + DAY}
    department, owner = requester.own_department, dataset.version.owner
    targets = [suspension_target(state, agreement), dataset_target(dataset.object_id)]
    targets += [party_target(party) for party in (requester, department, dataset.system, owner)]
    targets += [officer_target(department, name) for name in (question.officer, *agreement.officers)]
    suspensions = state.bars.suspensions
    for target in targets:
        moments |= {held.said.until for held in suspensions.get(target, ()) if held.said.until > question.at}
    if agreement.hours is not None:
        moments |= {opening for moment in moments if (opening := next_open(agreement.hours, moment)) is not None}
    return sorted(moment for moment in moments if moment <= agreement.not_after)
