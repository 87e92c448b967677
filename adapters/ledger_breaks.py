"""Where a ledger begins anew: answers that were lost for good are declared, signed, and numbered past.

The chain goes on from SHA-256(chain hash before || declaration), as if the declaration were the row of the last answer
that was lost: what is left stays bound to what follows.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from adapters.anchor import CHAIN
from adapters.ledger_rows import LedgerError, LedgerHead
from exchange.core.envelope import LEDGER_BREAK, Draft, Envelope, decode_envelope
from exchange.core.errors import CoreError, DecodeError
from exchange.core.wire import FORMAT, decode, encode
from exchange.v1.ledger_pb2 import LedgerBreak

LARGEST: Final = 1 << 62
"""Numbers stay below it, whoever says what was given."""


@dataclass(frozen=True, slots=True)
class Start:
    """A declared new start.

    Args:
        envelope: of the declaration, as it was signed.
        said: the declaration.
    """

    envelope: Envelope
    said: LedgerBreak

    @property
    def before(self) -> LedgerHead:
        """The head that it follows."""
        return LedgerHead(self.said.after_number, self.said.after_chain)

    @property
    def head(self) -> LedgerHead:
        """The head that it leads to."""
        return LedgerHead(self.said.until_number, sha256(self.said.after_chain + self.envelope.payload).digest())

    def covers(self, number: int | None, entry: int) -> bool:
        """Whether an entry of the access log may be about an answer that was declared lost.

        Args:
            number: the answer's; None where its body is gone, and the number with it.
            entry: its index.
        """
        lost = number is None or self.said.after_number < number <= self.said.until_number
        return lost and entry < self.said.log_size


def read_start(data: bytes) -> Start:
    """Read a declaration.

    Raises:
        LedgerError: it is none.
    """
    try:
        envelope = decode_envelope(data, LEDGER_BREAK)
        said = decode(LedgerBreak, envelope.payload)
        if len(said.after_chain) != CHAIN or not said.after_number < said.until_number < LARGEST:
            raise DecodeError("its numbers do not go forward")
    except CoreError as error:
        raise LedgerError(f"a declaration of lost answers does not hold: {error}") from error
    return Start(envelope, said)


def draft_break(said: LedgerBreak) -> Draft:
    """A declaration to be signed; `format` is set here."""
    said.format = FORMAT
    return Draft(LEDGER_BREAK, encode(said))
