"""Gathers witnesses' cosignatures of both logs, beside the append path: no append ever waits for a witness.

Each round asks every witness of the trust file's policy for its cosignature of the log's last checkpoint, with a proof
that the log goes on from what that witness saw (C2SP tlog-witness). What meets the quorum is kept in the store.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx
import structlog

from exchange.broker.proofs import prove
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError, DecodeError
from exchange.core.note import NoteSignature, Verifier, encode_base64, open_note
from exchange.core.policy import MAX_AHEAD, Policy, PolicyWitness, open_cosigned
from exchange.core.witnessing import (
    CONFLICT,
    MAX_RESPONSE,
    SIZE_TYPE,
    UNPROCESSABLE,
    AddCheckpoint,
    encode_add_checkpoint,
    parse_size,
)
from exchange.store.ports import Head, Log, LogStore, StoreError, Witnessed
from exchange.v1.log_pb2 import ProofRequest

TIMEOUT = 5.0
"""Seconds for one witness to answer; a slow one is asked again in the next round."""

ALARM_EVERY = 60.0
"""Seconds between two alarms of one log."""

Verifiers = Mapping[Log, Verifier]

logger = structlog.get_logger("exchange.broker")


# Whatever a witness sends, it costs its own cosignature and nothing else.
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError)


class WitnessError(Exception):
    """A witness gave no cosignature that counts; the text says why."""


class ForkAlarmError(WitnessError):
    """A witness says that this checkpoint does not go on from what it saw of the log."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often is asked, in seconds.

    Args:
        round: between two rounds while the log moves, or a quorum is missing.
        heartbeat: until the same checkpoint is cosigned again, so that its time is fresh.
        missing: for which a quorum may be missing before it is an alarm.
    """

    round: float = 3.0
    heartbeat: float = 60.0
    missing: float = 60.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one round asks the witnesses to cosign."""

    log: Log
    verifier: Verifier
    note: bytes
    checkpoint: Checkpoint

    @property
    def text(self) -> bytes:
        return self.note.rpartition(b"\n\n")[0] + b"\n"


@dataclass(frozen=True, slots=True)
class Gathered:
    """How one log stands with its witnesses.

    Args:
        quorum: whether enough of them cosigned in the last round.
        silent: how many did not.
        age: seconds since a quorum cosigned; None where none has since the broker started.
    """

    quorum: bool
    silent: int
    age: float | None


