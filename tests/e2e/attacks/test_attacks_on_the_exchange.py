"""Attacks by a broker, an operator, a department: real processes, and the command of whoever finds out."""

import asyncio
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.broker.genesis import log_signers
from exchange.client.session import wall_clock
from exchange.core import entries
from exchange.core.cosignature import CosignatureVerifier
from exchange.core.envelope import Draft, sign
from exchange.core.keys import EcdsaSigner
from exchange.core.terms import AgreementTerms
from exchange.store.ports import Log
from exchange.v1.directory_pb2 import Agreement, Role
from tests.e2e.attacks import commands
from tests.e2e.attacks.conftest import Found
from tests.e2e.attacks.stage import (
    ACCESS,
    DATABASE,
    DIRECTORY,
    Entry,
    Stage,
    alter,
    checkpoint_of,
    cosigned_of,
    directory_of,
    entries_of,
    rewrite,
)
from tests.e2e.city import City
from tests.e2e.founding import APPLICATIONS, AUDITOR, BROKER, OPERATOR, ORIGIN, POPULATION, REGISTRY, YEAR
from tests.e2e.processes import Program, wait_until
from tests.memory import fixed, signer

attack = pytest.mark.attack
pytestmark = pytest.mark.timeout(600)
VERIFIED, REFUSED, UNCHECKED, FORKED, UNTRUSTED, STALE = 0, 1, 3, 4, 5, 6


@contextmanager
def lying(stage: Stage, path: Path, lie: str) -> Iterator[City]:
    """The exchange, with a broker that lies."""
    city = stage.city_at(path)
    arguments = ["-m", "tests.e2e.attacks.lying", "run", "--home", str(city.path / BROKER)]
    broker = Program(arguments, city.path / "output" / "lying.log", "is ready on", {"LIE": lie})
    try:
        broker.start()
        city.registry.start()
        yield city
    finally:
        broker.kill()
        city.close()


@attack(11, "split view to two auditors")
def test_two_auditors_who_compare_find_a_split_view(stage: Stage, template: City, tmp_path: Path, found: Found) -> None:
    """Each of them is shown a log that is right by itself, and told that this is not excluded without witnesses."""
    split = stage.city_at(tmp_path / "split")
    database, anchor = split.path / BROKER / DATABASE, split.path / BROKER / "anchor" / Log.ACCESS.value
    rewrite(database, log_signers(split.home(BROKER))[Log.ACCESS], lambda rows: [*rows[:2], *rows[3:]])
    anchor.write_bytes(checkpoint_of(database))
    second = Path(shutil.copytree(template.path / AUDITOR, tmp_path / "second"))
    trust = second / "trust.toml"
    trust.write_text(trust.read_text().replace(template.address, split.address))
    with split.running():
        assert commands.sync(second).code == VERIFIED
    for auditor in (second, stage.auditor_at(tmp_path / "first")):
        verified = commands.verify_mirror(auditor)
        assert verified.code == VERIFIED
        assert verified.says("split view not excluded")
    notes = []
    for name, shown in (("first", stage.city.path / BROKER / DATABASE), ("second", database)):
        notes.append(tmp_path / f"{name}.checkpoint")
        notes[-1].write_bytes(checkpoint_of(shown))
    assert commands.compare(tmp_path / "first", notes[0]).code == VERIFIED
    ended = commands.compare(tmp_path / "first", *notes)
    found("one access hidden from the second auditor, both logs signed", ended, FORKED, ACCESS)


@pytest.fixture
def witnessed(stage: Stage, tmp_path: Path) -> Iterator[City]:
    """The exchange with one witness, whose cosignature everybody needs; the witness runs."""
    city = stage.city_at(tmp_path / "witnessed")
    place, listen = tmp_path / "witness", stage.city_at(tmp_path / "unused").address
    line = commands.new_witness(place, city.path / BROKER / "trust.toml", listen).says("witness NAME")
    policy = f"{line.replace('NAME', 'w')}\nquorum w\n"
    for trust in city.path.glob("*/trust.toml"):
        trust.write_text(f"{trust.read_text()}witness_policy = '''\n{policy}'''\n")
    witness = commands.witness(place, tmp_path / "witness.log")
    try:
        witness.start()
        yield city
    finally:
        witness.kill()


