"""Which witnesses must have cosigned a checkpoint (C2SP tlog-policy), and what their cosignatures say of one.

    witness audit-office witness.audit.city.example+1c2d3e4f+BAAA... https://witness.audit.city.example/
    witness university witness.university.example+5a6b7c8d+BAAA...
    witness archive witness.archive.city.example+9e8f7a6b+BAAA...
    group two-of-three 2 audit-office university archive
    quorum two-of-three

Names of witnesses and groups mean something within one policy only; what counts is the key.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.cosignature import CosignatureVerifier
from exchange.core.errors import NoteError
from exchange.core.note import NoteSignature, Verifier, open_note

NONE: Final = "none"
NO_WITNESSES: Final = "split view not excluded: no witnesses"
"""What stands beside every verification where no policy asks for witnesses (DESIGN section 2)."""
MAX_POLICY: Final = 1 << 16
MAX_AGE: Final = 300
"""Seconds for which a cosigned checkpoint counts as fresh (DESIGN section 2, "freshness quorum")."""
MAX_AHEAD: Final = 60
"""Seconds by which a witness's clock may be ahead, as for requests (DESIGN section 6, check 4)."""

# C2SP tlog-policy, "Character set": of the control characters only tab and newline.
_FOREIGN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLANK = re.compile(r"[ \t]+")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log whose checkpoints are accepted, and where it is; empty where the policy does not say."""

    verifier: Verifier
    url: str = ""


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    """A witness under its name in this policy, and its submission prefix (C2SP tlog-witness); empty if not said."""

    name: str
    verifier: CosignatureVerifier
    url: str = ""


@dataclass(frozen=True, slots=True)
class PolicyGroup:
    """Witnesses and earlier groups, of which `threshold` must have cosigned."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A quorum over witnesses.

    Args:
        logs: those accepted; none where they are known from elsewhere.
        witnesses: in any order, each key once.
        groups: each names only witnesses and groups before it.
        quorum: the name of a witness or group, or `none`.

    Raises:
        NoteError: a name or key stands twice, a member is not defined or listed twice, or a threshold is out of range.
    """

    logs: tuple[PolicyLog, ...] = ()
    witnesses: tuple[PolicyWitness, ...] = ()
    groups: tuple[PolicyGroup, ...] = ()
    quorum: str = NONE

    def __post_init__(self) -> None:
        # C2SP tlog-policy: keys are duplicates if they wrap the same public key, whatever their names. One witness
        # under two names would count twice.
        _check_once((log.verifier.public_key for log in self.logs), "two log lines have the same key")
        _check_once((item.verifier.public_key for item in self.witnesses), "two witnesses have the same key")
        names = [*(witness.name for witness in self.witnesses), *(group.name for group in self.groups)]
        _check_once(names, "a name is defined twice")
        for name in names:
            _check_word(name)
        for url in (*(log.url for log in self.logs), *(witness.url for witness in self.witnesses)):
            _check_url(url)
        _check_once((name for group in self.groups for name in group.members), "a name is a member twice")
        for position, group in enumerate(self.groups, len(self.witnesses)):
            _check_group(group, names[:position])
        if self.quorum != NONE and self.quorum not in names:
            raise NoteError(f"the quorum {self.quorum!r} is not defined")

    @property
    def needs_witnesses(self) -> bool:
        """Whether a checkpoint without any cosignature fails this policy."""
        return self.quorum != NONE

    def is_met(self, witnesses: Collection[str]) -> bool:
        """Whether the quorum is reached when exactly these witnesses, by their names here, have cosigned."""
        met = {NONE, *(item.name for item in self.witnesses if item.name in witnesses)}
        for group in self.groups:
            if sum(name in met for name in group.members) >= group.threshold:
                met.add(group.name)
        return self.quorum in met


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A log's checkpoint, and what the witnesses of a policy say of it.

    Args:
        checkpoint: signed by the log.
        cosignatures: the witness's name in the policy, and when it cosigned, in seconds since 1970; in the policy's
            order.
        quorum: whether the policy is met.
        time: the latest moment, in seconds, such that the cosignatures of that moment or later meet the policy; None
            where none do, or none are needed.
    """

    checkpoint: Checkpoint
    cosignatures: tuple[tuple[str, int], ...]
    quorum: bool
    time: int | None

    def is_fresh(self, now: int, max_age: float = MAX_AGE) -> bool:
        """Whether a quorum has cosigned within the last `max_age` seconds; `now` in milliseconds."""
        return self.time is not None and -MAX_AHEAD <= now / 1000 - self.time <= max_age


