"""Whether an owner's adapter can enforce the terms that a steward is about to sign.

What the adapter says is a file that `exchange-adapter capabilities` prints, in the steward's home:
capabilities/SYSTEM.json. Without it every term of this version may be signed: an adapter that does not know one answers
nothing under the agreement.
"""

import json
from pathlib import Path
from typing import Any

from exchange.cli.frame.errors import CommandError, ExitCode, say
from exchange.cli.frame.output import listed
from exchange.core.enforcement import terms_of_draft
from exchange.core.terms import DatasetTerms
from exchange.v1.directory_pb2 import Agreement
from exchange.v1.request_pb2 import Operation

FOLDER = "capabilities"
_MOST = 1024 * 1024


def require_enforced(home: Path, dataset: DatasetTerms, agreement: Agreement) -> None:
    """Check the terms of an agreement against what the answering system's adapter says that it can enforce.

    Args:
        home: the steward's.
        dataset: that the agreement is for.
        agreement: still to be signed.

    Raises:
        CommandError: the adapter cannot enforce a term, does not answer for the dataset, or its file cannot be read.
    """
    path = home / FOLDER / f"{dataset.system.segments[-1]}.json"
    if not path.exists():
        return
    again = f"print it anew: exchange-adapter capabilities --json --home … > {path}"
    enforced = _read(path, dataset, again)
    missing = sorted(terms_of_draft(agreement) - enforced)
    if missing:
        raise CommandError(
            f"{dataset.system} cannot enforce {listed(missing)} for {dataset.code}, so this cannot be signed",
            f"leave it out; or, if its adapter has changed since, {again}",
        )


def warn_of_masked_key(dataset: DatasetTerms, agreement: Agreement) -> None:
    """Say that a mask on the key takes back what LOOKUP is for, but for those who have its masked values."""
    masked = any(mask.field == dataset.key for mask in agreement.masks)
    if masked and Operation.OPERATION_LOOKUP in agreement.operations:
        say(f"note: {dataset.key} is the key: masked, a LOOKUP finds it by what is shown of it, not by its value")


def _read(path: Path, dataset: DatasetTerms, again: str) -> frozenset[str]:
    try:
        with path.open("rb") as file:
            said: Any = json.loads(file.read(_MOST))
        system, datasets = said["system"], said["datasets"]
        enforced = datasets.get(dataset.code) if isinstance(datasets, dict) else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CommandError(f"{path} does not say what an adapter can enforce", again, ExitCode.UNCHECKED) from error
    if system != str(dataset.system):
        raise CommandError(f"{path} is of {system!s:.80}, and {dataset.code} is answered by {dataset.system}", again)
    if not isinstance(enforced, list) or not all(isinstance(term, str) for term in enforced):
        raise CommandError(f"{dataset.system} says that it does not answer for {dataset.code}", again)
    return frozenset(enforced)
