"""A backup under a passphrase: scrypt makes the key (RFC 7914), AES-256-GCM seals chunk after chunk (NIST SP 800-38D).

    magic ‖ salt 16 ‖ log2 of N, one byte ‖ chunks

Every chunk but the last holds 64 KiB. A chunk's nonce is its number, 11 bytes, and a byte that is 1 for the last one:
chunks cannot be left out, moved or cut off. The salt is fresh for every file, and so is the key: no nonce comes twice.
"""

import secrets
from typing import IO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from exchange.backup.manifest import BackupError

MAGIC: Final = b"exchange backup, encrypted 1\n"
CHUNK: Final = 64 * 1024

_SALT: Final = 16
_TAG: Final = 16
_COST: Final = 17
"""log2 of N: 128 MiB and a good part of a second for each guess."""
_MOST: Final = 20
"""What a reader spends at the most, whatever a file asks for."""
_CUT: Final = "it was altered or cut short: use another backup"


class EncryptingWriter:
    """Takes bytes, and writes them sealed; `close` writes the last chunk, and leaves the output open.

    Args:
        output: at its start.
        passphrase: not empty.
        cost: log2 of scrypt's N.
    """

    def __init__(self, output: IO[bytes], passphrase: str, cost: int = _COST) -> None:
        header = MAGIC + secrets.token_bytes(_SALT) + bytes([cost])
        self._output = output
        self._cipher = _cipher(header, passphrase)
        self._header = header
        self._waiting = bytearray()
        self._number = 0
        output.write(header)

    def write(self, data: bytes) -> int:
        """Take bytes, any number of them."""
        self._waiting += data
        # The last chunk is known only when no more comes.
        while len(self._waiting) > CHUNK:
            self._seal(bytes(self._waiting[:CHUNK]), last=False)
            del self._waiting[:CHUNK]
        return len(data)

    def close(self) -> None:
        """Write what is left as the last chunk."""
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._output.write(self._cipher.encrypt(_nonce(self._number, last), chunk, self._header))
        self._number += 1


class DecryptingReader:
    """Reads what `EncryptingWriter` wrote; nothing is given out that was not authenticated.

    Args:
        source: at its start.
        passphrase: the one that it was written under.

    Raises:
        BackupError: no file of this kind, or it asks for more memory than a reader spends.
    """

    def __init__(self, source: IO[bytes], passphrase: str) -> None:
        self._header = source.read(len(MAGIC) + _SALT + 1)
        if len(self._header) != len(MAGIC) + _SALT + 1 or not self._header.startswith(MAGIC):
            raise BackupError("the file is no encrypted backup of this format")
        self._source = source
        self._cipher = _cipher(self._header, passphrase)
        self._sealed = source.read(CHUNK + _TAG)
        if not self._sealed:
            # Not even an empty file is without its last chunk.
            raise BackupError("the encrypted backup ends after its header", _CUT)
        self._number = 0
        self._open = b""

    def read(self, size: int) -> bytes:
        """The next bytes, fewer than `size` at the end.

        Raises:
            BackupError: the passphrase is wrong, or the file was altered or cut short.
        """
        parts, wanted = [], size
        while wanted > 0 and (self._open or self._sealed):
            if not self._open:
                self._open_next()
            part, self._open = self._open[:wanted], self._open[wanted:]
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def _open_next(self) -> None:
        following = self._source.read(CHUNK + _TAG)
        try:
            self._open = self._cipher.decrypt(_nonce(self._number, not following), self._sealed, self._header)
        except InvalidTag:
            if self._number:
                raise BackupError(f"chunk {self._number} of the backup does not open", _CUT) from None
            text = "the passphrase is wrong, or the backup was altered at its beginning"
            raise BackupError(text, "try the passphrase again, then another backup") from None
        self._sealed, self._number = following, self._number + 1


def _cipher(header: bytes, passphrase: str) -> AESGCM:
    cost = header[-1]
    if not 1 <= cost <= _MOST:
        raise BackupError(f"the backup asks for a key of cost 2^{cost}, and at most 2^{_MOST} is spent", _CUT)
    salt = header[len(MAGIC) : -1]
    return AESGCM(Scrypt(salt=salt, length=32, n=1 << cost, r=8, p=1).derive(passphrase.encode()))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
