"""Files of a home: each is written whole or not at all, with its mode from the first byte on, and synced."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

_UNCHECKED = 3


class HomeError(Exception):
    """A home lacks something, or something in it cannot be used.

    Args:
        message: what is wrong.
        hint: what to do about it; may be empty.
        exit_code: of a command that ends with it: 2 wrong usage, 3 could not check, 5 not to be trusted.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = _UNCHECKED) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all, with this mode from its first byte on, and sync it.

    Raises:
        HomeError: it cannot be written, or something else than a file stands there.
    """
    _check_regular(path)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise HomeError(f"cannot write {path}: {error.strerror}", permission(error, path)) from error


def check_writable(path: Path) -> None:
    """Find out whether `write_file` can write a file, without touching it: before anything that cannot be undone.

    Raises:
        HomeError: it cannot be written, or something else than a file stands there.
    """
    _check_regular(path)
    temporary = _beside(path)
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        temporary.unlink()
    except OSError as error:
        raise HomeError(f"cannot write {path}: {error.strerror}", permission(error, path)) from error


def _check_regular(path: Path) -> None:
    """A rename would put a file in the place of a device, a pipe or a socket."""
    try:
        found = path.exists() and not path.is_file()
    except OSError as error:
        raise HomeError(f"cannot write {path}: {error.strerror}", permission(error, path)) from error
    if found:
        raise HomeError(f"cannot write {path}: {'a folder' if path.is_dir() else 'no plain file'} is there")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def permission(error: OSError, path: Path) -> str:
    """What to do where the system denies access; empty where it does not."""
    if not isinstance(error, PermissionError):
        return ""
    return f"this user may not: see the permissions of {path} and its folder with `ls -ld`, or run as its owner"


def sync_folder(path: Path) -> None:
    """Make a rename durable (POSIX: the folder is a file of its own)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