class WitnessClient:
    """Asks witnesses over HTTP; it follows no redirect, and reads no more of an answer than one needs.

    Args:
        store: for consistency proofs.
        http: closed by whoever made it.
        clock: milliseconds.
    """

    def __init__(self, store: LogStore, http: httpx.AsyncClient, clock: Callable[[], int]) -> None:
        self._store = store
        self._http = http
        self._clock = clock
        self._sizes: dict[tuple[Log, str], int] = {}

    async def cosignature(self, witness: PolicyWitness, asked: _Asked) -> NoteSignature:
        """One witness's cosignature, verified.

        Raises:
            ForkAlarmError: it says that the log does not go on.
            WitnessError: it gave none, or a false one.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                status, kind, body = await self._ask(witness, asked)
                if status == CONFLICT and kind == SIZE_TYPE:
                    await self._learn(witness, asked, body)
                    status, kind, body = await self._ask(witness, asked)
        except TimeoutError as error:
            raise WitnessError(f"no answer within {TIMEOUT:g} s") from error
        except _FAILURES as error:
            raise WitnessError(f"no answer: {type(error).__name__}") from error
        if status in {CONFLICT, UNPROCESSABLE}:
            raise ForkAlarmError(f"it says that the log does not go on from what it saw (status {status})")
        if status != httpx.codes.OK:
            raise WitnessError(f"it answered with status {status}")
        signature = self._verified(witness, asked, body)
        self._sizes[asked.log, witness.name] = asked.checkpoint.size
        return signature

    async def _ask(self, witness: PolicyWitness, asked: _Asked) -> tuple[int, str, bytes]:
        old = min(self._sizes.get((asked.log, witness.name), 0), asked.checkpoint.size)
        proof: tuple[bytes, ...] = ()
        if 0 < old < asked.checkpoint.size:
            wanted = ProofRequest(old_size=old, size=asked.checkpoint.size)
            proof = await asyncio.to_thread(prove, self._store, asked.log, wanted)
        request = encode_add_checkpoint(AddCheckpoint(old, proof, asked.note))
        url = f"{witness.url.rstrip('/')}/add-checkpoint"
        async with self._http.stream("POST", url, content=request, follow_redirects=False) as response:
            body = bytearray()
            # Raw: what is compressed could grow without end.
            async for part in response.aiter_raw():
                body += part
                if len(body) > MAX_RESPONSE:
                    raise WitnessError("its answer is too long")
            return response.status_code, response.headers.get("content-type", ""), bytes(body)

    async def _learn(self, witness: PolicyWitness, asked: _Asked, body: bytes) -> None:
        """The size that a witness says it has seen."""
        try:
            size = parse_size(body)
        except DecodeError as error:
            raise WitnessError(f"it conflicts, and does not say where: {error}") from error
        if size > asked.checkpoint.size:
            # Another broker may have appended meanwhile; a log that was rolled back stays smaller.
            head = await asyncio.to_thread(self._store.head, asked.log)
            if size > head.size:
                raise ForkAlarmError(f"it has seen {size} entries, and this log has fewer")
            raise WitnessError("it has seen a newer checkpoint already")
        self._sizes[asked.log, witness.name] = size

    def _verified(self, witness: PolicyWitness, asked: _Asked, body: bytes) -> NoteSignature:
        """C2SP tlog-witness: the answer, put after the checkpoint, is a note that is verified with the known keys."""
        try:
            opened = open_note(asked.note + body, (asked.verifier, witness.verifier))
        except CoreError as error:
            raise WitnessError(f"its cosignature does not hold: {error}") from error
        key = witness.verifier
        for signature in opened.signatures:
            if (signature.name, signature.key_hash) == (key.name, key.key_hash):
                time = key.cosigned_at(asked.text, signature.signature)
                # An old one may be played back, and one of the future would count as fresh for too long.
                if time is None or abs(self._clock() / 1000 - time) > MAX_AHEAD:
                    raise WitnessError("the time in its cosignature is not now: is a clock wrong?")
                return signature
        raise WitnessError("its answer has no cosignature by its key")


class Witnesses:
    """The cosignatures of both logs, gathered as long as `run` does.

    Args:
        store: where the last checkpoint with a quorum is kept.
        verifiers: the logs' own keys.
        policy: whose cosignatures are asked for.
        client: asks one witness.
        rhythm: how often.
        stops: whether nothing may be released while a quorum is missing.
    """

    def __init__(
        self,
        store: LogStore,
        verifiers: Verifiers,
        policy: Policy,
        client: WitnessClient,
        rhythm: Rhythm = Rhythm(),
        *,
        stops: bool = False,
    ) -> None:
        self._store = store
        self._verifiers = verifiers
        self._policy = policy
        self._client = client
        self._rhythm = rhythm
        self._stops = stops
        self._missing: dict[Log, float] = {}
        self._alarmed: dict[Log, float] = {}
        self._met: dict[Log, tuple[int, float]] = {}
        self._silent: dict[tuple[Log, str], tuple[str, float]] = {}

    def forbids(self) -> str:
        """Why nothing may be released; empty where it may."""
        late = [log for log in self._missing if self._stops and self._is_late(log)]
        return f"too few witnesses cosign the {late[0]} log: nothing is released until they do" if late else ""

    def gathered(self, log: Log) -> Gathered:
        """How a log stands with its witnesses, from memory."""
        met = self._met.get(log)
        silent = sum(about is log for about, _ in self._silent)
        return Gathered(met is not None and log not in self._missing, silent, _now() - met[1] if met else None)

    async def run(self) -> None:
        """Gather until it is cancelled; whatever happens to a round, the next one comes."""
        await asyncio.gather(*(self._follow(log) for log in self._verifiers))

    async def _follow(self, log: Log) -> None:
        while True:
            try:
                await self.round(log)
            except (StoreError, CoreError) as error:
                # A store that fails stops the broker on its own path.
                logger.warning("no cosignatures were gathered", log=log.value, reason=str(error))
            await asyncio.sleep(self._rhythm.round)

    async def round(self, log: Log) -> bool:
        """Gather once, unless this checkpoint has a fresh quorum; returns whether there is one."""
        head = await asyncio.to_thread(self._store.head, log)
        if not head.checkpoint or self._is_fresh(log, head):
            return True
        asked = _Asked(log, self._verifiers[log], head.checkpoint, self._opened(head))
        lines = await self._lines(asked)
        cosigned = open_cosigned(head.checkpoint + lines, asked.verifier, self._policy)
        if not cosigned.quorum:
            self._tell_missing(log, len(cosigned.cosignatures))
            return False
        kept = Witnessed(log, head.size, cosigned.time or 0, head.checkpoint + lines)
        await asyncio.to_thread(self._keep, kept)
        self._tell_met(log, head.size)
        return True

    def _is_fresh(self, log: Log, head: Head) -> bool:
        size, at = self._met.get(log, (-1, 0.0))
        return size == head.size and _now() - at < self._rhythm.heartbeat

    def _opened(self, head: Head) -> Checkpoint:
        return open_checkpoint(head.checkpoint, self._verifiers[head.log])

    async def _lines(self, asked: _Asked) -> bytes:
        """The cosignatures of all witnesses that gave one, as signature lines in the policy's order."""
        witnesses = [witness for witness in self._policy.witnesses if witness.url]
        found = await asyncio.gather(*(self._line(witness, asked) for witness in witnesses))
        return b"".join(found)

    async def _line(self, witness: PolicyWitness, asked: _Asked) -> bytes:
        try:
            line = str(await self._client.cosignature(witness, asked)).encode()
        except WitnessError as error:
            self._tell_silent(witness, asked, error)
            return b""
        if self._silent.pop((asked.log, witness.name), None) is not None:
            logger.info("a witness cosigns again", log=asked.log.value, witness=witness.name)
        return line

    def _tell_silent(self, witness: PolicyWitness, asked: _Asked, error: WitnessError) -> None:
        """Say why a witness is missing: at once, and then once a minute while the reason stays."""
        key, reason = (asked.log, witness.name), str(error)
        told, at = self._silent.get(key, ("", 0.0))
        if told == reason and _now() - at < ALARM_EVERY:
            return
        self._silent[key] = reason, _now()
        where = {"log": asked.log.value, "witness": witness.name, "reason": reason}
        if isinstance(error, ForkAlarmError):
            proof = {"size": asked.checkpoint.size, "note": encode_base64(asked.note)}
            logger.critical("a witness has seen another history of the log", **where, **proof)
        else:
            logger.warning("a witness did not cosign", **where)

    def _keep(self, witnessed: Witnessed) -> None:
        with self._store.locked() as transaction:
            transaction.keep_cosigned(witnessed)

    def _is_late(self, log: Log) -> bool:
        return _now() - self._missing[log] >= self._rhythm.missing

    def _tell_missing(self, log: Log, count: int) -> None:
        self._missing.setdefault(log, _now())
        if self._is_late(log) and _now() - self._alarmed.get(log, -ALARM_EVERY) >= ALARM_EVERY:
            self._alarmed[log] = _now()
            logger.error(
                "ALARM: too few witnesses cosign",
                log=log.value,
                cosigned=count,
                releases="stopped" if self._stops else "go on",
            )

    def _tell_met(self, log: Log, size: int) -> None:
        self._met[log] = size, _now()
        self._missing.pop(log, None)
        if self._alarmed.pop(log, None) is not None:
            logger.info("enough witnesses cosign again", log=log.value, size=size)


def _now() -> float:
    return asyncio.get_running_loop().time()
