"""`exchange log recover`: put back what a restored log lacks, out of the mirrors of those who have seen more."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.backup.databases import is_database, tables_of
from exchange.cli.audit.mirror.access_mirror import FILE as ACCESS_MIRROR
from exchange.cli.audit.mirror.access_mirror import AccessMirror
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.progress import bar
from exchange.client.session import MIRROR
from exchange.client.storage import ACCESS, MirrorFile
from exchange.core.checkpoint import open_checkpoint
from exchange.core.trust import Trust
from exchange.home import Home
from exchange.witness.config import MEMORY
from exchange.witness.memory import cosigned_in

if TYPE_CHECKING:
    from exchange.broker.recovery import Copy, Declared, Recovered

RECOVER_EXAMPLE = example(
    "exchange log recover --from ./audit-office --home ./operator/broker",
    "exchange log fsck --home ./operator/broker",
)
_PAGE = 500


@dataclass(slots=True)
class Sources:
    """What the mirrors give.

    Args:
        copies: the longest of each log.
        seen: every signed checkpoint that they hold, of either log.
    """

    copies: "dict[str, Copy]" = field(default_factory=dict)
    seen: list[bytes] = field(default_factory=list)


def recover(
    sources: Annotated[
        list[Path],
        typer.Option("--from", metavar="MIRROR", help="mirror.db, access-mirror.db, or a home; may be repeated."),
    ],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Put back what a restored log lacks.

    Any party's mirror.db has the directory; an auditor's access-mirror.db has the access log. A mirror proves what it
    gives: its leaves and those that are here must make the root that the log itself signed. Then the leaves are
    appended as they are, with the bodies that the mirror has, the anchor is placed, and the broker goes on with the
    same log. The broker must be stopped. Exit code 4 where a mirror is of another history, or where somebody has seen
    more than the mirrors give.
    """
    require_role(home, "broker", "the logs are in the folder broker that `exchange init` made")
    done = recovered(home, sources)
    if as_json:
        print_json(
            [{"log": item.log, "before": item.before, "after": item.after, "bodiless": item.bodiless} for item in done]
        )
        return
    for item in done:
        print_line(said_of(item))
    print_line("The anchor is placed: the broker goes on with the same logs.")
    print_line(f"Next: exchange log fsck --home {home}")


def recovered(home: Path, paths: Sequence[Path], declared: "Declared | None" = None) -> "list[Recovered]":
    """Put back what the mirrors give, and place the anchor.

    Args:
        home: the broker's.
        paths: mirrors, or homes that hold some.
        declared: how the break of what nobody gives is declared; None where none is.

    Raises:
        CommandError: a mirror is of another history, or somebody has seen more; nothing is changed.
    """
    from exchange.broker.anchor import Anchor
    from exchange.broker.config import load_config
    from exchange.broker.genesis import log_signers
    from exchange.broker.recovery import Recovery, RecoveryError
    from exchange.core.directory import Directory
    from exchange.store.ports import Log, ReleasedTwiceError, StoreError
    from exchange.store.sql import SqlLogStore

    place, config = Home(home), load_config(home)
    trust, signers = place.trust, log_signers(place)
    folder = home / config.anchor
    try:
        with ExitStack() as stack:
            store = SqlLogStore.open(config.store_name(home))
            stack.callback(store.close)
            found = _sources(paths, trust, stack)
            for log in Log:
                with suppress(FileNotFoundError):
                    found.seen.append((folder / log.value).read_bytes())
            recovery = Recovery(store, signers, Directory.genesis(trust.name, trust.root_key))
            with bar("recovering") as advance:
                done = recovery.run(found.copies.values(), found.seen, advance, declared)
            Anchor(folder, store, {log: signer.verifier for log, signer in signers.items()}).place()
            return done
    except RecoveryError as error:
        hint = (
            "nothing was changed; name more mirrors with --from, an auditor's home above all; what nobody has any more "
            "is given up with `exchange log declare-break`"
        )
        raise CommandError(str(error), hint, ExitCode.FORK) from error
    except ReleasedTwiceError as error:
        text = "a mirror has two releases of one request, which no log has: it was altered"
        raise CommandError(text, "nothing was changed; name another mirror", ExitCode.FORK) from error
    except StoreError as error:
        raise CommandError(str(error), "stop the broker first; nothing was changed", ExitCode.UNCHECKED) from error


