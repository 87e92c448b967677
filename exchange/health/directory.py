"""The directory as this party has it, how fresh it is, and what it says of the party's own keys."""

import time
from collections.abc import Sequence

from exchange.client.cosignatures import split_view
from exchange.client.errors import BrokenLogError, ExchangeError, UnavailableError
from exchange.client.session import Session
from exchange.client.storage import DIRECTORY
from exchange.core.directory import Directory
from exchange.core.keys import key_id
from exchange.core.state import KeyRecord
from exchange.health.checks import Finding, OnlineCheck, fail, ok, warn
from exchange.health.files import SOON, VERY_SOON, ending, succession
from exchange.home import ROOT, Home

SECONDS = 20.0
"""For what may have a long log to read."""

_FOREVER = 1 << 60


def of_directory(home: Home) -> list[OnlineCheck]:
    """The checks of a home's mirror.

    Args:
        home: of an admitted party.
    """
    return [OnlineCheck("directory", lambda: _directory(home), f"exchange status --home {home.path}", SECONDS)]


async def _directory(home: Home) -> Sequence[Finding]:
    async with Session(home) as session:
        try:
            await session.sync()
            size = session.directory.size
            found = [ok("directory", f"{size} {'entry' if size == 1 else 'entries'}, up to date")]
            found += _witnessed(session)
        except BrokenLogError as error:
            found = [fail("directory", str(error), error.hint or f"exchange status --home {home.path}")]
        except UnavailableError as error:
            # gRPC's text begins with the address, and ends with the cause.
            reason = str(error).rpartition(": ")[2]
            text = f"{session.directory.size} entries known here, not synced: {reason}"
            found = [fail("directory", text, "see the lines of the brokers", checked=False)]
        except ExchangeError as error:
            found = [fail("directory", str(error), error.hint or f"exchange status --home {home.path}")]
        return [*found, *_keys(home, session.directory)]


def _witnessed(session: Session) -> Sequence[Finding]:
    if not session.cosignatures.needed:
        text = "none in trust.toml: a split view is not excluded"
        return [warn("witnesses", text, "the operator names some: witness_policy in trust.toml")]
    cosigned = session.cosignatures.of(DIRECTORY)
    if caveat := split_view(session.trust.policy, cosigned, session.clock()):
        return [fail("witnesses", caveat, "the witnesses' lines say which of them do not answer")]
    return [ok("witnesses", "a quorum has cosigned the directory within five minutes")]


def _keys(home: Home, directory: Directory) -> Sequence[Finding]:
    if not directory.size:
        return [fail("signing key", "not known: no directory was ever read here", "see above", checked=False)]
    found = [_signing_key(home, directory)]
    sealing = [directory.state.keys.get(digest) for digest in home.sealing_keys()]
    valid = [record for record in sealing if record is not None and record.revoked_index is None]
    if home.role == "system" and sealing:
        newest = max(valid, key=lambda record: record.not_after, default=None)
        # The adapter makes the next one a week before this one's end.
        mend = f"exchange-adapter run --home {home.path}; it makes its own, and logs why it cannot"
        found.append(_key("sealing key", newest, mend, (6, 2)))
    return found


def _signing_key(home: Home, directory: Directory) -> Finding:
    name = "signing key"
    if home.has_signing_key:
        return _key(name, directory.state.keys.get(key_id(home.signer().public_key)), succession(home))
    if home.role == ROOT:
        return ok(name, "kept elsewhere, as it should be")
    return fail(name, f"not in {home.keys}", "restore it from this home's backup")


def _key(name: str, record: KeyRecord | None, mend: str, days: tuple[int, int] = (SOON, VERY_SOON)) -> Finding:
    now = time.time()
    if record is None:
        return fail(name, "not in the directory", mend)
    if record.revoked_index is not None:
        return fail(name, f"revoked by entry {record.revoked_index} of the directory", mend)
    if record.not_after > _FOREVER:
        return ok(name, "valid, without end")
    if record.not_before / 1000 > now:
        day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.not_before / 1000))
        return warn(name, f"not valid before {day}", f"wait until {day}")
    return ending(name, record.not_after / 1000, now, mend, days)
