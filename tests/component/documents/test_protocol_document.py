"""docs/protocol.md says what the contract and the code say."""

import json
import re
from collections.abc import Iterator
from types import ModuleType

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.rpc.error_details_pb2 import ErrorInfo

from exchange import transport
from exchange.broker import status
from exchange.broker.refusals import RefusedError
from exchange.core.access import code_name
from exchange.core.envelope import KINDS, Envelope
from exchange.core.procedure import TABLE, Stage, Who
from exchange.v1 import (
    access_pb2,
    catalogue_pb2,
    directory_pb2,
    envelope_pb2,
    gateway_pb2,
    guardrail_pb2,
    joining_pb2,
    ledger_pb2,
    log_pb2,
    people_pb2,
    procedure_pb2,
    relay_pb2,
    request_pb2,
    terms_pb2,
    use_pb2,
)
from exchange.v1.access_pb2 import Code
from tests.vectors.__main__ import VECTORS
from tests.vectors.document import DOCUMENT, values_in

MODULES: tuple[ModuleType, ...] = (
    access_pb2,
    catalogue_pb2,
    directory_pb2,
    envelope_pb2,
    gateway_pb2,
    guardrail_pb2,
    joining_pb2,
    ledger_pb2,
    log_pb2,
    people_pb2,
    procedure_pb2,
    relay_pb2,
    request_pb2,
    terms_pb2,
    use_pb2,
)
MESSAGES: list[Descriptor] = [
    message for module in MODULES for message in module.DESCRIPTOR.message_types_by_name.values()
]
ENUMS: list[EnumDescriptor] = [enum for module in MODULES for enum in module.DESCRIPTOR.enum_types_by_name.values()]
METHODS = [
    f"/{service.full_name}/{method.name}"
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
TYPES = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_SINT64: "sint64",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}

TEXT = DOCUMENT.read_text()
VECTOR = json.loads(VECTORS.read_text())
SHOWN = list(values_in(TEXT))


def table(heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its two first lines."""
    lines = iter(TEXT[TEXT.index(heading) :].splitlines()[1:])
    rows = []
    for line in lines:
        if line.startswith("|"):
            # A bar inside code is written as it is; no cell that is compared has one.
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif rows:
            break
    return rows[2:]


def declared(message: Descriptor) -> Iterator[list[str]]:
    """The cells of a message's table, as the contract has it: number, name, type."""
    for field in message.fields:
        named = field.message_type or field.enum_type
        kind = named.name if named is not None else TYPES[field.type]
        if field.is_repeated:
            kind = f"repeated {kind}"
        if field.containing_oneof is not None:
            kind = f"oneof {field.containing_oneof.name}: {kind}"
        yield [str(field.number), f"`{field.name}`", kind]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_every_message_has_its_table(message: Descriptor) -> None:
    fields = list(declared(message))
    if fields:
        assert [row[:3] for row in table(f"\n**`{message.name}`**")] == fields
    else:
        assert f"**`{message.name}`** has no fields" in TEXT


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.name)
def test_every_enum_number_is_named(enum: EnumDescriptor) -> None:
    section = TEXT[TEXT.index(f"**`{enum.name}`**") :]
    for value in enum.values:
        short = value.name.removeprefix("CODE_") if enum.name == "Code" else value.name
        assert re.search(rf"(?<!\d){value.number}[ |\n]*`{short}`", section), value.name


def test_every_method_and_kind_is_named() -> None:
    assert METHODS
    paths = [value for name, value in vars(transport).items() if name.isupper() and str(value).startswith("/")]
    for name in (*METHODS, *paths, *KINDS):
        assert f"`{name}`" in TEXT, name


@pytest.mark.parametrize("code", [code for code in Code.values() if code != Code.CODE_UNSPECIFIED], ids=code_name)
def test_every_code_has_the_status_that_the_broker_gives(code: "Code.ValueType") -> None:
    [row] = [row for row in table("**`Code`**") if row[1] == f"`{code_name(code)}`"]
    refused = status.status_of(RefusedError(code, "", Envelope(bytes(32), "exchange.v1/refusal", b"", 1, 0, (), b"")))
    assert row[2] == _status_name(refused.code)
    info = ErrorInfo()
    assert refused.details[0].Unpack(info)
    assert (info.reason, info.domain) == (code_name(code), "exchange.v1")


def test_every_other_error_has_its_status() -> None:
    rows = [*(row for _, row in status._ERRORS), status._UNKNOWN]
    assert {(cells[0], cells[1]) for cells in table("Other errors have no")} == {
        (f"`{row.reason}`", row.status.name) for row in rows
    }


def test_every_check_is_listed_once_in_order() -> None:
    rows = table("## 11. Checks")
    assert [row[0] for row in rows] == [str(number) for number in range(1, 14)]
    named = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row[2])}
    assert named == {code_name(code) for code in Code.values() if code != Code.CODE_UNSPECIFIED}


def test_every_value_of_the_worked_example_is_in_the_vector_file() -> None:
    assert len(SHOWN) > 100
    known = VECTOR["secrets"] | VECTOR["values"]
    for name, value in SHOWN:
        assert value.hex() == known[name], name


def test_every_chosen_text_and_number_is_shown() -> None:
    shown = {row[0]: row[1] for heading in ("### Texts", "### Numbers") for row in table(heading)}
    chosen = {name.replace("_", " "): f"`{text}`" for name, text in VECTOR["texts"].items()}
    chosen |= {name.replace("_", " "): f"{number:,}" for name, number in VECTOR["numbers"].items()}
    assert shown == chosen


def test_the_header_field_by_field_is_the_header() -> None:
    rows = table("### The request")
    assert "".join(row[0].strip("`") for row in rows) == VECTOR["values"]["request.header"]


def test_the_note_and_the_verifier_keys_are_shown_as_text() -> None:
    for name in ("access.checkpoint_3", "logs.directory.vkey", "logs.access.vkey"):
        assert bytes.fromhex(VECTOR["values"][name]).decode() in TEXT


def test_links_lead_to_headings() -> None:
    anchors = {re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in _headings()}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def _headings() -> list[str]:
    return [line for line in TEXT.splitlines() if line.startswith("#")]


def _status_name(number: int) -> str:
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)


def test_the_document_has_every_line_of_the_table_of_procedures() -> None:
    letters = {
        Who.APPLICANT: "A",
        Who.APPLICANT_HEAD: "a",
        Who.OWNER: "O",
        Who.OWNER_HEAD: "o",
        Who.OWNER_SYSTEM: "s",
        Who.COORDINATOR: "C",
    }
    written = {
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in DOCUMENT.read_text().splitlines()
        if re.match(rf"\| ({'|'.join(Stage)}) \|", line)
    }
    expected = set()
    for (stage, act), line in TABLE.items():
        moves = (("stops", line.stops), ("pauses", line.pauses), ("starts", line.starts))
        clocks = ", ".join(f"{verb} {timer.rpartition('.')[2]}" for verb, timer in moves if timer is not None) or "–"
        who = ", ".join(letters[who] for who in letters if who in line.who)
        expected.add((str(stage), str(act), str(line.next or "the one before"), who, clocks))
    assert written == expected
