"""How a party stands: its keys and certificate, its mirror, the brokers it can reach."""

import asyncio
from dataclasses import dataclass

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from exchange.cli.admission import certificate_end
from exchange.cli.times import days_left, now
from exchange.client.calls import GrpcTransport
from exchange.client.errors import BrokenLogError, ExchangeError, UnavailableError
from exchange.client.session import MIRROR, Session
from exchange.client.storage import ACCESS, MirrorFile
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.directory import Directory
from exchange.core.errors import CoreError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.trust import Trust
from exchange.home import Home
from exchange.transport import HEALTH_CHECK

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
class Standing:
    """All that `status` shows.

    Args:
        certificate_until: milliseconds; None before the party is admitted.
        brokers: address and how it is.
        problem: what is wrong with the mirror, or why it could not be synced; None where it is up to date.
        access: the last checkpoint of the access log that this home has checked.
    """

    party: Party
    role: str
    trust: Trust | None
    certificate_until: int | None
    keys: tuple[KeyStanding, ...]
    brokers: tuple[tuple[str, str], ...]
    directory: Directory | None
    problem: ExchangeError | None
    access: Checkpoint | None


async def standing_of(home: Home) -> Standing:
    """Find out how a party stands; what cannot be asked is said, not raised.

    Raises:
        HomeError: nobody's home, or something in it cannot be read.
    """
    trust = home.trust if (home.path / "trust.toml").exists() else None
    if trust is None or not (home.path / "tls.pem").exists():
        return Standing(home.party, home.role, trust, None, _keys(home, None), (), None, None, None)
    brokers = await asyncio.gather(*(_ask(home, address) for address in trust.brokers))
    directory, problem = await _directory(home, any(state == "reachable" for _, state in brokers))
    access, broken = await asyncio.to_thread(_access, home, trust)
    return Standing(
        home.party,
        home.role,
        trust,
        certificate_end(home.read("tls.pem")),
        _keys(home, directory),
        tuple(brokers),
        directory,
        problem if isinstance(problem, BrokenLogError) else broken or problem,
        access,
    )


async def _ask(home: Home, address: str) -> tuple[str, str]:
    transport = GrpcTransport((address,), home.tls_identity())
    try:
        answer = await transport.unary(HEALTH_CHECK, HealthCheckRequest().SerializeToString(), WAIT)
        serving = HealthCheckResponse.FromString(answer).status == HealthCheckResponse.SERVING
    except ExchangeError as error:
        # gRPC's text begins with the address, and ends with the cause.
        return address, f"not reachable: {str(error).rpartition(': ')[2]}"
    finally:
        await transport.close()
    return address, "reachable" if serving else "reachable, but not serving"


async def _directory(home: Home, reachable: bool) -> tuple[Directory | None, ExchangeError | None]:
    try:
        async with Session(home) as session:
            try:
                if not reachable:
                    raise UnavailableError("no broker could be reached")
                await session.sync()
            except ExchangeError as error:
                return session.directory, error
            return session.directory, None
    except ExchangeError as error:
        return None, error


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
    found = [_key("signing", key_id(home.signer().public_key), directory)]
    found += [_key("sealing", digest, directory) for digest in home.sealing_keys()]
    return tuple(found)


def _key(use: str, digest: bytes, directory: Directory | None) -> KeyStanding:
    record = directory.state.keys.get(digest) if directory is not None else None
    if record is None:
        return KeyStanding(use, digest, None, "not in the directory" if directory is not None else "not admitted yet")
    if record.revoked_index is not None:
        return KeyStanding(use, digest, record.not_after, "revoked")
    if record.not_after > _FOREVER:
        return KeyStanding(use, digest, None, "valid, without end")
    if record.not_before > now():
        return KeyStanding(use, digest, record.not_after, "not valid yet: in public view for 72 hours")
    return KeyStanding(use, digest, record.not_after, days_left(record.not_after, now()))
