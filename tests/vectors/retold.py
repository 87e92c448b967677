"""The worked example once more, by the second implementation, out of what the vector file says was chosen."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import shake_256
from pathlib import Path

from tests.vectors import independent as wire

DOCUMENT = json.loads(Path(__file__).with_name("worked-example.json").read_text())
TEXTS: dict[str, str] = DOCUMENT["texts"]
NUMBERS: dict[str, int] = DOCUMENT["numbers"]
SECRETS = {name: bytes.fromhex(digits) for name, digits in DOCUMENT["secrets"].items()}
VALUES = {name: bytes.fromhex(digits) for name, digits in DOCUMENT["values"].items()}

REQUEST, RESPONSE, REFUSAL, ENTRY = (f"exchange.v1/{kind}" for kind in ("request", "response", "refusal", "entry"))
ORIGIN = TEXTS["exchange"]
ASKED = ["name", "address"]
SIZE = 11


@dataclass
class Retold:
    """The values as the second implementation computes them."""

    values: dict[str, bytes]
    leaves: dict[str, list[bytes]]

    def signer(self, name: str) -> wire.Signer:
        return wire.Signer(SECRETS[f"keys.{name}.private"])

    def signed(self, name: str, signer: str, kind: str, payload: bytes, attachments: Sequence[bytes] = ()) -> bytes:
        """Sign a message alone; its digest."""
        key = self.signer(signer)
        digest = wire.digest_of(kind, payload)
        statement = wire.statement_of(ORIGIN, key.key_id, 1, digest)
        signature = key.sign(statement)
        self.values |= {
            f"{name}.payload": payload,
            f"{name}.pae": wire.pae(kind, payload),
            f"{name}.digest": digest,
            f"{name}.statement": statement,
            f"{name}.signature": signature,
            f"{name}.frame": wire.frame_of(key.key_id, kind, payload, signature, attachments=attachments),
        }
        return digest

    def bare(self, name: str, signer: str, kind: str) -> bytes:
        """A signed message's envelope without attachments."""
        payload, signature = self.values[f"{name}.payload"], self.values[f"{name}.signature"]
        return wire.frame_of(self.signer(signer).key_id, kind, payload, signature)

    def leaf(self, log: str, leaf: bytes) -> None:
        number = len(self.leaves[log])
        self.leaves[log].append(leaf)
        self.values |= {f"{log}.leaf_{number}": leaf, f"{log}.leaf_hash_{number}": wire.leaf_hash(leaf)}

    def hashes(self, log: str, size: int) -> list[bytes]:
        return [wire.leaf_hash(leaf) for leaf in self.leaves[log][:size]]

    def checkpoint(self, log: str, size: int) -> None:
        name, root = f"{ORIGIN}/{log}", wire.root_of(self.hashes(log, size))
        text = wire.checkpoint_text(name, size, root)
        note = wire.signed_note(text, name, SECRETS[f"logs.{log}.private"])
        self.values |= {
            f"{log}.root_{size}": root,
            f"{log}.text_{size}": text.encode(),
            f"{log}.checkpoint_{size}": note,
        }


@cache
def retold() -> Retold:
    """Everything again, out of what the vector file says was chosen."""
    told = Retold({}, {"directory": [], "access": []})
    _keys(told)
    agreement = _directory(told)
    _request(told, "request", agreement, ASKED)
    _response(told, agreement)
    _request(told, "refused", agreement, [*ASKED, TEXTS["refused_field"]])
    _refusals(told)
    _access(told)
    return told


def _keys(told: Retold) -> None:
    for name in ("root", "broker", "coordinator", "owner", "provider", "applicant", "requester"):
        signer = told.signer(name)
        told.values |= {f"keys.{name}.spki": signer.spki, f"keys.{name}.key_id": signer.key_id}
    private = shake_256(SECRETS["sealing.seed"]).digest(96)
    public = wire.SealingKey(private).public
    told.values |= {"sealing.private": private, "sealing.public": public, "sealing.key_id": wire.sha256(public)}
    for log in ("directory", "access"):
        public = wire.note_public(SECRETS[f"logs.{log}.private"])
        told.values |= {
            f"logs.{log}.public": public,
            f"logs.{log}.vkey": wire.vkey_of(f"{ORIGIN}/{log}", public).encode(),
        }


