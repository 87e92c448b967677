"""Wire bytes are the one encoding of a value, or a DecodeError."""

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.errors import CoreError, DecodeError
from exchange.core.wire import MAX_FRAME, MAX_PARTS, decode, decode_open, encode
from exchange.v1 import access_pb2, directory_pb2, envelope_pb2, ledger_pb2, request_pb2
from exchange.v1.access_pb2 import AccessLeaf, Refusal
from exchange.v1.directory_pb2 import Agreement, Dataset, Entry, KeyStatement
from exchange.v1.envelope_pb2 import Envelope
from exchange.v1.gateway_pb2 import AdapterFrame, AttachRequest, Ready
from exchange.v1.request_pb2 import Comparison, Filter, Filters, Lookup, Query, RequestHeader, Value
from tests.corruption import UNKNOWN_FIELDS, anything
from tests.world import World

MODULES = (access_pb2, directory_pb2, envelope_pb2, ledger_pb2, request_pb2)
KINDS: list[type[Message]] = [
    value for module in MODULES for value in vars(module).values() if isinstance(value, type) and value is not Filter
]
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=40),
    FieldDescriptor.TYPE_STRING: st.text(max_size=8),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_SINT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
}


@st.composite
def messages(draw: st.DrawFn, kind: type[Message]) -> Message:
    """A message of a kind with any values; filters are left out, they have tests of their own."""
    message = kind()
    seen = set()
    for field in kind.DESCRIPTOR.fields:
        one = field.containing_oneof
        if (one is not None and one.name in seen) or not draw(st.booleans()):
            continue
        if one is not None:
            seen.add(one.name)
        _fill(draw, message, field)
    if "format" in kind.DESCRIPTOR.fields_by_name:
        setattr(message, "format", 1)  # noqa: B010 - mypy knows no such field of a Message
    return message


def _fill(draw: st.DrawFn, message: Message, field: FieldDescriptor) -> None:
    if field.message_type is not None and field.message_type.full_name.startswith("exchange.v1.Filter"):
        return
    values = (
        [draw(_value(field)) for _ in range(draw(st.integers(0, 3)))] if field.is_repeated else [draw(_value(field))]
    )
    if field.is_repeated:
        getattr(message, field.name).extend(values)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(values[0])
    else:
        setattr(message, field.name, values[0])


def _value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type._concrete_class)
    if field.enum_type is not None:
        return st.sampled_from(sorted(field.enum_type.values_by_number))
    return SCALARS[field.type]


@given(st.sampled_from(KINDS).flatmap(messages))
def test_a_message_reads_back_as_written(message: Message) -> None:
    assert decode(type(message), encode(message)) == message


def _samples() -> list[bytes]:
    world = World.standard()
    request = world.request()
    response = world.respond(request)
    receipt = world.release(request, response)
    bodies = [body[32:] for body in world.directory_log.bodies if body]
    entries = [entry.payload for entry in world.entries[-4:]]
    parts = [request.encode(), request.payload, encode(world.header()), response.payload, receipt.leaf]
    return [*world.directory_log.leaves[-4:], *bodies, *entries, *parts, encode(receipt)]


SAMPLES = _samples()


@given(st.sampled_from(KINDS), anything(*SAMPLES))
def test_any_bytes_are_one_messages_only_encoding_or_refused(kind: type[Message], data: bytes) -> None:
    try:
        message = decode(kind, data)
    except DecodeError:
        return
    assert encode(message) == data


def _damage(draw: st.DrawFn, message: Message) -> None:
    """Other formats and numbers that nobody knows, anywhere in a message."""
    for field in message.DESCRIPTOR.fields:
        if field.name == "format" and draw(st.integers(0, 3)) == 0:
            setattr(message, "format", draw(st.integers(0, 2)))  # noqa: B010 - mypy knows no such field of a Message
        elif field.enum_type is not None and draw(st.integers(0, 5)) == 0:
            number = draw(st.sampled_from((99, 100)))
            if field.is_repeated:
                getattr(message, field.name).append(number)
            elif field.containing_oneof is None:
                setattr(message, field.name, number)
        elif field.message_type is not None and field.is_repeated:
            for part in getattr(message, field.name):
                _damage(draw, part)
        elif field.message_type is not None and message.HasField(field.name):
            _damage(draw, getattr(message, field.name))


