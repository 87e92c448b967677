"""The witness answers as C2SP tlog-witness says, with exactly its status codes."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from exchange.core.checkpoint import encode_checkpoint
from exchange.core.note import NoteSignature, decode_base64, open_note
from exchange.core.witnessing import MAX_REQUEST
from exchange.witness import server
from exchange.witness.memory import MemoryFailedError, WitnessMemory
from exchange.witness.server import application
from exchange.witness.witness import Witness
from tests.component.witness.histories import COSIGNER, LOG, ORIGIN, OTHER, TIME, History


class Clock:
    def __init__(self) -> None:
        self.time = TIME

    def __call__(self) -> int:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def witness(tmp_path: Path, clock: Clock) -> Witness:
    memory = WitnessMemory.create(tmp_path / "witness.db", clock)
    return Witness({ORIGIN: LOG.verifier}, COSIGNER, memory)


@pytest_asyncio.fixture
async def client(witness: Witness) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(witness))
    async with httpx.AsyncClient(transport=transport, base_url="http://witness.test") as opened:
        yield opened


async def post(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    return await client.post("/add-checkpoint", content=body)


def cosignature(history: History, size: int, answer: httpx.Response) -> NoteSignature:
    """The one cosignature of an answer, verified over the checkpoint, as a log reads it."""
    note = open_note(history.note(size) + answer.content, (LOG.verifier, COSIGNER.verifier))
    assert note.text == encode_checkpoint(history.checkpoint(size))
    (found,) = [item for item in note.signatures if item.name == COSIGNER.name]
    return found


async def test_cosigns_a_log_that_grows(client: httpx.AsyncClient) -> None:
    history = History()
    for old, new in ((0, 1), (1, 8), (8, 33)):
        answer = await post(client, history.request(old, new))
        assert answer.status_code == 200
        text = encode_checkpoint(history.checkpoint(new)).encode()
        assert COSIGNER.verifier.cosigned_at(text, cosignature(history, new, answer).signature) == TIME


async def test_cosigns_the_same_checkpoint_again_with_the_new_time(client: httpx.AsyncClient, clock: Clock) -> None:
    history = History()
    await post(client, history.request(0, 8))
    clock.time += 60
    answer = await post(client, history.request(8, 8))
    text = encode_checkpoint(history.checkpoint(8)).encode()
    assert COSIGNER.verifier.cosigned_at(text, cosignature(history, 8, answer).signature) == TIME + 60


@pytest.mark.parametrize("old", [0, 4, 9])
async def test_another_old_size_is_told_which_size_it_has(client: httpx.AsyncClient, old: int) -> None:
    await post(client, History().request(0, 8))
    answer = await post(client, History().request(old, 12))
    assert (answer.status_code, answer.content) == (409, b"8\n")
    assert answer.headers["content-type"] == "text/x.tlog.size"


async def test_second_history_is_not_cosigned(client: httpx.AsyncClient) -> None:
    await post(client, History().request(0, 8))
    assert (await post(client, History("two").request(8, 8))).status_code == 409
    assert (await post(client, History("two").request(8, 12))).status_code == 422
    assert (await post(client, History().request(8, 12))).status_code == 200


async def test_what_does_not_go_on_is_told_to_the_witness_s_operator(
    client: httpx.AsyncClient, logged: list[MutableMapping[str, Any]]
) -> None:
    await post(client, History().request(0, 8))
    await post(client, History().request(0, 9))
    assert not [entry for entry in logged if entry["log_level"] == "error"]
    await post(client, History("two").request(8, 12))
    assert (logged[-1]["log_level"], logged[-1]["log"], logged[-1]["size"]) == ("error", ORIGIN, 12)
    assert decode_base64(logged[-1]["note"]) == History("two").note(12)


async def test_unknown_log_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await post(client, History(signer=OTHER).request(0, 3))).status_code == 404


async def test_forged_checkpoint_is_forbidden(client: httpx.AsyncClient) -> None:
    forged = History().request(0, 3).replace(b"\n3\n", b"\n4\n")
    assert (await post(client, forged)).status_code == 403


@pytest.mark.parametrize("body", [b"", b"old 1", b"old 01\n\nx\n", b"\xff" * 100, b"old 0\n\n" + b"x" * MAX_REQUEST])
async def test_malformed_request_is_bad(client: httpx.AsyncClient, body: bytes) -> None:
    assert (await post(client, body)).status_code == 400


async def test_endless_request_is_cut_off(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 64 * MAX_REQUEST:
            sent += 1024
            yield bytes(1024)

    assert (await client.post("/add-checkpoint", content=endless())).status_code == 400
    assert sent <= 2 * MAX_REQUEST


async def test_request_that_does_not_arrive_is_given_up(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.01)

    async def stalled() -> AsyncIterator[bytes]:
        yield b"old 0\n"
        await asyncio.Event().wait()

    assert (await client.post("/add-checkpoint", content=stalled())).status_code == 400


@pytest.mark.parametrize(("method", "path"), [("GET", "/add-checkpoint"), ("POST", "/"), ("POST", "/add-checkpoint/x")])
async def test_there_is_nothing_else(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert (await client.request(method, path)).status_code in {404, 405}


async def test_nothing_is_cosigned_where_nothing_can_be_kept(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryFailedError("the disk is full")

    monkeypatch.setattr(WitnessMemory, "advance", full)
    answer = await post(client, History().request(0, 3))
    assert answer.status_code == 500
    assert b"disk" not in answer.content
