"""Takes a backup: files first, then databases, then the manifest; there is a whole file at the end, or none.

The order matters. An anchor says how far its log or ledger has come, and is read before it: the copy of the database
may be ahead of the copy of its anchor, as after a crash, and never behind.
"""

import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from exchange.backup.databases import Advance, copy_database, heads_of, is_database
from exchange.backup.encryption import EncryptingWriter
from exchange.backup.manifest import HOME, MANIFEST, BackupError, FileRecord, LogHead, Manifest
from exchange.home import Home

STAGE: Final = ".backup.partial"
"""The folder for copies of databases, one at a time; what an interrupted backup left in it goes with the next one."""

_ROOM: Final = 64 * 1024 * 1024
"""Bytes that a copy leaves free on its disk: the programs that run there must not stop for a backup."""
_UNCHECKED, _USAGE = 3, 2
_BESIDE: Final = re.compile(r".*(-wal|-shm|-journal|\.lock)")
"""What SQLite and locks keep beside a file, and what is in the copy already, or of no use in another place."""
_WRITING: Final = re.compile(r"\..+\.[0-9a-f]{8}")
"""A file that is being written under another name."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A database to be copied.

    Args:
        size: bytes that the copy will take, about.
        write: writes a SQLite file to a path where there is none yet.
    """

    size: int
    write: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be backed up, and how.

    Args:
        home: whose program may run.
        output: where the backup goes; nothing is there yet.
        passphrase: to encrypt it; empty where it is not encrypted.
        scratch: a folder for copies of databases, one at a time; the home itself by default.
        extras: databases that do not lie in the home, by their place in the archive.
        now: milliseconds.
        program: the version of this program.
    """

    home: Home
    output: Path
    passphrase: str
    now: int
    program: str
    scratch: Path | None = None
    extras: Mapping[str, Copy] = field(default_factory=dict)


def create(request: Request, advance: Advance) -> Manifest:
    """Take a backup.

    Args:
        request: what of, and where to.
        advance: takes bytes done, and bytes in all.

    Raises:
        BackupError: a file cannot be read or written, or the disk is full; nothing is left at `output` then.
        HomeError: nobody lives in the home, or it has no signing key.
    """
    _check_output(request)
    signer, party, trust = request.home.signer(), request.home.party, request.home.trust
    about = (trust.name, str(party), request.home.role, request.now, request.program)
    with _stage(request.scratch or request.home.path) as stage, _whole(request.output) as file:
        sink = EncryptingWriter(file, request.passphrase) if request.passphrase else None
        # A stream is only ever written to.
        target: Any = sink or file
        with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            writer = _Writer(archive, stage, advance)
            writer.add_home(request.home.path)
            for name, copy in request.extras.items():
                writer.add_copy(name, copy)
            manifest = Manifest(*about, writer.files, writer.heads)
            writer.add_manifest(manifest.signed(signer))
        if sink is not None:
            sink.close()
    return manifest


class _Writer:
    """Adds members to the archive, and notes what they are."""

    def __init__(self, archive: tarfile.TarFile, stage: Path, advance: Advance) -> None:
        self.files: dict[str, FileRecord] = {}
        self.heads: dict[str, LogHead] = {}
        self._archive = archive
        self._stage = stage
        self._advance = advance
        self._done = self._total = 0

    def add_home(self, home: Path) -> None:
        plain, databases = list[Path](), list[Path]()
        for path in _files(home):
            (databases if is_database(path) else plain).append(path)
        self._total = sum(path.stat().st_size for path in (*plain, *databases))
        for path in plain:
            # A sealing key, say, whose time was over just now.
            with suppress(FileNotFoundError):
                self._add(HOME + path.relative_to(home).as_posix(), path)
        for path in databases:
            copy = Copy(path.stat().st_size, partial(copy_database, path))
            self.add_copy(HOME + path.relative_to(home).as_posix(), copy)

    def add_copy(self, name: str, copy: Copy) -> None:
        target = self._stage / "copy.db"
        self._check_room(copy.size)
        try:
            copy.write(target)
            for log, head in heads_of(target).items():
                self.heads[f"{name.removeprefix(HOME)}: {log}"] = head
            self._add(name, target)
        finally:
            for path in self._stage.glob("copy.db*"):
                path.unlink()

    def add_manifest(self, data: bytes) -> None:
        self._archive.addfile(_member(MANIFEST, len(data)), io.BytesIO(data))

    def _check_room(self, size: int) -> None:
        if shutil.disk_usage(self._stage).free < size + _ROOM:
            text = f"the disk of {self._stage.parent} has no room for a copy of {size:,} bytes"
            hint = "make room, or name a folder on another disk with --scratch; nothing was written"
            raise BackupError(text, hint, _UNCHECKED)

    def _add(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            source = _Hashed(file, found.st_size, self._progress)
            self._archive.addfile(_member(name, found.st_size), source)
        self.files[name] = FileRecord(found.st_size, source.digest)

    def _progress(self, count: int) -> None:
        self._done += count
        self._advance(self._done, max(self._done, self._total))


class _Hashed(io.RawIOBase):
    """As many bytes of a file as it had when it was opened, hashed as they are read."""

    def __init__(self, file: IO[bytes], size: int, progress: Callable[[int], None]) -> None:
        super().__init__()
        self._file, self._left, self._progress = file, size, progress
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        self._hash.update(data)
        self._progress(len(data))
        return data


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _files(home: Path) -> Iterator[Path]:
    """The files of a home, in one order.

    Raises:
        BackupError: a folder in it is a link: what it holds would be left out, or found twice.
    """
    for folder, folders, names in os.walk(home):
        folders[:] = sorted(name for name in folders if name != STAGE)
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise BackupError(f"{Path(folder) / name} is a link to a folder", "a home's folders are its own")
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file() and not _BESIDE.fullmatch(name) and not _WRITING.fullmatch(name):
                yield path


def _check_output(request: Request) -> None:
    output, home = request.output, request.home.path
    if os.path.lexists(output):
        raise BackupError(f"{output} is there already", "name another file: a backup never replaces one", _USAGE)
    if output.resolve().is_relative_to(home.resolve()):
        text = f"{output} lies in the home that is backed up"
        raise BackupError(text, "name a file on another disk: whatever takes the home would take it too", _USAGE)


@contextmanager
def _stage(parent: Path) -> Iterator[Path]:
    """A folder of this process alone, for its owner's eyes; it is gone afterwards."""
    folder = parent / STAGE
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        _lock(descriptor, f"another backup of {parent} is being taken")
        for left in folder.iterdir():
            left.unlink()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


@contextmanager
def _whole(output: Path) -> Iterator[IO[bytes]]:
    """A file that is at `output` once all of it is durable; before that it has another name beside it."""
    partial = output.with_name(f".{output.name}.partial")
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _unwritable(output, error) from error
    file = os.fdopen(descriptor, "r+b")
    try:
        _lock(descriptor, f"another backup to {output} is being taken")
        try:
            # Whatever an interrupted backup left there.
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(descriptor)
            # Unlike a rename, a link never replaces what came there meanwhile.
            os.link(partial, output)
        except OSError as error:
            raise _unwritable(output, error) from error
        finally:
            partial.unlink(missing_ok=True)
    finally:
        # What is still buffered belongs to a backup that failed.
        with suppress(OSError):
            file.close()
    _sync(output.parent)


def _lock(descriptor: int, otherwise: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BackupError(otherwise, "wait until it is done", _UNCHECKED) from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> BackupError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        hint = "make room, or name a file on another disk; nothing was written"
        return BackupError(f"cannot write {path}: its disk is full", hint, _UNCHECKED)
    return BackupError(f"cannot write {error.filename or path}: {error.strerror}", "nothing was written", _UNCHECKED)
