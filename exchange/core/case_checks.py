"""What a step needs beyond its place in the table (`core/procedure.py`): reasons, digests, the consents before it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from exchange.core.case import UPPER_LEVEL, Case, Event
from exchange.core.procedure import Act, Stage, Timer, Who, instead
from exchange.core.state import MAX_TEXT
from exchange.v1.procedure_pb2 import Outcome

MAX_MISSING = 50
MAX_RATING = 5


def missing_need(case: Case, event: Event) -> str:
    """What a step lacks; empty where it has all that it needs.

    Args:
        case: before the step, which the table lets be done.
        event: the step.
    """
    return _GUARDS[event.act](case, event)


def _free(_case: Case, _event: Event) -> str:
    return ""


def _guard_consent(case: Case, event: Event) -> str:
    return "" if event.step.digest == case.application else "the consent is to another version of the application"


def _guard_submit(case: Case, event: Event) -> str:
    if event.step.digest != case.application:
        return "another version of the application is submitted than the latest"
    if event.consent and case.consented != case.application:
        return f"{Who.APPLICANT_HEAD} consents to this version first (consent); {instead(case.stage)}"
    return ""


def _guard_withdraw(case: Case, _event: Event) -> str:
    return "an agreement stands: end it instead" if case.standing else ""


def _guard_return(case: Case, event: Event) -> str:
    if case.returned is not None:
        return "the application was returned before: what is missing is told once, and completely (article 21)"
    missing = event.step.missing
    if not 1 <= len(missing) <= MAX_MISSING or any(not 0 < len(text) <= MAX_TEXT for text in missing):
        return f"a return lists what is missing: 1 to {MAX_MISSING} texts"
    return ""


def _guard_answer(case: Case, event: Event) -> str:
    if case.is_final:
        return "a settlement ended this agreement: only a new application can lead to another one"
    if event.consent and event.body_sha256 not in case.answers:
        return f"{Who.OWNER_HEAD} consents to exactly this answer first (consent to the answer)"
    if case.stage == Stage.SETTLED:
        wanted = Act.AGREE if case.outcome == Outcome.OUTCOME_AGREE else Act.AMEND
        return "" if event.act == wanted else f"the settlement binds {Who.OWNER} to {wanted}"
    return ""


def _guard_refuse(case: Case, event: Event) -> str:
    return _guard_text(case, event) or _guard_answer(case, event)


def _guard_text(_case: Case, event: Event) -> str:
    return "" if event.step.text.strip() else f"to {event.act}, reasons are given"


def _guard_digest(_case: Case, event: Event) -> str:
    return "" if event.step.digest else "it names the answer that is consented to"


def _guard_supply(case: Case, event: Event) -> str:
    return "" if event.step.digest in case.standing else "no agreement of this case that stands is supplied"


def _guard_extend(case: Case, event: Event) -> str:
    run = case.running(Timer.ANSWER)
    if run is None or event.step.clock != run.code:
        return f"the clock that runs is {run.code if run else 'none'}"
    return "the clock was extended before" if run.extended else ""


def _guard_rate(_case: Case, event: Event) -> str:
    return "" if 1 <= event.step.rating <= MAX_RATING else f"a rating is 1 to {MAX_RATING}"


def _guard_end(case: Case, event: Event) -> str:
    if not case.standing:
        return "no agreement of this case stands"
    return _guard_text(case, event)


def _guard_escalate(case: Case, event: Event) -> str:
    if case.level == UPPER_LEVEL:
        return f"the dispute is with the level above already; possible is: settle ({Who.COORDINATOR})"
    return _guard_text(case, event)


def _guard_settle(case: Case, event: Event) -> str:
    """Among themselves the parties can only give way: who opened the dispute drops it, the other one grants."""
    if case.level and event.who != Who.COORDINATOR:
        return f"the dispute is with {Who.COORDINATOR}, who settles it"
    if not case.level:
        drops = event.act == Act.SETTLE_CONTINUE
        if event.who == Who.COORDINATOR or (event.who == case.opener) != drops:
            return f"between the parties, {case.opener} drops the dispute or the other side gives way; else: escalate"
    fits = {
        Act.SETTLE_CONTINUE: True,
        Act.SETTLE_AGREE: not case.standing,
        Act.SETTLE_AMEND: bool(case.standing),
        Act.SETTLE_END: bool(case.standing),
    }
    if not fits[event.act]:
        return "this outcome does not fit: " + ("an agreement stands" if case.standing else "no agreement stands")
    return _guard_text(case, event)


_Guard = Callable[[Case, Event], str]

_GUARDS: Mapping[Act, _Guard] = MappingProxyType(
    {
        Act.APPLY: _free,
        Act.CONSENT: _guard_consent,
        Act.SUBMIT: _guard_submit,
        Act.RETURN: _guard_return,
        Act.CONSENT_ANSWER: _guard_digest,
        Act.REFUSE: _guard_refuse,
        Act.AGREE: _guard_answer,
        Act.SUPPLY: _guard_supply,
        Act.AMEND: _guard_answer,
        Act.EXTEND: _guard_extend,
        Act.RATE: _guard_rate,
        Act.WITHDRAW: _guard_withdraw,
        Act.END: _guard_end,
        Act.OPEN_DISPUTE: _guard_text,
        Act.ESCALATE: _guard_escalate,
        Act.SETTLE_CONTINUE: _guard_settle,
        Act.SETTLE_AMEND: _guard_settle,
        Act.SETTLE_END: _guard_settle,
        Act.SETTLE_AGREE: _guard_settle,
    }
)
