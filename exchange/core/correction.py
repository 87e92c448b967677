"""A correction: that a record is wrong, what its owner answered, and who was told of it (Decree 809, article 26)."""

from dataclasses import dataclass
from enum import StrEnum

from exchange.core.names import Party
from exchange.core.procedure_terms import StepTerms
from exchange.core.state import Version


class Standing(StrEnum):
    """How a correction stands."""

    FILED = "filed"
    CORRECTED = "corrected"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Notice:
    """What a recipient is told: that answers to these requests of its own had a record that is corrected.

    Args:
        version: of the step; recipient: a department; requests: their ids, 16 bytes each.
        acknowledged: the step by which it answered, or None.
    """

    version: Version
    recipient: Party
    requests: tuple[bytes, ...]
    acknowledged: Version | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction, as far as it is known here.

    Args:
        object_id: its own, 16 bytes; dataset: the object id of the dataset; owner: whose it is.
        fields: that are wrong.
        standing: how it stands.
        filed, answered: those steps; None where the owner corrected of its own accord, or only a notice is known here.
        notices: in the order in which they were given.
    """

    object_id: bytes
    dataset: bytes
    owner: Party
    fields: tuple[str, ...]
    standing: Standing
    filed: StepTerms | None = None
    answered: StepTerms | None = None
    notices: tuple[Notice, ...] = ()
