"""A capsule opens for one provider, requester and key; a message key opens one message."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.errors import SealError
from exchange.core.keys import key_id, sealing_private_key
from exchange.core.sealing import (
    CAPSULE,
    TO_PROVIDER,
    TO_REQUESTER,
    capsule_info,
    message_key,
    open_body,
    open_capsule,
    pad,
    padded_size,
    seal_body,
    seal_capsule,
    unpad,
)
from tests.corruption import anything, flip
from tests.memory import fixed, sealing_private, sealing_public, signer
from tests.world import APPLICATIONS, MARRIAGE, ORIGIN, REGISTRY

CHANNEL = fixed("channel")
PRIVATE, PUBLIC = sealing_private_key(sealing_private("sealing")), sealing_public("sealing")
BOUND: dict[str, Any] = {
    "origin": ORIGIN,
    "requester": str(APPLICATIONS),
    "requester_key": key_id(signer("requester").public_key),
    "provider": str(REGISTRY),
    "sealing_key": key_id(PUBLIC),
}
INFO = capsule_info(**BOUND)
SEALED = seal_capsule(CHANNEL, PUBLIC, INFO)
KEY, NONCE = fixed("key"), fixed("nonce", 12)


# --- capsules ----------------------------------------------------------------------------------------


def test_a_capsule_opens_for_its_provider() -> None:
    assert len(SEALED) == CAPSULE == 1168
    assert open_capsule(SEALED, PRIVATE, INFO) == CHANNEL


OTHERS: list[dict[str, Any]] = [
    {"origin": "town.example"},
    {"requester": str(MARRIAGE)},
    {"requester_key": key_id(signer("later").public_key)},
    {"provider": str(MARRIAGE)},
    {"sealing_key": key_id(b"later")},
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
def test_a_capsule_does_not_open_for_another(other: dict[str, Any]) -> None:
    with pytest.raises(SealError, match="does not open"):
        open_capsule(SEALED, PRIVATE, capsule_info(**(BOUND | other)))


def test_a_capsule_taken_from_another_requester_does_not_open() -> None:
    """The attack: another party sends a capsule it has seen, under its own name and key."""
    thief = BOUND | {"requester": str(MARRIAGE), "requester_key": key_id(signer(str(MARRIAGE)).public_key)}
    with pytest.raises(SealError, match="does not open"):
        open_capsule(SEALED, PRIVATE, capsule_info(**thief))


def test_a_capsule_does_not_open_with_another_key() -> None:
    with pytest.raises(SealError, match="does not open"):
        open_capsule(SEALED, sealing_private_key(sealing_private("other")), INFO)


def test_what_a_capsule_is_bound_to_has_one_reading() -> None:
    moved = BOUND | {"origin": ORIGIN + str(APPLICATIONS), "requester": ""}
    assert capsule_info(**moved) != INFO
    names = (b"\x00\x0ccity.example", b"\x00\x2cexchange://city.example/housing/applications")
    provider = b"\x00\x2bexchange://city.example/population/registry"
    assert b"".join((*names, BOUND["requester_key"], provider, BOUND["sealing_key"])) == INFO


@pytest.mark.parametrize("channel", [b"", bytes(31), bytes(33)])
def test_a_capsule_that_holds_no_channel_secret_is_refused(channel: bytes) -> None:
    capsule = seal_capsule(channel, PUBLIC, INFO)
    with pytest.raises(SealError, match="capsule"):
        open_capsule(capsule, PRIVATE, INFO)


@given(anything(SEALED))
def test_any_other_bytes_are_no_capsule(data: bytes) -> None:
    try:
        assert open_capsule(data, PRIVATE, INFO) == CHANNEL
    except SealError:
        return
    assert data == SEALED


@pytest.mark.parametrize("place", [0, 1087, 1088, 1119, 1120, 1167])
def test_a_capsule_with_a_bit_flipped_does_not_open(place: int) -> None:
    with pytest.raises(SealError, match="does not open"):
        open_capsule(flip(SEALED, place, 0), PRIVATE, INFO)


# --- message keys and bodies -------------------------------------------------------------------------


def test_every_message_has_a_key_of_its_own() -> None:
    channels, headers = (CHANNEL, fixed("other")), (b"", b"header", b"header2")
    keys = {
        message_key(channel, direction, header)
        for channel in channels
        for direction in (TO_PROVIDER, TO_REQUESTER)
        for header in headers
    }
    assert len(keys) == 12
    assert {len(key) for key in keys} == {32}


def test_an_answer_does_not_open_as_a_question() -> None:
    sealed = seal_body(message_key(CHANNEL, TO_PROVIDER, b"header"), NONCE, b"query")
    with pytest.raises(SealError, match="does not open"):
        open_body(message_key(CHANNEL, TO_REQUESTER, b"header"), sealed)
    with pytest.raises(SealError, match="does not open"):
        open_body(message_key(CHANNEL, TO_PROVIDER, b"Header"), sealed)


@given(st.binary(max_size=300))
def test_a_body_opens_as_sealed(body: bytes) -> None:
    sealed = seal_body(KEY, NONCE, body)
    assert open_body(KEY, sealed) == body
    assert len(sealed) == 12 + padded_size(len(body) + 1) + 16


BODY = seal_body(KEY, NONCE, b"body")


@given(anything(BODY))
def test_any_other_bytes_are_no_sealed_body(data: bytes) -> None:
    try:
        assert open_body(KEY, data) == b"body"
    except SealError:
        return
    assert data == BODY


@pytest.mark.parametrize("size", [0, 11, 12, 27])
def test_a_ciphertext_that_is_too_short_is_refused(size: int) -> None:
    with pytest.raises(SealError, match="too short"):
        open_body(KEY, BODY[:size])
    with pytest.raises(SealError, match="does not open"):
        open_body(KEY, BODY[:28])


def test_a_sealed_body_is_nonce_ciphertext_and_tag() -> None:
    assert BODY[:12] == NONCE
    assert len(BODY) == 12 + len(pad(b"body")) + 16


@pytest.mark.parametrize("size", [0, 1167, 1169])
def test_a_capsule_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(SealError, match="1,168 bytes"):
        open_capsule((SEALED + b"\0")[:size], PRIVATE, INFO)


# --- padding -----------------------------------------------------------------------------------------


def test_every_short_body_opens_as_sealed() -> None:
    for size in (*range(70), 127, 128, 129, 1000):
        body = bytes([size % 256]) * size
        assert unpad(pad(body)) == body
        assert open_body(KEY, seal_body(KEY, NONCE, body)) == body


@given(st.binary(max_size=80) | anything(pad(b""), pad(b"body"), pad(b"body\x80\0"), pad(bytes(100))))
def test_any_bytes_are_one_bodys_padding_or_refused(data: bytes) -> None:
    try:
        body = unpad(data)
    except SealError:
        return
    assert pad(body) == data


@pytest.mark.parametrize("data", [b"", b"\0", b"body", b"\x80" + bytes(7), b"body\x80\0\0\0\0"])
def test_refuses_a_body_that_is_not_padded(data: bytes) -> None:
    with pytest.raises(SealError, match="not padded"):
        unpad(data)


def test_padded_sizes_are_those_of_padme_with_a_floor() -> None:
    # "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", section 4, worked by hand.
    known = {0: 1024, 1: 1024, 1000: 1024, 1024: 1024, 1025: 1088, 2000: 2048, 10_000: 10_240}
    assert {size: padded_size(size) for size in known} == known


def test_an_empty_answer_is_as_long_as_one_persons_row() -> None:
    assert len(pad(b"[]")) == len(pad(b'[{"name":"somebody"}]'))


@given(st.integers(1024, 1 << 40))
def test_padding_adds_at_most_12_percent_and_is_stable(size: int) -> None:
    padded = padded_size(size)
    assert size <= padded <= size + size * 12 // 100
    assert padded_size(padded) == padded


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_longer_bodies_are_not_shorter_padded(one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert padded_size(small) <= padded_size(large)
