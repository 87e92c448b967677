"""The anchor: a file outside the database that keeps the last heads, so that a rolled back database is found out."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import structlog

from exchange.broker.proofs import load_frontier
from exchange.core.checkpoint import open_checkpoint
from exchange.core.errors import NoteError
from exchange.core.note import Verifier
from exchange.home import write_file
from exchange.store.ports import Log, LogStore, StoreBusyError, StoreError, StoreLostError

INTERVAL = 0.5

logger = structlog.get_logger("exchange.broker")


class AnchorError(Exception):
    """The database is not the one that the anchor was written beside; `hint` says what to do."""

    hint = (
        "restore the database that belongs to the anchor, or recover the log from a mirror; "
        "do not delete the anchor to get past this"
    )


class Anchor:
    """The last checkpoints of both logs, one file each.

    Args:
        folder: where the files are.
        store: the logs.
        verifiers: their note keys.
    """

    def __init__(self, folder: Path, store: LogStore, verifiers: Mapping[Log, Verifier]) -> None:
        self._folder = folder
        self._store = store
        self._verifiers = verifiers
        self._written: dict[Log, bytes] = {}

    def place(self) -> None:
        """Write the present heads; done once by `exchange init`, and whenever they have moved.

        Raises:
            HomeError: a file cannot be written.
        """
        for log in Log:
            checkpoint = self._store.head(log).checkpoint
            if checkpoint != self._written.get(log):
                write_file(self._folder / log.value, checkpoint, 0o644)
                self._written[log] = checkpoint

    def check(self) -> None:
        """Compare database and anchor before anything is served.

        Raises:
            AnchorError: an anchor is missing, or the database's head is smaller or does not continue it.
        """
        for log in Log:
            self._check(log)

    async def follow(self) -> None:
        """Keep the anchor less than a second behind, until cancelled.

        Raises:
            HomeError: a file cannot be written.
        """
        waits = False
        while True:
            try:
                await asyncio.to_thread(self.place)
                waits = False
            except (StoreBusyError, StoreLostError) as error:
                # What cannot be read has no new head that this broker knows of; and whoever keeps every connection
                # busy must not be able to stop the broker with it.
                if not waits:
                    logger.warning("the anchor waits for the database", reason=str(error))
                waits = True
            await asyncio.sleep(INTERVAL)

    def _check(self, log: Log) -> None:
        path = self._folder / log.value
        try:
            anchored = open_checkpoint(path.read_bytes(), self._verifiers[log])
        except OSError as error:
            raise AnchorError(f"the anchor {path} cannot be read: {error.strerror}") from error
        except NoteError as error:
            raise AnchorError(f"the anchor {path} is not a checkpoint of this log: {error}") from error
        head = self._store.head(log)
        try:
            present = open_checkpoint(head.checkpoint, self._verifiers[log])
        except NoteError as error:
            raise AnchorError(f"the {log} log's head is not signed by its key: {error}") from error
        if head.size < anchored.size:
            raise AnchorError(
                f"the {log} log has {head.size} entries, but the anchor has seen {anchored.size}: it was rolled back"
            )
        expected = ((anchored.size, anchored.root), (head.size, present.root))
        try:
            found = tuple(load_frontier(self._store, log, size).root() for size, _ in expected)
        except StoreError as error:
            raise AnchorError(f"the {log} log lacks nodes of its tree: {error}") from error
        if found != tuple(root for _, root in expected) or present.size != head.size:
            raise AnchorError(f"the {log} log is not the one that the anchor was written beside")
