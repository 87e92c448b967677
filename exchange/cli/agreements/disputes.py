"""`exchange agreement dispute`: consult, take it to the coordinator and to the level above, settle (article 28)."""

from typing import Annotated

import typer

from exchange.cli.agreements.grants import find_grant
from exchange.cli.agreements.steps import IdArgument
from exchange.cli.agreements.taking import Taken, application_of, print_taken, take
from exchange.cli.frame.acting import act, new_object
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, WrongUsageError
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import now
from exchange.client.session import Session
from exchange.core.procedure import Act, Stage
from exchange.v1.procedure_pb2 import Action, Outcome, Step

TextOption = Annotated[str, typer.Option("--text", help="What the matter is.", show_default=False)]

OUTCOMES = {
    "continue": Outcome.OUTCOME_CONTINUE,
    "amend": Outcome.OUTCOME_AMEND,
    "end": Outcome.OUTCOME_END,
    "agree": Outcome.OUTCOME_AGREE,
}

app = new_group(
    "Settle disputes: between the parties, by the coordinator, by the level above.",
    'exchange agreement dispute open 3f2a91c07b44 --text "article 12 allows it" --home ./housing',
)


@app.command(
    "open",
    epilog=example('exchange agreement dispute open 3f2a91c07b44 --text "article 12 allows it" --home ./housing'),
)
def open_dispute(
    id: IdArgument, text: TextOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Open a dispute about an application or an agreement; the parties consult first."""
    check_text("--text", text)
    print_taken(act(home, lambda session: _open(session, id, text)), "Opened a dispute", as_json)


@app.command(
    "escalate", epilog=example('exchange agreement dispute escalate 3f2a91c07b44 --text "we differ" --home ./housing')
)
def escalate(id: IdArgument, text: TextOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Take the dispute one level up: to the coordinator, then to the government of that level."""
    check_text("--text", text)
    step = Step(action=Action.ACTION_ESCALATE, text=text)
    print_taken(act(home, lambda session: _in_dispute(session, id, step)), "Taken one level up", as_json)


@app.command(
    "settle",
    epilog=example('exchange agreement dispute settle 3f2a91c07b44 --outcome amend --text "one field" --home ./bureau'),
)
def settle(
    id: IdArgument,
    outcome: Annotated[str, typer.Option(help="continue, amend, end or agree: it binds the parties.")],
    text: TextOption,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Settle the dispute; between the parties by giving way, above them by the coordinator."""
    if outcome not in OUTCOMES:
        raise WrongUsageError(f"--outcome: {outcome} is not known", f"known are {', '.join(OUTCOMES)}")
    step = Step(action=Action.ACTION_SETTLE, outcome=OUTCOMES[outcome], text=check_text("--text", text))
    print_taken(act(home, lambda session: _in_dispute(session, id, step)), "Settled", as_json)


async def _open(session: Session, typed: str, text: str) -> Taken:
    application = application_of(session, find_grant(session.directory, typed, now()))
    step = Step(action=Action.ACTION_OPEN_DISPUTE, about=application.version.object_id, text=text)
    step.subject = new_object().object_id
    return await take(session, typed, step)


async def _in_dispute(session: Session, typed: str, step: Step) -> Taken:
    application = application_of(session, find_grant(session.directory, typed, now()))
    case = session.directory.case(application.version.object_id)
    opened = [event.step.subject for event in case.history if event.act == Act.OPEN_DISPUTE] if case else []
    if case is None or case.stage != Stage.DISPUTED:
        stage = case.stage if case is not None else "unknown"
        raise CommandError(f"no dispute is open: the case is {stage}", "`exchange agreement dispute open` opens one")
    about = Step(subject=opened[-1])
    about.MergeFrom(step)
    return await take(session, typed, about)
