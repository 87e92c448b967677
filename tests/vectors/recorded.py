"""Real bytes of every message of this version of the protocol, out of the worked example: recorded-MAJOR.MINOR.json.

The file of a version that was released never changes again: later versions read it, and so does who implements one.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.message import Message

from exchange.core.protocol import PROTOCOL
from exchange.core.wire import encode
from exchange.v1 import (
    access_pb2,
    directory_pb2,
    envelope_pb2,
    gateway_pb2,
    ledger_pb2,
    log_pb2,
    relay_pb2,
    request_pb2,
)
from exchange.v1.access_pb2 import AccessKind
from exchange.v1.envelope_pb2 import Receipt
from tests.vectors.chosen import DIRECTORY_SIZE, NUMBERS, TEXTS, Example

FOLDER = Path(__file__).parent
RECORDED = FOLDER / f"recorded-{PROTOCOL}.json"
MODULES = (access_pb2, directory_pb2, envelope_pb2, gateway_pb2, ledger_pb2, log_pb2, relay_pb2, request_pb2)

# What is signed, hashed or kept, by its name in the worked example.
KEPT: Mapping[str, str] = {
    "broker_key.key": "Key",
    "sealing_key.key": "Key",
    "dataset.body": "Dataset",
    "application.body": "Application",
    "agreement.body": "Agreement",
    **{
        f"{name}.payload": "Entry"
        for name in ("broker_key", "owner_key", "sealing_key", "purpose", "dataset", "application", "agreement")
    },
    **{f"directory.leaf_{number}": "DirectoryLeaf" for number in range(DIRECTORY_SIZE)},
    **{f"{name}.frame": "Envelope" for name in ("purpose", "request", "response", "refused", "refusal")},
    **{f"batch.frame_{number}": "Envelope" for number in range(3)},
    "request.payload": "Sealed",
    "request.header": "RequestHeader",
    "request.query": "Query",
    "response.payload": "Sealed",
    "response.header": "ResponseHeader",
    "response.answer": "Answer",
    "refusal.payload": "Refusal",
    "ledger.row": "LedgerRow",
    **{f"access.leaf_{number}": "AccessLeaf" for number in range(3)},
    "access.body_1": "AccessBody",
    "access.receipt_1": "Receipt",
}


def message_class(name: str) -> type[Message]:
    """The class of a message, by its name in the contract."""
    return next(kind for module in MODULES if (kind := getattr(module, name, None)) is not None)


def as_json(example: Example) -> str:
    """The file: what is read strictly, then what only carries it, each with its message's name."""
    kept = {name: {"message": message, "bytes": example.values[name].hex()} for name, message in KEPT.items()}
    carried = {
        name: {"message": type(message).DESCRIPTOR.name, "bytes": encode(message).hex()}
        for name, message in _carried(example.values)
    }
    document = {"protocol": str(PROTOCOL), "kept": kept, "carried": carried}
    return json.dumps(document, indent=1) + "\n"


def _carried(values: Mapping[str, bytes]) -> Iterator[tuple[str, Message]]:
    receipt = Receipt.FromString(values["access.receipt_1"])
    yield "submit.request", relay_pb2.SubmitRequest(envelope=values["request.frame"])
    yield "submit.response", relay_pb2.SubmitResponse(envelope=values["response.frame"], receipt=receipt)
    yield "submit.refused", relay_pb2.RefusalDetail(envelope=values["refusal.frame"])
    yield from _tunnel(values, receipt)
    yield from _directory(values, receipt)
    yield from _access(values)


def _tunnel(values: Mapping[str, bytes], receipt: Receipt) -> Iterator[tuple[str, Message]]:
    adapter: Mapping[str, Mapping[str, Message]] = {
        "hello": {"hello": gateway_pb2.Hello(format=1, directory_size=DIRECTORY_SIZE)},
        "offer": {"offer": gateway_pb2.Offer(request=values["request.frame"], response=values["response.frame"])},
        "ready": {"ready": gateway_pb2.Ready()},
        "reply": {"reply": gateway_pb2.Reply(flight=1, envelope=values["response.frame"])},
        "leaving": {"leaving": gateway_pb2.Leaving()},
    }
    broker: Mapping[str, Mapping[str, Message]] = {
        "delivery": {"delivery": gateway_pb2.Delivery(flight=1, envelope=values["request.frame"], timeout=9_500)},
        "settlement": {
            "settlement": gateway_pb2.Settlement(response_digest=values["response.digest"], receipt=receipt)
        },
        "directory_head": {"directory_head": gateway_pb2.DirectoryHead(size=DIRECTORY_SIZE)},
        "left": {"leaving": gateway_pb2.Leaving()},
    }
    for name, frame in adapter.items():
        yield f"tunnel.{name}", gateway_pb2.AttachRequest(frames=[gateway_pb2.AdapterFrame(**frame)])  # type: ignore[arg-type]
    for name, frame in broker.items():
        yield f"tunnel.{name}", gateway_pb2.AttachResponse(frames=[gateway_pb2.BrokerFrame(**frame)])  # type: ignore[arg-type]


