"""What must hold for a home that came out of a backup: its trust file, its keys, its certificate, its mirror."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from exchange.backup.manifest import HOME, BackupError
from exchange.core.errors import CoreError
from exchange.home import Home, HomeError
from exchange.transport import PeerError, certificate_party


@dataclass(frozen=True, slots=True)
class Check:
    """What was found.

    Args:
        name: of what was looked at.
        problem: empty where all is well.
        detail: what was found well.
    """

    name: str
    problem: str
    detail: str = ""


HomeCheck = Callable[[Home, Path], Iterator[Check]]
"""Looks at one home in the folder of what was extracted; which of them a program has depends on what it knows."""


def homes_in(folder: Path) -> Iterator[Home]:
    """The homes in what was extracted: the one that was backed up, and those that lie in it, as a broker's does."""
    yield from (Home(path.parent) for path in sorted((folder / HOME).rglob("party.toml")))


def examine(folder: Path, checks: Sequence[HomeCheck]) -> Iterator[Check]:
    """Look at every home.

    Args:
        folder: what was extracted.
        checks: what to look at, beside keys and certificate.
    """
    for home in homes_in(folder):
        name = home.path.relative_to(folder / HOME).as_posix()
        for check in (_keys, _certificate, *checks):
            for found in check(home, folder):
                yield found if name == "." else Check(f"{name}: {found.name}", found.problem, found.detail)


def _keys(home: Home, _: Path) -> Iterator[Check]:
    """Every key loads."""
    count, problems = 0, list[str]()
    for path in sorted(home.keys.glob("*.pem")):
        try:
            home.private_key(path.stem)
            count += 1
        except HomeError as error:
            problems.append(str(error))
    try:
        count += len(home.sealing_keys())
    except HomeError as error:
        problems.append(str(error))
    yield Check("keys", "; ".join(problems), "1 key" if count == 1 else f"{count} keys")


def _certificate(home: Home, _: Path) -> Iterator[Check]:
    """It is the party's, and for the key beside it; that its time is over is no fault of a backup."""
    try:
        pem = (home.path / "tls.pem").read_bytes()
    except FileNotFoundError:
        return
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        if certificate_party(pem) != home.party:
            raise BackupError("it is the certificate of another party")
        if certificate.public_key() != home.private_key("tls").public_key():
            raise BackupError("it is for another key than keys/tls.pem")
    except (ValueError, TypeError, PeerError, CoreError, HomeError) as error:
        yield Check("certificate", str(error))
        return
    yield Check("certificate", "", f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}")
