"""The newcomer's home while it waits: made from an invite, kept until the answer, finished by it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.times import now
from exchange.cli.joining.admission import (
    Admission,
    KeyRequest,
    certificate_end,
    check_certificate,
    new_key_request,
    read_key_request,
    tls_public_key,
)
from exchange.cli.joining.invite_file import InviteFile, check_expiry, read_invite
from exchange.client.joining import Entrance, hand_in
from exchange.core.trust import parse_trust
from exchange.home import UNFINISHED, Home, HomeError, write_file
from exchange.v1.joining_pb2 import JoinResponse

INVITE = "invite.json"
REQUEST = "request.json"
CERTIFICATE = "tls.pem"
TRUST = "trust.toml"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A home that waits to be admitted: its invite, and the key request that it hands in."""

    home: Home
    invite: InviteFile
    request: KeyRequest

    @property
    def parent(self) -> str:
        """Who is to approve, in words."""
        return f"the steward of {self.request.party.parent}" if self.request.party.is_system else "the operator"


def arrive(path: Path, file: Path) -> Arrival:
    """Make a home from an invite; a home that was made from one before goes on with the same keys.

    Args:
        path: the home's folder; file: the invite.

    Raises:
        InviteError: the invite does not hold, or has expired.
        CommandError: the folder is another party's home, or has joined already.
        HomeError: it cannot be made.
    """
    data = file.read_bytes()
    invite, home = read_invite(data), Home(path)
    _check_finished(path)
    if not home.is_made:
        check_expiry(invite, now())
        return _new(home, invite, data)
    if home.party != invite.party or home.role != invite.role:
        raise WrongUsageError(
            f"{path} is the home of {home.party} ({home.role}), and the invite is for {invite.party} ({invite.role})",
            "choose another folder with --home",
        )
    if (path / CERTIFICATE).exists():
        raise CommandError(f"{home.party} has joined already", f"`exchange status --home {path}`", ExitCode.USAGE)
    # Another invite for the same party, when the first one has expired: the keys are those that are here.
    write_file(path / INVITE, data, 0o600)
    return resume(path)


def resume(path: Path) -> Arrival:
    """A home that waits.

    Raises:
        CommandError: it has joined already, or was not made from an invite.
        HomeError: something in it cannot be read.
    """
    home = Home(path)
    _check_finished(path)
    if (path / CERTIFICATE).exists():
        raise CommandError(f"{home.party} has joined already", f"`exchange status --home {path}`", ExitCode.USAGE)
    if not (path / INVITE).exists():
        raise WrongUsageError(f"{path} waits for nothing: no invite was used there", "`exchange join FILE --home DIR`")
    invite = read_invite(home.read(INVITE))
    request = read_key_request(home.read(REQUEST), now())
    if request.party != invite.party:
        raise CommandError(f"the key request in {path} is of {request.party}, and the invite for {invite.party}")
    return Arrival(home, invite, request)


def ask(arrival: Arrival) -> JoinResponse:
    """Hand the key request in, or ask how it stands.

    Raises:
        RefusedError: the invite is not known, has expired or was used with another key.
        UnavailableError: no answer.
    """
    invite, request = arrival.invite, arrival.request
    entrance = Entrance(invite.address, invite.trusted.tls_ca.encode(), invite.code)
    return asyncio.run(hand_in(entrance, str(request.party), request.statement, request.csr))


def install(arrival: Arrival, certificate: bytes) -> int:
    """Finish a home with its certificate, and the trust file out of the invite; returns until when it is valid.

    Raises:
        AdmissionError: the certificate is not for this home's key, or not the authority's.
        CommandError: another trust file is here.
    """
    home, invite = arrival.home, arrival.invite
    admission = Admission(home.party, certificate, invite.trust)
    check_certificate(admission, invite.trusted.tls_ca, tls_public_key(home), now())
    if (home.path / TRUST).exists() and home.trust != parse_trust(invite.trust):
        raise CommandError(
            f"{home.path / TRUST} is another trust file than the invite's",
            f"ask {arrival.parent}, by telephone, which one is right; nothing was changed",
            ExitCode.UNTRUSTED,
        )
    home.write(TRUST, invite.trust.encode())
    home.write(CERTIFICATE, certificate)
    # The code is of no more use.
    (home.path / INVITE).unlink(missing_ok=True)
    return certificate_end(certificate)


def _check_finished(path: Path) -> None:
    if (path / UNFINISHED).exists():
        raise HomeError(f"the home in {path} was not finished", f"delete {path}, and run this again", ExitCode.USAGE)


def _new(home: Home, invite: InviteFile, data: bytes) -> Arrival:
    home = Home.create(home.path, invite.party, invite.role, finished=False)
    home.new_private_key("signing")
    request = new_key_request(invite.party, invite.role, home.signer(), home.new_tls_request(), now())
    home.write(REQUEST, request.encode())
    write_file(home.path / INVITE, data, 0o600)
    home.finish()
    return Arrival(home, invite, request)
