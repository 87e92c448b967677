"""An invite is read back as it was written, or refused with what is wrong with it."""

import datetime
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from exchange.broker.authority import found_authority
from exchange.cli.frame.errors import WrongUsageError
from exchange.cli.frame.output import grouped
from exchange.cli.frame.times import DAY
from exchange.cli.joining.admission import AdmissionError, write_texts
from exchange.cli.joining.invite_file import (
    FORMAT,
    InviteError,
    InviteFile,
    _digest,
    authority_fingerprint,
    check_expiry,
    read_invite,
)
from exchange.cli.joining.inviting import span_of
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.note import NoteSigner
from exchange.core.trust import Trust, encode_trust
from tests.certificates import AUTHORITY_KEY
from tests.memory import fixed, signer

ORIGIN = "city.example"
NOW = 1_800_000_000_000
AUTHORITY = found_authority(AUTHORITY_KEY, ORIGIN, datetime.datetime(2027, 1, 15, tzinfo=datetime.UTC))


def trust_of(name: str = ORIGIN, root: str = "root") -> str:
    logs = [
        NoteSigner(f"{name}/{log}", ed25519.Ed25519PrivateKey.from_private_bytes(fixed(log))).verifier
        for log in ("directory", "access")
    ]
    return encode_trust(Trust(name, signer(root).public_key, *logs, AUTHORITY.pem.decode(), ("b.city.example:7443",)))


INVITE = InviteFile(
    Party(ORIGIN, "schools"), "department", fixed("code"), NOW + 7 * DAY, "b.city.example:7444", trust_of()
)


def edited(**changes: Any) -> bytes:
    """The invite with some texts changed, by somebody who makes its digest fit again."""
    values = {**json.loads(INVITE.encode()), **changes}
    values.pop("format")
    values.pop("sha256")
    return write_texts(FORMAT, **values, sha256=_digest(values))


@pytest.mark.parametrize(
    "invite",
    [
        INVITE,
        replace(INVITE, party=Party(ORIGIN, "schools", "records"), role="system", address="[2001:db8::1]:1"),
        replace(INVITE, role="auditor", address="127.0.0.1:65535"),
    ],
)
def test_an_invite_is_read_back_the_same(invite: InviteFile) -> None:
    assert read_invite(invite.encode()) == invite


def test_people_find_the_fingerprints_in_it() -> None:
    shown = json.loads(INVITE.encode())
    assert shown["root_fingerprint"] == grouped(key_id(signer("root").public_key))
    assert shown["tls_fingerprint"] == grouped(authority_fingerprint(INVITE.trusted))


def test_no_error_and_no_log_shows_the_code() -> None:
    assert INVITE.code.hex() not in repr(INVITE)
    assert "code" not in repr(INVITE)


@pytest.mark.parametrize("name", ["party", "role", "code", "expires_at", "address", "root_fingerprint", "trust"])
def test_what_was_altered_on_its_way_is_noticed(name: str) -> None:
    values = json.loads(INVITE.encode())
    text = values[name]
    values[name] = text[:-2] + ("0" if text[-2] != "0" else "1") + text[-1]
    with pytest.raises(InviteError, match="was altered, or cut short") as caught:
        read_invite(json.dumps(values).encode())
    assert caught.value.exit_code == 5
    assert caught.value.hint


def test_every_part_of_a_cut_invite_is_refused() -> None:
    data = INVITE.encode()
    for end in range(0, len(data) - 2, 97):
        with pytest.raises(AdmissionError):
            read_invite(data[:end])


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "not JSON": (lambda: b"{", "not an invite"),
    "another file of ours": (lambda: write_texts("exchange.v1/admission", party="x"), "not an invite"),
    "a text too many": (lambda: edited(more="x"), "exactly these texts"),
    "a number": (lambda: INVITE.encode().replace(b'"department"', b"3"), "exactly these texts"),
    "an upper-case name": (lambda: edited(party="exchange://city.example/Schools"), "not a name segment"),
    "a name in another script": (lambda: edited(party="exchange://city.example/\u0455chools"), "not a name segment"),
    "the exchange itself": (lambda: edited(party="exchange://city.example"), "cannot have the role"),
    "a role that its name cannot have": (lambda: edited(role="system"), "cannot have the role system"),
    "an unknown role": (lambda: edited(role="root"), "cannot have the role root"),
    "a short code": (lambda: edited(code="00" * 31), "code: not 32 bytes"),
    "a code in capitals": (lambda: edited(code=INVITE.code.hex().upper()), "code: not 32 bytes"),
    "a code that is no hexadecimal": (lambda: edited(code="x" * 64), "code: not in hexadecimal"),
    "no time": (lambda: edited(expires_at="tomorrow"), "cannot be read"),
    "a time in another form": (lambda: edited(expires_at="2027-01-22T09:00:00+01:00"), "expires_at: not YYYY"),
    "no address": (lambda: edited(address="b.city.example"), "address: not HOST:PORT"),
    "an address with more in it": (lambda: edited(address="dns:///b.city.example:1"), "address: not HOST:PORT"),
    "no trust file": (lambda: edited(trust="name ="), "cannot be read"),
    "a trust file of another exchange": (
        lambda: edited(trust=trust_of("town.example")),
        "is of town.example",
    ),
    "another root key": (lambda: edited(trust=trust_of(root="thief")), "fingerprints are not those"),
    "another root fingerprint": (lambda: edited(root_fingerprint=grouped(bytes(32))), "fingerprints are not those"),
    "another TLS fingerprint": (lambda: edited(tls_fingerprint=grouped(bytes(32))), "fingerprints are not those"),
    "an authority that is none": (
        lambda: edited(trust=INVITE.trust.replace("BEGIN CERTIFICATE", "BEGIN NOTHING")),
        "cannot be read",
    ),
}


@pytest.mark.parametrize(("made", "says"), WRONG.values(), ids=WRONG)
def test_what_does_not_hold_is_named(made: Callable[[], bytes], says: str) -> None:
    with pytest.raises(AdmissionError, match=says):
        read_invite(made())


def test_an_invite_holds_to_its_last_moment() -> None:
    check_expiry(INVITE, INVITE.expires_at)
    with pytest.raises(InviteError, match="the invite has expired: it was valid until 2027-01-22") as caught:
        check_expiry(INVITE, INVITE.expires_at + 1)
    assert "clock" in caught.value.hint


@pytest.mark.parametrize(("text", "span"), [("7d", 7 * DAY), ("12h", DAY // 2), ("30m", DAY // 48), ("30d", 30 * DAY)])
def test_a_span_is_a_number_and_a_unit(text: str, span: int) -> None:
    assert span_of(text) == span


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "31d", "-1d", "7 d", "7D", "1w", "٣d", "1.5h", "721h", "99999m"])
def test_refuses_what_is_no_span(text: str) -> None:
    with pytest.raises(WrongUsageError, match="is no span of up to 30 days"):
        span_of(text)
