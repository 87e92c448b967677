"""What witnesses have cosigned of a log that this home mirrors, by all that the home keeps."""

from pathlib import Path

from exchange.cli.audit.checking.policies import Standing, of_quorum, read_policy
from exchange.cli.audit.mirror.offline import AuditHome
from exchange.cli.audit.mirror.sources import LogName, log_standing, mirrored_log, root_at
from exchange.client.errors import EvidenceError
from exchange.client.receipt_file import FILE, ReceiptFile
from exchange.core.checkpoint import Checkpoint
from exchange.core.errors import NoteError
from exchange.core.note import Verifier
from exchange.core.policy import Cosigned, Policy, open_cosigned
from exchange.core.trust import Trust


def mirror_standing(place: AuditHome, log: LogName = LogName.ACCESS) -> Standing:
    """How far a quorum of the auditor's policy has seen a mirrored log: verified again, and held against the mirror.

    Raises:
        EvidenceError: what was cosigned is of another history than the mirror.
    """
    source, home = mirrored_log(place, log), place.access.path.parent
    policy = read_policy(home, place.trust, None)
    cosigned, note = kept_cosigned(home, source.verifier, log, policy)
    if cosigned is not None and cosigned.checkpoint.size <= source.checkpoint.size:
        seen = cosigned.checkpoint
        if root_at(source, seen.size) != seen.root:
            text = f"witnesses have cosigned another history of {seen.origin} than the mirror has"
            raise EvidenceError(text, "`exchange-audit verify full` names what was altered, if it is the mirror")
    kept = of_quorum(cosigned, source.checkpoint, note or source.note(source.checkpoint.size), policy)
    if not source.notes():
        return kept
    mirrored = log_standing(source, policy).beside(source.checkpoint.size)
    found = [item for item in (kept, mirrored) if item.quorum]
    return max(found, key=lambda item: item.checkpoint.size, default=mirrored)


def kept_standing(home: Path, trust: Trust, checkpoint: Checkpoint, note: bytes) -> Standing:
    """How far a quorum has seen the access log, by what the home keeps alone; only signatures are verified.

    Args:
        home: the auditor's; trust: its trust file.
        checkpoint: what is verified here; note: as the log signed it.
    """
    policy = read_policy(home, trust, None)
    cosigned, kept = kept_cosigned(home, trust.access_log, LogName.ACCESS, policy)
    return of_quorum(cosigned, checkpoint, kept or note, policy)


def kept_cosigned(home: Path, verifier: Verifier, log: LogName, policy: Policy | None) -> tuple[Cosigned | None, bytes]:
    """The last cosigned checkpoint that a home keeps, with a quorum by the policy of now; only its signatures verified.

    Args:
        home: the auditor's.
        verifier: the log's key.
        log: whose checkpoint.
        policy: the auditor's.

    Returns:
        The checkpoint, and the same as a signed note; None and nothing where there is none.
    """
    if policy is None or not policy.needs_witnesses or not (home / FILE).exists():
        return None, b""
    note = ReceiptFile(home / FILE).cosigned(log)
    try:
        cosigned = open_cosigned(note, verifier, policy)
    except NoteError:
        return None, b""
    return (cosigned, note) if cosigned.quorum else (None, b"")