@attack(11, "split view to two auditors")
def test_a_split_view_gets_no_cosignature(witnessed: City, template: City, tmp_path: Path, found: Found) -> None:
    """A revocation hidden from one requester: the witness has seen it, and cosigns no directory without it."""
    with witnessed.running():
        asyncio.run(witnessed.revoke())
        size = witnessed.head(Log.DIRECTORY).size
        wait_until(
            lambda: cosigned_of(witnessed) == size, "the witness's cosignature", explain=lambda: witnessed.broker.output
        )
    split = witnessed.copy(tmp_path / "split")
    database = split.path / BROKER / DATABASE
    rewrite(database, log_signers(split.home(BROKER))[Log.DIRECTORY], lambda rows: rows[:-1], Log.DIRECTORY)
    alter(database, "UPDATE cosigned SET size = 0, time = 0, note = x'' WHERE log = 'directory'")
    (split.path / BROKER / "anchor" / Log.DIRECTORY.value).write_bytes(checkpoint_of(database, Log.DIRECTORY))
    requester = Path(shutil.copytree(template.path / APPLICATIONS, tmp_path / "requester"))
    shutil.copy(split.path / APPLICATIONS / "trust.toml", requester)
    try:
        split.broker.start()
        ended = commands.request(requester, 3)
        split.broker.wait_for("a witness has seen another history of the log")
    finally:
        split.close()
    found("a revocation hidden from one party, with a witness", ended, STALE, "enough witnesses have never cosigned")


@attack(15, "proof with extra or missing hashes")
@pytest.mark.parametrize(("lie", "done"), [("extra", "one more hash"), ("missing", "one hash less")])
def test_a_proof_of_another_length_is_refused(stage: Stage, tmp_path: Path, found: Found, lie: str, done: str) -> None:
    with lying(stage, tmp_path / "city", lie) as city:
        ended = commands.request(city.path / APPLICATIONS, 3)
    assert "Lake Road" not in ended.output
    found(f"a receipt with {done}", ended, REFUSED, "the receipt does not hold")


@attack(16, "one witness key under two names")
def test_one_witness_counts_once(stage: Stage, tmp_path: Path, found: Found) -> None:
    key = Ed25519PrivateKey.from_private_bytes(fixed("witness")).public_key().public_bytes_raw()
    keys = [CosignatureVerifier.of(name, key) for name in ("one.example", "two.example")]
    policy = tmp_path / "witness.policy"
    policy.write_text(f"witness a {keys[0]}\nwitness b {keys[1]}\ngroup both 2 a b\nquorum both\n")
    ended = commands.verify_head(stage.auditor_at(tmp_path / "auditor"), policy)
    found("one key counted twice towards a quorum of two", ended, UNTRUSTED, "two witnesses have the same key")


@attack(17, "two brokers racing for one head")
def test_a_second_broker_on_one_database_is_refused(stage: Stage, tmp_path: Path, found: Found) -> None:
    city, second = stage.city_at(tmp_path / "city"), stage.city_at(tmp_path / "second").path / BROKER
    config, database = second / "broker.toml", city.path / BROKER / DATABASE
    text = config.read_text().replace(f'database = "{DATABASE}"', f'database = "{database}"')
    assert str(database) in text
    config.write_text(text)
    with city.running():
        ended = commands.run_broker(second)
        assert commands.request(city.path / APPLICATIONS, 3).code == VERIFIED
        assert commands.sync(city.path / AUDITOR).code == VERIFIED
    assert commands.verify_mirror(city.path / AUDITOR).code == VERIFIED
    found("a second broker started on the first one's database", ended, UNCHECKED, "already open")


