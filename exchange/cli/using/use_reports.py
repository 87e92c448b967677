"""`exchange use report` and `verify`: the ledger of use for people, and for whoever may inspect it (art. 29)."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.agreements.grants import find_agreement
from exchange.cli.agreements.queue import CsvOption
from exchange.cli.agreements.telling import jurisdiction_of
from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import listed, print_csv, print_json, print_line, print_table
from exchange.cli.frame.times import SECOND, day_of, iso, now
from exchange.cli.using.use_checking import Compared, compare, compare_own
from exchange.cli.using.use_standing import ledger_of
from exchange.client.datasets import dataset_name, find_dataset
from exchange.client.session import Session
from exchange.client.use_file import FILE, UseFile
from exchange.core.clocks import Jurisdiction, RunningClock, State, read
from exchange.core.directory import Directory
from exchange.core.envelope import USE_REPORT, decode_envelope
from exchange.core.errors import CoreError
from exchange.core.use_records import (
    MAX_REPORT,
    RETENTION,
    Selection,
    concerns,
    report_draft,
    selected,
    verify_report,
)
from exchange.core.wire import FORMAT, MAX_TIME, encode
from exchange.home import check_writable, write_file
from exchange.v1.use_pb2 import UseKind, UseRecord, UseReport

COLUMNS = ("ANSWERED", "CASE", "DATASET", "PURPOSE", "OFFICER", "FIELDS", "ROWS", "ENTRY", "USED FOR", "DESTROYED")


@dataclass(frozen=True, slots=True)
class Line:
    """One answer, and what became of it."""

    answer: UseRecord
    dataset: str
    uses: tuple[UseRecord, ...]
    disposal: UseRecord | None

    def cells(self) -> tuple[object, ...]:
        """In the order of `COLUMNS`."""
        answer = self.answer
        return (
            iso(answer.time),
            answer.case_id,
            self.dataset,
            answer.purpose,
            answer.officer,
            " ".join(answer.fields),
            answer.rows,
            answer.log_index,
            "; ".join(_words(use) for use in self.uses) or None,
            day_of(self.disposal.disposed_at) if self.disposal is not None else None,
        )

    def described(self) -> dict[str, object]:
        """The same for programs."""
        answer, disposal = self.answer, self.disposal
        return {
            "number": answer.number,
            "answered_at": iso(answer.time),
            "request_id": str(uuid.UUID(bytes=answer.request_id)),
            "request_digest": answer.request_digest,
            "agreement": answer.agreement,
            "dataset": self.dataset,
            "purpose": answer.purpose,
            "case": answer.case_id,
            "officer": answer.officer,
            "fields": list(answer.fields),
            "rows": answer.rows,
            "log_index": answer.log_index,
            "uses": [
                {"effect": use.effect, "process": use.process, "place": use.place, "by": use.officer}
                for use in self.uses
            ],
            "destroyed": None
            if disposal is None
            else {"at": iso(disposal.disposed_at), "how": disposal.manner, "by": disposal.officer},
        }


def register(app: typer.Typer) -> None:
    """Add the commands to `exchange use`."""
    app.command(
        "report",
        epilog=example(
            "exchange use report --month 2027-01 --home ./subsidies",
            "exchange use report --agreement 8c11d0a2 --sign january.use --home ./subsidies",
        ),
    )(report)
    app.command("verify", epilog=example("exchange use verify january.use --home ./registry-office"))(verify)


def report(
    month: Annotated[str, typer.Option(metavar="MONTH", help="Only what was answered then, such as 2027-01.")] = "",
    agreement: Annotated[str, typer.Option(metavar="ID", help="Only under this agreement.")] = "",
    dataset: Annotated[str, typer.Option(metavar="DEPARTMENT/CODE", help="Only of this dataset.")] = "",
    sign: Annotated[
        Path | None, typer.Option("--sign", metavar="FILE", help="Write it there, signed, for the provider to inspect.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Report what came here, what was done with it, and when it was destroyed; never a value of a record."""
    require_role(home, "system", "only a system keeps a ledger of use")
    since, until = _month(month)
    if sign is not None:
        check_writable(sign)
    lines, signed = act(home, lambda session: _report(session, home, agreement, dataset, (since, until), sign))
    if as_json:
        print_json([line.described() for line in lines])
    elif as_csv:
        print_csv(COLUMNS, (line.cells() for line in lines))
    elif not lines:
        print_line("Nothing came here within these limits.")
    else:
        print_table(COLUMNS, (line.cells() for line in lines))
    if sign is not None:
        write_file(sign, signed, 0o644)
        say(f"signed in {sign}: whoever may inspect it runs `exchange use verify {sign} --home DIR`")


