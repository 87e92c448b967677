"""The faults that an adapter's alerts are about, and those of both programs, made with real ones."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

import pytest

from exchange.cli.frame.times import now
from exchange.client import Session
from exchange.core.trust import encode_trust
from exchange.v1.access_pb2 import Code
from tests.e2e.alarms import Figures
from tests.e2e.city import free_port
from tests.e2e.founding import BROKER, POPULATION, REGISTRY
from tests.e2e.night_desk import WITNESSED, Desk, Fault, above, below, grown, silent
from tests.e2e.processes import wait_until
from tests.e2e.test_rotation import old_certificate
from tests.e2e.witnessing import NAMES

OFFICE, UNIVERSITY, _ = NAMES
MINUTE, DAY = 60, 24 * 3600
CERTIFICATE = 'exchange_expiry_seconds{what="certificate"}'
SEALING = 'exchange_expiry_seconds{what="sealing key"}'


def refusals(code: str) -> str:
    """The figure that counts what the adapter refused."""
    return f'exchange_adapter_refusals_total{{code="{code}"}}'


@contextmanager
def adapter_down(desk: Desk) -> Iterator[None]:
    """It has ended; the chapter starts it."""
    desk.city.registry.stop()
    yield
    assert desk.city.registry.is_running


@contextmanager
def broker_gone(desk: Desk) -> Iterator[None]:
    """The only broker has ended."""
    mark = desk.city.registry.mark()
    desk.city.broker.stop()
    desk.city.registry.wait_for("not attached", mark)
    yield
    desk.city.restart_broker()


@contextmanager
def broker_missing(desk: Desk) -> Iterator[None]:
    """One of two brokers in the trust file does not run."""
    trust = desk.city.home(REGISTRY).trust
    more = replace(trust, brokers=(*trust.brokers, f"127.0.0.1:{free_port()}"))
    with desk.edited("registry/trust.toml", lambda _text: encode_trust(more)):
        desk.city.registry.wait_for("not attached")
        yield


@contextmanager
def _minutes_later(desk: Desk) -> Iterator[None]:
    """A minute passes at once, for the adapter and for who looks at its home."""
    desk.registry_faults.switch_on("clock", str(MINUTE + 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapters.doctor.now", lambda: now() + (MINUTE + 5) * 1000)
        yield
    desk.registry_faults.switch_on("clock", "0")


@contextmanager
def receipts_withheld(desk: Desk) -> Iterator[None]:
    """The broker releases an answer, and does not show its entry to the adapter."""
    desk.broker_faults.switch_on("withhold")
    desk.ask()
    with _minutes_later(desk):
        yield
    desk.broker_faults.switch_off("withhold")
    desk.city.wait_settled(timeout=30)


@contextmanager
def nobody_cosigns(desk: Desk) -> Iterator[None]:
    """An answer is in the log, and the witnesses are gone."""
    desk.witnesses.stop(OFFICE, UNIVERSITY)
    desk.ask()
    with _minutes_later(desk):
        yield
        desk.witnesses.start(OFFICE, UNIVERSITY)
        wait_until(
            lambda: desk.figures(REGISTRY).get("exchange_adapter_late_receipts") == 0, "receipts that are cosigned"
        )


@contextmanager
def table_gone(desk: Desk) -> Iterator[None]:
    """The department's database has another table than the one that the configuration names."""
    with closing(sqlite3.connect(desk.city.path / REGISTRY / "data.db")) as db:
        db.execute("ALTER TABLE residents RENAME TO people")
        try:
            desk.refused(Code.CODE_PROVIDER_UNAVAILABLE, 6)
            yield
        finally:
            db.execute("ALTER TABLE people RENAME TO residents")
    desk.ask()


@contextmanager
def directory_stale(desk: Desk) -> Iterator[None]:
    """No quorum of witnesses cosigns, and this department wants it every two seconds."""
    stricter = "[adapter]\nmax_directory_age = 2\n"
    with desk.edited("registry/adapter.toml", lambda text: text.replace("[adapter]\n", stricter)):
        desk.witnesses.stop(OFFICE, UNIVERSITY)
        desk.refused(Code.CODE_STATE_STALE, 6)
        yield
        desk.witnesses.start(OFFICE, UNIVERSITY)


@contextmanager
def revocation_refused(desk: Desk) -> Iterator[None]:
    """An agreement is revoked at the adapter, and the broker does not take the entry."""
    desk.broker_faults.switch_on("refuse")
    desk.type(f"exchange-adapter revoke {_agreement(desk)} --reason misused --home ./registry")
    desk.city.registry.wait_for("revocation refused")
    yield
    mark = desk.city.registry.mark()
    desk.broker_faults.switch_off("refuse")
    desk.city.registry.wait_for("revocation entered", mark)


