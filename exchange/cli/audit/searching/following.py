"""`search --follow`: the mirror is kept up to date, and what fits is printed as it enters the log, until Ctrl-C."""

import asyncio
from collections.abc import Awaitable, Callable

import typer

from exchange.cli.audit.checking.findings import Finding
from exchange.cli.audit.checking.policies import of_quorum
from exchange.cli.audit.mirror.access_mirror import FILE, AccessMirror
from exchange.cli.audit.mirror.fetch import fetch_access_log
from exchange.cli.audit.mirror.offline import mirrored_erasures
from exchange.cli.audit.mirror.seen import keep_evidence
from exchange.cli.audit.searching.options import Typed
from exchange.cli.audit.searching.rows import COLUMNS, ProvenEntry, described, proven_entries, row
from exchange.cli.frame.errors import ExitCode, say
from exchange.cli.frame.output import RunningTable, clean, print_json_line
from exchange.cli.frame.progress import bar
from exchange.client.errors import BrokenLogError, UnavailableError
from exchange.client.session import Session
from exchange.client.storage import ACCESS
from exchange.core.directory import Directory
from exchange.core.erasures import Erasures
from exchange.home import Home

SECONDS = 1.0
"""Between two looks at the log."""

Wait = Callable[[], Awaitable[None]]


class Printer:
    """Prints what fits, as it comes.

    Args:
        as_json: one line of JSON for each entry, instead of a table.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._table = None if as_json else RunningTable(COLUMNS)
        self.failed = False

    def show(self, directory: Directory, item: ProvenEntry | Finding) -> None:
        """Print an entry, or on stderr what is wrong with one."""
        if isinstance(item, Finding):
            self.failed = True
            say(clean(str(item)))
        elif self._table is not None:
            self._table.add(row(directory, item))
        else:
            print_json_line(described(directory, item))


class Follower:
    """Brings the mirror up to date, and shows what is new and fits; again and again.

    Args:
        session: the auditor's, open.
        mirror: of the access log.
        typed: what is searched for.
        after: the last entry that was seen; by default the last that the mirror has.
        printer: shows it.
    """

    def __init__(self, session: Session, mirror: AccessMirror, typed: Typed, after: int | None, printer: Printer):
        self._session = session
        self._mirror = mirror
        self._typed = typed
        self._next = after + 1 if after is not None else mirror.checkpoint.size
        self._printer = printer
        # What is erased while this runs is old, and shown already.
        self._erasures = Erasures()

    async def run(self, wait: Wait) -> None:
        """Follow until cancelled.

        Args:
            wait: for as long as it takes until another look is worth it.

        Raises:
            BrokenLogError: the log contradicts what it signed before.
            UnavailableError: the first look fails; a later one is tried again.
        """
        with bar("directory log") as advance:
            self._session.mirror.progress = advance
            await self._session.sync()
        self._session.mirror.progress = lambda _done, _total: None
        with bar("access log") as advance:
            await fetch_access_log(self._session, self._mirror, advance)
        self._erasures = await asyncio.to_thread(mirrored_erasures, self._session.home.path, self._session.trust)
        lost = False
        while True:
            self._show()
            await wait()
            try:
                await fetch_access_log(self._session, self._mirror, lambda _done, _total: None)
            except UnavailableError as error:
                if not lost:
                    say(clean(f"the broker cannot be reached, and is tried again: {error}"))
                lost = True
            else:
                lost = False

    def _show(self) -> None:
        directory = self._session.directory
        criteria = self._typed.criteria(directory)
        for item in proven_entries(self._mirror, criteria, self._next, erasures=self._erasures):
            if isinstance(item, Finding) or criteria.holds(item.entry):
                self._printer.show(directory, item)
        self._next = max(self._next, self._mirror.checkpoint.size)


def follow(home: Home, typed: Typed, after: int | None, as_json: bool) -> None:
    """Follow the log until Ctrl-C, which is how it ends well."""
    printer = Printer(as_json=as_json)
    try:
        asyncio.run(_follow(home, typed, after, printer))
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.REFUSED if printer.failed else ExitCode.DONE) from None


async def _follow(home: Home, typed: Typed, after: int | None, printer: Printer) -> None:
    try:
        async with Session(home) as session:
            with AccessMirror.opened(home.path / FILE, session.trust.access_log, create=True) as mirror:
                try:
                    await Follower(session, mirror, typed, after, printer).run(lambda: asyncio.sleep(SECONDS))
                finally:
                    size, cosigned = mirror.checkpoint.size, session.cosignatures
                    note = cosigned.note(ACCESS) or mirror.note(size)
                    seen = of_quorum(cosigned.of(ACCESS), mirror.checkpoint, note, session.trust.policy)
                    say(f"followed and verified to {size} of {mirror.origin}; {seen}")
    except BrokenLogError as error:
        keep_evidence(home, error)
        raise
