"""One more broker of an exchange: a home of its own beside the first one's, over the same database."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from exchange.broker.anchor import Anchor
from exchange.broker.beginning import FILE as STATE
from exchange.broker.beginning import StateFile
from exchange.broker.config import BrokerConfig, load_config, new_config
from exchange.broker.genesis import (
    AUTHORITY_FILE,
    AUTHORITY_KEY,
    LOG_KEYS,
    broker_key_entry,
    load_authority,
    log_signers,
    moment,
    write_config,
)
from exchange.broker.logs import AuditUnavailableError, DirectoryProposal, EntryRefusedError, Logs
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.trust import Trust, encode_trust
from exchange.home import Home, HomeError
from exchange.store.ports import Log, LogStore, StoreError
from exchange.store.sql import SqlLogStore

_USAGE = 2
_NO_INVITES = {"join_listen": "", "join_address": ""}


@dataclass(frozen=True, slots=True)
class Joined:
    """A new broker: its home, the directory entry that admits its key, and what every party is to trust now."""

    home: Home
    index: int
    trust: Trust


def join(operator: Home, first: Home, segment: str, listen: str, hosts: Sequence[str], now: int) -> Joined:
    """Make the home of another broker: the log keys and the TLS authority as they are, every other key its own.

    The database is written to by no broker's leave: the entry takes the one append path, under its lock.

    Args:
        operator: the root's home; the new one is made in its folder `segment`.
        first: the home of a broker of the same exchange, over a PostgreSQL database.
        segment: the last one of the new broker's name.
        listen: HOST:PORT of the new broker.
        hosts: DNS names and addresses for its certificate.
        now: milliseconds.

    Raises:
        HomeError: the first broker's database is its own, the home is taken, the database cannot be used, or the
            directory does not admit the key.
        AnchorError: the database is not the one that the first broker's anchor was written beside.
        NameFormatError: `segment` is not a segment of a name.
    """
    party = Party(operator.trust.name, segment)
    config = _shared_config(first, listen, hosts)
    try:
        store = SqlLogStore.open(config.database)
    except StoreError as error:
        raise HomeError(f"the database of {first.path / 'broker.toml'}: {error}") from error
    try:
        home, index = asyncio.run(_join(operator, first, party, config, store, now))
    finally:
        store.close()
    trust = home.trust
    for other in (operator, first):
        other.write("trust.toml", encode_trust(replace(other.trust, brokers=trust.brokers)).encode())
    home.finish()
    return Joined(home, index, trust)


async def _join(
    operator: Home, first: Home, party: Party, config: BrokerConfig, store: LogStore, now: int
) -> tuple[Home, int]:
    signers, trust = log_signers(first), operator.trust
    verifiers = {log: signer.verifier for log, signer in signers.items()}
    anchor = first.path / load_config(first.path).anchor
    Anchor(anchor, store, verifiers).check()
    state = StateFile(anchor / STATE, store, verifiers[Log.DIRECTORY])
    logs = Logs(store, signers, state.begin(trust), lambda: now)
    try:
        if logs.directory.state.keys_of(party):
            raise HomeError(f"{party} has a key in the directory already", "choose another name", _USAGE)
        home = _new_home(operator, first, party, config, now)
        Anchor(home.path / config.anchor, store, verifiers).place()
        # Last: once the directory has this key, another one of the same name waits 72 hours in public view.
        entered = await logs.append(DirectoryProposal(broker_key_entry(operator, home, now), b""))
    except EntryRefusedError as error:
        raise HomeError(f"the directory does not admit {party}: {error}") from error
    except AuditUnavailableError as error:
        raise HomeError(f"the entry could not be made durable: {error}") from error
    finally:
        await logs.close()
        state.close()
    return home, entered.receipt.index


def _shared_config(first: Home, listen: str, hosts: Sequence[str]) -> BrokerConfig:
    config = load_config(first.path)
    if not config.is_shared:
        raise HomeError(
            f"the logs of {first.party} are in a file, which one broker alone can open",
            "several brokers share a PostgreSQL database: `exchange init --database postgresql://…`",
            _USAGE,
        )
    own = new_config(listen, hosts, config.database)
    return config.model_copy(update={"listen": own.listen, "hosts": own.hosts, "anchor": own.anchor} | _NO_INVITES)


def _new_home(operator: Home, first: Home, party: Party, config: BrokerConfig, now: int) -> Home:
    authority = load_authority(first)
    home = Home.create(operator.path / party.segments[-1], party, "broker", finished=False)
    home.new_private_key("signing")
    for name in (*LOG_KEYS.values(), AUTHORITY_KEY):
        home.new_private_key(name, first.private_key(name))
    home.write(AUTHORITY_FILE, authority.pem)
    trust = operator.trust
    brokers = tuple(dict.fromkeys((*trust.brokers, config.listen)))
    home.write("trust.toml", encode_trust(replace(trust, brokers=brokers)).encode())
    key = key_id(home.signer().public_key)
    home.write("tls.pem", authority.issue(home.new_tls_request(), party, key, moment(now), config.hosts))
    write_config(home, config)
    return home
