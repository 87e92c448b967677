"""What the demo shows, step by step: each is a command that anybody can type, and what it printed."""

import re
import shlex
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from examples.city.records import City
from examples.city.stage import (
    CIVIL_AFFAIRS,
    DEPARTMENTS,
    HOUSING,
    NAME,
    OTHER_PURPOSE,
    POPULATION,
    PURPOSE,
    UNTIL,
    Agreements,
    Stage,
    someone,
)

CASE = "HS-2026-118"
OFFICER = "officer-17"
FORM = Path(__file__).parent / "application-form.txt"


class StoryError(Exception):
    """A step did not end as it must."""


class Story:
    """Tells the story of one housing application.

    Args:
        stage: the running city.
        city: its people.
        agreements: what housing was granted.
    """

    def __init__(self, stage: Stage, city: City, agreements: Agreements) -> None:
        self._stage = stage
        self._person = someone(city)
        self._agreements = agreements

    def tell(self) -> None:
        """Every step in order.

        Raises:
            StoryError: one of them did not end as it must.
        """
        self._duplicates()
        self._applied()
        self._answered()
        self._refused_field()
        self._refused_purpose()
        self._revoked()
        self._audited()
        self._tampered()

    def _duplicates(self) -> None:
        _title("1. Housing drafts a form; other departments have most of it. It applies for what it need not ask")
        home = self._stage.steward(HOUSING)
        self._show("exchange", "dataset", "similar", FORM, home=home, most=3)

    def _applied(self) -> None:
        wish = ("--dataset", CIVIL_AFFAIRS.dataset, "--grantee", f"exchange://{NAME}/{HOUSING.name}")
        terms = ("--operations", "LOOKUP", "--fields", "id_number,status", "--purposes", PURPOSE, "--until", UNTIL)
        why = ("--legal-basis", "Decree 809, article 20", "--scenario", "Married or not")
        applied = self._show(
            "exchange", "agreement", "apply", *wish, *terms, *why, home=self._stage.steward(HOUSING), most=1
        )
        found = re.search(r"^application +([0-9a-f]{64})$", applied, re.MULTILINE)
        if found is None:
            raise StoryError(f"no application in:\n{applied}")
        owner = self._stage.steward(CIVIL_AFFAIRS)
        self._show("exchange", "agreement", "sign", found[1][:12], home=owner, most=1)

    def _answered(self) -> None:
        _title(f"2. A housing application: who is this, and married? (… is --case {CASE} --officer {OFFICER})")
        self._ask(POPULATION.dataset, "name,birth_date,address", PURPOSE)
        self._ask(CIVIL_AFFAIRS.dataset, "name,status,registered_on,spouse_name", PURPOSE)

    def _refused_field(self) -> None:
        _title("3. A field outside the agreement, and a purpose that was not granted")
        self._ask(POPULATION.dataset, "name,phone", PURPOSE, "FIELD_NOT_GRANTED")

    def _refused_purpose(self) -> None:
        self._ask(POPULATION.dataset, "name", OTHER_PURPOSE, "PURPOSE_NOT_GRANTED")

    def _revoked(self) -> None:
        _title("4. Civil affairs revokes its agreement; the next request is refused")
        agreement = self._agreements.marriages
        steward = self._stage.steward(CIVIL_AFFAIRS)
        self._show("exchange", "agreement", "revoke", agreement[:12], "--reason", "misuse", home=steward, most=1)
        self._ask(CIVIL_AFFAIRS.dataset, "status", PURPOSE, "AGREEMENT_ENDED", agreement=agreement)

    def _audited(self) -> None:
        _title("5. The auditor finds every access, and checks every proof by itself")
        auditor = self._stage.auditor
        self._quietly("exchange-audit", "sync", home=auditor)
        self._show("exchange-audit", "search", "--case", CASE, home=auditor, most=3, without=r"[1-9]\d* +\d{4}-")
        self._show("exchange-audit", "verify", "full", home=auditor, most=3, without=r" +root ")

    def _tampered(self) -> None:
        _title("6. Somebody alters one row of the log, in a copy of the broker's database")
        copy = self._stage.folder / "tampered.db"
        where = alter_copy(self._stage.log_database, copy)
        print(f"   sqlite> {where}")
        self._show("exchange-audit", "verify", "full", "--database", copy, home=self._stage.auditor, expect=1, most=2)

    def _ask(self, dataset: str, fields: str, purpose: str, refusal: str = "", agreement: str = "") -> None:
        arguments = [dataset, "--key", self._person, "--fields", fields, "--purpose", purpose]
        arguments += ["--agreement", agreement[:12]] if agreement else []
        about = ("--case", CASE, "--officer", OFFICER)
        home = self._stage.system(HOUSING)
        # Who signed a refusal is told once.
        most = 3 if not refusal else 2 if refusal == "FIELD_NOT_GRANTED" else 1
        expect = 1 if refusal else 0
        printed = self._show("exchange", "request", *arguments, *about, home=home, expect=expect, most=most)
        if refusal not in printed:
            raise StoryError(f"{refusal} was expected:\n{printed}")

    def _quietly(self, program: str, *arguments: str, home: Path) -> None:
        done = self._stage.run(program, *arguments, "--home", home)
        if done.returncode:
            raise StoryError(f"{program} {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")

    def _show(
        self, program: str, *arguments: str | Path, home: Path, expect: int = 0, most: int = 4, without: str = "$."
    ) -> str:
        """Print a command as one types it, and the first lines that it prints; some kinds of lines are left out."""
        done = self._stage.run(program, *arguments, "--home", home)
        printed = done.stdout + done.stderr
        typed = [argument.name if isinstance(argument, Path) else argument for argument in arguments]
        print(f"   $ {program} {_abridged(typed)}")
        lines = [line for line in printed.splitlines() if line.strip() and not line.startswith(("hint:", "Next:"))]
        shown = [line for line in lines if not re.match(without, line)][:most]
        if expect:
            shown[-1] += f"  [exit code {done.returncode}]"
        for line in shown:
            print(f"     {line}")
        if done.returncode != expect:
            raise StoryError(f"it ended with {done.returncode}, not {expect}:\n{printed}")
        return printed


