"""Looks for byte strings in a process's memory and in files, in the encodings in which they might hide."""

import base64
from collections.abc import Iterable
from pathlib import Path

_CHUNK = 16 * 1024 * 1024


def encodings(text: str) -> tuple[bytes, ...]:
    """A text as bytes that would give it away: UTF-8, UTF-16, hex, base64 at each of its three alignments."""
    data = text.encode()
    aligned = (base64.b64encode(b"\0" * shift + data)[4:-4] for shift in range(3))
    return (data, text.encode("utf-16-le"), data.hex().encode(), *aligned)


def in_memory(pid: int, text: str) -> bool:
    """Whether the memory of a process holds a text (proc(5), maps and mem)."""
    needles = encodings(text)
    return any(needle in part for part in _regions(pid) for needle in needles)


def in_files(paths: Iterable[Path], text: str) -> list[Path]:
    """The files that hold a text."""
    needles = encodings(text)
    return [path for path in paths if any(needle in path.read_bytes() for needle in needles)]


def _regions(pid: int) -> Iterable[bytes]:
    maps = Path(f"/proc/{pid}/maps").read_text()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps.splitlines():
            addresses, permissions, *_ = line.split()
            if not permissions.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in addresses.split("-"))
            yield _read(memory, start, end)


def _read(memory: object, start: int, end: int) -> bytes:
    parts = []
    try:
        memory.seek(start)  # type: ignore[attr-defined]
        while start < end:
            part = memory.read(min(_CHUNK, end - start))  # type: ignore[attr-defined]
            if not part:
                break
            parts.append(part)
            start += len(part)
    except (OSError, ValueError, OverflowError):
        pass  # a guard page, or gone since the map was read
    return b"".join(parts)
