"""Recorded bytes of every version that this program speaks: read, written again, and grown by the next one."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from exchange.core.errors import DecodeError
from exchange.core.protocol import OLDEST, PROTOCOL, Version
from exchange.core.wire import decode, decode_open, encode
from exchange.v1 import gateway_pb2, log_pb2, relay_pb2
from exchange.v1.request_pb2 import RequestHeader
from tests.growing import FIELD, grown
from tests.vectors import recorded
from tests.vectors.example import build
from tests.vectors.recorded import FOLDER, RECORDED, message_class

FILES = sorted(FOLDER.glob("recorded-*.json"))


def _version(path: Path) -> Version:
    major, minor = path.stem.removeprefix("recorded-").split(".")
    return Version(int(major), int(minor))


SPOKEN = [path for path in FILES if OLDEST <= _version(path) <= PROTOCOL]


def recordings(part: str) -> list[Any]:
    return [
        pytest.param(message_class(entry["message"]), bytes.fromhex(entry["bytes"]), id=f"{path.stem} {name}")
        for path in SPOKEN
        for name, entry in json.loads(path.read_text())[part].items()
    ]


KEPT, CARRIED = recordings("kept"), recordings("carried")


def test_every_version_that_is_spoken_is_recorded() -> None:
    assert {_version(path) for path in SPOKEN} == {OLDEST, PROTOCOL}


def test_the_recording_of_this_version_is_what_this_program_writes() -> None:
    assert RECORDED.read_text() == recorded.as_json(build())


def test_every_message_that_programs_send_each_other_is_recorded() -> None:
    sent = {
        message.name
        for module in (gateway_pb2, log_pb2, relay_pb2)
        for message in module.DESCRIPTOR.message_types_by_name.values()
    }
    found: set[str] = set()
    for kind, data in (case.values for case in CARRIED):
        _collect(kind.FromString(data), found)
    assert sent <= found


def _collect(message: Message, found: set[str]) -> None:
    found.add(message.DESCRIPTOR.name)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                _collect(part, found)


@pytest.mark.parametrize(("kind", "data"), KEPT)
def test_what_is_kept_reads_back_byte_for_byte(kind: type[Message], data: bytes) -> None:
    assert encode(decode(kind, data)) == data


@pytest.mark.parametrize(("kind", "data"), CARRIED)
def test_what_is_carried_reads_back_byte_for_byte(kind: type[Message], data: bytes) -> None:
    assert encode(decode_open(kind, data)) == data == encode(decode(kind, data))


@pytest.mark.parametrize(("kind", "data"), CARRIED)
def test_fields_of_the_next_version_are_dropped_where_nothing_is_signed(kind: type[Message], data: bytes) -> None:
    message = kind.FromString(data)
    assert grown(message) != data
    assert encode(decode_open(kind, grown(message))) == data


@pytest.mark.parametrize(("kind", "data"), KEPT)
def test_the_same_fields_are_refused_in_what_is_signed_or_kept(kind: type[Message], data: bytes) -> None:
    for longer in (data + FIELD, grown(kind.FromString(data))):
        with pytest.raises(DecodeError, match="canonical"):
            decode(kind, longer)


def test_an_unknown_field_stands_behind_the_known_ones() -> None:
    submit = encode(relay_pb2.SubmitRequest(envelope=b"x"))
    assert decode_open(relay_pb2.SubmitRequest, submit + FIELD).envelope == b"x"
    for other in (FIELD + submit, submit + submit, submit + FIELD[:-1], submit + b"\x12"):
        with pytest.raises(DecodeError):
            decode_open(relay_pb2.SubmitRequest, other)


def test_formats_and_numbers_that_are_not_known_are_refused_all_the_same() -> None:
    with pytest.raises(DecodeError, match="format 2"):
        decode_open(gateway_pb2.Hello, encode(gateway_pb2.Hello(format=2)))
    with pytest.raises(DecodeError, match="a number that this version does not know"):
        decode_open(log_pb2.SearchRequest, b"\x38\xe8\x07")
    with pytest.raises(DecodeError, match="canonical"):
        decode(RequestHeader, b"\x08\x01" + FIELD)