def _directory(told: Retold) -> bytes:
    """The directory log; returns the agreement's digest."""
    _key(told, "broker", "root", 6)
    _key(told, "coordinator", "root", 4)
    _key(told, "owner", "root", 2)
    _key(told, "provider", "owner", 3)
    _sealing_key(told)
    _key(told, "applicant", "root", 2)
    _key(told, "requester", "applicant", 3)
    texts = (TEXTS[name] for name in ("purpose", "purpose_label", "purpose_label_en", "legal_basis"))
    _entry(told, "purpose", "coordinator", 2, 7, wire.message(*enumerate(texts, 1)))
    fields = [wire.message((1, name), (2, name), (3, 4 if name == "birth_date" else 1)) for name in _FIELDS]
    described = ((1, 1), (2, TEXTS["dataset_code"]), (3, TEXTS["dataset_title"]), (5, TEXTS["provider"]))
    _body(
        told,
        "dataset",
        "owner",
        3,
        wire.message(*described, (6, fields), (7, _FIELDS[0]), (8, [1, 2]), (9, ["birth_date"])),
    )
    asked = ((1, 1), (2, SECRETS["dataset.object_id"]), (3, TEXTS["requester"]))
    terms = wire.message(
        *asked,
        (4, [1]),
        (5, ASKED),
        (7, [TEXTS["purpose"]]),
        (8, TEXTS["legal_basis"]),
        (9, TEXTS["scenario"]),
        (10, NUMBERS["agreement_not_after"]),
    )
    application = _body(told, "application", "applicant", 4, terms)
    validity = ((9, NUMBERS["first_entry_time"]), (10, NUMBERS["agreement_not_after"]))
    granted = wire.message(*asked, (4, application), (5, [1]), (6, ASKED), (8, [TEXTS["purpose"]]), *validity)
    agreement = _body(told, "agreement", "owner", 5, granted)
    told.checkpoint("directory", SIZE)
    told.values["directory.path_8_11"] = b"".join(wire.inclusion(8, told.hashes("directory", SIZE)))
    return agreement


_FIELDS = ("id_number", "name", "birth_date", "address")


def _key(told: Retold, name: str, parent: str, role: int) -> None:
    signer = told.signer(name)
    validity = ((6, NUMBERS["keys_not_before"]), (7, NUMBERS["keys_not_after"]))
    key = wire.message((1, 1), (2, TEXTS[name]), (3, role), (4, 1), (5, signer.spki), *validity)
    statement = wire.pae("exchange.v1/possession", wire.prefixed(ORIGIN) + key)
    possession = signer.sign(statement)
    told.values |= {
        f"{name}_key.key": key,
        f"{name}_key.possession_statement": statement,
        f"{name}_key.possession": possession,
    }
    _entry(told, f"{name}_key", parent, 1, 6, wire.message((1, key), (2, possession)))


def _sealing_key(told: Retold) -> None:
    validity = ((6, NUMBERS["keys_not_before"]), (7, NUMBERS["sealing_not_after"]))
    public = told.values["sealing.public"]
    key = wire.message((1, 1), (2, TEXTS["provider"]), (3, 3), (4, 2), (5, public), *validity)
    told.values["sealing_key.key"] = key
    _entry(told, "sealing_key", "provider", 1, 6, wire.message((1, key)))


def _body(told: Retold, name: str, owner: str, kind: int, body: bytes) -> bytes:
    attachment = SECRETS[f"{name}.salt"] + body
    digest = wire.sha256(attachment)
    told.values |= {f"{name}.body": body, f"{name}.attachment": attachment, f"{name}.body_sha256": digest}
    return _entry(told, name, owner, kind, 9, digest, (attachment,))