@st.composite
def damaged(draw: st.DrawFn) -> Message:
    message = draw(st.sampled_from(KINDS).flatmap(messages))
    _damage(draw, message)
    return message


def _first_problem(whole: Message) -> str:
    """What is wrong with a message, said plainly: each field of each part is asked for by itself."""
    pending = [whole]
    while pending:
        message = pending.pop()
        kind = message.DESCRIPTOR
        announced = getattr(message, "format", 1)
        if announced != 1:
            return f"{kind.name} has format {announced}; this version reads 1"
        for field in kind.fields:
            value = getattr(message, field.name)
            if field.enum_type is not None and {*(value if field.is_repeated else [value])} - {
                *field.enum_type.values_by_number
            }:
                return f"{kind.name}.{field.name} has a number that this version does not know"
        for field in kind.fields:
            if field.message_type is not None and field.is_repeated:
                pending.extend(getattr(message, field.name))
            elif field.message_type is not None and message.HasField(field.name):
                pending.append(getattr(message, field.name))
    return ""


@given(damaged())
def test_every_part_is_looked_at_and_the_first_problem_is_named(message: Message) -> None:
    problem = _first_problem(message)
    for read in (decode, decode_open):
        if problem:
            with pytest.raises(DecodeError) as refused:
                read(type(message), encode(message))
            assert str(refused.value) == problem
        else:
            assert read(type(message), encode(message)) == message


def test_the_kinds_under_test_are_all_of_them() -> None:
    assert len(KINDS) > 25
    assert all(issubclass(kind, Message) for kind in KINDS)


def test_every_sample_is_some_message() -> None:
    assert len(SAMPLES) > 10
    for data in SAMPLES:
        assert any(_decodes(kind, data) for kind in KINDS)


def _decodes(kind: type[Message], data: bytes) -> bool:
    try:
        decode(kind, data)
    except DecodeError:
        return False
    return True


HEADER = encode(World.standard().header())


@pytest.mark.parametrize("field", UNKNOWN_FIELDS, ids=["varint", "bytes"])
def test_refuses_unknown_fields_anywhere(field: bytes) -> None:
    for data in (HEADER + field, field + HEADER):
        with pytest.raises(DecodeError, match="canonical"):
            decode(RequestHeader, data)
    inner = encode(Value(text="a")) + field
    lookup = b"\x0a%c%s" % (len(inner), inner)
    with pytest.raises(DecodeError, match="canonical"):
        decode(Lookup, lookup)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x10\x01\x08\x01", id="fields out of order"),
        pytest.param(b"\x08\x01\x08\x01", id="a field twice"),
        pytest.param(b"\x08\x81\x00", id="a number with more bytes than it needs"),
        pytest.param(b"\x08\x01\x10\x00", id="a default written out"),
        pytest.param(b"\x08\x01\x1a\x00", id="an empty text written out"),
        pytest.param(b"\x88\x00\x01", id="a tag with more bytes than it needs"),
    ],
)
def test_refuses_a_second_encoding_of_the_same_value(data: bytes) -> None:
    with pytest.raises(DecodeError, match="canonical"):
        decode(Refusal, data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x08", id="cut in a number"),
        pytest.param(b"\x1a\x05abc", id="cut in a text"),
        pytest.param(b"\x1a\x02\xc3\x28", id="not UTF-8"),
        pytest.param(b"\x00", id="field number 0"),
        pytest.param(b"\x0c", id="a group that never began"),
        pytest.param(b"\x0b" * 10_000, id="groups without end"),
        pytest.param(b"\x08" + b"\xff" * 11, id="a number without end"),
        pytest.param(b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", id="a length beyond everything"),
    ],
)
def test_refuses_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(DecodeError, match="cannot be parsed"):
        decode(Refusal, data)


@pytest.mark.parametrize("number", [0, 2, 2**32 - 1])
def test_refuses_another_format(number: int) -> None:
    header = RequestHeader.FromString(HEADER)
    header.format = number
    with pytest.raises(DecodeError, match=f"format {number}"):
        decode(RequestHeader, encode(header))


