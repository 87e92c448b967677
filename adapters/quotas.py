"""What was used of an agreement, counted from the ledger: check 8 by the owner's own record (DESIGN section 6).

Answers are counted when they are committed, by the same thread: of two requests that each would be the last one, one
is committed.
"""

from collections import defaultdict

from adapters.ledger import Ledger
from exchange.core.decision import Usage
from exchange.core.directory import Directory
from exchange.core.names import Party
from exchange.core.terms import AgreementTerms
from exchange.v1.terms_pb2 import Limits


def is_counted(limits: Limits) -> bool:
    """Whether an agreement limits how often it is used."""
    return bool(limits.per_minute or limits.per_day or limits.in_total)


class Counted:
    """The answers that a ledger has under any version of an agreement; any one thread at a time may ask.

    Args:
        ledger: of the system that answers, opened for writing.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._versions: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self._seen = 0
        self._unknown: list[bytes] = []

    def usage(self, directory: Directory, agreement: AgreementTerms, department: Party, now: int) -> Usage:
        """What a department used of an agreement; of the last minute no more is counted than its limit needs.

        Args:
            directory: says which object a version belongs to, whether its body is known or erased.
            agreement: one of its versions.
            department: the requester's.
            now: milliseconds.
        """
        self._learn(directory)
        most, name = agreement.limits.per_minute, str(department)
        found = [self._ledger.usage(digest, name, now, most) for digest in self._versions.get(agreement.object_id, ())]
        return Usage(
            sum(usage.minute for usage in found), sum(usage.day for usage in found), sum(usage.total for usage in found)
        )

    def _learn(self, directory: Directory) -> None:
        """Ask for the object of each version once: no request looks through all agreements."""
        new = self._ledger.agreements(self._seen)
        if not new and not self._unknown:
            return
        self._seen += len(new)
        waiting, self._unknown = [*self._unknown, *new], []
        for digest in waiting:
            version = directory.state.versions.get(digest)
            if version is None:
                self._unknown.append(digest)
            else:
                self._versions[version.object_id].append(digest)