def _entry(
    told: Retold, name: str, owner: str, kind: int, body_number: int, body: bytes, attachments: Sequence[bytes] = ()
) -> bytes:
    identified = ((1, 1), (2, kind), (3, TEXTS[owner]), (4, SECRETS[f"{name}.object_id"]))
    payload = wire.message(*identified, (body_number, body))
    digest = told.signed(name, owner, ENTRY, payload, attachments)
    time = NUMBERS["first_entry_time"] + 1000 * len(told.leaves["directory"])
    told.leaf("directory", wire.message((1, 1), (2, time), (3, told.bare(name, owner, ENTRY))))
    return digest


def _request(told: Retold, name: str, agreement: bytes, fields: list[str]) -> None:
    values = told.values
    capsule, provider_key = SECRETS["channel.capsule"], values["sealing.key_id"]
    bound = wire.prefixed(TEXTS["requester"]) + values["keys.requester.key_id"] + wire.prefixed(TEXTS["provider"])
    values["channel.info"] = wire.prefixed(ORIGIN) + bound + provider_key
    values["channel.capsule_sha256"] = wire.sha256(capsule)
    header = wire.message(
        (1, 1),
        (2, _uuid7(SECRETS[f"{name}.id_random"])),
        (3, TEXTS["requester"]),
        (4, TEXTS["officer"]),
        (5, SECRETS["dataset.object_id"]),
        (6, agreement),
        (7, 1),
        (8, fields),
        (9, TEXTS["purpose"]),
        (10, TEXTS["case_id"]),
        (11, NUMBERS["issued_at"]),
        (12, NUMBERS["expires_at"]),
        (13, SIZE),
        (14, provider_key),
    )
    query = wire.message((1, 1), (2, wire.message((1, [wire.message((1, TEXTS["lookup_key"]))]))))
    values |= {
        f"{name}.header": header,
        f"{name}.request_id": _uuid7(SECRETS[f"{name}.id_random"]),
        f"{name}.query": query,
    }
    ciphertext = _sealed(told, name, b"request", query)
    payload = wire.message((1, header), (2, wire.sha256(capsule)), (3, wire.sha256(ciphertext)))
    told.signed(name, "requester", REQUEST, payload, (capsule, ciphertext))
    values[f"{name}.submit"] = wire.message((1, values[f"{name}.frame"]))


def _sealed(told: Retold, name: str, direction: bytes, body: bytes) -> bytes:
    header_sha256 = wire.sha256(told.values[f"{name}.header"])
    key = wire.expand(SECRETS["channel.secret"], direction + header_sha256, 32)
    ciphertext = wire.sealed(key, SECRETS[f"{name}.nonce"], body)
    told.values |= {
        f"{name}.header_sha256": header_sha256,
        f"{name}.key": key,
        f"{name}.padded": wire.padded(body),
        f"{name}.ciphertext": ciphertext,
        f"{name}.ciphertext_sha256": wire.sha256(ciphertext),
    }
    return ciphertext


def _response(told: Retold, agreement: bytes) -> None:
    values, rows, salt = told.values, TEXTS["rows"].encode(), SECRETS["response.salt"]
    values |= {"response.rows": rows, "response.rows_sha256": wire.sha256(salt, rows)}
    values["response.answer"] = wire.message((1, 1), (2, salt), (3, rows))
    values["response.header"] = wire.message(
        (1, 1),
        (2, TEXTS["provider"]),
        (3, values["request.digest"]),
        (4, agreement),
        (5, 1),
        (6, bytes(32)),
        (7, SIZE),
        (8, values["response.rows_sha256"]),
        (9, NUMBERS["answered_at"]),
    )
    ciphertext = _sealed(told, "response", b"response", values["response.answer"])
    payload = wire.message((1, values["response.header"]), (3, wire.sha256(ciphertext)))
    digest = told.signed("response", "provider", RESPONSE, payload, (ciphertext,))
    row = wire.message(
        (1, 1),
        (2, 1),
        (3, NUMBERS["answered_at"]),
        (4, TEXTS["requester"]),
        (5, values["request.request_id"]),
        (6, values["request.digest"]),
        (7, digest),
        (8, values["request.query"]),
        (9, [TEXTS["lookup_key"]]),
        (10, [TEXTS["lookup_key"]]),
        (11, 1),
    )
    values |= {"ledger.row": row, "ledger.chain_hash": wire.sha256(bytes(32), row)}


