"""A broker that lies about entries: `python -m tests.e2e.attacks.lying run --home DIR`.

LIE=extra      receipts have one hash too many
LIE=missing    receipts lack their last hash
LIE=unlogged   answers are released without an entry, with a receipt from a log that nobody else sees
"""

import os
import secrets
import sys
from pathlib import Path
from typing import Any

from exchange.broker.genesis import log_signers
from exchange.broker.relay import Relay, Released
from exchange.broker.settlement import draw_release
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.decision import uncounted
from exchange.core.merkle import Frontier, leaf_hash, paths_of
from exchange.home import Home
from exchange.store.ports import Log
from exchange.v1.envelope_pb2 import Receipt

LIE = os.environ["LIE"]


def bent(receipt: Receipt) -> Receipt:
    """The receipt with another proof."""
    path = [*receipt.path, secrets.token_bytes(32)] if LIE == "extra" else receipt.path[:-1]
    return Receipt(index=receipt.index, leaf=receipt.leaf, path=path, checkpoint=receipt.checkpoint)


def made_up(home: Home, leaf: bytes, size: int) -> Receipt:
    """A receipt from a tree of this size that ends with the leaf, signed with the log key."""
    signer = log_signers(home)[Log.ACCESS]
    hashes = [*(secrets.token_bytes(32) for _ in range(size - 1)), leaf_hash(leaf)]
    frontier, _ = Frontier().extend(hashes)
    note = sign_checkpoint(Checkpoint(signer.name, frontier.size, frontier.root()), signer)
    return Receipt(index=size - 1, leaf=leaf, path=paths_of(hashes)[-1], checkpoint=note)


def main() -> None:
    """Replace one method, and run the broker."""
    from exchange.broker.logs import access_entry

    home = Home(Path(sys.argv[sys.argv.index("--home") + 1]))
    release = Relay._release

    async def bend(relay: Any, tunnel: Any, allow: Any, answer: Any, reply: bytes) -> Released:
        released = await release(relay, tunnel, allow, answer, reply)
        return Released(reply, bent(released.receipt))

    async def leave_out(relay: Any, tunnel: Any, allow: Any, answer: Any, reply: bytes) -> Released:
        logs, now = relay._logs, relay._clock()
        with logs.store.locked() as transaction:
            record = draw_release(logs.directory, transaction, allow, answer, now, uncounted)
        leaf = access_entry(record, now, logs.directory.size).leaf
        return Released(reply, made_up(home, leaf, logs.store.head(Log.ACCESS).size + 1))

    Relay._release = leave_out if LIE == "unlogged" else bend  # type: ignore[method-assign]
    from exchange.cli.main import app

    sys.argv.insert(1, "broker")
    app()


if __name__ == "__main__":
    main()
