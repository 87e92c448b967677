"""`exchange-audit verify`: each subcommand says what was asked, what was verified, and by which checkpoint."""

from exchange.cli.application import new_group
from exchange.cli.audit.verify import bundle, consistency, head, logs, proof, report

app = new_group(
    "Verify a log, or evidence that somebody brings, by the trust file alone.",
    "exchange-audit verify full --home ./audit-office",
    "exchange-audit verify full --database ./copy/exchange.db --home ./audit-office",
    "exchange-audit verify proof answer.tlog-proof --home ./audit-office",
)
app.command("head", epilog=head.EXAMPLE)(head.head)
app.command("entry", epilog=logs.ENTRY_EXAMPLE)(logs.entry)
app.command("range", epilog=logs.RANGE_EXAMPLE)(logs.range_)
app.command("full", epilog=logs.FULL_EXAMPLE)(logs.full)
app.command("consistency", epilog=consistency.EXAMPLE)(consistency.consistency)
app.command("bundle", epilog=bundle.EXAMPLE)(bundle.bundle)
app.command("proof", epilog=proof.EXAMPLE)(proof.proof)
app.command("report", epilog=report.EXAMPLE)(report.report)
