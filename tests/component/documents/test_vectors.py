"""The worked example, reproduced twice: by a second implementation from the document alone, and by exchange.core."""

import ast
import json
from functools import cache
from hashlib import shake_256
from pathlib import Path
from types import ModuleType

import pytest

from exchange.core.access import read_refusal, verify_release
from exchange.core.checkpoint import open_checkpoint
from exchange.core.decision import Allow, Deny, decide, uncounted
from exchange.core.directory import Directory
from exchange.core.envelope import Envelope, decode_envelope, verify_signature
from exchange.core.keys import sealing_private_key
from exchange.core.merkle import leaf_hash, verify_consistency, verify_inclusion
from exchange.core.note import Verifier
from exchange.core.response import check_response
from exchange.core.sealing import message_key, open_body, open_capsule
from exchange.core.wire import decode
from exchange.v1.access_pb2 import AccessBody, Code
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.ledger_pb2 import LedgerRow
from exchange.v1.relay_pb2 import RefusalDetail, SubmitRequest
from exchange.v1.request_pb2 import Answer, Query, ResponseHeader
from tests.vectors import independent, retold
from tests.vectors.__main__ import VECTORS
from tests.vectors.example import as_json, build
from tests.vectors.retold import NUMBERS, ORIGIN, SECRETS, SIZE, TEXTS, VALUES


@pytest.mark.parametrize("name", VALUES)
def test_a_second_implementation_makes_the_same_value(name: str) -> None:
    assert retold.retold().values[name].hex() == VALUES[name].hex()


def test_the_second_implementation_makes_nothing_else() -> None:
    assert retold.retold().values.keys() == VALUES.keys()


def test_a_second_implementation_opens_the_capsule() -> None:
    key = independent.SealingKey(VALUES["sealing.private"])
    assert key.open(SECRETS["channel.capsule"], VALUES["channel.info"]) == SECRETS["channel.secret"]


def test_a_capsule_of_the_second_implementation_opens() -> None:
    capsule = independent.seal_capsule(bytes(32), VALUES["sealing.public"], VALUES["channel.info"])
    private = sealing_private_key(VALUES["sealing.private"])
    assert open_capsule(capsule, private, VALUES["channel.info"]) == bytes(32)


@pytest.mark.parametrize("name", sorted(SECRETS.keys() - {"channel.capsule"}))
def test_what_would_be_random_follows_from_its_name(name: str) -> None:
    assert SECRETS[name] == shake_256(f"worked example {name}".encode()).digest(len(SECRETS[name]))


@pytest.mark.parametrize("module", [independent, retold])
def test_the_second_implementation_uses_nothing_of_the_first(module: ModuleType) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert not [
        name for name in imported if name.startswith(("exchange", "google", "cryptography.hazmat.primitives.hpke"))
    ]


# exchange.core.


@cache
def directory() -> Directory:
    """The example's directory log, folded."""
    folded = Directory.genesis(ORIGIN, VALUES["keys.root.spki"])
    bodies = {8: "dataset", 9: "application", 10: "agreement"}
    for index in range(SIZE):
        body = VALUES[f"{bodies[index]}.attachment"] if index in bodies else b""
        folded, applied = folded.apply(VALUES[f"directory.leaf_{index}"], body)
        assert not applied.reason, applied.reason
    return folded


def envelope(name: str) -> Envelope:
    return decode_envelope(VALUES[f"{name}.frame"])


def decided(name: str) -> Allow | Deny:
    return decide(directory(), envelope(name), NUMBERS["issued_at"], taken=lambda *_: None, used=uncounted)


def test_the_file_is_what_the_code_makes() -> None:
    assert as_json(build()) == VECTORS.read_text()


def test_the_directory_folds_to_the_key_that_the_header_names() -> None:
    sealing_key = directory().sealing_key(_allowed().dataset.system, NUMBERS["issued_at"])
    assert sealing_key is not None
    assert sealing_key.key_id == _allowed().asked.header.sealing_key


def _allowed() -> Allow:
    allowed = decided("request")
    assert isinstance(allowed, Allow)
    return allowed


def test_the_request_is_allowed_and_its_sealed_query_opens() -> None:
    header = decode(SubmitRequest, VALUES["request.submit"]).envelope
    assert header == VALUES["request.frame"]
    capsule, ciphertext = _allowed().asked.envelope.attachments
    channel = open_capsule(capsule, sealing_private_key(VALUES["sealing.private"]), VALUES["channel.info"])
    key = message_key(channel, b"request", VALUES["request.header"])
    query = decode(Query, open_body(key, ciphertext))
    assert query.lookup.keys[0].text == TEXTS["lookup_key"]


def test_the_other_request_is_refused_as_the_refusal_says() -> None:
    denied = decided("refused")
    refusal = read_refusal(decode_envelope(decode(RefusalDetail, VALUES["refusal.detail"]).envelope))
    assert isinstance(denied, Deny)
    assert (denied.check, denied.code) == (refusal.check, refusal.code) == (6, Code.CODE_FIELD_NOT_GRANTED)
    assert denied.reason == refusal.reason


def test_the_response_answers_the_request_and_opens() -> None:
    header = check_response(directory(), _allowed(), envelope("response"), NUMBERS["answered_at"])
    assert isinstance(header, ResponseHeader)
    key = message_key(SECRETS["channel.secret"], b"response", VALUES["response.header"])
    answer = decode(Answer, open_body(key, envelope("response").attachments[0]))
    assert json.loads(answer.rows) == json.loads(TEXTS["rows"])
    assert independent.sha256(answer.salt, answer.rows) == header.rows_sha256


def test_the_ledger_row_reads_back() -> None:
    assert decode(LedgerRow, VALUES["ledger.row"]).response_digest == VALUES["response.digest"]


@pytest.mark.parametrize("number", range(3))
def test_each_message_of_the_batch_stands_alone(number: int) -> None:
    verify_signature(decode_envelope(VALUES[f"batch.frame_{number}"]), ORIGIN, VALUES["keys.broker.spki"])


def test_the_receipt_proves_the_release_and_the_log_only_grew() -> None:
    verifier = Verifier.parse(VALUES["logs.access.vkey"].decode())
    receipt = decode(Receipt, VALUES["access.receipt_1"])
    proven = verify_release(receipt, verifier, VALUES["request.digest"], VALUES["response.digest"])
    assert (proven.index, proven.checkpoint.size) == (1, 3)
    old = open_checkpoint(VALUES["access.checkpoint_1"], verifier)
    path = _hashes(VALUES["access.consistency_1_3"])
    verify_consistency(old.size, old.root, proven.checkpoint.size, proven.checkpoint.root, path)
    body = decode(AccessBody, VALUES["access.body_1"])
    assert decode_envelope(body.response).digest == VALUES["response.digest"]


def test_the_directory_log_holds_the_dataset() -> None:
    verifier = Verifier.parse(VALUES["logs.directory.vkey"].decode())
    checkpoint = open_checkpoint(VALUES["directory.checkpoint_11"], verifier)
    path = _hashes(VALUES["directory.path_8_11"])
    verify_inclusion(leaf_hash(VALUES["directory.leaf_8"]), 8, checkpoint.size, path, checkpoint.root)


def _hashes(path: bytes) -> tuple[bytes, ...]:
    return tuple(path[start : start + 32] for start in range(0, len(path), 32))
