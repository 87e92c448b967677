"""Signed reports: an auditor vouches for a file, and for how far both logs were verified when it was made.

    exchange-audit report v1
    exchange city.example
    signer exchange://city.example/auditor
    sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    size 4
    time 1800000000000
    directory 11 CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
    access 5 sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

    — exchange://city.example/auditor CiCk...

    c2sp.org/tlog-proof@v1
    ...

The text is the payload of an envelope of kind `exchange.v1/report`, whose bytes follow in Base64. The proof is of the
directory entry by which the root gave the auditor its key, so a stranger needs the trust file and nothing else.
"""

import re
from dataclasses import dataclass
from typing import Final

from exchange.core.envelope import REPORT, Draft, Envelope, decode_envelope, sign, verify_signature
from exchange.core.errors import CoreError, DecodeError
from exchange.core.fold import read_key_entry
from exchange.core.keys import Signer
from exchange.core.merkle import MAX_SIZE
from exchange.core.note import decode_base64, encode_base64
from exchange.core.tlog_proof import MAX_PROOF, TlogProof, encode_proof, parse_proof, verify_proof
from exchange.core.trust import Trust
from exchange.core.wire import MAX_TIME
from exchange.v1.directory_pb2 import Key, Role

MAX_REPORT: Final = MAX_PROOF + (1 << 16)
"""Bytes of the longest signature file that is read; the file it is about may be of any length."""

_NUMBER: Final = "(0|[1-9][0-9]{0,18})"
_BASE64: Final = "([A-Za-z0-9+/]{43}=)"
_TEXT: Final = re.compile(
    r"exchange-audit report v1\n"
    r"exchange ([^\n]{1,255})\n"
    r"signer ([^\n]{1,1000})\n"
    r"sha256 ([0-9a-f]{64})\n"
    rf"size {_NUMBER}\n"
    rf"time {_NUMBER}\n"
    rf"directory {_NUMBER} {_BASE64}\n"
    rf"access {_NUMBER} {_BASE64}\n"
)
_DASH: Final = "— "


class ReportError(CoreError):
    """A signed report is malformed, or not signed by the key of one of the exchange's auditors."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an auditor signs.

    Args:
        exchange: the exchange's name; signer: the auditor's.
        sha256: of the file, 32 bytes; size: its bytes.
        time: when it was signed, by the auditor's clock, milliseconds.
        directory, access: size and 32-byte root of each log as the auditor had verified it.
    """

    exchange: str
    signer: str
    sha256: bytes
    size: int
    time: int
    directory: tuple[int, bytes]
    access: tuple[int, bytes]

    def encode(self) -> bytes:
        """The text that is signed."""
        logs = (("directory", self.directory), ("access", self.access))
        lines = "".join(f"{name} {size} {encode_base64(root)}\n" for name, (size, root) in logs)
        return (
            f"exchange-audit report v1\nexchange {self.exchange}\nsigner {self.signer}\n"
            f"sha256 {self.sha256.hex()}\nsize {self.size}\ntime {self.time}\n{lines}"
        ).encode()


@dataclass(frozen=True, slots=True)
class SignedReport:
    """A report whose signature holds, by a key that the root gave to an auditor.

    Args:
        report: what was signed.
        key: the auditor's, as the directory has it; whether it was revoked later is the directory's to say.
        key_id: SHA-256 of its SubjectPublicKeyInfo.
        checkpoint: the directory's signed one that holds the key, for whoever asks for witnesses.
    """

    report: Report
    key: Key
    key_id: bytes
    checkpoint: bytes


def sign_report(report: Report, signer: Signer, key_proof: TlogProof) -> bytes:
    """Sign a report.

    Args:
        report: names the party that holds the key.
        signer: its key.
        key_proof: of the directory entry with the key, the leaf as `extra`.
    """
    return _encode(report, sign(signer, report.exchange, Draft(REPORT, report.encode())), key_proof)


def open_report(data: bytes, trust: Trust) -> SignedReport:
    """Verify a signed report by the trust file alone.

    Args:
        data: as `sign_report` wrote it, at most `MAX_REPORT` bytes.
        trust: the exchange's root key and its directory log's key.

    Raises:
        CoreError: malformed, of another exchange, or the key is not one that the root gave to the auditor named.
    """
    envelope, proof = _split(data)
    verify_proof(proof, proof.extra, trust.directory_log)
    key = read_key_entry(proof.extra, trust.name, trust.root_key)
    # Verified before it is parsed.
    verify_signature(envelope, trust.name, key.public_key)
    report = _parse(envelope.payload)
    if _encode(report, envelope, proof) != data:
        raise ReportError("the file says something else than what was signed, or says it otherwise")
    if report.exchange != trust.name:
        raise ReportError(f"the report is of {report.exchange[:80]}, not of {trust.name}")
    if key.role != Role.ROLE_AUDITOR or key.party != report.signer:
        raise ReportError(f"the key is that of {key.party}, and no auditor's of the name {report.signer[:80]}")
    if not key.not_before <= report.time <= key.not_after:
        raise ReportError("the key was not valid when the report says that it was signed")
    return SignedReport(report, key, envelope.key_id, proof.checkpoint)


def _encode(report: Report, envelope: Envelope, proof: TlogProof) -> bytes:
    """The one form of a signed report."""
    line = f"{_DASH}{report.signer} {encode_base64(envelope.encode())}\n"
    return report.encode() + b"\n" + line.encode() + b"\n" + encode_proof(proof)


def _split(data: bytes) -> tuple[Envelope, TlogProof]:
    """The envelope and the proof; that all else fits them is seen when it is written again."""
    parts = data.split(b"\n\n", 2)
    if len(data) > MAX_REPORT or len(parts) != 3:
        raise ReportError("not a signed report")
    encoded = parts[1].decode("utf-8", "replace").rpartition(" ")[2]
    return decode_envelope(decode_base64(encoded), REPORT), parse_proof(parts[2])


def _parse(text: bytes) -> Report:
    match = _TEXT.fullmatch(text.decode("utf-8", "replace"))
    if match is None:
        raise DecodeError("the report's text is malformed")
    exchange, signer, sha256, size, time = match.groups()[:5]
    directory, access = ((int(match[at]), decode_base64(match[at + 1])) for at in (6, 8))
    if int(time) > MAX_TIME or max(int(size), directory[0], access[0]) > MAX_SIZE:
        raise DecodeError("a number in the report is out of range")
    return Report(exchange, signer, bytes.fromhex(sha256), int(size), int(time), directory, access)
