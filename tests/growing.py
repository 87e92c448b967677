"""Messages as the next minor version may send them: every one of their parts has a field that nobody knows here."""

from google.protobuf.message import Message

from exchange.core.wire import encode

# Number 2047, higher than any in the contract.
FIELD = b"\xf8\x7f\x01"


def grown(message: Message) -> bytes:
    """The bytes of a message with an unknown field in it, and in all that is in it."""
    copy = type(message)()
    copy.CopyFrom(message)
    _grow(copy)
    return copy.SerializeToString(deterministic=True)


def grown_inside(message: Message) -> bytes:
    """The same, with the message's own fields left as they are."""
    copy = type(message)()
    copy.CopyFrom(message)
    for part in _parts(copy):
        _grow(part)
    assert copy.SerializeToString(deterministic=True) != encode(message)
    return copy.SerializeToString(deterministic=True)


def _grow(message: Message) -> None:
    for part in _parts(message):
        _grow(part)
    message.MergeFromString(FIELD)


def _parts(message: Message) -> list[Message]:
    found: list[Message] = []
    for field, value in message.ListFields():
        if field.message_type is not None:
            found.extend(value if field.is_repeated else [value])
    return found
