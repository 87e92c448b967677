"""How a party stands: its keys and certificate, its mirror, the brokers it can reach."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from exchange.cli.frame.times import days_left, iso, now
from exchange.cli.joining.admission import certificate_end
from exchange.cli.keys.certificates import standing_expiry
from exchange.cli.using.use_standing import due_line, notice_line, waiting_dues, waiting_notices
from exchange.client.calls import GrpcTransport, call
from exchange.client.cosignatures import split_view
from exchange.client.errors import BrokenLogError, ExchangeError, UnavailableError, UntrustedError
from exchange.client.receipt_file import FILE as RECEIPTS
from exchange.client.receipt_file import ReceiptFile
from exchange.client.receipts import WITHIN
from exchange.client.session import MIRROR, Session
from exchange.client.storage import ACCESS, DIRECTORY, MirrorFile
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.directory import Directory
from exchange.core.errors import CoreError
from exchange.core.expiry import Expiring, pending_keys, warnings
from exchange.core.keys import key_id
from exchange.core.lifetimes import WARNINGS
from exchange.core.merkle import MAX_SIZE
from exchange.core.names import Party
from exchange.core.policy import Cosigned
from exchange.core.protocol import Announcement
from exchange.core.state import KeyRecord
from exchange.core.trust import Trust
from exchange.home import Home, HomeError
from exchange.succession import next_signer
from exchange.transport import ACCESS_READ, HEALTH_CHECK, TlsIdentity
from exchange.v1.log_pb2 import ReadRequest, ReadResponse

WAIT = 3.0
"""Seconds for which a broker is asked whether it serves."""

_FOREVER = 1 << 60


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """One key that lies in the home: signing or sealing, its SHA-256, when it ends, and how it stands."""

    use: str
    id: bytes
    until: int | None
    state: str


@dataclass(frozen=True, slots=True)
class LogStanding:
    """What witnesses say of one log.

    Args:
        log: its origin.
        cosigned: the last checkpoint with a quorum; None without one.
        caveat: what is not excluded; empty where a quorum cosigned it lately.
    """

    log: str
    cosigned: Cosigned | None
    caveat: str


CAVEATS = (
    "split view not excluded: no witnesses are configured",
    "until a freshness quorum is configured, a broker can withhold what nobody carried to the adapter by hand",
)


UNCHECKED = "split view not excluded: what witnesses have cosigned could not be looked at"


@dataclass(frozen=True, slots=True)
class Standing:
    """All that `status` shows.

    Args:
        certificate_until: milliseconds; None before the party is admitted.
        brokers: address, how it is, and what it announced, where it answered.
        problem: what is wrong with the mirror, or why it could not be synced; None where it is up to date.
        access: the last checkpoint of the access log that this home has checked.
        witnessed: what witnesses say of each log; empty where the trust file has no quorum.
        receipts: how many are not cosigned yet, and how many of them are late.
        duties: what the ledger of use asks for: data to be destroyed, corrections to be acknowledged, each in a line.
        expiring: of which people are warned now, the most urgent first.
        pending: keys of any party that stand in public view.
        waits: how to ask whether the party's invite is approved; empty where it does not wait.
    """

    party: Party
    role: str
    trust: Trust | None
    certificate_until: int | None
    keys: tuple[KeyStanding, ...]
    brokers: tuple[tuple[str, str, Announcement | None], ...]
    directory: Directory | None
    problem: ExchangeError | None
    access: Checkpoint | None
    witnessed: tuple[LogStanding, ...] = ()
    receipts: tuple[int, int] = (0, 0)
    duties: tuple[str, ...] = ()
    expiring: tuple[Expiring, ...] = ()
    pending: tuple[KeyRecord, ...] = ()
    waits: str = ""

    @property
    def caveats(self) -> list[str]:
        """What is not excluded, of all logs together."""
        if self.trust is None or self.trust.policy is None or not self.trust.policy.needs_witnesses:
            return list(CAVEATS)
        if not self.witnessed:
            return [UNCHECKED]
        return list(dict.fromkeys(log.caveat for log in self.witnessed if log.caveat))


async def standing_of(home: Home) -> Standing:
    """Find out how a party stands; what cannot be asked is said, not raised.

    Raises:
        HomeError: nobody's home, or something in it cannot be read.
    """
    trust = home.trust if (home.path / "trust.toml").exists() else None
    if trust is None or not (home.path / "tls.pem").exists():
        return Standing(
            home.party, home.role, trust, None, _keys(home, None), (), None, None, None, waits=home.waits_hint
        )
    brokers, unusable = await _brokers(home, trust)
    synced = await _directory(home, any(state == "reachable" for _, state, _ in brokers))
    directory, problem = synced.directory, synced.problem
    problem = unusable or problem
    access, broken = await asyncio.to_thread(_access, home, trust)
    return Standing(
        home.party,
        home.role,
        trust,
        _certificate_until(home),
        _keys(home, directory),
        tuple(brokers),
        directory,
        problem if isinstance(problem, BrokenLogError) else broken or problem,
        access,
        synced.witnessed,
        await asyncio.to_thread(_receipts, home, trust),
        await asyncio.to_thread(_duties, home, directory),
        await asyncio.to_thread(_expiring, home, directory),
        await asyncio.to_thread(pending_keys, directory.state, now()) if directory is not None else (),
    )


def _certificate_until(home: Home) -> int | None:
    try:
        return certificate_end(home.certificate())
    except ValueError:
        # What is wrong with it, `tls_identity` says.
        return None


async def _brokers(home: Home, trust: Trust) -> tuple[list[tuple[str, str, Announcement | None]], ExchangeError | None]:
    """Each broker and how it is; or why none of them can be asked."""
    try:
        identity = home.tls_identity()
    except HomeError as error:
        problem = UntrustedError if error.exit_code == UntrustedError.exit_code else UnavailableError
        return [(address, "not asked", None) for address in trust.brokers], problem(str(error), error.hint)
    return await asyncio.gather(*(_ask(identity, address) for address in trust.brokers)), None


async def _ask(identity: TlsIdentity, address: str) -> tuple[str, str, Announcement | None]:
    transport = GrpcTransport((address,), identity)
    try:
        answer = await transport.unary(HEALTH_CHECK, HealthCheckRequest().SerializeToString(), WAIT)
        serving = HealthCheckResponse.FromString(answer).status == HealthCheckResponse.SERVING
    except ExchangeError as error:
        # gRPC's text begins with the address, and ends with the cause.
        announced, cause = transport.announced(address), str(error).rpartition(": ")[2]
        return address, f"{'not reachable' if announced is None else 'not usable'}: {cause}", announced
    finally:
        await transport.close()
    return address, "reachable" if serving else "reachable, but not serving", transport.announced(address)


@dataclass(frozen=True, slots=True)
class _Synced:
    """The directory as far as it could be had, why no further, and what witnesses say of both logs."""

    directory: Directory | None
    problem: ExchangeError | None
    witnessed: tuple[LogStanding, ...] = ()


async def _directory(home: Home, reachable: bool) -> _Synced:
    try:
        async with Session(home) as session:
            try:
                if not reachable:
                    raise UnavailableError("no broker could be reached")
                await session.sync()
                await _check_access(session)
                await _check_witnesses(session)
            except ExchangeError as error:
                return _Synced(session.directory, error, _witnessed(session))
            return _Synced(session.directory, None, _witnessed(session))
    except ExchangeError as error:
        return _Synced(None, error)
    except HomeError as error:
        return _Synced(None, UnavailableError(str(error), error.hint))


async def _check_witnesses(session: Session) -> None:
    """Hold what witnesses have cosigned of both logs against all that this home has seen.

    Raises:
        ExchangeError: as `Cosignatures.refresh`.
    """
    if session.cosignatures.needed:
        for log in (DIRECTORY, ACCESS):
            await session.cosignatures.refresh(log)


def _witnessed(session: Session) -> tuple[LogStanding, ...]:
    if not session.cosignatures.needed:
        return ()
    trust, now = session.trust, session.clock()
    origins = {DIRECTORY: trust.directory_log.name, ACCESS: trust.access_log.name}
    found = {log: session.cosignatures.of(log) for log in origins}
    return tuple(
        LogStanding(origins[log], cosigned, split_view(trust.policy, cosigned, now)) for log, cosigned in found.items()
    )


def _receipts(home: Home, trust: Trust) -> tuple[int, int]:
    path = home.path / RECEIPTS
    if trust.policy is None or not trust.policy.needs_witnesses or not path.exists():
        return 0, 0
    return ReceiptFile(path).count_waiting(now() - int(WITHIN * 1000))


def _duties(home: Home, directory: Directory | None) -> tuple[str, ...]:
    if directory is None or home.role not in {"system", "department"}:
        return ()
    try:
        due = due_line(waiting_dues(directory, home.path, now()))
        notices = notice_line(waiting_notices(directory, home.party, home.path))
    except ExchangeError as error:
        return (str(error),)
    return tuple(line for line in (due, notices) if line)


def _expiring(home: Home, directory: Directory | None) -> tuple[Expiring, ...]:
    try:
        found = standing_expiry(home.path, directory, WARNINGS[0])
    except HomeError:
        # What is wrong with the certificate, the line of the certificate says.
        return ()
    return tuple(item for _, item in warnings(found, now()))


async def _check_access(session: Session) -> None:
    """Hold the access log's newest checkpoint against all that this home has seen of it.

    Raises:
        BrokenLogError: the log contradicts itself; sticky.
        EvidenceError, UnavailableError: the broker does not show it.
    """
    if session.party.is_exchange:
        # The root asks nothing and answers nothing, and no broker shows it the access log.
        return
    # The checkpoint alone, without the entries that this party has there.
    response = await call(session.transport, ACCESS_READ, ReadRequest(start=MAX_SIZE), ReadResponse, WAIT)
    await session.evidence.keep(response.checkpoint)
    await session.evidence.settle()


def _access(home: Home, trust: Trust) -> tuple[Checkpoint | None, ExchangeError | None]:
    path = home.path / MIRROR
    try:
        note = MirrorFile(path).head(ACCESS) if path.exists() else b""
        return (open_checkpoint(note, trust.access_log) if note else None), None
    except ExchangeError as error:
        return None, error
    except CoreError as error:
        return None, ExchangeError(f"the access checkpoint in {path} does not hold: {error}")


def _keys(home: Home, directory: Directory | None) -> tuple[KeyStanding, ...]:
    found = list(_signing_key(home, directory))
    found += [_key("sealing", digest, directory) for digest in home.sealing_keys()]
    return tuple(found)


def _signing_key(home: Home, directory: Directory | None) -> Iterator[KeyStanding]:
    """The one that the home signs with; where it is gone, the one that waits to take its place; or none."""
    if home.has_signing_key:
        yield _key("signing", key_id(home.signer().public_key), directory)
        return
    following = next_signer(home)
    if following is not None:
        found = _key("signing", key_id(following.public_key), directory)
        # Where no other key of the party is in force, nobody shows it the entry that it waits for.
        waits = "waits: `exchange key install` goes over to it"
        yield found if found.until is not None else replace(found, state=waits)


def _key(use: str, digest: bytes, directory: Directory | None) -> KeyStanding:
    record = directory.state.keys.get(digest) if directory is not None else None
    if record is None:
        return KeyStanding(use, digest, None, "not in the directory" if directory is not None else "not admitted yet")
    if record.revoked_index is not None:
        return KeyStanding(use, digest, record.not_after, "revoked")
    if record.not_after > _FOREVER:
        return KeyStanding(use, digest, None, "valid, without end")
    if record.not_before > now():
        wait = "72 hours in public view" if use == "signing" else "a wait"
        return KeyStanding(
            use, digest, record.not_after, f"not valid yet: takes effect {iso(record.not_before)} after {wait}"
        )
    return KeyStanding(use, digest, record.not_after, days_left(record.not_after, now()))
