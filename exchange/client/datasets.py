"""Finding a dataset by what people call it, and the agreement to ask under."""

import difflib
from collections.abc import Collection

from exchange.client.errors import UsageError
from exchange.core.directory import Directory
from exchange.core.names import SCHEME, Party
from exchange.core.restrictions import Types, masked_types
from exchange.core.terms import AgreementTerms, DatasetTerms
from exchange.v1.request_pb2 import Operation

CLOSE = 3


def find_dataset(directory: Directory, text: str) -> DatasetTerms:
    """The dataset that a text names.

    Args:
        directory: the snapshot to look in.
        text: `DEPARTMENT/CODE`, `exchange://DOMAIN/DEPARTMENT/CODE`, or the object id in 32 hexadecimal digits.

    Raises:
        UsageError: there is none, or its description is not for this party; the hint gives names that are close.
    """
    name = text.removeprefix(f"{SCHEME}{directory.origin}/")
    for dataset in published_datasets(directory):
        if name == dataset_name(dataset) or text.lower() == dataset.object_id.hex():
            return dataset
    raise UsageError(f"no dataset {text[:200]!r} is known here", _suggestion(directory, name))


def dataset_name(dataset: DatasetTerms) -> str:
    """What people call a dataset: DEPARTMENT/CODE."""
    return f"{dataset.version.owner.department}/{dataset.code}"


def shown_types(agreement: AgreementTerms, dataset: DatasetTerms) -> Types:
    """The types of a dataset's fields as an agreement shows them: keys and filters are read by these."""
    types = dataset.types
    return masked_types(types, {name: mask for name, mask in agreement.masks.items() if name in types})


def published_datasets(directory: Directory) -> list[DatasetTerms]:
    """The datasets that a party may see, each in its latest version, by name."""
    latest = (directory.dataset(object_id) for object_id in directory.terms.datasets)
    return sorted((found for found in latest if found is not None), key=dataset_name)


def choose_agreement(
    directory: Directory,
    party: Party,
    dataset: DatasetTerms,
    operation: Operation.ValueType,
    fields: Collection[str],
    purpose: str,
    now: int,
) -> AgreementTerms:
    """The agreement to ask under: what it does not grant, the broker says, signed and logged.

    Args:
        directory: the snapshot to look in.
        party: who asks.
        dataset: what for.
        operation, fields, purpose: what is asked.
        now: milliseconds.

    Returns:
        The newest in force that grants all of it; else the newest in force; else the newest that has ended.

    Raises:
        UsageError: none of this party for this dataset, as far as the mirror knows.
    """
    standing = directory.agreements_of(party, dataset.object_id, now)
    for agreement in standing:
        if grants(agreement, operation, fields, purpose):
            return agreement
    if standing:
        return standing[0]
    ended = [
        agreement
        for agreement in directory.terms.agreements.values()
        if agreement.dataset == dataset.object_id and agreement.grantee.covers(party)
    ]
    if ended:
        return max(ended, key=lambda agreement: agreement.version.index)
    raise UsageError(
        f"no agreement of {party} for {dataset_name(dataset)} is known here",
        f"the department applies to {dataset.version.owner}: `exchange agreement apply`",
    )


def grants(agreement: AgreementTerms, operation: Operation.ValueType, fields: Collection[str], purpose: str) -> bool:
    """Whether an agreement's terms cover all that is asked; whether it is in force is asked apart."""
    return operation in agreement.operations and purpose in agreement.purposes and set(fields) <= set(agreement.fields)


def _suggestion(directory: Directory, name: str) -> str:
    names = [dataset_name(dataset) for dataset in published_datasets(directory)]
    close = difflib.get_close_matches(name, names, CLOSE, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    count = "1 dataset is" if len(names) == 1 else f"{len(names)} datasets are"
    return f"{count} known here: `exchange dataset list` shows them"
