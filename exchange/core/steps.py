"""The body of a step: which of its fields go with which action, so that each step is written in one way."""

from collections.abc import Mapping
from types import MappingProxyType

from exchange.core.envelope import DIGEST
from exchange.core.errors import DecodeError
from exchange.core.procedure import Act
from exchange.core.state import MAX_ENTRY, MAX_TEXT, OBJECT_ID
from exchange.core.wire import decode
from exchange.v1.procedure_pb2 import Action, Outcome, Step

_ALWAYS = frozenset({"format", "action", "subject", "text"})

_FIELDS: Mapping["Action.ValueType", frozenset[str]] = MappingProxyType(
    {
        Action.ACTION_CONSENT: frozenset({"digest"}),
        Action.ACTION_SUBMIT: frozenset({"digest"}),
        Action.ACTION_RETURN: frozenset({"missing"}),
        Action.ACTION_CONSENT_ANSWER: frozenset({"digest"}),
        Action.ACTION_REFUSE: frozenset(),
        Action.ACTION_SUPPLY: frozenset({"digest"}),
        Action.ACTION_EXTEND: frozenset({"clock"}),
        Action.ACTION_RATE: frozenset({"rating"}),
        Action.ACTION_WITHDRAW: frozenset(),
        Action.ACTION_END: frozenset(),
        Action.ACTION_PUBLISH: frozenset({"digest"}),
        Action.ACTION_RETURN_DATASET: frozenset({"digest", "missing"}),
        Action.ACTION_DEPRECATE: frozenset({"digest", "until"}),
        Action.ACTION_OPEN_CORRECTION: frozenset({"about", "fields", "case_id"}),
        Action.ACTION_CORRECT: frozenset(),
        Action.ACTION_REJECT_CORRECTION: frozenset(),
        Action.ACTION_NOTIFY: frozenset({"about", "fields", "recipient", "request_ids"}),
        Action.ACTION_ACKNOWLEDGE: frozenset({"digest"}),
        Action.ACTION_OPEN_DISPUTE: frozenset({"about"}),
        Action.ACTION_ESCALATE: frozenset(),
        Action.ACTION_SETTLE: frozenset({"outcome"}),
    }
)

_NONE = Outcome.OUTCOME_UNSPECIFIED

CASE_ACTS: Mapping[tuple["Action.ValueType", "Outcome.ValueType"], Act] = MappingProxyType(
    {
        (Action.ACTION_CONSENT, _NONE): Act.CONSENT,
        (Action.ACTION_SUBMIT, _NONE): Act.SUBMIT,
        (Action.ACTION_RETURN, _NONE): Act.RETURN,
        (Action.ACTION_CONSENT_ANSWER, _NONE): Act.CONSENT_ANSWER,
        (Action.ACTION_REFUSE, _NONE): Act.REFUSE,
        (Action.ACTION_SUPPLY, _NONE): Act.SUPPLY,
        (Action.ACTION_EXTEND, _NONE): Act.EXTEND,
        (Action.ACTION_RATE, _NONE): Act.RATE,
        (Action.ACTION_WITHDRAW, _NONE): Act.WITHDRAW,
        (Action.ACTION_END, _NONE): Act.END,
        (Action.ACTION_OPEN_DISPUTE, _NONE): Act.OPEN_DISPUTE,
        (Action.ACTION_ESCALATE, _NONE): Act.ESCALATE,
        (Action.ACTION_SETTLE, Outcome.OUTCOME_CONTINUE): Act.SETTLE_CONTINUE,
        (Action.ACTION_SETTLE, Outcome.OUTCOME_AMEND): Act.SETTLE_AMEND,
        (Action.ACTION_SETTLE, Outcome.OUTCOME_END): Act.SETTLE_END,
        (Action.ACTION_SETTLE, Outcome.OUTCOME_AGREE): Act.SETTLE_AGREE,
    }
)
"""The steps of an application's case."""


def read_step(body: bytes) -> Step:
    """Read the body of a step.

    Raises:
        DecodeError: malformed, of an unknown action, or with a field that does not go with its action.
    """
    step = decode(Step, body, MAX_ENTRY)
    named = _FIELDS.get(step.action)
    if named is None:
        raise DecodeError("the action of this step is not known")
    strangers = {field.name for field, _ in step.ListFields()} - named - _ALWAYS
    if strangers:
        raise DecodeError(f"{min(strangers)} does not go with {Action.Name(step.action)}")
    if len(step.subject) != OBJECT_ID or ("about" in named and len(step.about) != OBJECT_ID):
        raise DecodeError("a step names what it is about by an object id")
    if "digest" in named and len(step.digest) != DIGEST:
        raise DecodeError("the digest in the step has an impossible length")
    if len(step.text) > MAX_TEXT:
        raise DecodeError("a text has at most 2,000 characters")
    return step
