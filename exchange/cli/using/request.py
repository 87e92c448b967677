"""`exchange request`: ask for records, verify the answer, and say what proves it."""

import difflib
import math
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from exchange.cli.agreements.drafting import named, split
from exchange.cli.agreements.grants import Shown, find_agreement
from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import WrongUsageError, say
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_table
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import now
from exchange.cli.frame.where import parse_where
from exchange.cli.using.use_standing import notice_line, waiting_notices
from exchange.client.answers import Answer
from exchange.client.client import ExchangeClient
from exchange.client.datasets import choose_agreement, find_dataset, shown_types
from exchange.client.errors import UnavailableError, UsageError
from exchange.client.session import Session
from exchange.core.policy import NO_WITNESSES
from exchange.core.terms import AgreementTerms, DatasetTerms
from exchange.core.tlog_proof import encode_proof, receipt_proof
from exchange.core.wire import decode
from exchange.home import check_writable, write_file
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.request_pb2 import Operation

_QUESTIONS = "--key asks for subjects, --where for a selection"

NOT_COSIGNED = "split view not excluded: no quorum of witnesses has seen the entry yet"

app = new_command()


class Asked(TypedDict):
    """What every request says beside its question."""

    fields: list[str]
    purpose: str
    case: str
    officer: str
    timeout: float


@dataclass(frozen=True, slots=True)
class Question:
    """What was typed: a LOOKUP where there are keys, else a QUERY."""

    dataset: str
    keys: list[str]
    where: str
    limit: int
    agreement: str
    asked: Asked

    async def put(self, session: Session) -> Answer:
        """Ask it, once every name in it is known to the directory."""
        terms = find_dataset(session.directory, self.dataset)
        named("--fields", ",".join(self.asked["fields"]), terms.fields)
        _check_purpose(session, self.asked["purpose"])
        found = find_agreement(session.directory, self.agreement, now()) if self.agreement else None
        digest = found.grant.version.digest if found is not None else None
        async with ExchangeClient(session) as client:
            if self.keys:
                return await client.lookup(self.dataset, self.keys, agreement=digest, **self.asked)
            condition = parse_where(self.where, self._filterable(session, terms, found))
            return await client.query(self.dataset, condition, limit=self.limit, agreement=digest, **self.asked)

    def _filterable(
        self, session: Session, dataset: DatasetTerms, named: Shown | None
    ) -> dict[str, FieldType.ValueType]:
        """The types that a condition is read by: those of the agreement that will be asked under."""
        agreement = named.grant if named is not None else self._agreement(session, dataset)
        types = shown_types(agreement, dataset) if isinstance(agreement, AgreementTerms) else dataset.types
        return {name: kind for name, kind in types.items() if name in dataset.filterable}

    def _agreement(self, session: Session, dataset: DatasetTerms) -> AgreementTerms | None:
        query, fields, purpose = Operation.OPERATION_QUERY, self.asked["fields"], self.asked["purpose"]
        try:
            return choose_agreement(session.directory, session.party, dataset, query, fields, purpose, now())
        except UsageError:
            # The client looks again once its mirror is up to date, and says what is missing.
            return None


@dataclass(frozen=True, slots=True)
class Asking:
    """What came of a request: the answer, its receipt, cosigned where it is, what is not excluded, and whether earlier
    answers were corrected."""

    answer: Answer
    receipt: Receipt
    caveats: list[str]
    notices: str = ""


