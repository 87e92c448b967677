"""Strict decoding and the one encoding of every protobuf message (DESIGN section 4).

What is signed, hashed or kept is read with `decode`. What only carries it between two programs is read with
`decode_open`, which a newer minor version may have added fields to.
"""

from dataclasses import dataclass
from enum import Enum, auto
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
        if not known_only:
            message.DiscardUnknownFields()
    except (ProtobufDecodeError, ProtobufEncodeError, ValueError) as error:
        raise DecodeError(f"{shape.name} cannot be parsed") from error
    if not same:
        raise DecodeError(f"{shape.name} is not in its canonical form: unknown fields or another order")
    parts = _checked_parts(shape, message)
    if parts:
        _check_parts(shape.name, parts)
    return message


class _Many(Enum):
    """How often a part may stand in its message; a choice is of several parts, of which one may stand there."""

    ONE = auto()
    LIST = auto()
    CHOICE = auto()


_CHOICE, _LIST = _Many.CHOICE, _Many.LIST


@dataclass(frozen=True, slots=True)
class _Shape:
    """What has to be looked at in every message of one kind, in the order of its fields.

    Args:
        name: of the kind; has_format: whether it begins with one.
        enums: name of the field, whether it is a list, the numbers known.
        parts: name of the field that is a message, and `ONE` or `LIST`; of a choice, its own name and `CHOICE`.
        chosen: of all choices, the fields that are messages.
    """

    name: str
    has_format: bool
    enums: tuple[tuple[str, bool, frozenset[int]], ...]
    parts: tuple[tuple[str, _Many], ...]
    chosen: frozenset[str]


@cache
def _shape(kind: Descriptor) -> _Shape:
    messages = [field for field in kind.fields if field.message_type is not None]
    parts = (
        (field.name, _LIST if field.is_repeated else _Many.ONE)
        if field.containing_oneof is None
        else (field.containing_oneof.name, _CHOICE)
        for field in messages
    )
    return _Shape(
        kind.name,
        "format" in kind.fields_by_name,
        tuple(
            (field.name, field.is_repeated, frozenset(field.enum_type.values_by_number))
            for field in kind.fields
            if field.enum_type is not None
        ),
        # Once each: the fields of a choice follow each other, and asking for the one that stands is asking for all.
        tuple(dict.fromkeys(parts)),
        frozenset(field.name for field in messages if field.containing_oneof is not None),
    )


def _check_parts(whole: str, pending: list[Message]) -> None:
    """Refuse unknown enum numbers and formats anywhere in these, and more parts than anybody needs."""
    parts = 1
    while pending:
        if parts + len(pending) > MAX_PARTS:
            raise DecodeError(f"{whole} has more than {MAX_PARTS:,} parts")
        part = pending.pop()
        pending.extend(_checked_parts(_shape(part.DESCRIPTOR), part))
        parts += 1


def _checked_parts(shape: _Shape, message: Message) -> list[Message]:
    """The messages within this one, once its own format and enum numbers hold."""
    if shape.has_format and (announced := getattr(message, "format")) != FORMAT:  # noqa: B009 - not every kind has it
        raise DecodeError(f"{shape.name} has format {announced}; this version reads {FORMAT}")
    for name, is_list, known in shape.enums:
        value = getattr(message, name)
        if not known.issuperset(value) if is_list else value not in known:
            raise DecodeError(f"{shape.name}.{name} has a number that this version does not know")
    found: list[Message] = []
    for name, many in shape.parts:
        if many is _CHOICE:
            chosen = message.WhichOneof(name)
            if chosen in shape.chosen:
                found.append(getattr(message, chosen))
        elif many is _LIST:
            found.extend(getattr(message, name))
        elif message.HasField(name):
            found.append(getattr(message, name))
    return found
