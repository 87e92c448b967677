"""Reads a backup: nothing of it is believed before every hash agrees with the manifest, and the manifest is signed."""

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final

from exchange.backup.databases import Advance
from exchange.backup.encryption import MAGIC, DecryptingReader
from exchange.backup.manifest import HOME, MANIFEST, BackupError, FileRecord, Manifest, SignedManifest, read_manifest
from exchange.core.errors import CoreError
from exchange.core.trust import Trust
from exchange.core.wire import MAX_FRAME
from exchange.home import Home

_BLOCK: Final = 1 << 20
_UNCHECKED, _UNTRUSTED = 3, 5
_ANOTHER: Final = "use another backup, and keep this one for whoever looks into it"


def is_encrypted(path: Path) -> bool:
    """Whether a backup needs a passphrase.

    Raises:
        BackupError: it cannot be read.
    """
    with _opened(path) as file:
        return file.read(len(MAGIC)) == MAGIC


def extract(path: Path, folder: Path, passphrase: str, advance: Advance) -> Manifest:
    """Write the files of a backup to a folder, and compare them with its manifest.

    Args:
        path: the backup.
        folder: empty, and for its owner's eyes alone; the home's files come into its folder `home`.
        passphrase: empty where it has none.
        advance: takes bytes done, and bytes in all.

    Raises:
        BackupError: it was altered or cut short, or the passphrase is wrong.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        source = DecryptingReader(file, passphrase) if passphrase else file
        try:
            with tarfile.open(fileobj=source, mode="r|") as archive:  # type: ignore[call-overload]
                files, signed = _unpack(archive, folder, lambda: advance(file.tell(), size))
        except (tarfile.TarError, EOFError, UnicodeDecodeError) as error:
            raise BackupError(f"{path} is no backup, or was cut short: {error}", _ANOTHER) from error
        except OSError as error:
            raise BackupError(f"cannot write {folder}: {error.strerror}", "", _UNCHECKED) from error
    if signed is None:
        raise BackupError(f"{path} was cut short: it ends before its manifest", _ANOTHER)
    _compare(files, signed.manifest.files)
    _check_signed(signed, Home(folder / HOME))
    return signed.manifest


def check_exchange(manifest: Manifest, home: Home, trust: Trust) -> None:
    """Check that a backup is of the exchange that a trust file names.

    Args:
        manifest: the backup's.
        home: as it was extracted.
        trust: got from somebody one knows.

    Raises:
        BackupError: of another exchange, or of one that was founded anew under the same name.
    """
    if manifest.exchange != trust.name:
        text = f"the backup is of the exchange {manifest.exchange}, and the trust file is of {trust.name}"
        raise BackupError(text, "choose the backup of this exchange", _UNTRUSTED)
    found = home.trust
    if (found.root_key, found.directory_log, found.access_log) != (
        trust.root_key,
        trust.directory_log,
        trust.access_log,
    ):
        text = f"the backup is of another exchange with the name {trust.name}: its root or its log keys are others"
        raise BackupError(text, "choose the backup of this exchange", _UNTRUSTED)


def _unpack(
    archive: tarfile.TarFile, folder: Path, done: Callable[[], None]
) -> tuple[dict[str, FileRecord], SignedManifest | None]:
    files: dict[str, FileRecord] = {}
    while (member := archive.next()) is not None:
        done()
        content = archive.extractfile(member) if member.isreg() else None
        if content is None:
            raise BackupError("the backup holds something else than files", _ANOTHER)
        if member.name == MANIFEST:
            data = _short(content, member)
            if archive.next() is not None:
                raise BackupError("the backup goes on after its manifest", _ANOTHER)
            return files, read_manifest(data)
        if member.name in files:
            raise BackupError(f"the backup holds {member.name} twice", _ANOTHER)
        files[member.name] = _write(content, _place(folder, member.name))
    return files, None


def _short(content: IO[bytes], member: tarfile.TarInfo) -> bytes:
    if member.size > MAX_FRAME:
        raise BackupError("the backup's manifest is too long", _ANOTHER)
    return content.read()


def _place(folder: Path, name: str) -> Path:
    """Where a member goes: inside, whatever it is called."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or any(part in {"..", "."} or "\0" in part for part in path.parts):
        raise BackupError(f"the backup holds a file that would lie outside of it: {name}", _ANOTHER)
    return folder.joinpath(*path.parts)


def _write(content: IO[bytes], target: Path) -> FileRecord:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    hashed, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while data := content.read(_BLOCK):
            hashed.update(data)
            size += file.write(data)
        file.flush()
        os.fsync(descriptor)
    return FileRecord(size, hashed.hexdigest())


def _compare(found: Mapping[str, FileRecord], said: Mapping[str, FileRecord]) -> None:
    for name in sorted(found.keys() | said.keys()):
        if found.get(name) != said.get(name):
            problem = "is missing" if name not in found else "is not in its manifest" if name not in said else "differs"
            raise BackupError(f"the backup was altered: {name} {problem}", _ANOTHER)


def _check_signed(signed: SignedManifest, home: Home) -> None:
    """By the key of the home itself, whose name and exchange are those of the manifest."""
    signed.verify(home.signer().public_key)
    manifest = signed.manifest
    try:
        same = (manifest.party, manifest.role, manifest.exchange) == (str(home.party), home.role, home.trust.name)
    except CoreError as error:
        raise BackupError(f"the home in the backup cannot be read: {error}", _ANOTHER) from error
    if not same:
        raise BackupError("the backup's manifest is of another home than its files", _ANOTHER)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise BackupError(f"cannot read {path}: {error.strerror}", "", _UNCHECKED) from error
    with file:
        yield file
