"""`exchange-audit sign`: vouch for a report with the auditor's key, so that a stranger can verify it."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.checking.policies import SEEN_BY_MANY, read_policy
from exchange.cli.audit.mirror.offline import AuditHome, opened_home
from exchange.cli.audit.mirror.sources import LogName, log_standing, mirrored_log, proven_path
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.times import now
from exchange.core.keys import Signer, key_id
from exchange.core.report import Report, sign_report
from exchange.core.tlog_proof import TlogProof
from exchange.home import Home, write_file

SUFFIX = ".note"

app = new_command()


@app.command(
    epilog=example(
        "exchange-audit sign report.csv --home ./audit-office",
        "exchange-audit sign report.csv --output report.csv.note --home ./audit-office",
    )
)
def sign(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The report; any file.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Where the signature goes, else FILE{SUFFIX}.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign a file's digest with the auditor's key, and how far this home had verified both logs.

    The signature carries the proof of the auditor's key, so whoever has the trust file checks it offline with
    `exchange-audit verify report`.
    """
    party = require_role(home, "auditor", "only an auditor vouches for a report")
    digest, _ = digest_of(file)
    with opened_home(home) as place:
        place.end()
        access = place.access.checkpoint
        policy = read_policy(home, place.trust, None)
        seen = log_standing(mirrored_log(place, LogName.DIRECTORY), policy)
        data = signature_of(place, Home(home), file)
    target = output or file.with_name(file.name + SUFFIX)
    write_file(target, data, 0o644)
    if as_json:
        print_json(
            {
                "file": str(file),
                "sha256": digest,
                "signature": str(target),
                "caveats": [seen.caveat] if seen.caveat else [],
            }
        )
    else:
        print_line(f"{target}: {file.name} signed by {party}, verified to {access.size} of {access.origin}")
        print_line(seen.caveat or SEEN_BY_MANY)


def signature_of(place: AuditHome, home: Home, file: Path) -> bytes:
    """The signature on a file by the auditor's key, with the proof of that key.

    Args:
        place: the auditor's mirrors.
        home: the same home; it has the key.
        file: of any length.

    Raises:
        CommandError: the key does not stand in the directory.
        HomeError: there is none here.
    """
    directory, access = place.directory.checkpoint, place.access.checkpoint
    signer = home.signer()
    report = Report(
        place.trust.name,
        str(home.party),
        *digest_of(file),
        now(),
        (directory.size, directory.root),
        (access.size, access.root),
    )
    return sign_report(report, signer, _key_proof(place, signer))


def digest_of(path: Path) -> tuple[bytes, int]:
    """A file's SHA-256 and its length, however long it is."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        return digest, file.tell()


def _key_proof(place: AuditHome, signer: Signer) -> TlogProof:
    """The proof of the directory entry by which the auditor has its key."""
    record = place.verified_directory().state.keys.get(key_id(signer.public_key))
    if record is None or record.revoked_index is not None or not record.is_valid(now()):
        hint = "`exchange status` shows this home's key; a new one is admitted with `exchange department admit`"
        raise CommandError(
            "this home's key is not in the directory, revoked, or not valid now", hint, ExitCode.UNTRUSTED
        )
    log = mirrored_log(place, LogName.DIRECTORY)
    entry = next(log.rows(record.index, record.index + 1))
    path = proven_path(log, entry, log.checkpoint)
    return TlogProof(record.index, path, log.note(log.checkpoint.size), entry.leaf)
