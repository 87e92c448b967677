"""What a broken, malicious or clumsy peer sends: each gets its code and an entry, and the broker goes on serving."""

import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived

from exchange.client import ExchangeClient, RefusedError, lookup_query, sealer, selection_query
from exchange.client.calls import GrpcTransport, call
from exchange.client.sealer import Prepared
from exchange.core.access import read_refusal
from exchange.core.envelope import ENTRY, REQUEST, Draft, sign
from exchange.core.keys import EcdsaSigner
from exchange.core.wire import decode, encode
from exchange.home import Home
from exchange.transport import SUBMIT, open_channel
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.envelope_pb2 import Envelope as EnvelopeMessage
from exchange.v1.relay_pb2 import SubmitRequest, SubmitResponse
from exchange.v1.request_pb2 import Comparator, Comparison, Filter, Query, RequestHeader, Sealed, Value
from tests.e2e.asking import ask, prepare, refused
from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import APPLICATIONS, CIVIL, FIELDS, HOUSING, MARRIAGES, PURPOSE, RESIDENTS, person

MINUTE = 60_000


@pytest.fixture(scope="module")
def served(new_city: NewCity) -> "AsyncIterator[City]":
    with new_city() as city:
        yield city
        assert "Traceback" not in city.broker.output
        assert "Traceback" not in city.registry.output
        city.check()


def check_of(error: RefusedError) -> int:
    """The number of the check that a signed refusal names."""
    assert error.refusal is not None
    return read_refusal(error.refusal).check


async def submit(client: ExchangeClient, frame: bytes, transport: GrpcTransport | None = None) -> SubmitResponse:
    request = SubmitRequest(envelope=frame)
    return await call(transport or client.session.transport, SUBMIT, request, SubmitResponse, 10)


