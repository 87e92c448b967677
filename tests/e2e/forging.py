"""A broker that has the log key and lies to its adapters: `python -m tests.e2e.forging run --home DIR`.

FORGE=logs    every settlement comes from a log of its own, and proofs of consistency are "unavailable" to adapters
FORGE=names   every settlement's leaf names another requester, provider and request
"""

import os
import secrets
import sys
from pathlib import Path
from typing import Any

from exchange.broker.genesis import log_signers
from exchange.broker.services import LogService
from exchange.broker.tunnel import Tunnel
from exchange.core.access import read_access_leaf
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.merkle import Frontier, leaf_hash, paths_of
from exchange.core.wire import encode
from exchange.home import Home
from exchange.store.ports import Log, StoreError
from exchange.transport import peer_party
from exchange.v1.envelope_pb2 import Receipt

MODE = os.environ["FORGE"]
_sizes = iter(range(2, 10_000))


def forged(receipt: Receipt) -> Receipt:
    """The receipt as a log that nobody else sees would give it."""
    signer = log_signers(Home(Path(sys.argv[sys.argv.index("--home") + 1])))[Log.ACCESS]
    leaf = read_access_leaf(receipt.leaf)
    if MODE == "names":
        leaf.requester, leaf.provider = "exchange://city.test/civil-affairs/records", "exchange://city.test/a/b"
        leaf.request_id, leaf.request_digest = bytes(16), bytes(32)
    data = encode(leaf)
    hashes = [*(secrets.token_bytes(32) for _ in range(next(_sizes))), leaf_hash(data)]
    frontier, _ = Frontier().extend(hashes)
    note = sign_checkpoint(Checkpoint(signer.name, frontier.size, frontier.root()), signer)
    return Receipt(index=len(hashes) - 1, leaf=data, path=paths_of(hashes)[-1], checkpoint=note)


def main() -> None:
    """Replace two methods, and run the broker."""
    settle, prove = Tunnel.settle, LogService.prove

    async def refuse(service: Any, request: bytes, context: Any) -> bytes:
        if "registry" in str(peer_party(context.auth_context())):
            raise StoreError("not now")
        return await prove(service, request, context)

    Tunnel.settle = lambda tunnel, digest, receipt: settle(tunnel, digest, forged(receipt))  # type: ignore[method-assign]
    LogService.prove = refuse  # type: ignore[method-assign]
    from exchange.cli.main import app

    sys.argv.insert(1, "broker")
    app()


if __name__ == "__main__":
    main()