@app.command(
    epilog=example(
        "exchange request registry-office/household.registration --key 110101199001011234 \\",
        "    --fields full_name,district --purpose social.housing-subsidy --case HS-2026-118 \\",
        "    --officer officer-17 --proof HS-2026-118.tlog-proof --home ./subsidies",
        "exchange request registry-office/household.registration --where \"district = 'Lakeside'\" \\",
        "    --fields full_name --purpose social.housing-subsidy --case HS-2026-119 \\",
        "    --officer officer-17 --home ./subsidies",
    ),
)
def request(  # noqa: PLR0913 - who asks, why and for what is said each time
    dataset: Annotated[str, typer.Argument(metavar="DEPARTMENT/CODE", help="As `exchange dataset list` names it.")],
    fields: Annotated[str, typer.Option(metavar="A,B", help="The fields of each row.")],
    purpose: Annotated[str, typer.Option(metavar="CODE", help="A registered purpose.")],
    case: Annotated[str, typer.Option(metavar="ID", help="The case that this is for.")],
    officer: Annotated[str, typer.Option(metavar="NAME", help="The pseudonym of who asks.")],
    key: Annotated[
        list[str] | None, typer.Option(metavar="VALUE", help="LOOKUP: a subject's key; may be repeated.")
    ] = None,
    where: Annotated[str, typer.Option(metavar="CONDITION", help="QUERY: a condition, as after WHERE in SQL.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="QUERY: the most rows; 0 is the provider's limit.")] = 0,
    agreement: Annotated[str, typer.Option(metavar="ID", help="Ask under this one; else the one that fits.")] = "",
    proof: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the entry's proof there, by custom NAME.tlog-proof (C2SP tlog-proof)."
        ),
    ] = None,
    cosigned: Annotated[
        bool, typer.Option("--cosigned", help="Wait until witnesses have cosigned the entry, a minute at most.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Over all retries.")] = 30.0,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Ask another department's system for records.

    Rows are printed only when the answer, its signer and its entry in the access log are verified.
    """
    _check_asked(key or [], where, limit, timeout)
    require_role(home, "system", "only a system asks; a department's steward signs its key with `exchange system add`")
    asked: Asked = {
        "fields": split(fields),
        "purpose": purpose,
        "case": case,
        "officer": officer,
        "timeout": timeout,
    }
    question = Question(dataset, key or [], where, limit, agreement, asked)

    async def ask(session: Session) -> Asking:
        answer = await question.put(session)
        notices = notice_line(waiting_notices(session.directory, session.party, home))
        return Asking(answer, *await _witnessed(session, answer, wait=cosigned), notices)

    if proof is not None:
        check_writable(proof)
    done = act(home, ask)
    _print(done, split(fields), limit, as_json)
    if done.notices:
        say(f"! {done.notices}")
    if proof is not None:
        write_file(proof, encode_proof(receipt_proof(done.receipt)), 0o644)


async def _witnessed(session: Session, answer: Answer, *, wait: bool) -> tuple[Receipt, list[str]]:
    """The best receipt that there is now, and what is not excluded."""
    if not session.cosignatures.needed:
        return answer.receipt, [NO_WITNESSES]
    if wait:
        try:
            return await session.receipts.cosigned(answer.index), []
        except UnavailableError as error:
            # The rows were verified, and are handed over: only the witnesses are late.
            say(str(error))
    kept = await session.receipts.receipt(answer.index)
    if kept is not None and kept.cosigned:
        return decode(Receipt, kept.receipt), []
    return answer.receipt, [NOT_COSIGNED]


def _check_asked(keys: list[str], where: str, limit: int, timeout: float) -> None:
    if keys and where:
        raise WrongUsageError("--key and --where: give one of the two, not both", _QUESTIONS)
    if not keys and not where:
        raise WrongUsageError("one of --key and --where is needed", _QUESTIONS)
    for key in keys:
        check_text("--key", key)
    if limit and keys:
        raise WrongUsageError("--limit goes with --where")
    if not math.isfinite(timeout):
        raise WrongUsageError("--timeout: a number of seconds is needed", "for example --timeout 60")


def _check_purpose(session: Session, code: str) -> None:
    """A purpose that nobody registered is a slip; one that was not granted goes out, to be refused and logged."""
    state = session.directory.state
    known = sorted(item for item in state.purposes if state.purpose(item) is not None)
    if code not in known:
        near = difflib.get_close_matches(code, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "`exchange purpose list` shows what is"
        raise WrongUsageError(f"--purpose: {code} is not registered", hint)


def _print(done: Asking, fields: list[str], limit: int, as_json: bool) -> None:
    answer, checkpoint = done.answer, done.answer.proven.checkpoint
    if as_json:
        print_json(
            {
                "rows": list(answer.rows),
                "truncated": answer.truncated,
                "request_id": str(uuid.UUID(bytes=answer.request_id)),
                "log_index": answer.index,
                "leaf_hash": answer.proven.leaf_hash,
                "checkpoint": {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root},
                "caveats": done.caveats,
            }
        )
        return
    if answer.rows:
        print_table(fields, [[row.get(name) for name in fields] for row in answer.rows])
    else:
        say("no row matches")
    if answer.truncated:
        what = "--limit let" if limit else "the provider lets"
        say(f"more rows match than {what} through: narrow --where{', or raise --limit' if limit else ''}")
    seen = "; ".join(done.caveats) or "a quorum of witnesses has seen it"
    say(f"entry {answer.index} of {checkpoint.origin}, verified; {seen}")
