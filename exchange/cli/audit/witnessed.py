"""What witnesses have cosigned of a mirrored log, and what must be said beside a verification because of it."""

from dataclasses import dataclass
from pathlib import Path

from exchange.cli.audit.offline import AuditHome
from exchange.cli.audit.policies import read_policy
from exchange.cli.audit.sources import LogName, MirroredLog, log_standing, mirrored_log, root_at
from exchange.cli.output import clean, listed
from exchange.cli.times import SECOND, iso
from exchange.client.cosignatures import unseen
from exchange.client.errors import EvidenceError
from exchange.client.receipt_file import FILE, ReceiptFile
from exchange.core.errors import NoteError
from exchange.core.note import Verifier
from exchange.core.policy import NO_WITNESSES, Cosigned, Policy, open_cosigned
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
    """How far a quorum of the auditor's policy has seen a mirrored log: verified again, and held against the mirror.

    Raises:
        EvidenceError: what was cosigned is of another history than the mirror.
    """
    source, home = mirrored_log(place, log), place.access.path.parent
    own, policy = source.checkpoint, read_policy(home, place.trust, None)
    kept = kept_cosigned(home, source.verifier, log, policy)
    if kept is not None and kept.checkpoint.size <= own.size:
        seen = kept.checkpoint
        if root_at(source, seen.size) != seen.root:
            text = f"witnesses have cosigned another history of {seen.origin} than the mirror has"
            raise EvidenceError(text, "`exchange-audit verify full` names what was altered, if it is the mirror")
    found = [item for item in (kept, _mirrored(source, policy)) if item is not None]
    return Stance(own.origin, own.size, max(found, key=lambda item: item.checkpoint.size, default=None), policy)


def kept_stance(home: Path, trust: Trust, size: int) -> Stance:
    """How far a quorum has seen the access log, by what the home keeps alone; only signatures are verified.

    Args:
        home: the auditor's; trust: its trust file.
        size: entries that are verified.
    """
    policy = read_policy(home, trust, None)
    return Stance(trust.access_log.name, size, kept_cosigned(home, trust.access_log, LogName.ACCESS, policy), policy)


def kept_cosigned(home: Path, verifier: Verifier, log: LogName, policy: Policy | None) -> Cosigned | None:
    """The last cosigned checkpoint that a home keeps, with a quorum by the policy of now; only its signatures verified.

    Args:
        home: the auditor's.
        verifier: the log's key.
        log: whose checkpoint.
        policy: the auditor's.
    """
    if policy is None or not policy.needs_witnesses or not (home / FILE).exists():
        return None
    try:
        cosigned = open_cosigned(ReceiptFile(home / FILE).cosigned(log), verifier, policy)
    except NoteError:
        return None
    return cosigned if cosigned.quorum else None


def _mirrored(source: MirroredLog, policy: Policy | None) -> Cosigned | None:
    """The newest checkpoint with a quorum among those that the mirror keeps."""
    if not source.notes():
        return None
    seen = log_standing(source, policy)
    return Cosigned(seen.checkpoint, seen.cosignatures, True, seen.time) if seen.quorum else None