def _agreement(desk: Desk) -> str:
    async def found() -> str:
        async with Session(desk.city.home(POPULATION)) as session:
            [digest] = (await session.sync()).terms.agreements
            return digest.hex()[:16]

    return asyncio.run(found())


@contextmanager
def dataset_stopped(desk: Desk) -> Iterator[None]:
    """By whoever runs the adapter; the chapter resumes it."""
    desk.type("exchange-adapter stop residents --reason maintenance --home ./registry")
    yield
    desk.ask()


@contextmanager
def disk_fills(desk: Desk) -> Iterator[None]:
    """As much is left as a week of requests writes."""
    for _ in range(3):
        desk.ask()
    wait_until(lambda: desk.figures(BROKER)["exchange_disk_bytes_per_day"] > 0, "a rate")
    desk.broker_faults.switch_on("free", str(int(7 * desk.figures(BROKER)["exchange_disk_bytes_per_day"])))
    yield
    desk.broker_faults.switch_off("free")


@contextmanager
def certificate_ends(desk: Desk, age: int) -> Iterator[None]:
    """The adapter's certificate was issued so many days ago, and no broker renews it."""
    assert desk.city.registry.stop() == 0
    desk.broker_faults.switch_on("refuse")
    old_certificate(desk.city, REGISTRY, age)
    desk.city.registry.start()
    desk.city.registry.wait_for("cannot be renewed now")
    yield
    desk.broker_faults.switch_off("refuse")
    desk.city.registry.wait_for("certificate replaced")


@contextmanager
def sealing_key_ends(desk: Desk) -> Iterator[None]:
    """It ends in five days, and no broker takes the entry of the next one; until it ends, it is used."""
    desk.ask()
    yield
    desk.broker_faults.switch_off("refuse")
    desk.city.registry.wait_for("sealing key entered")


@contextmanager
def versions_differ(desk: Desk) -> Iterator[None]:
    """The adapter is of another release than the broker."""
    desk.registry_faults.switch_on("version", "0.9.0")
    desk.city.registry.restart()
    yield
    desk.registry_faults.switch_off("version")
    desk.city.registry.restart()


def is_partly_attached(_before: Figures, now: Figures) -> bool:
    """Some brokers take answers, not all."""
    return bool(now) and 0 < now["exchange_adapter_attached_brokers"] < now["exchange_adapter_brokers"]


def has_another_version(before: Figures, now: Figures) -> bool:
    """The release is not what it was."""
    first, then = ({name for name in page if name.startswith("exchange_build_info{")} for page in (before, now))
    return bool(then) and first != then


def fills_within(days: float) -> Callable[[Figures, Figures], bool]:
    """The disk is full so soon."""
    return lambda _before, now: now["exchange_disk_free_bytes"] < days * now["exchange_disk_bytes_per_day"]


FAULTS: Mapping[str, Fault] = {
    "AdapterDown": Fault(adapter_down, REGISTRY, silent),
    "AdapterNotAttached": Fault(broker_gone, REGISTRY, below("exchange_adapter_attached_brokers", 1)),
    "AdapterMissesBroker": Fault(broker_missing, REGISTRY, is_partly_attached),
    "ReceiptsOwed": Fault(receipts_withheld, REGISTRY, above("exchange_adapter_owed_seconds", MINUTE)),
    "ReceiptsNotCosigned": Fault(nobody_cosigns, REGISTRY, above("exchange_adapter_late_receipts", 0), WITNESSED),
    "SourceFails": Fault(table_gone, REGISTRY, grown(5, refusals("PROVIDER_UNAVAILABLE"))),
    "DirectoryStale": Fault(directory_stale, REGISTRY, grown(5, refusals("STATE_STALE")), WITNESSED),
    "RevocationWaits": Fault(revocation_refused, REGISTRY, above("exchange_adapter_waiting_orders", 0), "other_desk"),
    "DatasetStopped": Fault(dataset_stopped, REGISTRY, above("exchange_adapter_stopped_datasets", 0)),
    "DiskFullSoon": Fault(disk_fills, BROKER, fills_within(14)),
    "DiskFull": Fault(disk_fills, BROKER, below("exchange_disk_free_bytes", 1e9)),
    "ExpiresSoon": Fault(partial(certificate_ends, age=65), REGISTRY, below(CERTIFICATE, 30 * DAY)),
    "ExpiresNow": Fault(partial(certificate_ends, age=85), REGISTRY, below(CERTIFICATE, 7 * DAY)),
    "SealingKeyNotRenewed": Fault(sealing_key_ends, REGISTRY, below(SEALING, 6 * DAY), "sealing_desk"),
    "VersionsDiffer": Fault(versions_differ, REGISTRY, has_another_version),
}