def open_cosigned(note: bytes, log: Verifier, policy: Policy) -> Cosigned:
    """Verify a checkpoint and every cosignature by a witness of the policy.

    Args:
        note: at most 1 MiB and 100 signature lines.
        log: the key of the log asked for.
        policy: whose cosignatures count; those of others are ignored.

    Raises:
        NoteError: the checkpoint is not this log's, or a cosignature by a known witness fails (C2SP signed-note,
            "Signatures").
    """
    checkpoint = open_checkpoint(note, log)
    opened = open_note(note, (log, *(witness.verifier for witness in policy.witnesses)))
    text = opened.text.encode()
    times = tuple(_times(policy, text, opened.signatures))
    moments = sorted({time for _, time in times}, reverse=True)
    enough = (moment for moment in moments if policy.is_met([name for name, time in times if time >= moment]))
    met = policy.is_met([name for name, _ in times])
    return Cosigned(checkpoint, times, met, next(enough, None) if policy.needs_witnesses else None)


def parse_policy(text: str) -> Policy:
    """Read a policy (C2SP tlog-policy, "Policy file syntax and structure").

    Args:
        text: lines, each ended by a newline; at most 64 KiB.

    Raises:
        NoteError: a line is malformed or breaks a rule; the text names the line.
    """
    if len(text) > MAX_POLICY or _FOREIGN.search(text):
        raise NoteError("a policy is at most 64 KiB of text, with no control characters but tab and newline")
    if text and not text.endswith("\n"):
        raise NoteError("the policy's last line does not end in a newline")
    reader = _Reader()
    for number, line in enumerate(text.split("\n")[:-1], 1):
        words = [word for word in _BLANK.split(line) if word]
        if not words or words[0].startswith("#"):
            continue
        try:
            reader.read(words)
        except NoteError as error:
            raise NoteError(f"line {number} of the policy: {error}") from error
    if reader.policy is None:
        raise NoteError("the policy has no quorum line")
    return Policy(tuple(reader.logs), tuple(reader.witnesses), tuple(reader.groups), reader.policy.quorum)


def encode_policy(policy: Policy) -> str:
    """Write a policy so that `parse_policy` reads it back."""
    lines = [f"log {item.verifier} {item.url}" for item in policy.logs]
    lines += [f"witness {item.name} {item.verifier} {item.url}" for item in policy.witnesses]
    lines += [f"group {item.name} {item.threshold} {' '.join(item.members)}" for item in policy.groups]
    return "".join(f"{line.rstrip()}\n" for line in (*lines, f"quorum {policy.quorum}"))


class _Reader:
    """What the lines so far define. A policy is checked at every line, so that an error names the one at fault."""

    def __init__(self) -> None:
        self.logs: list[PolicyLog] = []
        self.witnesses: list[PolicyWitness] = []
        self.groups: list[PolicyGroup] = []
        self.policy: Policy | None = None

    def read(self, words: Sequence[str]) -> None:
        match words:
            case ["log", key, *url] if len(url) <= 1:
                self.logs.append(PolicyLog(Verifier.parse(key), *url))
            case ["witness", name, key, *url] if len(url) <= 1:
                self.witnesses.append(PolicyWitness(name, CosignatureVerifier.parse(key), *url))
            case ["group", name, threshold, *members] if members:
                self.groups.append(PolicyGroup(name, _threshold(threshold, len(members)), tuple(members)))
            case ["quorum", name]:
                if self.policy is not None:
                    raise NoteError("a second quorum line")
                self.policy = self._policy(name)
            case _:
                raise NoteError(f"not a line of a policy: {' '.join(words)[:80]!r}")
        self._policy(NONE)

    def _policy(self, quorum: str) -> Policy:
        return Policy(tuple(self.logs), tuple(self.witnesses), tuple(self.groups), quorum)


def _threshold(word: str, members: int) -> int:
    if word == "any":
        return 1
    if word == "all":
        return members
    if not _NUMBER.fullmatch(word):
        raise NoteError(f"a group says any, all or a number, not {word[:80]!r}")
    return int(word)


def _check_group(group: PolicyGroup, known: Collection[str]) -> None:
    # C2SP tlog-policy, "Defining a witness group": only names of preceding lines, and 1 <= k <= n.
    for name in group.members:
        if name not in known:
            raise NoteError(f"the member {name[:80]!r} of {group.name[:80]!r} is not defined before it")
    if not 1 <= group.threshold <= len(group.members):
        raise NoteError(f"the group {group.name[:80]!r} cannot have {group.threshold} of {len(group.members)}")


def _check_word(name: str) -> None:
    if not name or name == NONE or _FOREIGN.search(name) or any(character in name for character in " \t\n"):
        raise NoteError(f"not a name of a witness or group: {name[:80]!r}")


def _check_url(url: str) -> None:
    if _FOREIGN.search(url) or any(character in url for character in " \t\n"):
        raise NoteError("a URL has no spaces")


def _check_once(items: "Collection[object] | Iterator[object]", problem: str) -> None:
    seen = list(items)
    if len(set(seen)) != len(seen):
        raise NoteError(problem)


def _times(policy: Policy, text: bytes, signatures: Sequence[NoteSignature]) -> Iterator[tuple[str, int]]:
    for witness in policy.witnesses:
        for signature in signatures:
            if (signature.name, signature.key_hash) == (witness.verifier.name, witness.verifier.key_hash):
                time = witness.verifier.cosigned_at(text, signature.signature)
                if time is not None:
                    yield witness.name, time
