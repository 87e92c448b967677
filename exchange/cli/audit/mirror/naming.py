"""What purposes, datasets and fields were called when a request was decided: names change, and the log keeps codes."""

from dataclasses import dataclass

from exchange.cli.audit.mirror.offline import MirroredDirectory
from exchange.core.directory import Directory
from exchange.core.trust import Trust
from exchange.v1.request_pb2 import RequestHeader


@dataclass(frozen=True, slots=True)
class Names:
    """Names of one moment; empty where the directory had none.

    Args:
        purpose: the purpose's label.
        purpose_en: the same in English.
        legal_basis: what the purpose rests on.
        dataset: the dataset's title.
        fields: the label of each field that was asked for.
        directory_size: of the directory that says so.
    """

    purpose: str
    purpose_en: str
    legal_basis: str
    dataset: str
    fields: dict[str, str]
    directory_size: int


def names_of(directory: Directory, header: RequestHeader) -> Names:
    """The names of what a request is about.

    Args:
        directory: of the moment.
        header: of the request.
    """
    state = directory.state
    digest = state.purposes.get(header.purpose)
    # Revoked or not: it was what the code meant.
    purpose = state.versions[digest].purpose if digest is not None else None
    dataset = directory.terms.datasets.get(header.dataset)
    known = dataset.fields if dataset is not None else {}
    return Names(
        purpose=purpose.label if purpose is not None else "",
        purpose_en=purpose.label_en if purpose is not None else "",
        legal_basis=purpose.legal_basis if purpose is not None else "",
        dataset=dataset.title if dataset is not None else "",
        fields={name: known[name].label if name in known else name for name in header.fields},
        directory_size=directory.size,
    )


class History:
    """The directory as it was at any size, each folded once.

    Args:
        mirror: of the directory; its leaves are verified.
        trust: what it is folded under.
    """

    def __init__(self, mirror: MirroredDirectory, trust: Trust) -> None:
        self._mirror = mirror
        self._trust = trust
        self._folded: dict[int, Directory] = {}

    def at(self, size: int) -> Directory | None:
        """The directory of a size; None where the mirror does not reach that far."""
        if size > len(self._mirror.entries):
            return None
        if size not in self._folded:
            self._folded[size] = self._mirror.folded(self._trust, size)
        return self._folded[size]
