"""`exchange-audit verify`: each subcommand says what was asked, what was verified, and by which checkpoint."""

from exchange.cli.audit.verify import bundle, consistency, head, logs, proof, report
from exchange.cli.frame.application import new_group

app = new_group(
    "Verify a log, or evidence that somebody brings, by the trust file alone.",
    "exchange-audit verify full --home ./audit-office",
    "exchange-audit verify full --database ./copy/exchange.db --home ./audit-office",
    "exchange-audit verify proof answer.tlog-proof --home ./audit-office",
)
for name, command, epilog, line in (
    ("head", head.head, head.EXAMPLE, "The latest checkpoints: signatures, witnesses, quorum, age."),
    ("entry", logs.entry, logs.ENTRY_EXAMPLE, "One entry of either log, and what stands behind it."),
    ("range", logs.range_, logs.RANGE_EXAMPLE, "A range of either log, and what stands behind it."),
    ("full", logs.full, logs.FULL_EXAMPLE, "Both logs whole: the mirror, or a copied database."),
    ("consistency", consistency.consistency, consistency.EXAMPLE, "Are two signed checkpoints of one history?"),
    ("bundle", bundle.bundle, bundle.EXAMPLE, "A bundle of entries, offline."),
    ("proof", proof.proof, proof.EXAMPLE, "A .tlog-proof of one entry, offline."),
    ("report", report.report, report.EXAMPLE, "Who vouches for a file, offline."),
):
    app.command(name, epilog=epilog, short_help=line)(command)