def verify(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A signed report; else this home's ledger."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Verify a signed report, or this home's own ledger, and compare it with the answers that the log released.

    A provider compares it with its own entries, an auditor with all; anybody else verifies the signature alone. Exit
    code 1 where an answer was released and is not in it.
    """
    if file is None:
        require_role(home, "system", "only a system keeps a ledger of use; name the file of a report")
        requester, compared = act(home, lambda session: _verify_own(session, home))
    else:
        data = file.read_bytes()
        requester, compared = act(home, lambda session: _verify(session, data))
    if as_json:
        print_json(
            {
                "requester": requester,
                "answers": compared.answers,
                "released": compared.wanted,
                "compared": not compared.caveat,
                "missing": [{"log_index": item.index, "detail": item.detail} for item in compared.shortcomings],
                "caveats": [compared.caveat] if compared.caveat else [],
            }
        )
    else:
        _print_compared(requester, compared)
    if compared.shortcomings:
        raise typer.Exit(ExitCode.REFUSED)


def answered(records: Iterable[UseRecord]) -> list[UseRecord]:
    """The answers among records."""
    return [record for record in records if record.kind == UseKind.USE_KIND_ANSWERED]


def counted(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def dataset_names(directory: Directory, ids: Iterable[bytes]) -> dict[bytes, str]:
    """DEPARTMENT/CODE of each dataset, or its object id where it is not known here."""
    known = directory.terms.datasets
    return {item: dataset_name(known[item]) if item in known else item.hex() for item in ids}


def kept_long_enough(jurisdiction: Jurisdiction, time: int, moment: int) -> bool:
    """Whether a record of a time need not be kept any longer; both in milliseconds."""
    return read(RunningClock(jurisdiction.clock(RETENTION), time), jurisdiction, moment).state == State.OVER


def _print_compared(requester: str, compared: Compared) -> None:
    print_line(f"{requester}: {counted(compared.answers, 'answer')} recorded, {compared.wanted} released by the log")
    if compared.caveat:
        print_line(f"! {compared.caveat}")
    if compared.shortcomings:
        print_table(("ENTRY", "WHAT"), [(item.index, item.detail) for item in compared.shortcomings])
    elif not compared.caveat:
        print_line("Every answer that was released is recorded.")


async def _report(
    session: Session, home: Path, typed: str, dataset: str, period: tuple[int, int], sign: Path | None
) -> tuple[list[Line], bytes]:
    directory, records = session.directory, ledger_of(home)
    limits = Selection(
        find_agreement(directory, typed, now()).grant.version.digest if typed else b"",
        find_dataset(directory, dataset).object_id if dataset else b"",
        *period,
    )
    found = selected(records, limits)
    names = dataset_names(directory, (item.dataset for item in answered(found)))
    lines = [_line(answer, names[answer.dataset], found) for answer in answered(found)]
    return lines, _signed(session, home, limits, found) if sign is not None else b""


def _line(answer: UseRecord, dataset: str, records: list[UseRecord]) -> Line:
    about = [item for item in records if item.kind != UseKind.USE_KIND_ANSWERED and concerns(item, answer)]
    uses = tuple(item for item in about if item.kind == UseKind.USE_KIND_USED)
    disposals = [item for item in about if item.kind == UseKind.USE_KIND_DISPOSED]
    return Line(answer, dataset, uses, disposals[0] if disposals else None)


def _signed(session: Session, home: Path, limits: Selection, records: list[UseRecord]) -> bytes:
    path = home / FILE
    head, first = (UseFile(path).head(), UseFile(path).first()) if path.exists() else (None, 1)
    said = UseReport(
        format=FORMAT,
        requester=str(session.party),
        made_at=now(),
        agreement=limits.agreement,
        dataset=limits.dataset,
        since=limits.since,
        until=limits.until if limits.until != MAX_TIME else 0,
        first_number=first,
        last_number=head.number if head is not None else 0,
        last_chain=head.chain if head is not None and head.number else b"",
        records=[encode(record) for record in records],
    )
    signed = session.sign(report_draft(said)).encode()
    if len(signed) > MAX_REPORT:
        raise CommandError("the report is too long to be read", "limit it: --month, --agreement, --dataset")
    return signed


async def _verify(session: Session, data: bytes) -> tuple[str, Compared]:
    try:
        envelope = decode_envelope(data, USE_REPORT, MAX_REPORT)
        _, said, records = verify_report(session.directory, envelope)
    except CoreError as error:
        raise CommandError(f"the report does not hold: {error}", "ask the requester for a new one") from error
    return said.requester, await compare(session, said, records, _is_old(session, said.made_at))


async def _verify_own(session: Session, home: Path) -> tuple[str, Compared]:
    is_old = _is_old(session, now())
    return str(session.party), await compare_own(session, home, is_old)


def _is_old(session: Session, moment: int) -> Callable[[int], bool]:
    """Whether what was answered at a time need not be recorded any longer; all has to, where no rules are at hand."""
    rules = jurisdiction_of(session.directory)
    return lambda time: rules is not None and time < moment and kept_long_enough(rules, time, moment)


def _month(text: str) -> tuple[int, int]:
    """The first and the last millisecond of a month, by this machine's time zone; no limits without one."""
    if not text:
        return 0, MAX_TIME
    try:
        first = datetime.strptime(text, "%Y-%m").astimezone()
        following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1, tzinfo=None)
        return int(first.timestamp() * SECOND), int(following.astimezone().timestamp() * SECOND) - 1
    except (ValueError, OverflowError):
        raise WrongUsageError(f"--month: not a month: {text}", "write it as YYYY-MM, such as 2027-01") from None


def _words(use: UseRecord) -> str:
    said = (("", use.effect), ("processed: ", use.process), ("kept: ", use.place))
    return listed(f"{label}{text}" for label, text in said if text)
