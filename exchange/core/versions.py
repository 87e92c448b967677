"""What a new version of a dataset changes, and whose agreements it breaks (Decree 809, article 17)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from exchange.core.descriptor import is_shared, shared_purposes
from exchange.core.directory import Directory
from exchange.core.filters import TYPE_NAMES
from exchange.core.terms import AgreementTerms, DatasetTerms
from exchange.v1.directory_pb2 import Dataset
from exchange.v1.request_pb2 import Operation


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two versions.

    Args:
        text: for people.
        field: the field that it is about; empty for the dataset as a whole.
        operation: the operation that it takes away, or None.
        purposes: the only purposes that remain, or None.
        breaking: whether an agreement that uses it gets less than it grants, or something else.
        filtering: whether it takes away a filter only.
    """

    text: str
    field: str = ""
    operation: "Operation.ValueType | None" = None
    purposes: frozenset[str] | None = None
    breaking: bool = False
    filtering: bool = False

    def breaks(self, agreement: AgreementTerms) -> bool:
        """Whether an agreement rests on what this takes away."""
        if not self.breaking:
            return False
        if self.operation is not None:
            return self.operation in agreement.operations
        if self.purposes is not None:
            return not agreement.purposes <= self.purposes
        if self.filtering:
            return self.field in agreement.filterable
        # Without a field it is about all of the dataset.
        return not self.field or self.field in agreement.fields or self.field in agreement.filterable


@dataclass(frozen=True, slots=True)
class Broken:
    """An agreement that a new version breaks, and by which changes."""

    agreement: AgreementTerms
    changes: tuple[Change, ...]


def changes(before: DatasetTerms, after: Dataset) -> tuple[Change, ...]:
    """What a new version changes, the breaking changes first.

    Args:
        before: the version that stands.
        after: the descriptor to be published.
    """
    found = [*_fields(before, after), *_operations(before, after), *_sharing(before, after), *_rest(before, after)]
    return tuple(sorted(found, key=lambda change: not change.breaking))


def broken_agreements(directory: Directory, before: DatasetTerms, after: Dataset, now: int) -> tuple[Broken, ...]:
    """The agreements that stand, and that a new version would break, the oldest first.

    Args:
        directory: that of the owner, who has every agreement of its own.
        before: the version that stands.
        after: the descriptor to be published.
        now: milliseconds.
    """
    found = changes(before, after)
    standing = (
        terms
        for terms in directory.terms.agreements.values()
        if terms.dataset == before.object_id and directory.stands(terms) and now <= terms.not_after
    )
    pairs = ((terms, tuple(change for change in found if change.breaks(terms))) for terms in standing)
    broken = [Broken(terms, why) for terms, why in pairs if why]
    return tuple(sorted(broken, key=lambda item: item.agreement.version.index))


def _fields(before: DatasetTerms, after: Dataset) -> Iterator[Change]:
    later = {field.name: field for field in after.fields}
    for name, field in before.fields.items():
        if name not in later:
            yield Change(f"the field {name} is gone", name, breaking=True)
        elif later[name].type != field.type:
            types = f"{TYPE_NAMES[field.type]} to {TYPE_NAMES[later[name].type]}"
            yield Change(f"the type of {name} goes from {types}", name, breaking=True)
    for name in _gone(before.filterable, after.filterable):
        if name in later:
            yield Change(f"{name} can no longer be filtered by", name, breaking=True, filtering=True)
    for name in later:
        if name not in before.fields:
            yield Change(f"the field {name} is new", name)


def _operations(before: DatasetTerms, after: Dataset) -> Iterator[Change]:
    for operation in sorted(before.operations - set(after.operations)):
        name = Operation.Name(operation).removeprefix("OPERATION_")
        yield Change(f"{name} is no longer offered", operation=operation, breaking=True)
    for operation in sorted(set(after.operations) - before.operations):
        yield Change(f"{Operation.Name(operation).removeprefix('OPERATION_')} is offered too")


def _sharing(before: DatasetTerms, after: Dataset) -> Iterator[Change]:
    if is_shared(before.descriptor) and not is_shared(after):
        yield Change("it is no longer shared", breaking=True)
    only, earlier = shared_purposes(after), shared_purposes(before.descriptor)
    if only is not None and (earlier is None or not earlier <= only):
        text = f"it is shared for {', '.join(sorted(only))} alone"
        yield Change(text, purposes=only, breaking=True)


def _rest(before: DatasetTerms, after: Dataset) -> Iterator[Change]:
    if before.key != after.key:
        yield Change(f"the key goes from {before.key} to {after.key}", breaking=True)
    if str(before.system) != after.system:
        yield Change(f"{after.system} answers, no longer {before.system}")


def _gone(before: Iterable[str], after: Iterable[str]) -> list[str]:
    return sorted(set(before) - set(after))
