"""What must show nowhere: private keys of every home, and texts that a test plants; each in every encoding."""

import base64
from pathlib import Path

from tests.e2e.memory_scan import encodings

_LEAST = 16


class Canaries:
    """Secrets by what they are.

    Args:
        city: the folder of all homes; every file under a `keys` folder is secret.
    """

    def __init__(self, city: Path) -> None:
        self._needles: dict[str, tuple[bytes, ...]] = {}
        for path in city.glob("*/keys/*"):
            self._needles[str(path.relative_to(city))] = _of_key(path.read_bytes())
        assert self._needles, f"no keys under {city}"

    def plant(self, what: str, text: str) -> str:
        """Make a text a secret too."""
        self._needles[what] = encodings(text)
        return text

    def found_in(self, text: str) -> list[str]:
        """Which secrets show in a text."""
        data = text.encode()
        return sorted(what for what, needles in self._needles.items() if any(needle in data for needle in needles))


def _of_key(data: bytes) -> tuple[bytes, ...]:
    """The end of each line of a PEM file, and its bytes in hex; of another file, pieces of it in hex."""
    if data.startswith(b"-----BEGIN"):
        # A line's beginning may be what every key of its kind has.
        lines = [line for line in data.splitlines() if not line.startswith(b"-----")]
        raw = base64.b64decode(b"".join(lines))
        return (*(line[-_LEAST:] for line in lines if len(line) >= _LEAST), raw.hex().encode())
    return tuple(data[start : start + _LEAST].hex().encode() for start in range(0, len(data) - _LEAST, _LEAST))
