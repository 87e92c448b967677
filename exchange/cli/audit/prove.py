"""`exchange-audit prove`: an entry's proof as one file, which anybody who has the trust file can check offline."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.checking.findings import plural
from exchange.cli.audit.checking.policies import (
    SEEN_BY_MANY,
    PolicyOption,
    Standing,
    read_policy,
    standing,
)
from exchange.cli.audit.mirror.offline import opened_home
from exchange.cli.audit.mirror.sources import (
    LogName,
    LogOption,
    MirroredLog,
    altered,
    log_standing,
    mirrored_log,
    proven_path,
)
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import WrongUsageError, say
from exchange.cli.frame.output import print_json, print_line
from exchange.core.note import encode_base64
from exchange.core.policy import Policy
from exchange.core.tlog_proof import TlogProof, encode_proof
from exchange.home import write_file

SUFFIX = ".tlog-proof"

app = new_command()


@app.command(
    epilog=example(
        "exchange-audit prove 17 --home ./audit-office",
        "exchange-audit prove 17 --output entry-17.tlog-proof --home ./audit-office",
    )
)
def prove(
    index: Annotated[int, typer.Argument(min=0, metavar="INDEX", help="The entry.")],
    log: LogOption = LogName.ACCESS,
    size: Annotated[
        int, typer.Option(min=0, metavar="N", help="By the checkpoint of this size; 0 takes the last cosigned one.")
    ] = 0,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Where it is written, by custom NAME{SUFFIX}.")
    ] = None,
    policy: PolicyOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Prove from the mirror that a log holds an entry: a C2SP tlog-proof, with the entry's leaf in it.

    The checkpoint is the last one that meets the policy and holds the entry, or the last one without witnesses. Without
    --output the proof is printed.
    """
    with opened_home(home) as place:
        asked = read_policy(home, place.trust, policy)
        source = mirrored_log(place, log)
        seen = _standing(source, index, size, asked)
        entry = next(source.rows(index, index + 1), None)
        if entry is None:
            raise altered(source.checkpoint.origin)
        path = proven_path(source, entry, seen.checkpoint)
        data = encode_proof(TlogProof(index, path, seen.note, entry.leaf))
        if output is not None:
            write_file(output, data, 0o644)
        _print(index, seen, data, output, as_json)
        place.end()


def _standing(source: MirroredLog, index: int, size: int, policy: Policy | None) -> Standing:
    """The checkpoint that proves an entry."""
    if size:
        note = source.note(size)
        if not note or size > source.checkpoint.size:
            text = f"--size: this home has no signed checkpoint of {plural(size)} of {source.checkpoint.origin}"
            raise WrongUsageError(text, _sizes_hint(source))
        if index >= size:
            raise WrongUsageError(f"entry {index} is not among the first {size}")
        return standing(note, source.verifier, policy)
    if index >= source.checkpoint.size:
        count = plural(source.checkpoint.size)
        raise WrongUsageError(f"there is no entry {index}: {source.checkpoint.origin} has {count} here")
    return log_standing(source, policy, index + 1)


def _sizes_hint(source: MirroredLog) -> str:
    near = ", ".join(map(str, source.sizes()[-5:]))
    return f"there are those of {near}" if near else "run `exchange-audit sync` first"


def _print(index: int, seen: Standing, data: bytes, output: Path | None, as_json: bool) -> None:
    checkpoint = seen.checkpoint
    if as_json:
        described = {
            "log": checkpoint.origin,
            "index": index,
            "size": checkpoint.size,
            "root": encode_base64(checkpoint.root),
            "proof": data.decode(),
            **seen.described(),
            "caveats": [seen.caveat] if seen.caveat else [],
        }
        print_json(described)
        return
    told = f"entry {index} of {checkpoint.origin}, proven in {checkpoint.size}; {seen.caveat or SEEN_BY_MANY}"
    if output is None:
        typer.echo(data.decode(), nl=False)
        say(told)
    else:
        print_line(f"{output}: {told}")
