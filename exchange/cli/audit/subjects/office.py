"""The home of the office that asks: its key for one request, and what it has mirrored."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from exchange.cli.audit.mirror.access_mirror import FILE, AccessMirror
from exchange.cli.audit.mirror.naming import History
from exchange.cli.audit.mirror.offline import opened_home, read_directory
from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.client.errors import BrokenLogError
from exchange.client.session import MIRROR
from exchange.client.storage import MirrorFile
from exchange.core.directory import Directory
from exchange.core.erasures import Erasures
from exchange.core.keys import sealing_private_key
from exchange.core.wire import MAX_FRAME
from exchange.home import Home, HomeError, write_file

PRIVATE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Office:
    """What an office has to check answers with.

    Args:
        directory: as its mirror has it, verified.
        history: the same at earlier sizes.
        access: the access log's mirror; None where the office is no auditor.
        erasures: which of its bodies may be missing.
        failure: why a log cannot be trusted any more, or None.
    """

    directory: Directory
    history: History
    access: AccessMirror | None
    erasures: Erasures
    failure: BrokenLogError | None


@contextmanager
def opened_office(path: Path) -> Iterator[Office]:
    """Open what an office has mirrored.

    Args:
        path: its home; an auditor's has both logs, a department's the directory alone.

    Raises:
        CommandError: nothing is mirrored, or the mirror of the directory was altered.
    """
    trust = Home(path).trust
    if (path / FILE).exists():
        with opened_home(path) as place:
            history = History(place.directory, trust)
            yield Office(place.verified_directory(), history, place.access, place.erasures(), place.failure)
        return
    if not (path / MIRROR).exists():
        hint = f"exchange-audit sync --home {path}; in a department's home: exchange status --home {path}"
        raise CommandError(f"nothing is mirrored in {path} yet", hint, ExitCode.UNCHECKED)
    file = MirrorFile(path / MIRROR)
    mirrored = read_directory(file, trust)
    yield Office(mirrored.verified(trust), History(mirrored, trust), None, Erasures(), file.failure())


def keep_key(home: Home, request_id: bytes, private: bytes) -> None:
    """Keep the key that the answers to a request are sealed to.

    Raises:
        HomeError: it cannot be written.
    """
    write_file(_place(home, request_id), private, PRIVATE)


def key_of(home: Home, request_id: bytes) -> MLKEM768X25519PrivateKey:
    """The key that the answers to a request are sealed to.

    Raises:
        HomeError: this home did not ask.
        SealError: it is no key.
    """
    path = _place(home, request_id)
    if not path.exists():
        hint = "only the home that made the request can open its answers: choose it with --home"
        raise HomeError(f"{path} is not here", hint)
    return sealing_private_key(home.read(f"keys/{path.name}"))


def read_file(path: Path) -> bytes:
    """A request or an answer, as far as one can be long.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(MAX_FRAME + 1)


def _place(home: Home, request_id: bytes) -> Path:
    return home.keys / f"subject-{request_id.hex()}.key"
