"""`exchange-audit subject-request`: a person asks who saw their data, and every owner answers for its own ledger."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.checking.findings import plural
from exchange.cli.audit.exports.output_file import check_free, written_whole
from exchange.cli.audit.mirror.witnessed import kept_standing
from exchange.cli.audit.searching.criteria import moment
from exchange.cli.audit.subjects.answering import become_adapter
from exchange.cli.audit.subjects.merging import NO_MIRROR, Merged, described, merge, table
from exchange.cli.audit.subjects.office import Office, keep_key, opened_office
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import ExitCode, WrongUsageError, say
from exchange.cli.frame.output import clean, print_json, print_line, print_table
from exchange.cli.frame.times import now
from exchange.core.envelope import sign
from exchange.core.keys import SEALING_PRIVATE, sealing_public_bytes
from exchange.core.state import OBJECT_ID
from exchange.core.subjects import MAX_REASON, MAX_SUBJECT, request_draft
from exchange.core.wire import FORMAT
from exchange.home import Home
from exchange.v1.subject_pb2 import SubjectRequest

ASKERS = ("auditor", "coordinator", "department")
COLUMNS = ("when (UTC)", "who", "officer", "purpose", "case", "data", "fields", "outcome", "log entry")

app = new_group(
    "Find out who saw a person's data, from every owner.",
    "exchange-audit subject-request new 339701199002031234 --reason 'asked in person' \\",
    "    --output ./request.subject --home ./audit-office",
    "exchange-audit subject-request answer ./request.subject --output ./registry.answer --home ./registry",
    "exchange-audit subject-request merge ./request.subject ./registry.answer --home ./audit-office",
)

RequestArgument = Annotated[
    Path, typer.Argument(metavar="REQUEST", exists=True, dir_okay=False, help="The file that `new` wrote.")
]


@app.command(
    epilog=example(
        "exchange-audit subject-request new 339701199002031234 --reason 'asked in person' \\",
        "    --since 2026-01-01 --output ./request.subject --home ./audit-office",
    )
)
def new(
    subject: Annotated[str, typer.Argument(metavar="ID", help="The person's key in the departments' data.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the owners' record: 1 to 2,000 characters.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the request goes.")],
    since: Annotated[str, typer.Option(metavar="TIME", help="Answers from this day or time on, UTC.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="To the end of this day, or to this time, UTC.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write a request, signed by this office, to be handed to each owner: it names the person.

    A key is made for it and stays in HOME/keys: the answers are sealed to it, and only this home can open them.
    """
    place = Home(home)
    if place.role not in ASKERS:
        raise WrongUsageError(f"{place.party} is a {place.role}", "an auditor, the coordinator or a department asks")
    if not 1 <= len(subject) <= MAX_SUBJECT:
        raise WrongUsageError(f"ID: {len(subject)} characters", f"1 to {MAX_SUBJECT}")
    if not 1 <= len(reason.strip()) <= MAX_REASON:
        raise WrongUsageError(f"--reason: {len(reason.strip()):,} characters", f"say why in 1 to {MAX_REASON:,}")
    check_free(output, force=False)
    private = secrets.token_bytes(SEALING_PRIVATE)
    request = SubjectRequest(
        format=FORMAT,
        request_id=secrets.token_bytes(OBJECT_ID),
        asked_by=str(place.party),
        subject=subject,
        since=moment(since, "--since", end=False) if since else 0,
        until=moment(until, "--until", end=True) if until else 0,
        reason=reason.strip(),
        answer_key=sealing_public_bytes(private),
        asked_at=now(),
    )
    if request.until and request.until < request.since:
        raise WrongUsageError("--until lies before --since", "turn them round")
    envelope = sign(place.signer(), place.party.domain, request_draft(request))
    keep_key(place, request.request_id, private)
    with written_whole(output) as file:
        file.write(envelope.encode())
    if as_json:
        print_json({"request_id": request.request_id, "file": str(output), "digest": envelope.digest})
        return
    print_line(f"{output}: request {request.request_id.hex()}")
    say(f"each owner answers beside its ledger: exchange-adapter subject-answer {output} --output ANSWER --home HOME")


@app.command(
    epilog=example(
        "exchange-audit subject-request answer ./request.subject --output ./registry.answer --home ./registry"
    )
)
def answer(
    request: RequestArgument,
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the answer goes.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Answer a request beside the owner's ledger, in the home of its adapter: it runs exchange-adapter subject-answer.

    Exit code 1 where nobody who may ask has signed the request, 3 where exchange-adapter is not installed here.
    """
    flags = ["--json"] if as_json else []
    become_adapter(["subject-answer", str(request), "--output", str(output), "--home", str(home), *flags])


@app.command(
    "merge",
    epilog=example(
        "exchange-audit subject-request merge ./request.subject ./registry.answer ./records.answer \\",
        "    --home ./audit-office",
    ),
)
def merge_answers(
    request: RequestArgument,
    answers: Annotated[
        list[Path], typer.Argument(metavar="ANSWER...", exists=True, dir_okay=False, help="The owners' files.")
    ],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Open the answers, check them against the access log, and print who saw the person's data.

    Each answer must be signed by its system; its ledger must be the one that the log's answers came from, to its end;
    each row must have its entry. A body that was erased by a signed entry is told from an entry that is missing. Exit
    codes: 1 something does not hold, 3 an owner's answer is missing or something could not be checked.
    """
    with opened_office(home) as office:
        merged = merge(Home(home), office, request, answers)
        if as_json:
            print_json(described(office, merged))
        else:
            _print(office, merged, _seen(home, office))
        if merged.is_wrong:
            raise typer.Exit(ExitCode.REFUSED)
        if office.failure is not None:
            raise office.failure
        if not merged.is_complete:
            raise typer.Exit(ExitCode.UNCHECKED)


def _seen(home: Path, office: Office) -> str:
    """What the witnesses say of the log that the answers are compared with."""
    if office.access is None:
        return NO_MIRROR
    checkpoint = office.access.checkpoint
    return str(kept_standing(home, Home(home).trust, checkpoint, office.access.note(checkpoint.size)))


def _print(office: Office, merged: Merged, seen: str) -> None:
    if merged.rows:
        print_table(COLUMNS, table(office, merged))
    else:
        print_line("no owner that answered has told anybody anything about this person")
    for remark in merged.remarks:
        say(clean(str(remark)))
    for owner in merged.missing:
        say(clean(f"no answer of {owner}, which gave answers in that time"))
    told = f"{plural(len(merged.rows), 'accesses', 'access')}, {plural(len(merged.owners), 'owners', 'owner')} answered"
    if merged.size is None:
        say(f"{told}; {seen}")
        return
    say(f"{told}; compared with the access log to {merged.size}; {seen}")
    say("the log does not know whom an answer is about: that a ledger left a row out shows only when it is inspected")
