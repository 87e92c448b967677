"""What lies in a home: keys that others can read, a certificate that ends, receipts that are owed, a full disk."""

import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from exchange.client.receipt_file import FILE as RECEIPTS
from exchange.client.receipt_file import ReceiptFile
from exchange.client.receipts import WITHIN
from exchange.health.checks import Check, Finding, fail, ok, warn
from exchange.home import UNFINISHED, Home

DAY = 24 * 3600
SOON, VERY_SOON = 30, 7
"""Days ahead of an end that is warned of, and that counts as a failure for whoever does nothing."""

TIGHT, FULL = 1024**3, 100 * 1024**2
"""Bytes of a disk below which is warned, and below which it counts as full."""


def of_files(home: Home) -> list[Check]:
    """The checks that need nobody else."""
    again = f"exchange key install ADMISSION --home {home.path}"
    return [
        Check("home", lambda: _home(home), f"ls -ld {home.path}"),
        Check("key files", lambda: _modes(home), f"chmod -R go-rwx {home.keys}"),
        Check("certificate", lambda: _certificate(home), again),
        Check("receipts", lambda: _receipts(home), f"exchange status --home {home.path}"),
    ]


def disk(home: Home) -> Check:
    """How much room the disk with the home has."""
    return Check("disk", lambda: _disk(home.path), f"df -h {home.path}")


def renewal(home: Home) -> str:
    """What renews the certificate of a home."""
    if home.role == "broker":
        return f"exchange broker run --home {home.path}: it renews its own, and logs why it cannot"
    if home.role == "system":
        return f"exchange key renew --home {home.path}; a running adapter renews its own, and logs why it cannot"
    return f"exchange key renew --home {home.path}"


def _anew(home: Home) -> str:
    """What a home does whose certificate lets it in nowhere any more."""
    forced = " --by-department" if home.role == "system" else ""
    return f"exchange key rotate{forced} --home {home.path}; its parent admits the request, and key install ends it"


def succession(home: Home) -> str:
    """What replaces the signing key of a home."""
    if home.role == "broker":
        return "exchange broker add: a broker's key is replaced with its broker"
    return f"exchange key rotate --home {home.path}"


def ending(name: str, until: float, now: float, mend: str, days: tuple[int, int] = (SOON, VERY_SOON)) -> Finding:
    """A finding about something that ends.

    Args:
        name: what ends; until: when, and now: both in seconds.
        mend: what renews it.
        days: ahead of the end, from which on it is warned of, and from which on it counts as a failure.
    """
    left, day = int((until - now) // DAY), time.strftime("%Y-%m-%d", time.gmtime(until))
    if until <= now:
        return fail(name, f"expired on {day}", mend)
    text = f"{left} days left, until {day}"
    if left < days[1]:
        return fail(name, text, mend)
    return warn(name, text, mend) if left < days[0] else ok(name, text)


def _home(home: Home) -> Sequence[Finding]:
    if (home.path / UNFINISHED).exists():
        return [fail("home", f"{home.path} was not finished", f"rm -r {home.path}, and make it again")]
    return [ok("home", f"{home.party} ({home.role}) in {home.path}")]


def _modes(home: Home) -> Sequence[Finding]:
    """Private keys are their owner's alone to read; what is trusted is their owner's alone to write."""
    open_keys = [path for path in sorted(home.keys.glob("*")) if _mode(path) & 0o077]
    written = [path for path in (home.path / "trust.toml", home.path / "tls.pem") if path.exists() and _mode(path) & 2]
    found = [fail("key files", f"{path} can be read by others", f"chmod 600 {path}") for path in open_keys]
    found += [fail("key files", f"{path} can be written by anybody", f"chmod 644 {path}") for path in written]
    if found:
        return found
    if _mode(home.keys) & 0o077:
        return [warn("key files", f"{home.keys} can be listed by others", f"chmod 700 {home.keys}")]
    return [ok("key files", f"{len(list(home.keys.glob('*')))} in {home.keys}, their owner's alone to read")]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _certificate(home: Home) -> Sequence[Finding]:
    if not (home.path / "tls.pem").exists():
        mend = f"exchange join --status --home {home.path}; or exchange key install ADMISSION --home {home.path}"
        return [fail("certificate", "none yet: the party is not admitted", mend)]
    pem = home.certificate()
    until = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    mend = renewal(home) if until > time.time() or home.role == "broker" else _anew(home)
    found = ending("certificate", until, time.time(), mend)
    if until > time.time():
        # Its key, its name, and that they belong together.
        home.tls_identity()
    return [found]


def _receipts(home: Home) -> Sequence[Finding]:
    policy = home.trust.policy if (home.path / "trust.toml").exists() else None
    path = home.path / RECEIPTS
    if policy is None or not policy.needs_witnesses or not path.exists():
        return [ok("receipts", "none wait for witnesses")]
    waiting, late = ReceiptFile(path).count_waiting(int((time.time() - WITHIN) * 1000))
    if late:
        text = f"{late} of {waiting} not cosigned for over a minute: a split view is not excluded"
        return [fail("receipts", text, f"exchange status --home {home.path}")]
    return [ok("receipts", f"{waiting} wait for witnesses, none for over a minute")]


def _disk(path: Path) -> Sequence[Finding]:
    free = shutil.disk_usage(path).free
    text = f"{free / 1024**3:,.1f} GiB free at {path}"
    if free < FULL:
        return [fail("disk", text, f"df -h {path}")]
    return [warn("disk", text, f"df -h {path}")] if free < TIGHT else [ok("disk", text)]
