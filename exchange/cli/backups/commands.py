"""What `exchange backup` and `exchange-adapter backup` do; each adds what it alone knows of its homes."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer

from exchange.backup.checks import Check, HomeCheck, examine
from exchange.backup.manifest import HOME, BackupError, Manifest
from exchange.backup.reading import check_exchange, extract, is_encrypted
from exchange.backup.writing import Copy, Request, create
from exchange.cli.backups.mirrors import mirrors
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.output import clean, print_json, print_line, print_pairs, print_table
from exchange.cli.frame.progress import bar
from exchange.cli.frame.times import iso, now
from exchange.core.trust import parse_trust
from exchange.home import Home

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the backup goes; not in the home.")]
NewHomeOption = Annotated[
    Path, typer.Option("--home", envvar="EXCHANGE_HOME", metavar="DIR", help="A folder that is not there yet.")
]
ScratchOption = Annotated[
    Path | None,
    typer.Option("--scratch", metavar="DIR", help="For copies of databases; a folder that nobody else can read."),
]
PassphraseOption = Annotated[bool, typer.Option("--passphrase", help="Ask for a passphrase on the terminal.")]
PassphraseFileOption = Annotated[
    Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Its first line is the passphrase.")
]
TrustOption = Annotated[
    Path | None, typer.Option("--trust", metavar="FILE", help="The trust file of the exchange that it must be of.")
]

PARTIAL: Final = ".{}.partial"
_SHORT: Final = 12
"""Characters that a passphrase has at least: scrypt slows a guess down, and does not make a bad one good."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a program knows of its homes.

    Args:
        name: its command.
        checks: what it looks at in a home that was restored.
        extras: the databases of a home that do not lie in it.
    """

    name: str
    checks: Sequence[HomeCheck]
    extras: Callable[[Home], Mapping[str, Copy]] = lambda _home: {}


@dataclass(frozen=True, slots=True)
class Secret:
    """How a passphrase is given.

    Args:
        ask: on the terminal.
        file: its first line.
    """

    ask: bool
    file: Path | None

    def read(self, *, twice: bool = False) -> str:
        """The passphrase; empty where none was asked for.

        Raises:
            WrongUsageError: it is too short, or its file is for others to read too.
        """
        if self.file is not None:
            return _checked(_from_file(self.file), "--passphrase-file")
        if self.ask:
            text = typer.prompt("Passphrase", hide_input=True, err=True, confirmation_prompt=twice)
            return _checked(str(text), "--passphrase")
        return ""


def take(program: Program, home: Path, output: Path, scratch: Path | None, secret: Secret, *, as_json: bool) -> None:
    """Take a backup, and say what is in it."""
    passphrase, place = secret.read(twice=True), Home(home)
    request = Request(place, output, passphrase, now(), version("department-exchange"), scratch, program.extras(place))
    with bar("backing up") as advance:
        manifest = create(request, advance)
    if not passphrase:
        say("WARNING: this backup holds private keys, and is not encrypted: whoever reads it can act as this party.")
        say("hint: keep it under lock and key, or take it again with --passphrase-file")
    if as_json:
        print_json(_described(manifest, output))
        return
    print_line(f"{output}: {manifest.party}, {len(manifest.files)} files, taken {iso(manifest.created)}")
    _print_heads(manifest)
    print_line(f"Next: {program.name} backup verify {output}")


def verify(program: Program, file: Path, trust: Path | None, secret: Secret, *, as_json: bool) -> None:
    """Restore a backup into a scratch place, look at everything, and remove it again."""
    with tempfile.TemporaryDirectory(prefix="exchange-backup-") as scratch:
        manifest, checks = _examined(program, file, Path(scratch), trust, secret)
    if as_json:
        found = [{"check": item.name, "ok": not item.problem, "detail": item.problem or item.detail} for item in checks]
        print_json(_described(manifest, file) | {"checks": found})
    else:
        print_line(f"{file}: {manifest.party}, {len(manifest.files)} files, taken {iso(manifest.created)}")
        _print_heads(manifest)
        _print_checks(checks)
    if any(item.problem for item in checks):
        raise CommandError(f"{file} does not hold what it must", "keep an earlier backup", ExitCode.REFUSED)


Place = Callable[[Path, Path], Sequence[str]]
"""Is given what was extracted, once all of it was found well, and the new home; gives what else is to be said."""


def restore(
    program: Program, file: Path, home: Path, trust: Path | None, secret: Secret, place: Place, *, as_json: bool
) -> None:
    """Put a backup's home where none is, whole or not at all.

    Args:
        program: whose home it is.
        file: the backup.
        home: the new home.
        trust: of the exchange that it must be of.
        secret: its passphrase.
        place: puts what does not lie in the home where it belongs.
        as_json: print for programs.
    """
    _check_free(home)
    with _beside(home) as folder:
        manifest, checks = _examined(program, file, folder, trust, secret)
        if any(item.problem for item in checks):
            _print_checks(checks)
            raise CommandError(f"{file} does not hold what it must: nothing was restored", "", ExitCode.REFUSED)
        lines = place(folder, home)
        if home.is_dir():
            home.rmdir()
        (folder / HOME).rename(home)
    if as_json:
        print_json(_described(manifest, file) | {"home": str(home), "notes": list(lines)})
        return
    print_line(f"{home} is the home of {manifest.party} again, as it was {iso(manifest.created)}")
    _print_heads(manifest)
    for line in lines:
        print_line(line)


def _examined(
    program: Program, file: Path, folder: Path, trust: Path | None, secret: Secret
) -> tuple[Manifest, list[Check]]:
    passphrase = secret.read()
    encrypted = is_encrypted(file)
    if encrypted and not passphrase:
        raise WrongUsageError(f"{file} is encrypted", "give its passphrase: --passphrase or --passphrase-file FILE")
    if passphrase and not encrypted:
        raise WrongUsageError(f"{file} is not encrypted", "leave the passphrase out")
    with bar("reading") as advance:
        manifest = extract(file, folder, passphrase, advance)
    if trust is not None:
        check_exchange(manifest, Home(folder / HOME), parse_trust(trust.read_text(encoding="utf-8-sig")))
    files = Check("files", "", f"{len(manifest.files)} files, hashes and signature verified")
    return manifest, [files, *examine(folder, (mirrors, *program.checks))]


def _check_free(home: Path) -> None:
    place = Home(home)
    if place.is_made:
        raise WrongUsageError(f"{home} is the home of {place.party} already", "name a folder that is not there yet")
    if os.path.lexists(home) and not (home.is_dir() and not any(home.iterdir())):
        raise WrongUsageError(f"{home} is there already", "name a folder that is not there yet")


@contextmanager
def _beside(home: Path) -> Iterator[Path]:
    """A folder on the same disk; an interrupted restoring leaves it, and the next one to the same home removes it."""
    folder = home.absolute().with_name(PARTIAL.format(home.absolute().name))
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise BackupError(f"cannot make {home}: {error.strerror}", "", ExitCode.UNCHECKED) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _from_file(path: Path) -> str:
    if path.stat().st_mode & 0o077:
        raise WrongUsageError(f"--passphrase-file: {path} can be read by others", f"chmod 600 {path}")
    return path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")


def _checked(text: str, option: str) -> str:
    if len(text) < _SHORT:
        raise WrongUsageError(f"{option}: a passphrase of {len(text)} characters", f"{_SHORT} characters or more")
    return text


def _described(manifest: Manifest, file: Path) -> dict[str, object]:
    heads = {name: {"size": head.size, "head": head.head} for name, head in manifest.heads.items()}
    return {
        "file": str(file),
        "exchange": manifest.exchange,
        "party": manifest.party,
        "role": manifest.role,
        "created": iso(manifest.created),
        "program": manifest.program,
        "files": {path: {"size": item.size, "sha256": item.sha256} for path, item in manifest.files.items()},
        "heads": heads,
    }


def _print_heads(manifest: Manifest) -> None:
    print_pairs({f"  {name}": f"to {head.size}" for name, head in manifest.heads.items()})


def _print_checks(checks: Sequence[Check]) -> None:
    rows = [("FAIL" if item.problem else "ok", item.name, clean(item.problem or item.detail)) for item in checks]
    print_table(("", "check", "detail"), rows)
