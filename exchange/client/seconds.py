"""What a steward signs waits for a second one, where the department asks for two."""

from exchange.client.errors import ExchangeError
from exchange.core.envelope import Envelope
from exchange.core.state import State
from exchange.core.stewards import acts_for, needs_second
from exchange.core.wire import decode
from exchange.v1.directory_pb2 import Entry


class SecondNeededError(ExchangeError):
    """Nothing was appended: another steward of the department signs the entry too.

    Args:
        entry: without a second's word.
        attachments: what belongs to it.
    """

    def __init__(self, entry: Entry, attachments: tuple[bytes, ...]) -> None:
        super().__init__(
            f"{entry.owner} asks for two stewards, and nobody has signed this but one",
            "another steward signs it: exchange steward countersign",
        )
        self.entry = entry
        self.attachments = attachments


def require_second(state: State, envelope: Envelope) -> None:
    """Find out before a broker refuses it whether an entry needs a second steward.

    Args:
        state: the directory's.
        envelope: of kind entry, signed here.

    Raises:
        SecondNeededError: it does, and has none.
    """
    record = state.keys.get(envelope.key_id)
    entry = decode(Entry, envelope.payload)
    department = acts_for(record, entry.owner) if record is not None else None
    if department is not None and needs_second(state, department, entry.kind) and not entry.HasField("second"):
        raise SecondNeededError(entry, envelope.attachments)
