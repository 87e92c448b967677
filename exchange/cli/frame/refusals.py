"""What a person can do about a refusal: one hint for each code."""

from collections.abc import Mapping
from types import MappingProxyType

from exchange.client.errors import RefusedError
from exchange.v1.access_pb2 import Code

_ASK_WITHIN = "`exchange agreement show AGREEMENT` shows what is granted; ask for that, or apply for more"

HINTS: Mapping[Code.ValueType, str] = MappingProxyType(
    {
        Code.CODE_OVERLOADED: "wait a little, and ask less often",
        Code.CODE_MALFORMED: "broker and requester may be of different versions: compare `exchange --version`",
        Code.CODE_IDENTITY_MISMATCH: "--home must be the home of the party that acts, with its own certificate",
        Code.CODE_SIGNATURE_INVALID: "`exchange status` shows the signing key; its parent may have to admit it again",
        Code.CODE_KEY_REVOKED: "your department's steward revoked this key: make a new one with `exchange key new`",
        Code.CODE_EXPIRED: "check this machine's clock, then ask again",
        Code.CODE_REPLAYED: "ask again: each question has an id of its own",
        Code.CODE_NO_AGREEMENT: "`exchange agreement list` shows yours; `exchange agreement apply` asks for one",
        Code.CODE_AGREEMENT_ENDED: "`exchange agreement list` shows what is in force; apply for a new agreement",
        Code.CODE_OPERATION_NOT_GRANTED: _ASK_WITHIN,
        Code.CODE_FIELD_NOT_GRANTED: _ASK_WITHIN,
        Code.CODE_PURPOSE_NOT_GRANTED: _ASK_WITHIN,
        Code.CODE_OFFICER_NOT_GRANTED: _ASK_WITHIN,
        Code.CODE_OUTSIDE_HOURS: _ASK_WITHIN,
        Code.CODE_SUSPENDED: "the reason says who held it up, and until when: ask them",
        Code.CODE_FORBIDDEN_BY_RULE: "a guardrail of the whole exchange: ask the coordinator",
        Code.CODE_QUOTA_EXHAUSTED: "wait until the quota allows more, or apply for more",
        Code.CODE_PROVIDER_UNAVAILABLE: "the reason is above: ask again later, or ask the provider",
        Code.CODE_STATE_STALE: "the provider is catching up with the directory: ask again in a few seconds",
        Code.CODE_RESPONSE_INVALID: "nothing was released; tell the provider that its answer did not verify",
        Code.CODE_AUDIT_UNAVAILABLE: "the broker cannot write its log, so it releases nothing: tell the operator",
        Code.CODE_INTERRUPTED: "the answer was lost on its way: ask again",
    }
)


def describe_refusal(error: RefusedError) -> str:
    """The code, which check it was, and the reason."""
    check = f" (check {error.check})" if error.check else ""
    return f"{error.label}{check}: {error.reason}"


def describe_refuser(error: RefusedError) -> str:
    """Who refused, and whether that is proven."""
    if error.verified:
        place = f"; number {error.summed_up} of those that one entry sums up" if error.summed_up else ""
        return f"refused by {error.refuser}, signature verified{place}"
    return f"refused by the broker, not verified: {error.unverified or 'no signed refusal came with it'}"


def refusal_hint(error: RefusedError) -> str:
    """What a person can do."""
    return HINTS.get(error.code, "") or error.hint
