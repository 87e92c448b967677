"""`exchange use`: what was told here, what was done with it, when it was destroyed (Decree 809, art. 26, 27, 29)."""

import re
import uuid
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.agreements.grants import SHORTEST_ID, SHOWN_ID
from exchange.cli.agreements.telling import jurisdiction_of
from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, WrongUsageError
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import listed, print_json, print_line, print_table
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import SECOND, iso, now
from exchange.cli.using import use_reports
from exchange.cli.using.use_reports import answered, counted, dataset_names, kept_long_enough
from exchange.cli.using.use_standing import Affected, ledger_of, waiting_dues, waiting_notices
from exchange.client.session import Session
from exchange.client.use_file import FILE, UseFile
from exchange.core.names import is_case_id, is_code, is_officer
from exchange.core.use_records import RETENTION, Due, concerns
from exchange.core.wire import MAX_TIME
from exchange.v1.use_pb2 import UseKind, UseRecord

CaseOption = Annotated[str, typer.Option(metavar="ID", help="Of this case.")]
RequestOption = Annotated[str, typer.Option(metavar="ID", help="Of this request.")]
PurposeOption = Annotated[str, typer.Option(metavar="CODE", help="For this purpose.")]
AgreementOption = Annotated[str, typer.Option(metavar="ID", help="Under this agreement.")]
ByOption = Annotated[str, typer.Option("--by", metavar="NAME", help="The pseudonym of who did it.", show_default=False)]

_ABOUT = "one of --case, --request, --purpose and --agreement is needed"
_HEX = re.compile(r"[0-9a-f]{8,64}")

app = new_group(
    "The ledger of what was told here: what it was used for, when it was destroyed, what is due.",
    'exchange use record --case ZF-2027-0001 --effect "a flat was let" --by officer-7 --home ./subsidies',
    "exchange use due --home ./subsidies",
)


