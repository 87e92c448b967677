"""A disk that loses power: a VFS of apsw that remembers, for each file, what was synced and what was only written.

    disk = Disk("lossy", changed)          # apsw.Connection(…, vfs="lossy") and its files go through it
    disk.lost(folder, lambda: False)       # what stands on the disk if the power fails now, and all unsynced is gone

Everything is written through to the real files, so that SQLite's locks and shared memory work as ever; the remembered
image is what counts. A write is durable once its file has been synced. Until then, each 512-byte sector of it may
be there or not, in any combination: disks reorder. A file's name is durable once the file has been synced (SQLite
syncs the folder with it); its removal, once SQLite asked for the folder's sync, or may be undone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512

Keep = Callable[[], bool]


@dataclass(slots=True)
class _Image:
    """One file: its durable bytes, None where its name is not durable, and what came since, in order."""

    durable: bytearray | None = None
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        self.durable = self._after(lambda: True)
        self.pending.clear()

    def lost(self, keep: Keep) -> bytes | None:
        """What is left of it: the synced bytes, and as much of the others as `keep` says."""
        return None if self.durable is None else bytes(self._after(keep))

    def _after(self, keep: Keep) -> bytearray:
        data = bytearray(self.durable or b"")
        for offset, piece in self.pending:
            if piece is None:
                if keep():
                    del data[offset:]
                continue
            for start, sector in _sectors(offset, piece):
                if keep():
                    data.extend(bytes(max(0, start - len(data))))
                    data[start : start + len(sector)] = sector
        return data


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """The parts of a write that are written as one."""
    start = 0
    while start < len(data):
        stop = min(len(data), (offset + start) // SECTOR * SECTOR + SECTOR - offset)
        yield offset + start, data[start:stop]
        start = stop


class Disk(apsw.VFS):
    """The disk.

    Args:
        name: of the VFS.
        changed: called before every change to a file: the moments at which power can fail.
    """

    def __init__(self, name: str, changed: Callable[[], None]) -> None:
        super().__init__(name, "")
        self._images: dict[str, _Image] = {}
        self._removed: dict[str, bytes] = {}
        self._changed = changed
        self.syncs = True

    def xOpen(self, name: Any, flags: list[int]) -> "_File":  # noqa: N802 - apsw's name
        path = str(name.filename() if isinstance(name, apsw.URIFilename) else name)
        if path not in self._images:
            # What was there before the disk: a file that was made earlier, durable.
            there = Path(path).exists()
            self._images[path] = _Image(bytearray(Path(path).read_bytes()) if there else None)
        return _File(self, path, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802 - apsw's signature
        self._changed()
        super().xDelete(name, sync)
        image = self._images.pop(name, _Image())
        self._removed.pop(name, None)
        if not sync and image.durable is not None:
            self._removed[name] = bytes(image.durable)

    def lost(self, target: Path, keep: Keep) -> None:
        """Write what is left when the power fails now into another folder, by the files' names.

        Args:
            target: a folder that exists.
            keep: asked for each sector and each truncation that was not synced, and for each removal of a file.
        """
        for name, removed in self._removed.items():
            if name not in self._images and not keep():
                (target / Path(name).name).write_bytes(removed)
        for name, image in self._images.items():
            left = image.lost(keep)
            # Shared memory is memory.
            if left is not None:
                (target / Path(name).name).write_bytes(left)

    def change(self, path: str, offset: int, data: bytes | None) -> None:
        self._changed()
        self._images[path].pending.append((offset, data))

    def sync(self, path: str) -> None:
        self._changed()
        if not self.syncs:
            raise apsw.IOError("the disk failed")
        self._images[path].sync()


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, path: str, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._path = path

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.change(self._path, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.change(self._path, size, None)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.sync(self._path)
        super().xSync(flags)
