"""What witnesses have cosigned of a mirrored log, and what must be said beside a verification because of it."""

from dataclasses import dataclass
from pathlib import Path

from exchange.cli.audit.findings import NO_WITNESSES
from exchange.cli.audit.offline import AuditHome
from exchange.cli.audit.seen import root_at
from exchange.cli.audit.sources import LogName, mirrored_log
from exchange.cli.output import clean, listed
from exchange.cli.times import SECOND, iso
from exchange.client.cosignatures import unseen
from exchange.client.errors import EvidenceError
from exchange.client.receipt_file import FILE, ReceiptFile
from exchange.client.storage import DIRECTORY
from exchange.core.errors import NoteError
from exchange.core.policy import Cosigned, Policy, open_cosigned
from exchange.core.trust import Trust


@dataclass(frozen=True, slots=True)
class Stance:
    """How far a quorum of witnesses has seen a log, as far as this home knows.

    Args:
        log: its origin.
        size: entries that are verified here.
        cosigned: the last checkpoint with a quorum, of the same history; None without.
        policy: the trust file's.
    """

    log: str
    size: int
    cosigned: Cosigned | None
    policy: Policy | None

    @property
    def configured(self) -> bool:
        """Whether the trust file needs witnesses."""
        return self.policy is not None and self.policy.needs_witnesses

    @property
    def caveats(self) -> tuple[str, ...]:
        """What is not excluded."""
        text = unseen(self.policy, self.cosigned, self.size)
        return (text,) if text else ()

    def __str__(self) -> str:
        """For the last line of a command."""
        parts = [] if self.cosigned is None else [f"cosigned by a quorum to {self.cosigned.checkpoint.size}"]
        return "; ".join((*parts, *self.caveats))

    def told(self) -> str:
        """Who cosigned, and when."""
        if self.cosigned is None:
            return "not cosigned by a quorum" if self.configured else NO_WITNESSES
        witnesses = listed(f"{name} at {iso(time * SECOND)}" for name, time in self.cosigned.cosignatures)
        return clean(f"cosigned to {self.cosigned.checkpoint.size}, quorum met: {witnesses}")

    def described(self) -> list[dict[str, object]]:
        """The same for programs: one row for each cosignature."""
        if self.cosigned is None:
            return []
        size = self.cosigned.checkpoint.size
        return [
            {"log": self.log, "witness": name, "size": size, "cosigned_at": iso(time * SECOND)}
            for name, time in self.cosigned.cosignatures
        ]


def stance_of(place: AuditHome, log: LogName = LogName.ACCESS) -> Stance:
    """How far a quorum has seen a mirrored log: what the home keeps, verified again and held against the mirror.

    Raises:
        EvidenceError: what was cosigned is of another history than the mirror.
    """
    source = mirrored_log(place, log)
    own, home = source.checkpoint, place.access.path.parent
    cosigned = kept_cosigned(home, place.trust, log)
    if cosigned is not None and cosigned.checkpoint.size <= own.size:
        seen = cosigned.checkpoint
        if root_at(source, seen.size) != seen.root:
            text = f"witnesses have cosigned another history of {seen.origin} than the mirror has"
            raise EvidenceError(text, "`exchange-audit verify full` names what was altered, if it is the mirror")
    return Stance(own.origin, own.size, cosigned, place.trust.policy)


def kept_cosigned(home: Path, trust: Trust, log: str) -> Cosigned | None:
    """The last cosigned checkpoint that a home keeps, with a quorum by the policy of now; only its signatures verified.

    Args:
        home: the auditor's.
        trust: keys and policy.
        log: directory or access.
    """
    if trust.policy is None or not trust.policy.needs_witnesses or not (home / FILE).exists():
        return None
    verifier = trust.directory_log if log == DIRECTORY else trust.access_log
    try:
        cosigned = open_cosigned(ReceiptFile(home / FILE).cosigned(log), verifier, trust.policy)
    except NoteError:
        return None
    return cosigned if cosigned.quorum else None