def _directory(values: Mapping[str, bytes], receipt: Receipt) -> Iterator[tuple[str, Message]]:
    checkpoint = values[f"directory.checkpoint_{DIRECTORY_SIZE}"]
    records = [
        log_pb2.Record(index=8, leaf=values["directory.leaf_8"], body=values["dataset.attachment"]),
        log_pb2.Record(index=9, leaf=values["directory.leaf_9"]),
    ]
    yield "append.request", log_pb2.AppendRequest(envelope=values["purpose.frame"])
    yield "append.response", log_pb2.AppendResponse(receipt=receipt)
    yield "directory.sync.request", log_pb2.DirectoryServiceSyncRequest(start=8)
    yield "directory.sync.response", log_pb2.DirectoryServiceSyncResponse(records=records, checkpoint=checkpoint)
    proof = log_pb2.ProofRequest(index=8, size=DIRECTORY_SIZE)
    yield "directory.prove.request", log_pb2.DirectoryServiceProveRequest(proof=proof)
    yield "directory.prove.response", log_pb2.DirectoryServiceProveResponse(path=_path(values, "directory.path_8_11"))
    yield "directory.cosigned.request", log_pb2.DirectoryServiceCosignedRequest()
    yield "directory.cosigned.response", log_pb2.DirectoryServiceCosignedResponse(cosigned=checkpoint)
    # Read by nobody here: what stands in it is for the TLS authority, which another test asks.
    asked = log_pb2.RenewRequest(
        csr=b"PKCS #10", key_id=values["keys.requester.key_id"], time=NUMBERS["issued_at"], signature=b"DER"
    )
    yield "renew.request", asked
    yield "renew.response", log_pb2.RenewResponse(certificate=b"-----BEGIN CERTIFICATE-----")


def _access(values: Mapping[str, bytes]) -> Iterator[tuple[str, Message]]:
    checkpoint, path = values["access.checkpoint_3"], _path(values, "access.path_1_3")
    record = log_pb2.Record(index=1, leaf=values["access.leaf_1"], body=values["access.body_1"])
    yield "access.sync.request", log_pb2.LogServiceSyncRequest(start=1)
    yield "access.sync.response", log_pb2.LogServiceSyncResponse(records=[record], checkpoint=checkpoint)
    yield "access.read.request", log_pb2.ReadRequest(start=1)
    yield "access.read.response", log_pb2.ReadResponse(records=[record], next=3, checkpoint=checkpoint)
    asked = log_pb2.SearchRequest(
        limit=100,
        since=NUMBERS["issued_at"],
        requester=TEXTS["applicant"],
        provider=TEXTS["owner"],
        kind=AccessKind.ACCESS_KIND_RELEASED,
    )
    yield "access.search.request", asked
    found = log_pb2.FoundEntry(record=record, path=path)
    yield "access.search.response", log_pb2.SearchResponse(entries=[found], next=3, checkpoint=checkpoint)
    yield "access.prove.request", log_pb2.LogServiceProveRequest(proof=log_pb2.ProofRequest(old_size=1, size=3))
    yield "access.prove.response", log_pb2.LogServiceProveResponse(path=_path(values, "access.consistency_1_3"))
    yield "access.cosigned.request", log_pb2.LogServiceCosignedRequest(indexes=[1])
    proven = log_pb2.InclusionPath(index=1, path=path)
    yield "access.cosigned.response", log_pb2.LogServiceCosignedResponse(cosigned=checkpoint, paths=[proven])


def _path(values: Mapping[str, bytes], name: str) -> list[bytes]:
    return [values[name][start : start + 32] for start in range(0, len(values[name]), 32)]
