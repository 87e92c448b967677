"""What a backup says of itself: whose it is, its files with their hashes, and how far each log went; signed.

The manifest is the last member of the archive, so that files are read once, and a file that was cut short has none.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exchange.core.envelope import BACKUP, Draft, Envelope, decode_envelope, sign, verify_signature
from exchange.core.errors import CoreError
from exchange.core.keys import Signer, key_id
from exchange.home import HomeError

FORMAT: Final = 1
MANIFEST: Final = "manifest"
HOME: Final = "home/"
"""Before the path of every file of the home."""

_REFUSED: Final = 1


class BackupError(HomeError):
    """A backup cannot be taken, read or restored."""

    def __init__(self, message: str, hint: str = "", exit_code: int = _REFUSED) -> None:
        super().__init__(message, hint, exit_code)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file in a backup.

    Args:
        size: bytes.
        sha256: 32 bytes, in hexadecimal digits.
    """

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LogHead:
    """How far a log, a mirror or a ledger goes.

    Args:
        size: entries, or rows.
        head: the signed checkpoint, or the last chain hash in hexadecimal digits.
    """

    size: int
    head: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a backup says of itself.

    Args:
        exchange: its name.
        party: whose home it is.
        role: of the party, in lower case.
        created: milliseconds.
        program: the version of the program that took it.
        files: by their place in the archive.
        heads: by `FILE: LOG`.
    """

    exchange: str
    party: str
    role: str
    created: int
    program: str
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    heads: Mapping[str, LogHead] = field(default_factory=dict)

    def signed(self, signer: Signer) -> bytes:
        """The manifest as it stands in the archive."""
        return sign(signer, self.exchange, Draft(BACKUP, self._encoded())).encode()

    def _encoded(self) -> bytes:
        files = {path: [item.size, item.sha256] for path, item in self.files.items()}
        heads = {name: [item.size, item.head] for name, item in self.heads.items()}
        values = {
            "format": FORMAT,
            "exchange": self.exchange,
            "party": self.party,
            "role": self.role,
            "created": self.created,
            "program": self.program,
            "files": files,
            "heads": heads,
        }
        return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A manifest, and the envelope that it came in, whose signature nobody has checked yet."""

    manifest: Manifest
    envelope: Envelope

    def verify(self, public_key: bytes) -> None:
        """Check that a key signed it.

        Args:
            public_key: SubjectPublicKeyInfo, DER.

        Raises:
            BackupError: another key did, or none.
        """
        try:
            verify_signature(self.envelope, self.manifest.exchange, public_key)
        except CoreError as error:
            text = f"the backup is not signed by the key {key_id(public_key).hex()[:16]} of its home: {error}"
            raise BackupError(text, "it was altered: use another backup") from error


def read_manifest(data: bytes) -> SignedManifest:
    """Read a manifest; its signature is still to be checked, by the key of the home that it describes.

    Raises:
        BackupError: it is not one of this format, or in another encoding than ours.
    """
    try:
        envelope = decode_envelope(data, BACKUP)
        values = json.loads(envelope.payload)
        if values.get("format") != FORMAT:
            text = f"the backup is of format {values.get('format')}; this program knows format {FORMAT}"
            raise BackupError(text, "use a program of the version that took it")
        manifest = _manifest(values)
        if manifest._encoded() != envelope.payload:
            raise ValueError("another encoding")
    except (CoreError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BackupError("the backup's manifest cannot be read", "it was altered: use another backup") from error
    return SignedManifest(manifest, envelope)


def _manifest(values: Mapping[str, Any]) -> Manifest:
    return Manifest(
        exchange=str(values["exchange"]),
        party=str(values["party"]),
        role=str(values["role"]),
        created=int(values["created"]),
        program=str(values["program"]),
        files={path: FileRecord(int(size), str(sha256)) for path, (size, sha256) in values["files"].items()},
        heads={name: LogHead(int(size), str(head)) for name, (size, head) in values["heads"].items()},
    )