def test_a_message_without_a_format_needs_none() -> None:
    assert decode(Envelope, b"") == Envelope()
    assert decode(KeyStatement, b"") == KeyStatement()


UNKNOWN_NUMBERS = [
    RequestHeader(format=1, operation=3),
    RequestHeader(format=1, operation=-1),
    Entry(format=1, kind=99),
    AccessLeaf(format=1, kind=4),
    AccessLeaf(format=1, code=99),
    Refusal(format=1, code=99),
    Dataset(format=1, operations=[1, 2, 3]),
    Dataset(format=1, fields=[{"name": "a", "type": 6}]),
    Agreement(format=1, row_filter=Filter(comparison=Comparison(comparator=7))),
    Query(format=1, selection={"filter": {"all_of": {"filters": [{"comparison": {"comparator": -2}}]}}}),
]


@pytest.mark.parametrize("message", UNKNOWN_NUMBERS, ids=str)
def test_refuses_numbers_of_enums_that_it_does_not_know(message: Message) -> None:
    with pytest.raises(DecodeError, match="number that this version does not know"):
        decode(type(message), encode(message))


def test_refuses_input_over_its_limit_before_parsing_it() -> None:
    assert decode(RequestHeader, HEADER, len(HEADER))
    with pytest.raises(DecodeError, match="at most"):
        decode(RequestHeader, HEADER, len(HEADER) - 1)
    with pytest.raises(DecodeError, match="at most 4,194,304 are allowed"):
        decode(RequestHeader, bytes(MAX_FRAME + 1))
    with pytest.raises(DecodeError, match="cannot be parsed"):
        decode(RequestHeader, bytes(MAX_FRAME))


# The fields that lead from a Filter to the next one.
WAYS = {"negation": (3,), "all of": (1, 1), "any of": (2, 1)}


def nested(way: tuple[int, ...], depth: int) -> bytes:
    """A message in a message in a message, `depth` deep, each in the next field of the way."""
    parts: list[bytes] = []
    size = 0
    for level in reversed(range(depth)):
        parts.append(bytes([way[level % len(way)] << 3 | 2]) + _varint(size))
        size += len(parts[-1])
    return b"".join(reversed(parts))


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def test_handcrafted_filters_are_what_they_should_be() -> None:
    assert nested((3,), 2) == encode(Filter(negation=Filter(negation=Filter())))
    assert nested((2, 1), 2) == encode(Filter(any_of=Filters(filters=[Filter()])))


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("depth", [2, 16, 96])
def test_filters_nested_within_the_parsers_limit_are_read(way: tuple[int, ...], depth: int) -> None:
    data = nested(way, depth)
    assert encode(decode(Filter, data)) == data


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("depth", [102, 1_000, 10_000])
def test_filters_nested_deeper_are_refused(way: tuple[int, ...], depth: int) -> None:
    with pytest.raises(DecodeError, match="cannot be parsed"):
        decode(Filter, nested(way, depth))


@pytest.mark.parametrize("depth", [110, 10_000])
def test_deeply_nested_row_filters_of_agreements_are_refused(depth: int) -> None:
    row_filter = nested((3,), depth)
    data = b"\x08\x01\x5a" + _varint(len(row_filter)) + row_filter
    with pytest.raises(DecodeError, match="cannot be parsed"):
        decode(Agreement, data)


@pytest.mark.parametrize("depth", [97, 98, 99, 100, 101])
def test_at_the_parsers_limit_a_filter_is_read_or_refused(depth: int) -> None:
    data = nested((3,), depth)
    try:
        assert encode(decode(Filter, data)) == data
    except DecodeError:
        assert depth > 98


def test_a_decode_error_is_a_core_error() -> None:
    assert issubclass(DecodeError, CoreError)


def test_refuses_more_parts_than_anybody_needs() -> None:
    """Four mebibytes of empty frames cost a peer nothing; they must not cost the broker its loop."""
    # Each frame is a part, and so is what it holds.
    frames = [AdapterFrame(ready=Ready())] * (MAX_PARTS // 2)
    few = encode(AttachRequest(frames=frames[1:]))
    assert decode(AttachRequest, few).frames
    with pytest.raises(DecodeError, match="parts"):
        decode(AttachRequest, encode(AttachRequest(frames=frames)))
