"""The anchor: a file beside the ledger or the orders that keeps their last head, so that a lost one is found out.

It is written once what it names is durable: a crash leaves it behind its file, never ahead. Whoever restores both
from one backup is not found out here, but by the access log, since every response names its ledger number.
"""

import json
from pathlib import Path

from adapters.ledger_rows import LedgerHead as Head
from exchange.client.errors import ExchangeError
from exchange.home import write_file

CHAIN = 32


class AnchorError(ExchangeError):
    """A file is missing, older than its anchor, or not the one that the anchor was written beside."""

    exit_code = 4

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(
            f"{file}: {problem}",
            f"restore the {file.name} that belongs to its anchor, or where it is lost for good declare that with "
            "`exchange-adapter ledger recover`; do not delete the anchor to get past this",
        )


class Anchor:
    """The last head of one file, in NAME.anchor beside it.

    Args:
        file: a chain of numbered rows.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._path = file.with_name(f"{file.name}.anchor")
        self._placed: Head | None = None

    @property
    def is_placed(self) -> bool:
        """Whether there is an anchor."""
        return self._path.exists()

    def seen(self) -> Head:
        """The head that was written last, or the start of a chain before the first; read it before the file's rows.

        Raises:
            AnchorError: the anchor is here and its file is not, or the anchor cannot be read.
        """
        try:
            values = json.loads(self._path.read_bytes())
            head = Head(int(values["number"]), bytes.fromhex(values["chain"]))
            if head.number < 0 or len(head.chain) != CHAIN:
                raise ValueError("not a head")
        except FileNotFoundError:
            return Head()
        except OSError as error:
            raise AnchorError(self._file, f"its anchor cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise AnchorError(self._file, "its anchor is damaged") from error
        if not self._file.exists():
            raise AnchorError(self._file, f"it is missing, but its anchor has seen {head.number} rows")
        self._placed = head
        return head

    def check(self, seen: Head, last: int, chain: bytes) -> None:
        """Compare a file with its anchor.

        Args:
            seen: what `seen` gave before the file was read.
            last: the number of the file's last row.
            chain: the file's chain hash at row `seen.number`; anything where it has no such row.

        Raises:
            AnchorError: they do not belong together.
        """
        if last < seen.number:
            raise AnchorError(self._file, f"it has {last} rows, but its anchor has seen {seen.number}: an older copy")
        if chain != seen.chain:
            raise AnchorError(self._file, f"its row {seen.number} is not the one that its anchor has seen")

    def place(self, head: Head) -> None:
        """Write a head that is durable in the file, unless it is the one written last.

        Raises:
            HomeError: it cannot be written.
        """
        if head != self._placed:
            values = {"number": head.number, "chain": head.chain.hex()}
            write_file(self._path, json.dumps(values).encode() + b"\n", 0o600)
            self._placed = head


def mark_restored(file: Path) -> None:
    """Note that a file came out of a backup: what it has is right, and may not be all there was.

    Raises:
        HomeError: it cannot be written.
    """
    write_file(_restored(file), b"", 0o600)
    file.with_name(f"{file.name}.anchor").unlink(missing_ok=True)


def check_not_restored(file: Path) -> None:
    """Refuse a file that came out of a backup, until it is declared what was lost after it.

    Raises:
        AnchorError: it did.
    """
    if _restored(file).exists():
        raise AnchorError(file, "it came out of a backup, and answers may have been given after that")


def clear_restored(file: Path) -> None:
    """Take the note away, once that is declared and durable."""
    _restored(file).unlink(missing_ok=True)


def _restored(file: Path) -> Path:
    return file.with_name(f"{file.name}.restored")


__all__ = ["Anchor", "AnchorError", "Head", "check_not_restored", "clear_restored", "mark_restored"]
