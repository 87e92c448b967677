"""The errors of the SDK, each with a hint for people and the exit code of a command that ends with it.

ExchangeError                what to do about it is in `hint`
├── RefusedError             the exchange or the provider said no                                 exit 1
├── ResponseInvalidError     an answer is not the provider's, or not to this request              exit 1
├── EvidenceError            a receipt, checkpoint or file does not prove what it should          exit 1
│   └── DirectoryDiffersError a broker signed another state than is folded here
├── UsageError               the caller's: an unknown dataset, no agreement, a bad argument       exit 2
├── UnavailableError         nobody could be asked in time; nothing is known                      exit 3
├── UntrustedError           a key is not the one that was trusted before                         exit 5
├── BrokenLogError           a log contradicts what it signed before; sticky                      exit 4
│   ├── RollbackError        it is smaller than it was
│   └── ForkError            it has two histories
└── StaleError               what the broker serves is older than what is needed                  exit 6
"""

from collections.abc import Mapping
from types import MappingProxyType

from exchange.core.access import code_name, read_refusal
from exchange.core.envelope import Envelope
from exchange.v1.access_pb2 import Code


class ExchangeError(Exception):
    """Root of every error that the SDK raises on purpose.

    Args:
        message: what is wrong.
        hint: what to do about it; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class RefusedError(ExchangeError):
    """The exchange or the provider said no.

    Args:
        reason: for people.
        code: why; unspecified where the refusal is not one of a request.
        label: why, as the broker wrote it or as `code` is written: NO_AGREEMENT, ENTRY_REFUSED.
        check: the number of the check that failed (DESIGN section 6); 0 while the refusal is not verified.
        refuser: who signed the refusal; empty while it is not verified.
        refusal: the signed refusal, if one came.
        verified: whether its signature, signer and request hold against this party's own mirror.
        unverified: why they do not; empty when `verified`.
    """

    def __init__(
        self,
        reason: str,
        *,
        code: Code.ValueType,
        label: str = "",
        check: int = 0,
        refuser: str = "",
        refusal: Envelope | None = None,
        verified: bool = False,
        unverified: str = "",
    ) -> None:
        self.label = label or code_name(code)
        super().__init__(f"{self.label}: {reason}", _HINTS.get(code, ""))
        self.reason = reason
        self.code = code
        self.check = check
        self.refuser = refuser
        self.refusal = refusal
        self.verified = verified
        self.unverified = unverified

    @property
    def summed_up(self) -> int:
        """Its place in the summary that stands for it in the log; 0 where it has an entry of its own, or says nothing.

        The log's budget of entries for one party's refusals was used up: see "Refusals" in the protocol.
        """
        if not self.verified or self.refusal is None:
            return 0
        return read_refusal(self.refusal).summed_up


class ResponseInvalidError(ExchangeError):
    """An answer is not the provider's, or not to this request; none of its rows were handed over."""


class EvidenceError(ExchangeError):
    """A receipt, a checkpoint or the mirror on disk does not prove what it should."""


class DirectoryDiffersError(EvidenceError):
    """A broker signed another state of the directory than this program folds: one of the two is wrong."""


class UsageError(ExchangeError):
    """The caller's mistake: an unknown dataset, no agreement found, a bad argument."""

    exit_code = 2


class UnavailableError(ExchangeError):
    """Nobody could be asked in time, or the answer was lost: nothing is known.

    Args:
        status: the gRPC status, in upper case; empty without one.
        retry: the same bytes may be sent again.
    """

    exit_code = 3

    def __init__(self, message: str, hint: str = "", *, status: str = "", retry: bool = False) -> None:
        super().__init__(message, hint)
        self.status = status
        self.retry = retry


class BrokenLogError(ExchangeError):
    """A log contradicts what it signed before; sticky, until the operator deletes the mirror.

    Args:
        earlier, later: the two signed checkpoints, which prove it to others.
    """

    exit_code = 4

    def __init__(self, message: str, hint: str = "", *, earlier: bytes = b"", later: bytes = b"") -> None:
        super().__init__(message, hint)
        self.earlier = earlier
        self.later = later


class RollbackError(BrokenLogError):
    """A log is smaller than it was."""


class ForkError(BrokenLogError):
    """A log has two histories."""


class UntrustedError(ExchangeError):
    """A key is not the one that was trusted before."""

    exit_code = 5


class StaleError(ExchangeError):
    """What the broker serves is older than what is needed."""

    exit_code = 6


_HINTS: Mapping[Code.ValueType, str] = MappingProxyType(
    {
        Code.CODE_OVERLOADED: "ask again later, and less often",
        Code.CODE_EXPIRED: "check this machine's clock, and ask again",
        Code.CODE_KEY_REVOKED: "ask your department's data steward for a new key",
        Code.CODE_NO_AGREEMENT: "apply to the dataset's owner for an agreement",
        Code.CODE_AGREEMENT_ENDED: "apply to the dataset's owner for a new agreement",
        Code.CODE_OPERATION_NOT_GRANTED: "ask for what the agreement grants, or apply for more",
        Code.CODE_FIELD_NOT_GRANTED: "ask for what the agreement grants, or apply for more",
        Code.CODE_PURPOSE_NOT_GRANTED: "ask for what the agreement grants, or apply for more",
        Code.CODE_OFFICER_NOT_GRANTED: "ask for what the agreement grants, or apply for more",
        Code.CODE_OUTSIDE_HOURS: "ask within the hours of the agreement, or apply for others",
        Code.CODE_SUSPENDED: "the reason says who held it up, and until when: ask them",
        Code.CODE_FORBIDDEN_BY_RULE: "ask the coordinator which rule of the exchange forbids it",
        Code.CODE_QUOTA_EXHAUSTED: "wait until the quota allows more, or apply for more",
        Code.CODE_PROVIDER_UNAVAILABLE: "the reason is with the refusal: ask again later, or ask the provider",
        Code.CODE_STATE_STALE: "the provider has not caught up with the directory: ask again in a moment",
        Code.CODE_RESPONSE_INVALID: "the provider's answer was not released: tell the provider",
        Code.CODE_AUDIT_UNAVAILABLE: "the broker cannot write its log, so it releases nothing: tell the operator",
        Code.CODE_INTERRUPTED: "submit the same request again",
    }
)
