"""A whole broker's home for backups and what comes after them: keys, logs, anchor; at any earlier moment, too."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from exchange.broker.anchor import Anchor
from exchange.broker.authority import found_authority
from exchange.broker.config import load_config
from exchange.broker.genesis import AUTHORITY_FILE, AUTHORITY_KEY, LOG_KEYS, log_signers, moment
from exchange.home import Home
from exchange.store.ports import Log
from exchange.store.sql import SqlLogStore
from tests.component.cli.stores import SQLITE, broker_home, store_name
from tests.world import BROKER, ORIGIN, World


def whole_home(path: Path, world: World, database: str = SQLITE) -> Path:
    """The home of a stopped broker that lacks nothing which a backup looks at."""
    home = Home(broker_home(path, world, database))
    home.new_private_key("signing", world.keys[BROKER].private_key)
    logs = {Log.DIRECTORY: world.directory_log, Log.ACCESS: world.access_log}
    for log, memory in logs.items():
        home.new_private_key(LOG_KEYS[log], memory.signer.private_key)
    key = ec.generate_private_key(ec.SECP256R1())
    home.new_private_key(AUTHORITY_KEY, key)
    home.write(AUTHORITY_FILE, found_authority(key, ORIGIN, moment(world.now)).pem)
    place_anchor(path)
    return path


def place_anchor(home: Path) -> None:
    """Write the anchor of the logs as they are."""
    store = SqlLogStore.open(store_name(home))
    verifiers = {log: signer.verifier for log, signer in log_signers(Home(home)).items()}
    Anchor(home / load_config(home).anchor, store, verifiers).place()
    store.close()


def earlier(world: World, directory: int, access: int) -> World:
    """The same world when its logs were shorter."""
    twin = world.copy()
    for name, size in (("directory_log", directory), ("access_log", access)):
        log = getattr(world, name)
        shorter = type(log)(log.signer.name)
        for leaf, body in zip(log.leaves[:size], log.bodies[:size], strict=True):
            shorter.append(leaf, body)
        setattr(twin, name, shorter)
    return twin
