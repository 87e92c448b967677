"""`exchange backup`: take, verify and restore backups of a home."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.backups.commands import (
    FileArgument,
    NewHomeOption,
    OutOption,
    PassphraseFileOption,
    PassphraseOption,
    Program,
    ScratchOption,
    Secret,
    TrustOption,
    restore,
    take,
    verify,
)
from exchange.cli.backups.logs import check_database_option, drop_anchors, logs, outside, put_logs
from exchange.cli.backups.others import ledger
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import WrongUsageError

PROGRAM = Program("exchange", (logs, ledger), outside)

app = new_group(
    "Take, verify and restore backups of a home.",
    "exchange backup create --home ./operator --out /backups/operator.backup --passphrase-file ./passphrase",
)


@app.command(
    "create",
    epilog=example(
        "exchange backup create --home ./operator --out /backups/operator.backup --passphrase-file ./passphrase",
        "exchange backup verify /backups/operator.backup --passphrase-file ./passphrase",
    ),
)
def create_backup(
    out: OutOption,
    home: HomeOption = DEFAULT_HOME,
    passphrase: PassphraseOption = False,
    passphrase_file: PassphraseFileOption = None,
    scratch: ScratchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write everything that a home holds to one file.

    Keys, certificate, trust, configuration, logs, anchors, mirrors and ledgers, and those of a broker's home that lies
    in it. The program may run: each database is copied in one state, also where the logs are in PostgreSQL. The file is
    signed by the home's key; it is there whole, or not at all. It holds private keys: encrypt it.
    """
    take(PROGRAM, home, out, scratch, Secret(passphrase, passphrase_file), as_json=as_json)


@app.command("verify", epilog=example("exchange backup verify /backups/operator.backup --passphrase-file ./passphrase"))
def verify_backup(
    file: FileArgument,
    trust: TrustOption = None,
    passphrase: PassphraseOption = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a backup into a scratch place, check all of it, and remove it again.

    Hashes, signature, keys and certificates, logs as `exchange log fsck` has it, anchors, mirrors. Exit code 1 where
    anything does not hold, 5 where it is of another exchange than the trust file's.
    """
    verify(PROGRAM, file, trust, Secret(passphrase, passphrase_file), as_json=as_json)


@app.command(
    "restore",
    epilog=example(
        "exchange backup restore /backups/operator.backup --home ./operator --passphrase-file ./passphrase",
        "exchange log recover --from ./audit-office --home ./operator/broker",
    ),
)
def restore_backup(
    file: FileArgument,
    home: NewHomeOption,
    trust: TrustOption = None,
    database: Annotated[
        str, typer.Option(metavar="FILE|URL", help="Where logs go that do not lie in the home, if not as before.")
    ] = "",
    keep_database: Annotated[
        bool, typer.Option("--keep-database", help="Leave the broker's database as it is: it was not lost.")
    ] = False,
    passphrase: PassphraseOption = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup's home where none is.

    Everything is checked first, as `exchange backup verify` does; where something does not hold, nothing is restored.
    What the logs took after the backup comes back with `exchange log recover`; before that, the broker does not start.
    """
    check_database_option(database)
    if database and keep_database:
        raise WrongUsageError("either --database or --keep-database", "which of them is meant?")

    def place(folder: Path, new: Path) -> Sequence[str]:
        return () if keep_database else [*put_logs(folder, database), *drop_anchors(folder, new)]

    restore(PROGRAM, file, home, trust, Secret(passphrase, passphrase_file), place, as_json=as_json)