def _refusals(told: Retold) -> None:
    values, broker = told.values, told.signer("broker")
    told.signed("refusal", "broker", REFUSAL, _refusal(11, values["refused.digest"], 6, TEXTS["refused_reason"]))
    values["refusal.detail"] = wire.message((1, values["refusal.frame"]))
    refused = [wire.sha256(SECRETS[f"batch.refused_frame_{number}"]) for number in range(3)]
    payloads = [_refusal(1, digest, 1, TEXTS["overloaded_reason"]) for digest in refused]
    digests = [wire.digest_of(REFUSAL, payload) for payload in payloads]
    statement = wire.statement_of(ORIGIN, broker.key_id, 3, wire.root_of(digests))
    signature = broker.sign(statement)
    values |= {"batch.root": wire.root_of(digests), "batch.statement": statement, "batch.signature": signature}
    for number, payload in enumerate(payloads):
        path = wire.inclusion(number, digests)
        frame = wire.frame_of(broker.key_id, REFUSAL, payload, signature, (3, number, path))
        values |= {f"batch.payload_{number}": payload, f"batch.digest_{number}": digests[number]}
        values |= {f"batch.path_{number}": b"".join(path), f"batch.frame_{number}": frame}


def _refusal(code: int, request_digest: bytes, check: int, reason: str) -> bytes:
    refused = ((1, 1), (2, code), (3, TEXTS["broker"]), (4, request_digest), (5, check), (6, reason))
    return wire.message(*refused, (7, SIZE), (8, NUMBERS["answered_at"]))


def _access(told: Retold) -> None:
    values = told.values
    when, who = ((1, 1), (2, NUMBERS["released_at"])), ((5, TEXTS["requester"]), (6, TEXTS["provider"]))
    refused = ((7, values["refused.request_id"]), (8, values["refused.digest"]), (10, values["refusal.digest"]))
    released = ((7, values["request.request_id"]), (8, values["request.digest"]), (9, values["response.digest"]))
    flooded = ((8, wire.sha256(SECRETS["batch.refused_frame_2"])), (10, values["batch.digest_2"]))
    told.leaf("access", wire.message(*when, (3, 3), (4, 11), *who, *refused, (11, SIZE)))
    told.leaf("access", wire.message(*when, (3, 1), *who, *released, (11, SIZE)))
    told.leaf("access", wire.message(*when, (3, 3), (4, 1), who[0], *flooded, (11, SIZE)))
    request, response = told.bare("request", "requester", REQUEST), told.bare("response", "provider", RESPONSE)
    values["access.body_1"] = wire.message((1, request), (2, response))
    told.checkpoint("access", 1)
    told.checkpoint("access", 3)
    hashes = told.hashes("access", 3)
    path, leaf, note = wire.inclusion(1, hashes), told.leaves["access"][1], values["access.checkpoint_3"]
    values["access.path_1_3"] = b"".join(path)
    values["access.consistency_1_3"] = b"".join(wire.consistency(1, hashes))
    values["access.receipt_1"] = wire.message((1, 1), (2, leaf), (3, path), (4, note))


def _uuid7(random: bytes) -> bytes:
    number = NUMBERS["issued_at"] << 80 | int.from_bytes(random, "big")
    number = number & ~(0xF << 76) | 7 << 76
    return (number & ~(3 << 62) | 2 << 62).to_bytes(16, "big")
