"""An encrypted backup gives back what went in, or nothing: no chunk is altered, left out, moved or cut off unseen."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.backup.encryption import CHUNK, MAGIC, DecryptingReader, EncryptingWriter
from exchange.backup.manifest import BackupError

PASSPHRASE = "a long night at the data bureau"
HEADER = len(MAGIC) + 17
SEALED = CHUNK + 16


def sealed(data: bytes, *, pieces: int = 50_000) -> bytes:
    output = io.BytesIO()
    writer = EncryptingWriter(output, PASSPHRASE, cost=1)
    for start in range(0, len(data), pieces):
        writer.write(data[start : start + pieces])
    writer.close()
    return output.getvalue()


def opened(data: bytes, passphrase: str = PASSPHRASE, size: int = 30_000) -> bytes:
    reader = DecryptingReader(io.BytesIO(data), passphrase)
    parts = []
    while part := reader.read(size):
        parts.append(part)
    return b"".join(parts)


def some(size: int) -> bytes:
    return bytes(number * 7 % 251 for number in range(size))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])
def test_gives_back_what_went_in(size: int) -> None:
    assert opened(sealed(some(size))) == some(size)


def test_no_two_files_are_sealed_alike() -> None:
    assert sealed(b"the same") != sealed(b"the same")


@settings(max_examples=20)
@given(st.integers(0, 2 * SEALED + HEADER + 100), st.integers(0, 7))
def test_refuses_any_changed_bit(place: int, bit: int) -> None:
    data = bytearray(DATA)
    place %= len(data)
    # The cost is in the header too; more than a reader spends is refused before any work.
    if place == HEADER - 1:
        bit = 7
    data[place] ^= 1 << bit
    with pytest.raises(BackupError):
        opened(bytes(data))


@pytest.mark.parametrize("end", [0, HEADER - 1, HEADER, HEADER + SEALED, HEADER + 2 * SEALED, -1])
def test_refuses_what_was_cut_off(end: int) -> None:
    with pytest.raises(BackupError):
        opened(DATA[:end])


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2), (0, 0, 1, 2), (2,)])
def test_refuses_chunks_in_another_order(order: tuple[int, ...]) -> None:
    chunks = [DATA[HEADER + number * SEALED : HEADER + (number + 1) * SEALED] for number in range(3)]
    with pytest.raises(BackupError):
        opened(DATA[:HEADER] + b"".join(chunks[number] for number in order))


def test_refuses_another_passphrase() -> None:
    with pytest.raises(BackupError, match="the passphrase is wrong"):
        opened(DATA, f"{PASSPHRASE}!")


@pytest.mark.parametrize("cost", [0, 21, 255])
def test_spends_no_more_than_it_may_on_a_key(cost: int) -> None:
    data = bytearray(DATA)
    data[HEADER - 1] = cost
    with pytest.raises(BackupError, match="at most"):
        opened(bytes(data))


DATA = sealed(some(2 * CHUNK + 100))