@app.command(
    "record",
    epilog=example(
        'exchange use record --case ZF-2027-0001 --effect "a flat was let" --process "compared by hand" \\',
        '    --place "file room 2" --by officer-7 --home ./subsidies',
    ),
)
def record(  # noqa: PLR0913 - what it is about, and the parts that article 29 names
    by: ByOption,
    case: CaseOption = "",
    request: RequestOption = "",
    purpose: PurposeOption = "",
    agreement: AgreementOption = "",
    effect: Annotated[str, typer.Option(help="What came of it.")] = "",
    process: Annotated[str, typer.Option(help="How it was processed.")] = "",
    place: Annotated[str, typer.Option(help="Where it is kept.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Record what was done with data that came here: no personal data, the case says whose it is."""
    for option, text in (("--effect", effect), ("--process", process), ("--place", place)):
        if text:
            check_text(option, text)
    if not (effect or process or place):
        raise WrongUsageError("one of --effect, --process and --place is needed", "say what was done")
    draft = _about(home, case, request, purpose, agreement, by)
    draft.kind, draft.effect, draft.process, draft.place = UseKind.USE_KIND_USED, effect, process, place
    _append(home, draft, "Recorded", as_json)


@app.command(
    "dispose",
    epilog=example(
        'exchange use dispose --case ZF-2027-0001 --how "shredded, disk wiped" --by officer-7 --home ./subsidies',
    ),
)
def dispose(  # noqa: PLR0913 - as `record`
    how: Annotated[str, typer.Option(help="How it was destroyed.", show_default=False)],
    by: ByOption,
    case: CaseOption = "",
    request: RequestOption = "",
    purpose: PurposeOption = "",
    agreement: AgreementOption = "",
    when: Annotated[str, typer.Option(metavar="DAY", help="The day, such as 2027-12-31; today without it.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Record that data was destroyed: all that came here before, of the case, the purpose or the agreement."""
    check_text("--how", how)
    draft = _about(home, case, request, purpose, agreement, by)
    draft.kind, draft.manner, draft.disposed_at = UseKind.USE_KIND_DISPOSED, how, _past(when)
    _append(home, draft, "Recorded as destroyed", as_json)


@app.command("due", epilog=example("exchange use due --home ./subsidies"))
def due(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the data whose purpose is met, and that nobody has recorded as destroyed (article 27)."""
    found, names = act(home, lambda session: _dues(session, home))
    if as_json:
        print_json(
            [
                {
                    "case": item.answers[0].case_id,
                    "agreement": item.answers[0].agreement,
                    "dataset": names[item.answers[0].dataset],
                    "purpose": item.answers[0].purpose,
                    "answers": len(item.answers),
                    "why": item.reason,
                }
                for item in found
            ]
        )
    elif not found:
        print_line("Nothing is to be destroyed.")
    else:
        firsts = [(item, item.answers[0]) for item in found]
        rows = [
            (
                one.case_id,
                names[one.dataset],
                one.purpose,
                one.agreement.hex()[:SHOWN_ID],
                len(item.answers),
                item.reason,
            )
            for item, one in firsts
        ]
        print_table(("CASE", "DATASET", "PURPOSE", "AGREEMENT", "ANSWERS", "WHY"), rows)
        print_line()
        print_line("Next: destroy it, then run `exchange use dispose --case ID --how TEXT --by NAME --home DIR`.")


@app.command("corrections", epilog=example("exchange use corrections --home ./subsidies"))
def corrections(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the corrections of records that came here, and that nobody has acknowledged (article 26)."""
    found, names = act(home, lambda session: _notices(session, home))
    if as_json:
        print_json([_described_notice(item, names[item.correction.dataset]) for item in found])
    elif not found:
        print_line("No correction concerns what came here.")
    else:
        rows = [
            (
                _shown(item.correction.object_id),
                names[item.correction.dataset],
                listed(item.correction.fields),
                listed(sorted({answer.case_id for answer in item.answers}))
                or counted(len(item.notice.requests), "request"),
            )
            for item in found
        ]
        print_table(("CORRECTION", "DATASET", "FIELDS", "CASES"), rows)
        print_line()
        print_line("Next: ask again in these cases, put right what was built on it, then run")
        print_line(f"      exchange correction acknowledge {rows[0][0]} --home {home}")


@app.command("prune", epilog=example("exchange use prune --home ./subsidies"))
def prune(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Take away the records that need not be kept any longer: by the law three years old, and never younger ones."""
    require_role(home, "system", "only a system keeps a ledger of use")
    last = act(home, lambda session: _prunable(session, home))
    gone = UseFile(home / FILE).prune(last) if last else 0
    if as_json:
        print_json({"pruned": gone, "last_number": last or None})
    else:
        what = "1 record was" if gone == 1 else f"{gone} records were"
        print_line(f"{what} taken away; what is left verifies from there." if gone else "Every record is to be kept.")


def _cases(item: Affected) -> str:
    return listed(sorted({answer.case_id for answer in item.answers}))


def _shown(digest: bytes) -> str:
    return digest.hex()[:SHOWN_ID]


def _about(home: Path, case: str, request: str, purpose: str, agreement: str, by: str) -> UseRecord:
    """What a record is about, once something in the ledger is."""
    require_role(home, "system", "only a system keeps a ledger of use")
    if not (case or request or purpose or agreement):
        raise WrongUsageError(_ABOUT)
    for option, text, fits in (("--case", case, is_case_id), ("--purpose", purpose, is_code), ("--by", by, is_officer)):
        if (text or option == "--by") and not fits(text):
            raise WrongUsageError(f"{option}: not in its form: {text[:80]!r}", "no name of a person, and no spaces")
    records = ledger_of(home)
    draft = UseRecord(case_id=case, purpose=purpose, officer=by)
    draft.request_id = _request_id(request) if request else b""
    draft.agreement = _agreement(records, agreement) if agreement else b""
    probe = UseRecord(number=records[-1].number + 1 if records else 1)
    probe.MergeFrom(draft)
    if not any(concerns(probe, answer) for answer in answered(records)):
        raise CommandError("nothing that came here is about this", "`exchange use report` shows what did")
    return draft


def _request_id(text: str) -> bytes:
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        raise WrongUsageError(f"--request: not a request's id: {text}", "`exchange use report` shows them") from None


def _agreement(records: list[UseRecord], text: str) -> bytes:
    if _HEX.fullmatch(text.lower()) is None:
        raise WrongUsageError(f"--agreement: not an id: {text}", f"give {SHORTEST_ID} or more digits of it")
    known = {item.agreement for item in answered(records)}
    found = [digest for digest in known if digest.hex().startswith(text.lower())]
    if len(found) != 1:
        raise WrongUsageError(f"--agreement: {len(found)} agreements of this ledger begin with {text}")
    return found[0]


def _past(day: str) -> int:
    """The day on which something was destroyed, milliseconds."""
    if not day:
        return now()
    try:
        moment = int(datetime.fromisoformat(day).astimezone().timestamp() * SECOND)
    except (ValueError, OverflowError):
        raise WrongUsageError(f"--when: not a day: {day}", "write it as YYYY-MM-DD, such as 2027-12-31") from None
    if not 0 < moment <= min(now(), MAX_TIME):
        raise WrongUsageError(f"--when: {day} is still to come", "record it once it is done")
    return moment


def _append(home: Path, draft: UseRecord, done: str, as_json: bool) -> None:
    [added] = UseFile(home / FILE).append([draft], now())
    about = [answer for answer in answered(ledger_of(home)) if concerns(added, answer)]
    if as_json:
        print_json({"number": added.number, "time": iso(added.time), "answers": [item.number for item in about]})
    else:
        print_line(f"{done}: record {added.number}, about {counted(len(about), 'answer')}.")


async def _dues(session: Session, home: Path) -> tuple[list[Due], dict[bytes, str]]:
    found = waiting_dues(session.directory, home, now())
    return found, dataset_names(session.directory, (item.answers[0].dataset for item in found))


async def _notices(session: Session, home: Path) -> tuple[list[Affected], dict[bytes, str]]:
    found = waiting_notices(session.directory, session.party, home)
    return found, dataset_names(session.directory, (item.correction.dataset for item in found))


async def _prunable(session: Session, home: Path) -> int:
    """The number of the last record that need not be kept; 0 for none."""
    jurisdiction = jurisdiction_of(session.directory)
    if jurisdiction is None:
        raise CommandError(f"without the exchange's rules nobody knows how long {RETENTION} is", "nothing was pruned")
    last = 0
    for item in ledger_of(home):
        if not kept_long_enough(jurisdiction, item.time, now()):
            break
        last = item.number
    return last


def _described_notice(item: Affected, dataset: str) -> dict[str, object]:
    return {
        "correction": item.correction.object_id,
        "dataset": dataset,
        "fields": list(item.correction.fields),
        "notified_at": iso(item.notice.version.time),
        "requests": [str(uuid.UUID(bytes=request)) for request in item.notice.requests],
        "cases": sorted({answer.case_id for answer in item.answers}),
    }


use_reports.register(app)
