"""`exchange-audit bundle`: entries with everything needed to verify them, in one file that needs no mirror."""

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.bundles.format import CHUNK, BundleWriter, Manifest, Ranges
from exchange.cli.audit.checking.findings import plural
from exchange.cli.audit.checking.opening import is_withheld
from exchange.cli.audit.checking.policies import (
    SEEN_BY_MANY,
    PolicyOption,
    Standing,
    read_policy,
)
from exchange.cli.audit.checking.tree import Expected, RangeLeaves
from exchange.cli.audit.mirror.offline import AuditHome, opened_home
from exchange.cli.audit.mirror.postings import Wanted
from exchange.cli.audit.mirror.sources import LogName, MirroredLog, altered, log_standing, mirrored_log
from exchange.cli.audit.searching.criteria import request_id
from exchange.cli.audit.verify.logs import parsed_range
from exchange.cli.audit.verify.outcome import ranges_text
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.progress import Advance, bar
from exchange.core.access import read_access_leaf
from exchange.core.errors import CoreError
from exchange.core.policy import Policy, encode_policy
from exchange.core.ranges import gap_nodes

app = new_command()


@app.command(
    epilog=example(
        "exchange-audit bundle --output log.tar --home ./audit-office",
        "exchange-audit bundle --range 1000:2000 --output november.tar --home ./audit-office",
        "exchange-audit bundle --request 019347a2-5b1c-7e0d-9c44-2f6f0c1d8e55 --output case.tar --home ./audit-office",
    )
)
def bundle(
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where it is written: a plain tar archive.")],
    range_: Annotated[
        list[str] | None, typer.Option("--range", metavar="A:B", help="Access entries A to before B; may be repeated.")
    ] = None,
    request: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="All entries about a request; may be repeated.")
    ] = None,
    policy: PolicyOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Pack access entries for offline work: leaves, bodies, the nodes beside them, the whole directory, checkpoints.

    Whoever has the trust file verifies it with `exchange-audit verify bundle`, and needs no mirror. Without --range and
    --request it holds the whole log. It says who asked whom about what case, though no query and no record.
    """
    with opened_home(home) as place:
        asked = read_policy(home, place.trust, policy)
        manifest, access = pack(output, place, _ranges(place, range_ or [], request or []), asked)
        place.end()
    _print(output, manifest, access, as_json)


def pack(output: Path, place: AuditHome, ranges: Ranges | None, policy: Policy | None) -> tuple[Manifest, Standing]:
    """Write a bundle, whole or not at all.

    Args:
        output: where it goes.
        place: the auditor's mirrors.
        ranges: of access entries, ascending, none touching the next; None for all.
        policy: whose cosignatures count.

    Returns:
        What it holds, and what the witnesses say of its access log.

    Raises:
        CommandError: a body that the ranges need is not here for want of a mandate.
        EvidenceError: a mirror was altered.
    """
    logs = mirrored_log(place, LogName.DIRECTORY), mirrored_log(place, LogName.ACCESS)
    access = log_standing(logs[1], policy, ranges[-1][1] if ranges else 0)
    held = ranges if ranges is not None else (((0, access.checkpoint.size),) if access.checkpoint.size else ())
    _check_bodies(place, held)
    directory = log_standing(logs[0], policy, _named_size(logs[1], held))
    manifest = Manifest(place.trust.name, directory.checkpoint.size, access.checkpoint.size, held)
    with bar("bundle") as advance:
        _write(output, logs, manifest, (directory, access), policy, advance)
    return manifest, access


def _check_bodies(place: AuditHome, ranges: Ranges) -> None:
    """Whoever verifies a bundle can judge nothing without its bodies, and knows nothing of its maker's mandates."""
    erasures = place.erasures()
    for first, stop in ranges:
        for entry in place.access.without_bodies(first, stop):
            if is_withheld(entry.leaf, entry.index, erasures):
                text = f"the body of entry {entry.index} is not here: no mandate covers it"
                hint = "name --range or --request of what a mandate covers; `exchange mandate list` shows them"
                raise CommandError(text, hint, ExitCode.UNCHECKED)


