"""`exchange-adapter backup`: an adapter's home in one file, its ledger and orders checked with their anchors."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from adapters.anchor import mark_restored
from adapters.host import LEDGER, ORDERS
from adapters.ledger import Ledger, LedgerError
from adapters.orders import Orders, OrdersError
from exchange.backup.checks import Check
from exchange.backup.manifest import HOME
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
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.client.errors import ExchangeError
from exchange.home import Home


def ledgers(home: Home, _: Path) -> Iterator[Check]:
    """The ledger's chain and the orders, each with its anchor."""
    if (home.path / LEDGER).exists():
        yield _ledger(home.path / LEDGER)
    if (home.path / ORDERS).exists():
        yield _orders(home.path / ORDERS)


def _ledger(path: Path) -> Check:
    try:
        with closing(Ledger.read(path)) as reader:
            reader.verify()
            return Check(LEDGER, "", f"{reader.head.number} answers, chained; the anchor fits")
    except (LedgerError, ExchangeError) as error:
        return Check(LEDGER, str(error))


def _orders(path: Path) -> Check:
    try:
        with closing(Orders.read(path)) as orders:
            return Check(ORDERS, "", f"{len(orders.history())} orders; the anchor fits")
    except (OrdersError, ExchangeError) as error:
        return Check(ORDERS, str(error))


PROGRAM = Program("exchange-adapter", (ledgers,))

app = new_group(
    "Take, verify and restore backups of an adapter's home.",
    "exchange-adapter backup create --home ./registry --out /backups/registry.backup --passphrase-file ./passphrase",
)


@app.command(
    "create",
    epilog=example(
        "exchange-adapter backup create --home ./registry --out /backups/registry.backup --passphrase-file ./passphrase"
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
    """Write everything that an adapter's home holds to one file, while it runs.

    Keys, certificate, configuration, mirror, ledger and orders with their anchors. It holds private keys, sealing keys
    among them, and who was told what: encrypt it, and destroy it when its time is over.
    """
    take(PROGRAM, home, out, scratch, Secret(passphrase, passphrase_file), as_json=as_json)


@app.command("verify", epilog=example("exchange-adapter backup verify /backups/registry.backup"))
def verify_backup(
    file: FileArgument,
    trust: TrustOption = None,
    passphrase: PassphraseOption = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a backup into a scratch place, check all of it, and remove it again."""
    verify(PROGRAM, file, trust, Secret(passphrase, passphrase_file), as_json=as_json)


@app.command("restore", epilog=example("exchange-adapter backup restore /backups/registry.backup --home ./registry"))
def restore_backup(
    file: FileArgument,
    home: NewHomeOption,
    trust: TrustOption = None,
    passphrase: PassphraseOption = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup's home where none is.

    Answers that were given after the backup are not in its ledger, whose numbers they took: the adapter does not run
    before `exchange-adapter ledger recover` has declared them. Orders that were given after it are to be given again.
    """
    restore(PROGRAM, file, home, trust, Secret(passphrase, passphrase_file), _mark, as_json=as_json)


def _mark(folder: Path, new: Path) -> list[str]:
    """The anchors go: they would say that this ledger is all there was."""
    home = folder / HOME
    lines = []
    if (home / LEDGER).exists():
        mark_restored(home / LEDGER)
        lines.append("Answers may have been given after this backup: the adapter does not run before")
        lines.append(f"  exchange-adapter ledger recover --reason TEXT --home {new}")
    if (home / ORDERS).exists():
        lines.append("Orders that were given after it (stop, resume, revoke) are lost: give them again.")
    return lines
