"""A file that is there whole or not at all, and never in the place of another unless that is meant."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError


def check_free(path: Path, *, force: bool) -> None:
    """Refuse a place that is taken, before long work begins.

    Raises:
        WrongUsageError: it is taken, and `force` is not given; or it is no place for a file.
    """
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise WrongUsageError(f"{path} is not a file", "name another")
    if path.exists() and not force:
        raise WrongUsageError(f"{path} is there already", "name another file, or say --force to replace it")
    if not path.absolute().parent.is_dir():
        raise WrongUsageError(f"there is no folder {path.absolute().parent}", "make it first")


@contextmanager
def written_whole(path: Path, *, force: bool = False) -> Iterator[IO[bytes]]:
    """Write a file beside its place; it gets there when the block is left normally, durably.

    Args:
        path: where it belongs; for its owner's eyes alone, since it names who asked whom.
        force: whether a file that is there is replaced.

    Raises:
        WrongUsageError: as `check_free`.
    """
    check_free(path, force=force)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _place(beside, path, force=force)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()


def _place(beside: Path, path: Path, *, force: bool) -> None:
    if force:
        beside.replace(path)
        return
    try:
        # A rename would replace what another process has put there meanwhile.
        os.link(beside, path)
    except FileExistsError as error:
        raise CommandError(f"{path} came into being meanwhile", "name another file", ExitCode.USAGE) from error


def sha256_of(path: Path) -> str:
    """A file's SHA-256, hexadecimal, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