def _ranges(place: AuditHome, ranges: Sequence[str], requests: Sequence[str]) -> Ranges | None:
    """The ranges asked for in the one form that they have; None for all."""
    if not ranges and not requests:
        return None
    size = place.access.checkpoint.size
    wanted = [parsed_range(text, "--range") for text in ranges]
    for text in requests:
        wanted += [(index, index + 1) for index in _about(place, text)]
    for first, stop in wanted:
        if stop > size:
            raise WrongUsageError(f"{first}:{stop}: the access log has {plural(size)} here")
    return tuple(_joined(sorted(wanted)))


def _joined(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Sorted ranges without overlaps, none touching the next."""
    first, last = -1, -1
    for start, stop in ranges:
        if start > last:
            if last > first:
                yield first, last
            first = start
        last = max(last, stop)
    if last > first:
        yield first, last


def _about(place: AuditHome, text: str) -> list[int]:
    wanted = request_id(text)
    pages = place.access.find(Wanted({"request_id": wanted})) if wanted else iter(())
    found = [entry.index for page in pages for entry in page]
    if not found:
        raise WrongUsageError(f"--request: there is no entry about {text}", "`exchange-audit search` finds requests")
    return found


def _named_size(log: MirroredLog, ranges: Ranges) -> int:
    """The size of the directory that the last of some access entries names: no entry before it names a larger one."""
    last = ranges[-1][1] if ranges else 0
    entry = next(log.rows(last - 1, last), None) if last else None
    try:
        return read_access_leaf(entry.leaf).directory_size if entry is not None else 0
    except CoreError:
        return 0


def _write(
    output: Path,
    logs: tuple[MirroredLog, MirroredLog],
    manifest: Manifest,
    standings: tuple[Standing, Standing],
    policy: Policy | None,
    advance: Advance,
) -> None:
    """Write the file whole or not at all; only its owner can read it."""
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    text = encode_policy(policy) if policy is not None else ""
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            writer = BundleWriter(file, manifest, text)
            _write_log(writer, logs[0], standings[0], ((0, manifest.directory),), advance)
            _write_log(writer, logs[1], standings[1], manifest.ranges, advance)
            writer.finish()
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(output)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_log(writer: BundleWriter, log: MirroredLog, seen: Standing, ranges: Ranges, advance: Advance) -> None:
    """One log, which is verified while it is written: an altered mirror makes no bundle."""
    checkpoint = seen.checkpoint
    name = checkpoint.origin.rpartition("/")[2]
    is_access = name == LogName.ACCESS
    nodes = log.nodes(tuple(gap_nodes(ranges, checkpoint.size))) if is_access else []
    writer.log(name, seen.note, nodes if is_access else None)
    tree = RangeLeaves(Expected(checkpoint.origin, checkpoint), ranges, nodes)
    done, total = 0, sum(stop - start for start, stop in ranges)
    for start, stop in ranges:
        for first in range(start, stop, CHUNK):
            entries = list(log.rows(first, min(first + CHUNK, stop)))
            for entry in entries:
                tree.add(entry.index, entry.leaf)
            if [entry.index for entry in entries] != list(range(first, min(first + CHUNK, stop))):
                raise altered(checkpoint.origin)
            writer.chunk(name, entries)
            done += len(entries)
            advance(done, total)
    if done != total or next(tree.finish(), None) is not None:
        raise altered(checkpoint.origin)


def _print(output: Path, manifest: Manifest, access: Standing, as_json: bool) -> None:
    if as_json:
        described = {
            "file": str(output),
            "bytes": output.stat().st_size,
            "directory": manifest.directory,
            "access": manifest.access,
            "ranges": [list(item) for item in manifest.ranges],
            **access.described(),
            "caveats": [access.caveat] if access.caveat else [],
        }
        print_json(described)
        return
    told = f"access entries {ranges_text(manifest.ranges)} of {manifest.access}, directory of {manifest.directory}"
    print_line(f"{output}: {told}; {access.caveat or SEEN_BY_MANY}")