def _sources(paths: Sequence[Path], trust: Trust, stack: ExitStack) -> Sources:
    found = Sources()
    for path in paths:
        files = [path / name for name in (MIRROR, ACCESS_MIRROR, MEMORY)] if path.is_dir() else [path]
        # Whatever else the file is, it must not be written to: opening it as a mirror would make tables in it.
        kinds = {file: kind_of(file) for file in files if file.is_file()}
        if not kinds or not {MIRROR, ACCESS_MIRROR, MEMORY}.issuperset(kinds.values()):
            raise WrongUsageError(f"--from: there is no mirror in {path}", f"{MIRROR} or {ACCESS_MIRROR} of a home")
        for file, kind in kinds.items():
            if kind == ACCESS_MIRROR:
                _add_access(found, stack.enter_context(AccessMirror.opened(file, trust.access_log)), trust)
            elif kind == MEMORY:
                found.seen.extend(cosigned_in(file, (trust.directory_log.name, trust.access_log.name)))
            else:
                _add_directory(found, MirrorFile(file), trust)
    return found


def kind_of(path: Path) -> str:
    """Which mirror a file is, or a witness's memory, by what a home calls it; empty for anything else.

    Args:
        path: a file; it is read alone.
    """
    tables = tables_of(path) if is_database(path) else set()
    if {"entries", "heads", "unchecked", "failures"} <= tables:
        return MIRROR
    if {"entries", "nodes", "checkpoints", "disorder"} <= tables:
        return ACCESS_MIRROR
    return MEMORY if tables == {"latest"} else ""


def _add_directory(found: Sources, mirror: MirrorFile, trust: Trust) -> None:
    from exchange.broker.recovery import Copy
    from exchange.store.ports import Log

    if (failure := mirror.failure()) is not None:
        raise failure
    size, note = mirror.stored()
    access = mirror.head(ACCESS)
    found.seen.extend(seen for seen in (note, access) if seen)

    def entries(start: int) -> Iterator[tuple[bytes, bytes]]:
        for first in range(start, size, _PAGE):
            yield from ((entry.leaf, entry.body) for entry in mirror.page(first, min(first + _PAGE, size)))

    if note:
        _keep_longest(found, Copy(Log.DIRECTORY, note, entries), open_checkpoint(note, trust.directory_log).size, trust)


def _add_access(found: Sources, mirror: AccessMirror, trust: Trust) -> None:
    from exchange.broker.recovery import Copy
    from exchange.store.ports import Log

    if mirror.failure is not None:
        raise mirror.failure
    size = mirror.checkpoint.size
    note = mirror.note(size)
    # Those too that no entries reach yet: somebody was shown them.
    found.seen.extend(mirror.note(one.size) for one in mirror.checkpoints(verified=False))

    def entries(start: int) -> Iterator[tuple[bytes, bytes]]:
        yield from ((entry.leaf, entry.body) for entry in mirror.rows(start, size))

    if note:
        found.seen.append(note)
        _keep_longest(found, Copy(Log.ACCESS, note, entries), size, trust)


def _keep_longest(found: Sources, copy: "Copy", size: int, trust: Trust) -> None:
    earlier = found.copies.get(copy.log)
    verifier = trust.directory_log if copy.log.value == "directory" else trust.access_log
    if earlier is None or open_checkpoint(earlier.note, verifier).size < size:
        found.copies[copy.log] = copy


def said_of(item: "Recovered") -> str:
    """What came of one log, in a line."""
    if item.before == item.after:
        return f"{item.log}: {item.after} entries, and no mirror here has seen more"
    count = item.after - item.before
    text = f"{item.log}: {count} entries put back, {item.before} to {item.after - 1}"
    return f"{text}; {item.bodiless} of them without a body" if item.bodiless else text
