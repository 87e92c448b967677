"""The invite: a file that a parent sends to whoever is to join.

JSON of a fixed form. It holds a one-time code, so it is for one reader; without the parent's approval it admits nobody.
Its digest finds what was altered by accident. Whoever alters it on purpose can make it name another exchange: so the
root key's fingerprint is read out by telephone, like the new key's (DESIGN section 3).
"""

import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from exchange.cli.frame.errors import ExitCode
from exchange.cli.frame.output import grouped
from exchange.cli.frame.times import SECOND, iso
from exchange.cli.joining.admission import AdmissionError, read_texts, role_of, write_texts
from exchange.core.errors import CoreError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.trust import Trust, parse_trust

FORMAT = "exchange.v1/invite"
CODE = 32

_KEYS = ("party", "role", "code", "expires_at", "address", "root_fingerprint", "tls_fingerprint", "trust", "sha256")
_WHAT = "an invite"
_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}", re.ASCII)
_AGAIN = "ask whoever invited you to send the file again"


class InviteError(AdmissionError):
    """A file is no invite, or not the one that was sent."""


@dataclass(frozen=True, slots=True, repr=False)
class InviteFile:
    """What an invite says.

    Args:
        party: who is invited; role: one of `ROLES`.
        code: the one-time code, 32 bytes.
        expires_at: milliseconds, whole seconds.
        address: where it is handed in, HOST:PORT.
        trust: the text of the exchange's trust file.
    """

    party: Party
    role: str
    code: bytes
    expires_at: int
    address: str
    trust: str

    @property
    def trusted(self) -> Trust:
        """What its trust file says.

        Raises:
            TrustError: it cannot be read.
        """
        return parse_trust(self.trust)

    def encode(self) -> bytes:
        """The file's text."""
        trust = self.trusted
        values = {
            "party": str(self.party),
            "role": self.role,
            "code": self.code.hex(),
            "expires_at": iso(self.expires_at),
            "address": self.address,
            # For people: the keys themselves are in the trust file.
            "root_fingerprint": grouped(key_id(trust.root_key)),
            "tls_fingerprint": grouped(authority_fingerprint(trust)),
            "trust": self.trust,
        }
        return write_texts(FORMAT, **values, sha256=_digest(values))


def read_invite(data: bytes) -> InviteFile:
    """Read an invite, and check that all of it belongs together; whether it has expired is asked apart.

    Raises:
        InviteError: the text says what does not hold.
    """
    values = read_texts(data, FORMAT, _WHAT, _KEYS)
    claimed = values.pop("sha256")
    values.pop("format")
    if _digest(values) != claimed:
        raise InviteError("the invite was altered, or cut short on its way", _AGAIN, ExitCode.UNTRUSTED)
    try:
        invite = _read(values)
        trust = invite.trusted
        prints = {"root_fingerprint": key_id(trust.root_key), "tls_fingerprint": authority_fingerprint(trust)}
    except (CoreError, ValueError) as error:
        raise InviteError(f"the invite cannot be read: {error}", _AGAIN) from error
    if trust.name != invite.party.domain:
        raise InviteError(f"the invite's trust file is of {trust.name}", _AGAIN, ExitCode.UNTRUSTED)
    if any(values[name] != grouped(digest) for name, digest in prints.items()):
        raise InviteError("the invite's fingerprints are not those of its trust file", _AGAIN, ExitCode.UNTRUSTED)
    return invite


def check_expiry(invite: InviteFile, now: int) -> None:
    """Refuse an invite that has expired, before anything is made or sent.

    Args:
        now: milliseconds.

    Raises:
        InviteError: it has.
    """
    if now > invite.expires_at:
        raise InviteError(
            f"the invite has expired: it was valid until {iso(invite.expires_at)}",
            "ask whoever invited you for another one; if it should be valid, check this machine's clock",
        )


def authority_fingerprint(trust: Trust) -> bytes:
    """SHA-256 of the TLS authority's first certificate, DER.

    Raises:
        ValueError: no certificate.
    """
    return x509.load_pem_x509_certificate(trust.tls_ca.encode()).fingerprint(hashes.SHA256())


def _read(values: dict[str, str]) -> InviteFile:
    try:
        code = binascii.unhexlify(values["code"])
    except ValueError as error:
        raise InviteError("code: not in hexadecimal", _AGAIN) from error
    if len(code) != CODE or code.hex() != values["code"]:
        raise InviteError(f"code: not {CODE} bytes in small hexadecimal digits", _AGAIN)
    if not _ADDRESS.fullmatch(values["address"]):
        raise InviteError("address: not HOST:PORT", _AGAIN)
    party, moment = Party.parse(values["party"]), datetime.fromisoformat(values["expires_at"])
    expires_at = int(moment.timestamp()) * SECOND
    if iso(expires_at) != values["expires_at"]:
        raise InviteError("expires_at: not YYYY-MM-DDTHH:MM:SSZ", _AGAIN)
    role = role_of(party, values["role"])
    return InviteFile(party, role, code, expires_at, values["address"], values["trust"])


def _digest(values: dict[str, str]) -> str:
    text = json.dumps({"format": FORMAT, **values}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
