"""`exchange-audit show`: the story of one request, every entry about it, every proof checked."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Annotated

import typer

from exchange.cli.audit.checking.checks import Check, counts_of, judge
from exchange.cli.audit.checking.findings import plural
from exchange.cli.audit.checking.opening import READ, REFUSALS, REFUSED, RELEASED, UNRELEASED, directory_time
from exchange.cli.audit.checking.policies import Standing
from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.cli.audit.mirror.naming import History, names_of
from exchange.cli.audit.mirror.offline import AuditHome, opened_home
from exchange.cli.audit.mirror.postings import Wanted
from exchange.cli.audit.mirror.witnessed import mirror_standing
from exchange.cli.audit.searching.criteria import request_id
from exchange.cli.audit.searching.rows import (
    ProvenEntry,
    dataset_of,
    described,
    operation_of,
    proven,
    read_of,
    shortened,
)
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.output import clean, print_json, print_line, print_pairs, print_table
from exchange.cli.frame.times import iso
from exchange.core.access import code_name, kind_name, read_access_leaf
from exchange.core.directory import Directory
from exchange.core.erasures import Erasures
from exchange.core.errors import CoreError
from exchange.core.summary import refusals_in
from exchange.v1.access_pb2 import AccessLeaf
from exchange.v1.request_pb2 import RequestHeader

MOST = 1_000
"""Entries about one request that are told: a requester may have sent it any number of times."""

app = new_command()


@dataclass(frozen=True, slots=True)
class Chapter:
    """One entry of the story, with what was checked of it.

    Args:
        index: its place in the access log.
        found: leaf and body, where they can be read and are proven.
        checks: every one of them.
        directory: as it was when the entry was decided; None where it is not here.
    """

    index: int
    found: ProvenEntry | None
    checks: tuple[Check, ...]
    directory: Directory | None = None

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

    @property
    def meaning(self) -> str:
        """What that means, in words."""
        if self.found is None:
            return "it cannot be told what this entry says"
        entry = self.found.entry
        provider = shortened(entry.leaf.provider) or "nobody"
        if entry.leaf.kind == RELEASED:
            return f"{provider} answered, and the broker released the answer to {shortened(entry.leaf.requester)}"
        if entry.leaf.kind == READ:
            return f"{shortened(entry.leaf.requester)} {read_of(entry.leaf)}, under a mandate"
        if entry.leaf.kind == UNRELEASED:
            return f"{provider} committed an answer that the broker did not release here: count it as possible access"
        refuser = shortened(entry.refused.refuser) if entry.refused is not None else "somebody"
        if entry.leaf.kind not in (REFUSED, REFUSALS):
            return f"an entry of the kind {kind_name(entry.leaf.kind)}: nothing was answered"
        if entry.leaf.kind == REFUSALS:
            asked = f"{shortened(entry.leaf.requester)} {refusals_in(entry.leaf)} times within a minute"
            return f"{refuser} refused {asked}: nothing was answered"
        return f"{refuser} refused the request: nothing was answered"


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
        now = place.verified_directory()
        seen = mirror_standing(place)
        history = History(place.directory, place.trust)
        erasures = place.erasures()
        story = tuple(_chapter(place, history, stored, erasures) for stored in _about(place, entry))
        if as_json:
            print_json(_described(place, now, story, seen))
        else:
            _print(place, now, story, seen)
        if not all(chapter.holds for chapter in story):
            raise typer.Exit(ExitCode.REFUSED)
        place.end()


def _about(place: AuditHome, text: str) -> Sequence[LoggedEntry]:
    """Every entry about the request that a person named."""
    access = place.access
    wanted = request_id(text) if not text.isdigit() else None
    if wanted is not None:
        found = _found(place, Wanted({"request_id": wanted}))
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
        same = _found(place, Wanted({"request_digest": leaf.request_digest})) if leaf.request_digest else ()
        if leaf.request_id:
            same += _found(place, Wanted({"request_id": leaf.request_id, "requester": leaf.requester}))
        entries |= {stored.index: stored for stored in same}
    return [entries[index] for index in sorted(entries)]


def _found(place: AuditHome, wanted: Wanted) -> tuple[LoggedEntry, ...]:
    return tuple(islice(chain.from_iterable(place.access.find(wanted)), MOST))


def _leaf(stored: LoggedEntry) -> AccessLeaf | None:
    try:
        return read_access_leaf(stored.leaf)
    except CoreError:
        return None


def _chapter(place: AuditHome, history: History, stored: LoggedEntry, erasures: Erasures) -> Chapter:
    found = proven(place.access.expected(), stored, erasures)
    if isinstance(found, str):
        return Chapter(stored.index, None, (Check("log", found, ok=False),))
    checks = [Check("log", f"in {place.access.origin} of {plural(place.access.checkpoint.size)}, as it was signed")]
    if stored.index_problem:
        checks.append(Check("index", stored.index_problem, ok=False))
    size = found.entry.leaf.directory_size
    directory = history.at(size)
    if directory is None:
        checks.append(Check("directory", f"that of {size} entries is not here: `exchange-audit sync`", ok=False))
        return Chapter(stored.index, found, tuple(checks))
    entries = place.directory.entries
    following = directory_time(entries[size].leaf) if size < len(entries) else None
    return Chapter(stored.index, found, (*checks, *judge(directory, found.entry, following, erasures)), directory)


def _print(place: AuditHome, now: Directory, story: Sequence[Chapter], seen: Standing) -> None:
    header, directory = _header(story)
    if header is not None:
        print_pairs(_request(directory or now, header))
    for chapter in story:
        print_line()
        print_line(chapter.title)
        print_line(clean(chapter.meaning))
        print_table(("", "what", "found"), [("ok" if c.ok else "FAIL", c.subject, c.detail) for c in chapter.checks])
    print_line()
    verdict = "verified" if all(chapter.holds for chapter in story) else "NOT VERIFIED"
    print_line(f"{verdict} to {place.access.checkpoint.size} of {place.access.origin}; {seen}")


def _header(story: Sequence[Chapter]) -> tuple[RequestHeader | None, Directory | None]:
    """What was asked, out of the first entry that kept the request, and the directory of that moment."""
    for chapter in story:
        if chapter.found is not None and chapter.found.entry.asked is not None:
            return chapter.found.entry.asked, chapter.directory
    return None, None


def _request(directory: Directory, header: RequestHeader) -> dict[str, object]:
    """What was asked, with the names that purpose, dataset and fields had then."""
    names = names_of(directory, header)
    fields = [f"{name} ({label})" if label != name else name for name, label in names.fields.items()]
    return {
        "request": uuid.UUID(bytes=header.request_id),
        "requester": shortened(header.requester),
        "officer": f"{header.officer}, by the requester's word",
        "purpose": _named(header.purpose, names.purpose),
        "legal basis": names.legal_basis or None,
        "case": header.case_id,
        "dataset": _named(dataset_of(directory, header), names.dataset),
        "operation": operation_of(header),
        "fields": ", ".join(fields),
        "agreement": header.agreement.hex()[:12],
        "names": f"as they were in the directory of {plural(directory.size)}",
    }


def _named(code: str, label: str) -> str:
    return f"{code} ({label})" if label else code


def _described(place: AuditHome, now: Directory, story: Sequence[Chapter], seen: Standing) -> dict[str, object]:
    return {
        "entries": [_described_chapter(now, chapter) for chapter in story],
        "verified": all(chapter.holds for chapter in story),
        "log": place.access.origin,
        "verified_to": place.access.checkpoint.size,
        "caveats": list(seen.caveats),
    }


def _described_chapter(now: Directory, chapter: Chapter) -> dict[str, object]:
    directory, found = chapter.directory or now, chapter.found
    record: dict[str, object] = {"index": chapter.index}
    if found is not None:
        record = described(directory, found) | {"meaning": chapter.meaning}
        if found.entry.asked is not None:
            record["names_then"] = asdict(names_of(directory, found.entry.asked))
    return record | {"checks": [{"what": c.subject, "ok": c.ok, "found": c.detail} for c in chapter.checks]}