async def test_frames_that_are_no_envelope(served: City) -> None:
    async with served.client() as client:
        frame = (await prepare(client)).envelope.encode()
        before = len(served.access_log())
        bad = {
            "empty": b"",
            "truncated": frame[:-1],
            "half": frame[: len(frame) // 2],
            "garbage behind": frame + b"\x00",
            "an unknown field behind": frame + b"\xf8\x07\x01",
            "a field twice": frame + frame[:36],
            "text": b"SELECT 1; DROP TABLE entries",
            "too large": frame + bytes(1024 * 1024),
        }
        for name, data in bad.items():
            with refused(Code.CODE_MALFORMED) as caught:
                await submit(client, data)
            assert check_of(caught.value) == 1, name
        logged = served.access_log()[before:]
        assert [leaf.code for leaf in logged] == [Code.CODE_MALFORMED] * len(bad)
        assert [leaf.request_digest for leaf in logged] == [hashlib.sha256(data).digest() for data in bad.values()]
        assert {leaf.requester for leaf in logged} == {str(served.party(APPLICATIONS))}
        assert (await ask(client)).rows


async def test_no_flipped_bit_is_answered(served: City) -> None:
    """Signature, path, payload or attachment: whatever is touched, the request is refused with a code."""
    async with served.client() as client:
        prepared = await prepare(client)
        frame = prepared.envelope.encode()
        header = len(encode(prepared.header))
        places = [*range(0, 64, 5), *range(64, 64 + header, 23), *range(len(frame) - 90, len(frame), 13)]
        for place in places:
            flipped = bytearray(frame)
            flipped[place] ^= 0x10
            with pytest.raises(RefusedError) as caught:
                await submit(client, bytes(flipped))
            assert caught.value.code != Code.CODE_UNSPECIFIED, place
        assert served.rows_of(prepared.envelope.digest) == []


async def test_a_message_beyond_the_transport_limit_is_refused_and_the_broker_goes_on(served: City) -> None:
    async with open_channel(served.address, served.home(APPLICATIONS).tls_identity()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(SUBMIT)(bytes(5 * 1024 * 1024), timeout=10)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    async with served.client() as client:
        assert (await ask(client)).rows


def resigned(
    city: City, prepared: Prepared, change: Callable[[RequestHeader], None], signer: str = APPLICATIONS
) -> bytes:
    """A request whose header was changed and signed anew."""
    sealed = decode(Sealed, prepared.envelope.payload)
    header = decode(RequestHeader, sealed.header)
    change(header)
    changed = Sealed(
        header=encode(header), capsule_sha256=sealed.capsule_sha256, ciphertext_sha256=sealed.ciphertext_sha256
    )
    draft = Draft(REQUEST, encode(changed), prepared.envelope.attachments)
    return sign(city.home(signer).signer(), city.home(signer).trust.name, draft).encode()


async def test_signed_headers_that_are_not_in_their_form(served: City) -> None:
    injected = "'; DROP TABLE residents; --"
    changes: dict[str, Callable[[RequestHeader], None]] = {
        "format": lambda header: setattr(header, "format", 2),
        "operation": lambda header: setattr(header, "operation", 77),
        "no operation": lambda header: setattr(header, "operation", 0),
        "request id": lambda header: setattr(header, "request_id", bytes(16)),
        "short id": lambda header: setattr(header, "request_id", b"\x01"),
        "officer": lambda header: setattr(header, "officer", injected),
        "case": lambda header: setattr(header, "case_id", injected),
        "purpose": lambda header: setattr(header, "purpose", injected),
        "field": lambda header: header.fields.append(injected),
        "field twice": lambda header: header.fields.append(header.fields[0]),
        "no field": lambda header: header.ClearField("fields"),
        "dataset": lambda header: setattr(header, "dataset", b"x"),
    }
    async with served.client() as client:
        for name, change in changes.items():
            prepared = await prepare(client)
            with refused(Code.CODE_MALFORMED) as caught:
                await submit(client, resigned(served, prepared, change))
            assert check_of(caught.value) == 1, name
        prepared = await prepare(client)
        with refused(Code.CODE_IDENTITY_MISMATCH):
            await submit(
                client,
                resigned(served, prepared, lambda header: setattr(header, "requester", str(served.party(CIVIL)))),
            )


async def test_keys_that_may_not_ask(served: City) -> None:
    stranger = EcdsaSigner.of(Home(served.path / "stranger").new_private_key("signing"))  # type: ignore[arg-type]
    async with served.client() as client:
        prepared = await prepare(client)
        draft = Draft(REQUEST, prepared.envelope.payload, prepared.envelope.attachments)
        origin = client.session.trust.name
        with refused(Code.CODE_SIGNATURE_INVALID):
            await submit(client, sign(stranger, origin, draft).encode())
        with refused(Code.CODE_IDENTITY_MISMATCH):
            await submit(client, sign(served.home(HOUSING).signer(), origin, draft).encode())
        with refused(Code.CODE_SIGNATURE_INVALID):
            await submit(client, sign(client.session.signer, "other.test", draft).encode())
        with refused(Code.CODE_SIGNATURE_INVALID):
            await submit(
                client, replace(prepared.envelope, signature=prepared.envelope.signature[:-1] + b"\0").encode()
            )
        # Somebody else's connection carries a request that is good in itself.
        other = GrpcTransport((served.address,), served.home(CIVIL).tls_identity())
        try:
            with refused(Code.CODE_IDENTITY_MISMATCH):
                await submit(client, prepared.envelope.encode(), other)
        finally:
            await other.close()
        with refused(Code.CODE_MALFORMED):
            await submit(client, sign(client.session.signer, origin, Draft(ENTRY, b"")).encode())


@pytest.mark.parametrize("minutes", [-20, 2, 15])
async def test_clocks_off_by_minutes(served: City, minutes: int) -> None:
    def shift(header: RequestHeader) -> None:
        header.issued_at += minutes * MINUTE
        header.expires_at += minutes * MINUTE

    async with served.client() as client:
        prepared = await prepare(client)
        with refused(Code.CODE_EXPIRED) as caught:
            await submit(client, resigned(served, prepared, shift))
        assert check_of(caught.value) == 4
        assert "clock" in str(caught.value)


async def test_another_departments_agreement_is_not_told_from_an_unknown_one(served: City) -> None:
    async with served.client() as client:
        marriages = (await prepare(client, dataset=MARRIAGES)).agreement.digest
        reasons = set()
        for digest in (marriages, bytes(32)):
            prepared = await prepare(client)

            def change(header: RequestHeader, digest: bytes = digest) -> None:
                header.agreement = digest

            with refused(Code.CODE_NO_AGREEMENT) as caught:
                await submit(client, resigned(served, prepared, change))
            reasons.add(str(caught.value))
        assert len(reasons) == 1


def nested(depth: int) -> bytes:
    """A serialised Query whose filter negates itself so many times, written by hand: protobuf would refuse to."""
    node = encode(Filter(comparison=Comparison(field="name", comparator=1, value=Value(text="x"))))
    for _ in range(depth):
        node = b"\x1a" + _varint(len(node)) + node
    selection = b"\x0a" + _varint(len(node)) + node
    return b"\x08\x01" + b"\x1a" + _varint(len(selection)) + selection


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


async def query(client: ExchangeClient, asked: Query) -> object:
    terms = {"fields": FIELDS[RESIDENTS], "purpose": PURPOSE, "case": "C-1", "officer": "o"}
    return await client.submit(await client.prepare(RESIDENTS, asked, **terms))  # type: ignore[arg-type]


async def test_filters_that_must_not_reach_the_database(served: City, monkeypatch: pytest.MonkeyPatch) -> None:
    good = Comparison(field="household_id", comparator=Comparator.COMPARATOR_EQUAL, value=Value(text="H000001"))
    # The client would say so itself; a requester that does not use it must be stopped by the provider.
    monkeypatch.setattr("exchange.client.preparing.check_question", lambda *_: None)
    async with served.client() as client:
        for field in ("name", "birth_date", "no_such_field", 'x" OR 1=1 --'):
            one = Comparison(field=field, comparator=Comparator.COMPARATOR_EQUAL, value=Value(text="x"))
            with refused(Code.CODE_FIELD_NOT_GRANTED) as caught:
                await query(client, selection_query(Filter(comparison=one), 0))
            assert caught.value.refuser.endswith("/registry")
            assert caught.value.verified
        # What no honest client seals: the bytes are put in place of the query.
        real = sealer.encode
        for depth in (17, 99, 10_000):
            monkeypatch.setattr(
                sealer,
                "encode",
                lambda message, depth=depth: nested(depth) if isinstance(message, Query) else real(message),
            )
            with refused(Code.CODE_MALFORMED):
                await query(client, selection_query(Filter(comparison=good), 0))
        monkeypatch.undo()
        assert len((await query(client, selection_query(Filter(comparison=good), 0))).rows) == 3  # type: ignore[attr-defined]


async def test_sql_in_every_string_is_only_a_string(served: City) -> None:
    injected = "'; DROP TABLE residents; --"
    async with served.client() as client:
        asked = lookup_query([injected, person(1)], FieldType.FIELD_TYPE_TEXT)
        answer = await query(client, asked)
        assert [row["id_number"] for row in answer.rows] == [person(1)]  # type: ignore[attr-defined]
        one = Comparison(field="household_id", comparator=Comparator.COMPARATOR_EQUAL, value=Value(text=injected))
        answer = await query(client, selection_query(Filter(comparison=one), 0))
        assert answer.rows == ()  # type: ignore[attr-defined]
        assert (await ask(client, 2)).rows


async def test_tls_below_1_3_is_refused(served: City) -> None:
    identity = served.home(APPLICATIONS).path
    context = ssl.create_default_context(cadata=served.home(APPLICATIONS).trust.tls_ca)
    context.load_cert_chain(identity / "tls.pem", identity / "keys" / "tls.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    before = len(served.access_log())
    status = raw_call(served.address, context, (await one_frame(served)))
    assert status in {"16", "refused"}
    assert len(served.access_log()) == before


async def test_without_a_client_certificate_there_is_no_connection(served: City) -> None:
    context = ssl.create_default_context(cadata=served.home(APPLICATIONS).trust.tls_ca)
    context.set_alpn_protocols(["h2"])
    assert raw_call(served.address, context, b"") == "refused"


async def test_calls_without_a_deadline_are_refused(served: City) -> None:
    async with open_channel(served.address, served.home(APPLICATIONS).tls_identity()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(SUBMIT)(b"")
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "deadline" in (caught.value.details() or "")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/exchange.v1.RelayService/Nonsense")(b"", timeout=5)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def one_frame(city: City) -> bytes:
    async with city.client() as client:
        return encode(SubmitRequest(envelope=(await prepare(client)).envelope.encode()))


def raw_call(address: str, context: ssl.SSLContext, message: bytes) -> str:
    """One Submit over a TLS connection of our own; its grpc-status, or "refused" where there is no HTTP/2 at all."""
    import socket

    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            connection = H2Connection(config=H2Configuration(client_side=True, header_encoding="utf-8"))
            connection.initiate_connection()
            headers = [
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", address),
                (":path", SUBMIT),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("grpc-timeout", "5S"),
            ]
            connection.send_headers(1, headers)
            connection.send_data(1, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
            secure.sendall(connection.data_to_send())
            return _status(secure, connection)
    except (OSError, ssl.SSLError):
        return "refused"


def _status(secure: ssl.SSLSocket, connection: H2Connection) -> str:
    while data := secure.recv(65_536):
        for event in connection.receive_data(data):
            if isinstance(event, ResponseReceived | TrailersReceived):
                found = dict(event.headers).get("grpc-status")
                if found:
                    return str(found)
        secure.sendall(connection.data_to_send())
    return "refused"


async def test_every_refusal_is_an_entry_with_its_code(served: City) -> None:
    """The table above left nothing out: what is refused by the broker or the provider stands in the log."""
    codes = {Code.Name(leaf.code) for leaf in served.access_log() if leaf.kind == AccessKind.ACCESS_KIND_REFUSED}
    async with served.client() as client:
        with refused(Code.CODE_PURPOSE_NOT_GRANTED):
            await ask(client, purpose="no.such.purpose")
        with refused(Code.CODE_FIELD_NOT_GRANTED):
            await ask(client, fields=("household_id",))
    later = {Code.Name(leaf.code) for leaf in served.access_log() if leaf.kind == AccessKind.ACCESS_KIND_REFUSED}
    assert later >= codes | {"CODE_PURPOSE_NOT_GRANTED", "CODE_FIELD_NOT_GRANTED"}


def test_the_envelope_message_has_no_field_that_these_tests_leave_out() -> None:
    assert [field.name for field in EnvelopeMessage.DESCRIPTOR.fields] == [
        "key_id",
        "kind",
        "payload",
        "tree_size",
        "leaf_index",
        "path",
        "signature",
        "attachments",
    ]
