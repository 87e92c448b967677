"""The secret behind keyed hashes: one for all adapters of a home, made when it is first needed (docs/protocol.md).

Whoever has it can try values against hashes. Whoever loses it gives other hashes for the same values from then on, so
it belongs into the backup of the home's keys.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from exchange.core.masking import SECRET
from exchange.home import Home, HomeError, write_file

NAME = "masking.key"
_RESTORE = "restore it from this home's backup: with another one all hashes change"


def mask_secret(home: Home) -> bytes:
    """The secret of a home, 32 bytes; a home without one gets one.

    Raises:
        HomeError: it cannot be read or written, others can read it, or it is none.
    """
    path = home.keys / NAME
    if not path.exists():
        _make(path)
    secret = home.read(f"keys/{NAME}", _RESTORE)
    if path.stat().st_mode & 0o077:
        raise HomeError(f"{path} can be read by others", f"chmod 600 {path}")
    if len(secret) != SECRET:
        raise HomeError(f"{path} is not a secret of {SECRET} bytes", _RESTORE)
    return secret


def _make(path: Path) -> None:
    """Two adapters that start at once make one secret: a link, unlike a rename, replaces nothing."""
    fresh = path.with_name(f".{NAME}.{secrets.token_hex(4)}")
    write_file(fresh, secrets.token_bytes(SECRET), 0o600)
    try:
        with suppress(FileExistsError):
            path.hardlink_to(fresh)
        fresh.unlink()
        # Durable before the first hash leaves: after a power cut there must be no other.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise HomeError(f"cannot write {path}: {error.strerror}") from error
