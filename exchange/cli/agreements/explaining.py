"""`exchange agreement explain`: a dry run on the asker's side; nothing is sent, and nothing is logged."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from exchange.cli.agreements.drafting import named
from exchange.cli.agreements.grants import SHOWN_ID, find_agreement
from exchange.cli.datasets.descriptors import OPERATIONS
from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import ExitCode, WrongUsageError
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import listed, print_json, print_line, print_pairs
from exchange.cli.frame.times import iso, now
from exchange.client.datasets import choose_agreement, dataset_name, find_dataset
from exchange.client.session import Session
from exchange.core.access import code_name
from exchange.core.decision import Deny, is_limited, uncounted
from exchange.core.directory import Directory
from exchange.core.explain import Explanation, Question, explain, left_out
from exchange.core.names import Party, is_officer
from exchange.core.restrictions import hours_text
from exchange.core.terms import DatasetTerms
from exchange.v1.access_pb2 import Code
from exchange.v1.request_pb2 import Operation

EXPLAIN_EPILOG = example(
    "exchange agreement explain registry-office/household.registration --fields full_name,district \\",
    "    --purpose social.housing-subsidy --officer officer-17 --home ./subsidies",
)

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Explained:
    """A question, what would become of it, and the directory that says so."""

    directory: Directory
    dataset: DatasetTerms
    question: Question
    explanation: Explanation


def explain_request(  # noqa: PLR0913 - what a request says
    dataset: Annotated[str, typer.Argument(metavar="DEPARTMENT/CODE", help="As `exchange dataset list` names it.")],
    fields: Annotated[str, typer.Option(metavar="A,B", help="The fields of each row.")],
    purpose: Annotated[str, typer.Option(metavar="CODE", help="A registered purpose.")],
    officer: Annotated[str, typer.Option(metavar="NAME", help="The pseudonym of who asks.")],
    operation: Annotated[str, typer.Option(metavar="NAME", help="LOOKUP or QUERY.")] = "LOOKUP",
    at: Annotated[str, typer.Option(metavar="TIME", help="When, such as 2027-01-18T09:00+08:00; else now.")] = "",
    agreement: Annotated[str, typer.Option(metavar="ID", help="Under this one; else the one that fits.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say whether a request would be answered and, if not, the smallest change that would be.

    It asks nobody: it is decided here, by the same checks as the broker's and the provider's. Exit code 1 is a no.
    """
    require_role(home, "system", "a system asks, and explains what it would ask")
    if not is_officer(officer):
        raise WrongUsageError(f"--officer: {officer!r} is no pseudonym", "letters, digits, dots, _ and -, up to 64")
    if operation.upper() not in OPERATIONS:
        raise WrongUsageError(f"--operation: {operation} is none", f"known are {listed(OPERATIONS)}")
    moment = _moment(at) if at else now()
    asked = Question(b"", b"", OPERATIONS[operation.upper()], (), purpose, officer, moment)
    explained = act(home, lambda session: _explain(session, dataset, fields, agreement, asked))
    if as_json:
        print_json(_described(explained))
    else:
        _print(explained)
    if explained.explanation.denied is not None:
        raise typer.Exit(ExitCode.REFUSED)


async def _explain(session: Session, name: str, fields: str, agreement: str, asked: Question) -> Explained:
    directory = session.directory
    dataset = find_dataset(directory, name)
    names = tuple(named("--fields", fields, dataset.fields))
    if agreement:
        digest = find_agreement(directory, agreement, now()).grant.version.digest
    else:
        choice = choose_agreement(directory, session.party, dataset, asked.operation, names, asked.purpose, asked.at)
        digest = choice.digest
    question = Question(digest, dataset.object_id, asked.operation, names, asked.purpose, asked.officer, asked.at)
    return Explained(directory, dataset, question, explain(directory, question, session.party, uncounted))


def _print(explained: Explained) -> None:
    question, denied = explained.question, explained.explanation.denied
    found = explained.directory.agreement(question.agreement)
    if denied is None:
        print_line(f"It would be answered, under the agreement {question.agreement.hex()[:SHOWN_ID]}.")
        if found is not None and is_limited(found):
            print_line("How much of its quota is left, the broker and the provider count.")
        return
    changed = explained.explanation.changed[:_SHOWN]
    ways = [" and ".join(_words(explained, other)) for other in changed]
    print_line("It would be refused.")
    print_pairs(
        {
            "agreement": question.agreement.hex()[:SHOWN_ID],
            "check": f"{denied.check}, {code_name(denied.code)}",
            "reason": denied.reason,
            "instead": ways or [_advice(explained, denied)],
        }
    )


def _described(explained: Explained) -> dict[str, object]:
    denied = explained.explanation.denied
    return {
        "answered": denied is None,
        "agreement": explained.question.agreement,
        "check": denied.check if denied is not None else None,
        "code": code_name(denied.code) if denied is not None else None,
        "reason": denied.reason if denied is not None else None,
        "instead": [
            {
                "agreement": other.agreement,
                "operation": Operation.Name(other.operation).removeprefix("OPERATION_"),
                "fields": list(other.fields),
                "purpose": other.purpose,
                "officer": other.officer,
                "at": iso(other.at),
                "words": _words(explained, other),
            }
            for other in explained.explanation.changed
        ],
        "advice": _advice(explained, denied) if denied is not None and not explained.explanation.changed else None,
    }


def _words(explained: Explained, other: Question) -> list[str]:
    """What to do otherwise, each change in words."""
    asked, words = explained.question, []
    if other.agreement != asked.agreement:
        words.append(f"ask under another agreement of yours: --agreement {other.agreement.hex()[:SHOWN_ID]}")
    if out := left_out(asked, other):
        words.append(f"leave out the field{'s' if len(out) > 1 else ''} {listed(out)}")
    if other.operation != asked.operation:
        words.append(f"ask with {Operation.Name(other.operation).removeprefix('OPERATION_')}, which it grants")
    if other.purpose != asked.purpose:
        words.append(f"ask for the purpose {other.purpose}, which it grants")
    if other.officer != asked.officer:
        words.append(f"let {other.officer} ask, whom it names")
    if other.at != asked.at:
        words.append(_when(explained.directory, other))
    return words


def _when(directory: Directory, other: Question) -> str:
    moment = datetime.fromtimestamp(other.at / 1000, UTC).astimezone().isoformat(" ", "minutes")
    found = directory.agreement(other.agreement)
    if found is not None and found.hours is not None:
        return f"ask within {hours_text(found.hours)}, next at {moment}"
    return f"ask from {moment} on"


def _advice(explained: Explained, denied: Deny) -> str:
    """What to do where no question of this requester's own would be answered instead."""
    dataset = explained.dataset
    owner: Party = dataset.version.owner
    if denied.code == Code.CODE_SUSPENDED:
        return "whoever has suspended it lifts it, or the coordinator: `exchange suspensions` shows who"
    if denied.code == Code.CODE_FORBIDDEN_BY_RULE:
        return "no agreement can allow it: `exchange guardrail list` shows what is forbidden"
    if denied.code in {Code.CODE_QUOTA_EXHAUSTED, Code.CODE_OFFICER_NOT_GRANTED, Code.CODE_OUTSIDE_HOURS}:
        return f"ask {owner} for a new version of the agreement"
    return f"apply for it: exchange agreement apply --dataset {dataset_name(dataset)} …"


def _moment(text: str) -> int:
    try:
        return round(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise WrongUsageError(f"--at: not a time: {text}", "write it as 2027-01-18T09:00+08:00") from None
