"""Strict decoding and the one encoding of every protobuf message (DESIGN section 4).

What is signed, hashed or kept is read with `decode`. What only carries it between two programs is read with
`decode_open`, which a newer minor version may have added fields to.
"""

from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import EncodeError as ProtobufEncodeError
from google.protobuf.message import Message

from exchange.core.errors import DecodeError

FORMAT = 1
MAX_FRAME = 4 * 1024 * 1024
# Messages within one message: a page of a log has 2,000. Bounds what a peer's tiny parts may cost.
MAX_PARTS = 10_000
# Milliseconds at the end of the year 9999: what every calendar and database still has.
MAX_TIME = 253_402_300_799_999

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """Serialise a message in its only accepted form: fields in order, no unknown fields.

    Raises:
        DecodeError: protobuf cannot serialise it.
    """
    try:
        return message.SerializeToString(deterministic=True)
    except (ProtobufEncodeError, ValueError) as error:
        raise DecodeError(f"{message.DESCRIPTOR.name} cannot be encoded") from error


def decode(kind: type[M], data: bytes, max_bytes: int = MAX_FRAME) -> M:
    """Parse bytes that are exactly what `encode` gives, and refuse everything else.

    Args:
        kind: the message class expected.
        data: the whole message.
        max_bytes: refuse longer input before parsing it.

    Raises:
        DecodeError: too long, not a message of this kind, unknown fields or enum numbers, another format,
            or a serialisation that is not the one `encode` gives.
    """
    return _decoded(kind, data, max_bytes, known_only=True)


def decode_open(kind: type[M], data: bytes, max_bytes: int = MAX_FRAME) -> M:
    """Parse a message that nobody signs: as `decode`, but fields that this version does not know are dropped.

    They stand behind all known ones of their message, for a field of a later version has a higher number. Formats,
    enum numbers and frames that this version does not know are refused all the same: who sends them has been told
    which version it speaks to.

    Raises:
        DecodeError: as `decode`.
    """
    return _decoded(kind, data, max_bytes, known_only=False)


def _decoded(kind: type[M], data: bytes, max_bytes: int, *, known_only: bool) -> M:
    shape = _shape(kind.DESCRIPTOR)
    if len(data) > max_bytes:
        raise DecodeError(f"{shape.name} has {len(data):,} bytes; at most {max_bytes:,} are allowed")
    message = kind()
    try:
        message.ParseFromString(data)
        if known_only:
            message.DiscardUnknownFields()
        same = message.SerializeToString(deterministic=True) == data
        message.DiscardUnknownFields()
    except (ProtobufDecodeError, ProtobufEncodeError, ValueError) as error:
        raise DecodeError(f"{shape.name} cannot be parsed") from error
    if not same:
        raise DecodeError(f"{shape.name} is not in its canonical form: unknown fields or another order")
    if shape.has_format or shape.enums or shape.parts:
        _check(message)
    return message


@dataclass(frozen=True, slots=True)
class _Shape:
    """What has to be looked at in every message of one kind; enums and parts are (field name, repeated)."""

    name: str
    has_format: bool
    enums: tuple[tuple[str, bool, frozenset[int]], ...]
    parts: tuple[tuple[str, bool], ...]


@cache
def _shape(kind: Descriptor) -> _Shape:
    fields = kind.fields
    return _Shape(
        kind.name,
        "format" in kind.fields_by_name,
        tuple(
            (field.name, field.is_repeated, frozenset(field.enum_type.values_by_number))
            for field in fields
            if field.enum_type is not None
        ),
        tuple((field.name, field.is_repeated) for field in fields if field.message_type is not None),
    )


def _check(whole: Message) -> None:
    """Refuse unknown enum numbers and formats anywhere in the message, and more parts than anybody needs."""
    pending = _checked_parts(whole)
    parts = 1
    while pending:
        if parts + len(pending) > MAX_PARTS:
            raise DecodeError(f"{whole.DESCRIPTOR.name} has more than {MAX_PARTS:,} parts")
        pending.extend(_checked_parts(pending.pop()))
        parts += 1


def _checked_parts(message: Message) -> list[Message]:
    """The messages within this one, once its own format and enum numbers hold."""
    shape = _shape(message.DESCRIPTOR)
    if shape.has_format and (announced := getattr(message, "format")) != FORMAT:  # noqa: B009 - not every kind has it
        raise DecodeError(f"{shape.name} has format {announced}; this version reads {FORMAT}")
    for name, repeated, known in shape.enums:
        value = getattr(message, name)
        if not known.issuperset(value if repeated else (value,)):
            raise DecodeError(f"{shape.name}.{name} has a number that this version does not know")
    found: list[Message] = []
    for name, repeated in shape.parts:
        if repeated:
            found.extend(getattr(message, name))
        elif message.HasField(name):
            found.append(getattr(message, name))
    return found
