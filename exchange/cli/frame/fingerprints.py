"""Fingerprints that people compare: a SHA-256 in hex, however it was written down."""

import hmac
import re

from exchange.cli.frame.errors import WrongUsageError

_SEPARATORS = re.compile(r"[\s:-]")
_FULL = re.compile(r"[0-9a-f]{64}")


def is_fingerprint(typed: str, digest: bytes) -> bool:
    """Whether a person typed this fingerprint; spaces, colons, hyphens and case do not matter.

    Raises:
        WrongUsageError: not a whole fingerprint: a part of one could be forged.
    """
    text = _SEPARATORS.sub("", typed).lower()
    if not _FULL.fullmatch(text):
        raise WrongUsageError("a fingerprint has 64 hexadecimal digits", "type the whole of it, spaces as you like")
    return hmac.compare_digest(bytes.fromhex(text), digest)