@attack(18, "a second key for a department")
def test_a_second_key_of_a_department_grants_nothing(stage: Stage, tmp_path: Path, found: Found) -> None:
    """Whoever has the root key and the log keys, but not the department's key."""
    city = stage.city_at(tmp_path / "city")
    forged = signer("a second key of population")
    key = sign(city.home(OPERATOR).signer(), ORIGIN, _second_key(city, forged))
    agreement = sign(forged, ORIGIN, _agreement_of_birth_dates(city))
    now = wall_clock()

    def add(rows: list[Entry]) -> list[Entry]:
        made = [
            (entries.directory_leaf(one, now), one.attachments[0] if one.attachments else b"")
            for one in (key, agreement)
        ]
        return [*rows, *(Entry(*one) for one in made)]

    database = city.path / BROKER / DATABASE
    rewrite(database, log_signers(city.home(BROKER))[Log.DIRECTORY], add, Log.DIRECTORY)
    with city.running():
        asked = commands.request(city.path / APPLICATIONS, 3, "birth_date")
        assert asked.code == REFUSED
        assert asked.says("FIELD_NOT_GRANTED")
        assert commands.sync(city.path / AUDITOR).code == VERIFIED
    ended = commands.verify_mirror(city.path / AUDITOR)
    found("a key signed by the root alone grants more", ended, REFUSED, f"entry {_last(database)} of {DIRECTORY}")


def _second_key(city: City, forged: EcdsaSigner) -> Draft:
    now = wall_clock()
    role, party = Role.ROLE_DEPARTMENT, city.party(POPULATION)
    statement = entries.signing_key_statement(ORIGIN, party, role, forged, (now, now + YEAR))
    return entries.key_entry(city.party(OPERATOR), secrets.token_bytes(16), statement)


def _agreement_of_birth_dates(city: City) -> Draft:
    now = wall_clock()
    body = Agreement(
        format=1,
        dataset=_residents(city)[0].dataset,
        grantee=str(city.party(APPLICATIONS)),
        operations=[1],
        fields=["birth_date"],
        purposes=["housing.allocation"],
        not_before=now,
        not_after=now + YEAR,
    )
    version = entries.ObjectVersion(secrets.token_bytes(16))
    return entries.body_entry(city.party(POPULATION), version, body, secrets.token_bytes(32))


def _residents(city: City) -> list[AgreementTerms]:
    """The agreements that population has given."""
    agreements = directory_of(city).terms.agreements.values()
    return [terms for terms in agreements if terms.version.owner == city.party(POPULATION)]


def _last(database: Path) -> int:
    return len(entries_of(database, Log.DIRECTORY)) - 1


@attack(19, "release without an entry")
def test_a_release_without_an_entry_is_found(stage: Stage, tmp_path: Path, found: Found) -> None:
    """With the log key the broker can sign a log that ends with the entry; it cannot also be the log of all others."""
    with lying(stage, tmp_path / "city", "unlogged") as city:
        ended = commands.request(city.path / APPLICATIONS, 3)
        assert city.owed() == 1
    found("an answer with a receipt from a log of its own", ended, FORKED, "the access log")


@attack(20, "withhold receipts")
def test_a_provider_answers_no_more_without_receipts(stage: Stage, tmp_path: Path, found: Found) -> None:
    city = stage.city_at(tmp_path / "city", faulty=True)
    city.faults(BROKER).switch_on("withhold")
    with city.running():
        end = time.monotonic() + 30
        while (ended := commands.request(city.path / APPLICATIONS, 3)).code == VERIFIED:
            assert time.monotonic() < end, "the provider answers for ever"
        assert city.owed()
    found("receipts kept from the adapter", ended, REFUSED, "PROVIDER_UNAVAILABLE")


@attack(21, "withhold a revocation")
def test_a_revocation_that_the_broker_withholds_is_obeyed(stage: Stage, tmp_path: Path, found: Found) -> None:
    city = stage.city_at(tmp_path / "city", faulty=True)
    [agreement] = {terms.digest.hex() for terms in _residents(city)}
    with city.running():
        city.faults(BROKER).switch_on("refuse")
        assert commands.revoke(city.path / REGISTRY, agreement[:16]).code == VERIFIED
        ended = commands.request(city.path / APPLICATIONS, 3)
    found("the broker takes no revocation into the directory", ended, REFUSED, "AGREEMENT_ENDED")


@attack(22, "alter a ledger")
def test_an_altered_ledger_is_found(stage: Stage, tmp_path: Path, found: Found) -> None:
    city = stage.city_at(tmp_path / "city")
    ledger = city.path / REGISTRY / "ledger.db"
    alter(ledger, "UPDATE answers SET row = (SELECT row FROM answers WHERE number = 2) WHERE number = 3")
    assert commands.run_adapter(city.path / REGISTRY).says("row 3")
    found("one answer of the ledger replaced", commands.check_adapter(city.path / REGISTRY), REFUSED, "row 3")
