"""Strict decoding and the one encoding of every protobuf message (DESIGN section 4)."""

from collections.abc import Iterable
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
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
    name = kind.DESCRIPTOR.name
    if len(data) > max_bytes:
        raise DecodeError(f"{name} has {len(data):,} bytes; at most {max_bytes:,} are allowed")
    message = kind()
    try:
        message.ParseFromString(data)
    except (ProtobufDecodeError, ValueError) as error:
        raise DecodeError(f"{name} cannot be parsed") from error
    message.DiscardUnknownFields()
    if encode(message) != data:
        raise DecodeError(f"{name} is not in its canonical form: unknown fields or another order")
    _check(message)
    return message


def _check(whole: Message) -> None:
    """Refuse unknown enum numbers and formats anywhere in the message, and more parts than anybody needs."""
    pending = [whole]
    parts = 0
    while pending:
        message = pending.pop()
        pending.extend(_checked_parts(message))
        parts += 1
        if parts + len(pending) > MAX_PARTS:
            raise DecodeError(f"{whole.DESCRIPTOR.name} has more than {MAX_PARTS:,} parts")


def _checked_parts(message: Message) -> list[Message]:
    """The messages within this one, once its own format and enum numbers hold."""
    name = message.DESCRIPTOR.name
    announced = getattr(message, "format", FORMAT)
    if announced != FORMAT:
        raise DecodeError(f"{name} has format {announced}; this version reads {FORMAT}")
    found: list[Message] = []
    for field, value in message.ListFields():
        values: Iterable[Any] = (value,) if isinstance(value, Message | int) else value
        if field.type == FieldDescriptor.TYPE_ENUM:
            _check_enum(name, field, values)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            found.extend(values)
    return found


def _check_enum(name: str, field: FieldDescriptor, values: Iterable[int]) -> None:
    known = field.enum_type.values_by_number if field.enum_type is not None else {}
    if any(number not in known for number in values):
        raise DecodeError(f"{name}.{field.name} has a number that this version does not know")
