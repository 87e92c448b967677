"""`exchange-audit show`: the story of one request, every entry about it, every proof checked."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.audit.checks import Check, counts_of, judge
from exchange.cli.audit.criteria import request_id
from exchange.cli.audit.findings import NO_WITNESSES, plural
from exchange.cli.audit.offline import AuditHome, opened_home
from exchange.cli.audit.opening import directory_time
from exchange.cli.audit.rows import ProvenEntry, dataset_of, described, operation_of, proven, shortened
from exchange.cli.audit.verification import LoggedEntry
from exchange.cli.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.output import print_json, print_line, print_pairs, print_table
from exchange.cli.times import iso
from exchange.core.access import code_name, kind_name, read_access_leaf
from exchange.core.directory import Directory
from exchange.core.errors import CoreError
from exchange.v1.access_pb2 import AccessLeaf
from exchange.v1.request_pb2 import RequestHeader

app = new_command()


@dataclass(frozen=True, slots=True)
class Chapter:
    """One entry of the story, with what was checked of it.

    Args:
        index: its place in the access log.
        found: leaf and body, where they can be read and are proven.
        checks: every one of them.
    """

    index: int
    found: ProvenEntry | None
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether every check did."""
        return all(check.ok for check in self.checks)

    @property
    def title(self) -> str:
        """What the entry says, in a line."""
        if self.found is None:
            return f"entry {self.index}"
        leaf = self.found.entry.leaf
        code = f" {code_name(leaf.code) if leaf.code else counts_of(leaf)}".rstrip()
        return f"entry {self.index}: {kind_name(leaf.kind)}{code}, {iso(leaf.time)}"


@app.command(
    epilog=example(
        "exchange-audit show 17 --home ./audit-office",
        "exchange-audit show 019347a2-5b1c-7e0d-9c44-2f6f0c1d8e55 --home ./audit-office",
    )
)
def show(
    entry: Annotated[str, typer.Argument(metavar="INDEX|REQUEST-ID", help="An entry's index, or a request's UUID.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show every entry about one request: who asked what of whom, under which agreement, and what became of it.

    Signatures, keys and agreement are checked as they stood in the directory that each entry names, and each entry is
    proven to be in the log that was signed. One line that fails ends it with 1.
    """
    with opened_home(home) as place:
        directory = place.verified_directory()
        story = tuple(_chapter(place, stored) for stored in _about(place, entry))
        if as_json:
            print_json(_described(place, directory, story))
        else:
            _print(place, directory, story)
        if not all(chapter.holds for chapter in story):
            raise typer.Exit(ExitCode.REFUSED)
        place.end()


def _about(place: AuditHome, text: str) -> Sequence[LoggedEntry]:
    """Every entry about the request that a person named."""
    access = place.access
    wanted = request_id(text) if not text.isdigit() else None
    if wanted is not None:
        found = tuple(access.find(("request_id = :id",), {"id": wanted}))
    elif text.isascii() and text.isdigit():
        found = tuple(access.rows(int(text), int(text) + 1)) if int(text) < access.checkpoint.size else ()
    else:
        raise WrongUsageError(f"neither an index nor a request's id: {text}", "`exchange-audit search` shows both")
    if not found:
        size = access.checkpoint.size
        hint = f"{access.origin} is verified to {size} here; `exchange-audit sync` may bring more"
        raise CommandError(f"there is no entry {text}", hint, ExitCode.USAGE)
    return _whole(place, found)


def _whole(place: AuditHome, found: Sequence[LoggedEntry]) -> Sequence[LoggedEntry]:
    """With the entries that name the same request, by its id or by its digest."""
    entries = {stored.index: stored for stored in found}
    for leaf in (_leaf(stored) for stored in found):
        if leaf is None:
            continue
        same = {"digest": leaf.request_digest, "id": leaf.request_id, "requester": leaf.requester}
        condition = (
            "((request_digest = :digest AND :digest != x'')"
            " OR (request_id = :id AND requester = :requester AND :id != x''))"
        )
        entries |= {stored.index: stored for stored in place.access.find((condition,), same)}
    return [entries[index] for index in sorted(entries)]


def _leaf(stored: LoggedEntry) -> AccessLeaf | None:
    try:
        return read_access_leaf(stored.leaf)
    except CoreError:
        return None


def _chapter(place: AuditHome, stored: LoggedEntry) -> Chapter:
    found = proven(place.access.expected(), stored)
    if isinstance(found, str):
        return Chapter(stored.index, None, (Check("log", found, ok=False),))
    size = place.access.checkpoint.size
    checks = [Check("log", f"in {place.access.origin} of {plural(size)}, as it was signed")]
    if stored.index_problem:
        checks.append(Check("index", stored.index_problem, ok=False))
    return Chapter(stored.index, found, (*checks, *_judged(place, found)))


def _judged(place: AuditHome, found: ProvenEntry) -> Iterator[Check]:
    size = found.entry.leaf.directory_size
    directory = place.directory.folded(place.trust, size)
    if directory.size < size:
        yield Check("directory", f"that of {size} entries is not here: `exchange-audit sync`", ok=False)
        return
    entries = place.directory.entries
    following = directory_time(entries[size].leaf) if size < len(entries) else None
    yield from judge(directory, found.entry, following)


def _print(place: AuditHome, directory: Directory, story: Sequence[Chapter]) -> None:
    header = _header(story)
    if header is not None:
        print_pairs(_request(directory, header))
    for chapter in story:
        print_line()
        print_line(chapter.title)
        print_table(("", "what", "found"), [("ok" if c.ok else "FAIL", c.subject, c.detail) for c in chapter.checks])
    print_line()
    verdict = "verified" if all(chapter.holds for chapter in story) else "NOT VERIFIED"
    print_line(f"{verdict} to {place.access.checkpoint.size} of {place.access.origin}; {NO_WITNESSES}")


def _header(story: Sequence[Chapter]) -> RequestHeader | None:
    """What was asked, out of the first entry that kept the request."""
    entries = (chapter.found.entry for chapter in story if chapter.found is not None)
    return next((entry.asked for entry in entries if entry.asked is not None), None)


def _request(directory: Directory, header: RequestHeader) -> dict[str, object]:
    return {
        "request": uuid.UUID(bytes=header.request_id),
        "requester": shortened(header.requester),
        "officer": f"{header.officer}, by the requester's word",
        "purpose": header.purpose,
        "case": header.case_id,
        "dataset": dataset_of(directory, header),
        "operation": operation_of(header),
        "fields": ", ".join(header.fields),
        "agreement": header.agreement.hex()[:12],
    }


def _described(place: AuditHome, directory: Directory, story: Sequence[Chapter]) -> dict[str, object]:
    return {
        "entries": [
            {
                **(described(directory, chapter.found) if chapter.found is not None else {"index": chapter.index}),
                "checks": [{"what": c.subject, "ok": c.ok, "found": c.detail} for c in chapter.checks],
            }
            for chapter in story
        ],
        "verified": all(chapter.holds for chapter in story),
        "log": place.access.origin,
        "verified_to": place.access.checkpoint.size,
        "caveats": [NO_WITNESSES],
    }