def alter_copy(database: Path, copy: Path) -> str:
    """Copy a database that is in use, and give the first released entry another requester, as an intruder might.

    Returns:
        The statement, for people.
    """
    copy.unlink(missing_ok=True)
    source = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    target = sqlite3.connect(copy)
    try:
        source.backup(target)
        leaf = target.execute("SELECT leaf FROM entries WHERE log = 'access' AND idx = 0").fetchone()[0]
        altered = bytes(leaf).replace(HOUSING.system.encode(), b"impersonator")
        if altered == leaf:
            raise StoryError("the first entry does not name housing's system")
        target.execute("UPDATE entries SET leaf = ? WHERE log = 'access' AND idx = 0", (altered,))
        target.commit()
    finally:
        target.close()
        source.close()
    return "UPDATE entries SET leaf = … WHERE log = 'access' AND idx = 0;"


def introduce(city: City, seconds: float) -> None:
    """The city in a few lines."""
    counts = {
        POPULATION: f"{len(city.residents):,} residents",
        CIVIL_AFFAIRS: f"{len(city.marriages):,} marriages",
        HOUSING: f"{len(city.ownerships):,} ownerships",
    }
    print(
        f"A city in miniature, made from seed {city.seed} in {seconds:.0f} s (make demo SEED={city.seed} repeats it)."
    )
    for department in DEPARTMENTS:
        print(f"   {department.name:14}{counts[department]:20}{department.engine:12}its own home and adapter process")
    print("   The broker between them has no key to open what it relays.")


def offer(kept: bool) -> None:
    """Three commands to copy."""
    if kept:
        print("\nIt is still running. Three commands to copy (end it with `make demo-stop`):")
    else:
        print("\n`make demo KEEP=1` leaves it running; then these three work:")
    ask = f'exchange request {POPULATION.dataset} --key "$RESIDENT" --fields name,address'
    print(f"   . .demo/env && {ask} --purpose {PURPOSE} --case HS-1 --officer me")
    print('   . .demo/env && exchange-adapter subject "$RESIDENT" --home "$POPULATION"')
    print('   . .demo/env && exchange-audit sync --home "$AUDITOR" && exchange-audit verify full --home "$AUDITOR"')


def _title(text: str) -> None:
    print(f"\n{text}")


def _abridged(arguments: Sequence[str]) -> str:
    """A command line without the options that every request of the story repeats."""
    if "--key" not in arguments:
        return shlex.join(arguments)
    kept: list[str] = []
    for option, argument in zip(["", *arguments], arguments, strict=False):
        if not {option, argument} & {"--case", "--officer"}:
            kept.append(argument)
    return f"{shlex.join(kept)} …"
