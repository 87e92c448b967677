"""Signing where there is no network: a key request goes in by file, and the signed entry comes out as another."""

import base64
from pathlib import Path

from exchange.cli.frame.acting import new_object
from exchange.cli.frame.errors import ExitCode, WrongUsageError
from exchange.cli.frame.output import grouped, print_json, print_line, print_pairs
from exchange.cli.frame.times import now
from exchange.cli.joining.admission import (
    AdmissionError,
    KeyRequest,
    base64_of,
    read_key_request,
    read_texts,
    write_texts,
)
from exchange.cli.joining.admitting import Comparison, check_fingerprint, check_parent
from exchange.core.entries import key_entry
from exchange.core.envelope import ENTRY, Envelope, decode_envelope, sign, verify_signature
from exchange.core.errors import CoreError
from exchange.core.wire import decode
from exchange.home import Home, check_writable, write_file
from exchange.v1.directory_pb2 import Entry

FORMAT = "exchange.v1/signed-entry"


def sign_request(home: Path, path: Path, comparison: Comparison, out: Path | None, as_json: bool) -> None:
    """Sign a new party's key with the key of a home, and write the entry; nothing is asked of a broker.

    Args:
        home: the parent's, with its signing key.
        path: the key request.
        comparison: of the fingerprint.
        out: where the entry goes; None is beside the request.

    Raises:
        CommandError: the request does not hold, is another parent's to sign, or the fingerprint is another.
    """
    place = Home(home)
    request = read_key_request(path.read_bytes(), now())
    check_parent(place.party, request)
    target = out or path.with_name(f"{path.stem}.signed.json")
    if target.exists():
        raise WrongUsageError(f"{target} exists already: it is not replaced", "choose another place with --out")
    check_writable(target)
    check_fingerprint(request, comparison)
    draft = key_entry(place.party, new_object().object_id, request.statement, request.csr)
    envelope = sign(place.signer(), place.party.domain, draft)
    entry = base64.b64encode(envelope.encode()).decode()
    write_file(target, write_texts(FORMAT, party=str(request.party), entry=entry), 0o644)
    if as_json:
        print_json({"party": str(request.party), "signed": str(target), "fingerprint": request.fingerprint})
        return
    print_line(f"Signed the key of {request.party} ({request.role}).")
    print_line()
    print_pairs({"entry": target, "fingerprint": grouped(request.fingerprint)})
    print_line()
    print_line("Next: carry it back, and there:")
    print_line(f"      exchange department approve {request.party.segments[-1]} --import {target.name} --home DIR")


def read_signed(data: bytes, request: KeyRequest, root_key: bytes) -> Envelope:
    """The signed entry out of a file, which must admit exactly the key that waits.

    Args:
        data: the file.
        request: what waits.
        root_key: SubjectPublicKeyInfo of the parent's key, DER.

    Raises:
        AdmissionError: another party's, another key's, or not signed by the parent.
    """
    values = read_texts(data, FORMAT, "a signed entry", ("party", "entry"))
    try:
        envelope = decode_envelope(base64_of(values, "entry"), ENTRY)
        verify_signature(envelope, request.party.domain, root_key)
        entry = decode(Entry, envelope.payload)
    except CoreError as error:
        raise AdmissionError(f"the signed entry does not hold: {error}", "", ExitCode.UNTRUSTED) from error
    if entry.key != request.statement or envelope.attachments != (request.csr,):
        raise AdmissionError(
            f"the signed entry admits another key than the one that waits for {request.party}",
            "export it again, and have that signed",
            ExitCode.UNTRUSTED,
        )
    return envelope
