"""`exchange-audit tiles`: a log as a C2SP tlog-tiles tree, which outside tools read from a folder or a web server."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.checking.findings import plural
from exchange.cli.audit.mirror.offline import opened_home
from exchange.cli.audit.mirror.sources import LogName, LogOption, MirroredLog, altered, mirrored_log
from exchange.cli.audit.mirror.witnessed import mirror_standing
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.progress import Advance, bar
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError
from exchange.core.merkle import leaf_hash, root_of
from exchange.core.note import encode_base64
from exchange.core.ranges import GrowingRoot, cover
from exchange.core.tiles import HEIGHT, WIDTH, Bundle, Tile, bundles_of, encode_bundle, encode_tile, tiles_of

CHECKPOINT = "checkpoint"

app = new_command()


@app.command(
    epilog=example(
        "exchange-audit tiles ./public/access --home ./audit-office",
        "exchange-audit tiles ./public/directory --log directory --home ./audit-office",
    )
)
def tiles(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the tree is written, or goes on.")],
    log: LogOption = LogName.ACCESS,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write a log out of the mirror as a C2SP tlog-tiles tree: checkpoint, tile/ and tile/entries/.

    A tree that is there already goes on: full tiles are never written again. Every tile is proven against the signed
    checkpoint, which is written last. Leaves name who asked whom, and when: think before the access log is published.
    """
    with opened_home(home) as place:
        place.end()
        source = mirrored_log(place, log)
        tree = TileTree(folder, source)
        with bar("tiles") as advance:
            written = tree.write(advance)
        seen = mirror_standing(place, log)
    described = {
        "log": source.checkpoint.origin,
        "size": source.checkpoint.size,
        "root": encode_base64(source.checkpoint.root),
        "files_written": written,
        "caveats": list(seen.caveats),
    }
    if as_json:
        print_json(described)
        return
    size = plural(source.checkpoint.size)
    print_line(f"{source.checkpoint.origin}: {size}, {plural(written, 'files', 'file')} written to {folder}")
    print_line(f"each proven against the signed checkpoint; {seen}")


class TileTree:
    """A tree of tiles in a folder.

    Args:
        folder: of this log alone.
        log: what is written.
    """

    def __init__(self, folder: Path, log: MirroredLog) -> None:
        self._folder = folder
        self._log = log
        self._written = 0

    def write(self, advance: Advance) -> int:
        """Bring the tree up to the log's checkpoint; returns how many files were written.

        Raises:
            CommandError: the folder is of another log or history, or the mirror was altered.
            OSError: a file cannot be written.
        """
        size, old = self._log.checkpoint.size, self._old_size()
        self._check_edge(size)
        for tile in tiles_of(size, old):
            if tile.level:
                self._write(tile, encode_tile(self._proven_hashes(tile)))
        for bundle in bundles_of(size, old):
            self._write_bundle(bundle)
            advance(bundle.first + bundle.width, size)
        # Once it names them, every file is there, also after a power failure.
        os.sync()
        note = self._log.note(size)
        if self._read(CHECKPOINT) != note:
            self._replace(self._folder / CHECKPOINT, note)
        self._drop_partial(old, size)
        return self._written

    def _old_size(self) -> int:
        """Entries of the tree that is there: it must be an earlier state of this log.

        Raises:
            CommandError: it is not.
        """
        data = self._read(CHECKPOINT)
        if not data:
            return 0
        hint = "each log's tree has a folder of its own: choose another, or move this one away"
        try:
            old = open_checkpoint(data, self._log.verifier)
        except CoreError as error:
            raise CommandError(f"{self._folder} holds something else: {error}", hint, ExitCode.REFUSED) from error
        if old.size > self._log.checkpoint.size:
            text = f"{self._folder} has {plural(old.size)} of {old.origin}, and the mirror {self._log.checkpoint.size}"
            raise CommandError(text, "`exchange-audit sync` first", ExitCode.UNCHECKED)
        if not self._goes_on(old):
            raise CommandError(
                f"{self._folder} holds another history of {old.origin}: {plural(old.size)} that are not the mirror's",
                "keep it: its signed checkpoint and the mirror's prove a fork to anybody, if the mirror is whole",
                ExitCode.FORK,
            )
        return old.size

    def _goes_on(self, old: Checkpoint) -> bool:
        tree, places = GrowingRoot(), list(cover(0, old.size))
        for place, hash_ in zip(places, self._log.nodes(places), strict=True):
            tree.add_node(place.level, hash_)
        return tree.root() == old.root

    def _write_bundle(self, bundle: Bundle) -> None:
        """Entries, and the tile of their hashes, which are the stored ones that the root was checked by."""
        leaves = [entry.leaf for entry in self._log.rows(bundle.first, bundle.first + bundle.width)]
        hashes = [leaf_hash(leaf) for leaf in leaves]
        tile = Tile(0, bundle.index, bundle.width)
        if len(leaves) != bundle.width or self._log.nodes(tile.nodes) != hashes:
            raise altered(self._log.checkpoint.origin)
        self._write(bundle, encode_bundle(leaves))
        self._write(tile, encode_tile(hashes))

    def _check_edge(self, size: int) -> None:
        """The partial tiles make the signed root; each full tile is then proven by its hash in the one above."""
        tree = GrowingRoot()
        for level in range((size.bit_length() - 1) // HEIGHT, -1, -1):
            full = size >> level * HEIGHT
            if full % WIDTH:
                for hash_ in self._log.nodes(Tile(level, full // WIDTH, full % WIDTH).nodes):
                    tree.add_node(level * HEIGHT, hash_)
        if tree.root() != self._log.checkpoint.root:
            raise altered(self._log.checkpoint.origin)

    def _proven_hashes(self, tile: Tile) -> list[bytes]:
        """The hashes of a tile above level 0, each compared with the full tile below it."""
        hashes = self._log.nodes(tile.nodes)
        first = tile.index * WIDTH
        for number, hash_ in enumerate(hashes):
            if root_of(self._log.nodes(Tile(tile.level - 1, first + number).nodes)) != hash_:
                raise altered(self._log.checkpoint.origin)
        return hashes

    def _write(self, place: Tile | Bundle, data: bytes) -> None:
        stored = self._read(place.path)
        if stored == data:
            return
        if stored and place.width == WIDTH:
            raise CommandError(
                f"{self._folder / place.path} is not the tile that the log signed",
                "somebody altered the tree: write it to another folder, and compare",
            )
        self._replace(self._folder / place.path, data)

    def _replace(self, path: Path, data: bytes) -> None:
        """Write a file whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._written += 1

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return b""

    def _drop_partial(self, old: int, size: int) -> None:
        """C2SP tlog-tiles, "Partial Tiles": those of the old checkpoint go when nothing names them any more."""
        for place in _partial(old):
            if place not in set(_partial(size)):
                path = self._folder / place.path
                path.unlink(missing_ok=True)
                if not any(path.parent.iterdir()):
                    path.parent.rmdir()


def _partial(size: int) -> Iterator[Tile | Bundle]:
    """The partial tiles and the partial bundle of a tree, of which there are few."""
    for level in range(HEIGHT):
        full, rest = divmod(size >> level * HEIGHT, WIDTH)
        if rest:
            yield Tile(level, full, rest)
            if not level:
                yield Bundle(full, rest)
