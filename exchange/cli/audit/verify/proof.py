"""`exchange-audit verify proof`: a .tlog-proof that somebody brings, by the trust file alone."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.checking.policies import SEEN_BY_MANY, PolicyOption, Standing, read_policy, standing
from exchange.cli.audit.mirror.offline import is_mirrored, opened_home
from exchange.cli.audit.mirror.seen import compare, keep_evidence, log_of
from exchange.cli.audit.mirror.sources import LogName
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.output import print_json, print_line, print_pairs
from exchange.cli.frame.times import iso
from exchange.client.errors import BrokenLogError
from exchange.core.access import code_name, kind_name, read_access_leaf
from exchange.core.note import encode_base64
from exchange.core.tlog_proof import MAX_PROOF, TlogProof, parse_proof, verify_proof
from exchange.home import Home

EXAMPLE = example(
    "exchange-audit verify proof answer.tlog-proof --home ./audit-office",
    "exchange-audit verify proof answer.tlog-proof --leaf entry-17.leaf --home ./audit-office",
)


def proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A .tlog-proof.")],
    leaf: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="The entry's bytes; else the proof's own."),
    ] = None,
    policy: PolicyOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Verify that a log holds an entry, and that the witnesses of the auditor's policy cosigned it.

    Only HOME/trust.toml is needed. Where the home has a mirror, the proof's checkpoint is held against it: one of
    another history ends it with 4.
    """
    trust = Home(home).trust
    asked = read_policy(home, trust, policy)
    found = parse_proof(_read(file))
    name = log_of(trust, found.checkpoint)
    if name is None:
        raise CommandError(f"{file} is of no log of {trust.name}", "", ExitCode.UNTRUSTED)
    verifier = trust.access_log if name is LogName.ACCESS else trust.directory_log
    data = _read(leaf) if leaf is not None else found.extra
    if not data:
        raise WrongUsageError(f"{file} does not carry its entry", "name the file with its bytes: --leaf FILE")
    verify_proof(found, data, verifier)
    seen = standing(found.checkpoint, verifier, asked)
    _compare(home, name, seen)
    if as_json:
        print_json(_described(name, found, data, seen))
    else:
        _print(name, found, data, seen)
    raise typer.Exit(seen.exit_code)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_PROOF + 1)


def _compare(home: Path, name: LogName, seen: Standing) -> None:
    if not is_mirrored(home):
        say("this home has no mirror: the proof is verified, but not held against what others saw")
        return
    try:
        with opened_home(home) as place:
            if not compare(place, name, seen.checkpoint, seen.note):
                say("the proof goes further than the mirror: `exchange-audit sync` holds the log to it")
            place.end()
    except BrokenLogError as error:
        keep_evidence(Home(home), error)
        raise


def _print(name: LogName, found: TlogProof, leaf: bytes, seen: Standing) -> None:
    size, checkpoint = seen.checkpoint.size, seen.checkpoint
    told = [f"asked {found.index}, verified {found.index}, checkpoint {size}", f"root {encode_base64(checkpoint.root)}"]
    pairs: dict[str, object] = {checkpoint.origin: [*told, seen.told()]}
    if name is LogName.ACCESS:
        entry = read_access_leaf(leaf)
        code = f" {code_name(entry.code)}" if entry.code else ""
        pairs[f"entry {found.index}"] = [
            f"{kind_name(entry.kind)}{code}, {iso(entry.time)}",
            f"requester {entry.requester or '-'}, provider {entry.provider or '-'}",
        ]
    print_pairs(pairs)
    print_line(f"verified; {seen.caveat or SEEN_BY_MANY}")


def _described(name: LogName, found: TlogProof, leaf: bytes, seen: Standing) -> dict[str, object]:
    entry = read_access_leaf(leaf) if name is LogName.ACCESS else None
    return {
        "verified": True,
        "log": seen.checkpoint.origin,
        "index": found.index,
        "leaf": encode_base64(leaf),
        "size": seen.checkpoint.size,
        "root": encode_base64(seen.checkpoint.root),
        **seen.described(),
        "kind": kind_name(entry.kind) if entry is not None else None,
        "time": iso(entry.time) if entry is not None else None,
        "requester": entry.requester if entry is not None else None,
        "provider": entry.provider if entry is not None else None,
        "request_digest": entry.request_digest if entry is not None else None,
        "response_digest": entry.response_digest if entry is not None else None,
        "caveats": [seen.caveat] if seen.caveat else [],
    }
