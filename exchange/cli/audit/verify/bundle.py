"""`exchange-audit verify bundle`: entries that somebody brings in one file, by the trust file alone."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.bundles.format import BundleReader
from exchange.cli.audit.checking.findings import Finding
from exchange.cli.audit.checking.policies import PolicyOption, Standing, read_policy, standing
from exchange.cli.audit.checking.tree import Expected, RangeLeaves
from exchange.cli.audit.mirror.offline import erasures_of, is_mirrored, opened_home
from exchange.cli.audit.mirror.seen import compare, keep_evidence
from exchange.cli.audit.mirror.sources import LogName
from exchange.cli.audit.verify.outcome import Copy, print_outcome, verified
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import CommandError, ExitCode, say
from exchange.client.errors import BrokenLogError, EvidenceError
from exchange.core.errors import CoreError
from exchange.core.note import Verifier
from exchange.core.policy import Policy
from exchange.core.trust import Trust
from exchange.home import Home

EXAMPLE = example(
    "exchange-audit verify bundle november.tar --home ./audit-office",
    "exchange-audit verify bundle november.tar --policy ./witness.policy --home ./audit-office",
)


def bundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="As `bundle` wrote it.")],
    policy: PolicyOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Verify a bundle: trees, checkpoints, bodies, signatures, and that every release was granted.

    Only HOME/trust.toml is needed; the policy that the bundle carries is not used. Where the home has a mirror, the
    bundle's checkpoints are held against it: those of another history end it with 4.
    """
    trust = Home(home).trust
    asked = read_policy(home, trust, policy)
    with file.open("rb") as opened:
        reader = BundleReader(opened)
        standings = _standings(reader, trust, asked)
        findings = tuple(_misfits(reader, trust, standings))
        copy = _copy(reader, trust, standings, findings)
        tree = RangeLeaves(copy.access, reader.manifest.ranges, reader.nodes())
        outcome = verified(copy, tree, reader.manifest.ranges, reader.manifest.ranges)
    print_outcome(outcome, as_json)
    _compare(home, standings)
    raise typer.Exit(outcome.exit_code)


def _standings(reader: BundleReader, trust: Trust, policy: Policy | None) -> tuple[Standing, Standing]:
    def opened(log: str, verifier: Verifier) -> Standing:
        try:
            return standing(reader.checkpoint(log), verifier, policy)
        except CoreError as error:
            text = f"the bundle's checkpoint of {verifier.name} is not signed by the log key in the trust file: {error}"
            raise CommandError(text, "", ExitCode.UNTRUSTED) from error

    return opened("directory", trust.directory_log), opened("access", trust.access_log)


def _misfits(reader: BundleReader, trust: Trust, standings: tuple[Standing, Standing]) -> list[Finding]:
    """Where the bundle counts otherwise than its signed checkpoints do."""
    counts = reader.manifest.directory, reader.manifest.access
    if reader.manifest.exchange != trust.name:
        raise EvidenceError(f"the bundle is of {reader.manifest.exchange[:80]}, not of {trust.name}")
    return [
        Finding(item.checkpoint.origin, None, f"the bundle counts {count}, its checkpoint {item.checkpoint.size}")
        for count, item in zip(counts, standings, strict=True)
        if count != item.checkpoint.size
    ]


def _copy(
    reader: BundleReader, trust: Trust, standings: tuple[Standing, Standing], findings: tuple[Finding, ...]
) -> Copy:
    directory, access = (Expected(item.checkpoint.origin, item.checkpoint) for item in standings)
    count = sum(stop - first for first, stop in reader.manifest.ranges)
    rows = reader.rows("directory"), reader.rows("access")
    erasures = erasures_of(trust, lambda: reader.rows("directory"))
    return Copy(trust, directory, access, *rows, count, erasures, standings, findings)


def _compare(home: Path, standings: tuple[Standing, Standing]) -> None:
    if not is_mirrored(home):
        say("this home has no mirror: the bundle is verified, but not held against what others saw")
        return
    try:
        with opened_home(home) as place:
            for name, item in zip((LogName.DIRECTORY, LogName.ACCESS), standings, strict=True):
                compare(place, name, item.checkpoint, item.note)
            place.end()
    except BrokenLogError as error:
        keep_evidence(Home(home), error)
        raise
