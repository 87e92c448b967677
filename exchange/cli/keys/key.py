"""`exchange key`: make a party's home and keys, install what its parent gives back, and the life of keys since."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric import ec

from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.fingerprints import is_fingerprint
from exchange.cli.frame.output import grouped, print_json, print_line, print_pairs
from exchange.cli.frame.times import day_of, now
from exchange.cli.joining.admission import (
    Admission,
    KeyRequest,
    certificate_end,
    check_certificate,
    new_key_request,
    read_admission,
    role_of,
    tls_public_key,
)
from exchange.cli.keys.revoking import cancel, pending, revoke
from exchange.cli.keys.succeeding import recover, renew, rotate, settle_installed
from exchange.client.errors import RefusedError
from exchange.client.session import SHUT_OUT
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.trust import Trust, TrustError, parse_trust
from exchange.home import NEXT, Home
from exchange.succession import install_certificate, is_for, next_signer

REQUEST_FILE = "request.json"
TRUST_FILE = "trust.toml"

app = new_group(
    "Make a party's keys, install what its parent gives back; rotate, revoke and recover keys.",
    "exchange key new exchange://city.example/health --home ./health",
    "exchange key install admission.json --home ./health",
    "exchange key rotate --home ./health",
)


@app.command(
    "new",
    epilog=example(
        "exchange key new exchange://city.example/health --trust trust.toml --home ./health",
        "exchange key new exchange://city.example/health/clinic --home ./clinic",
    ),
)
def new(
    party: Annotated[str, typer.Argument(help="Its name: exchange://DOMAIN/DEPARTMENT[/SYSTEM].")],
    role: Annotated[
        str,
        typer.Option(
            help="department, coordinator, auditor, system, head or steward; follows from the name.", show_default=False
        ),
    ] = "",
    trust: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="The trust file, got from somebody you know."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a party's home: a signing key, a TLS key, and the request to its parent.

    The private keys are made here and never leave. The request goes to the parent: a department's to the operator, a
    system's to its department's steward. The fingerprint is read out to them by telephone.
    """
    name = _parsed_party(party)
    chosen = role_of(name, role)
    trust_text = _read_trust(trust, name) if trust is not None else b""
    request = _make(Home.create(home, name, chosen, finished=False), name, chosen, trust_text)
    if as_json:
        print_json(_described(request, home))
    else:
        _show_new(request, home)


@app.command(
    "install",
    epilog=example(
        "exchange key install admission.json --home ./health",
        "exchange key install admission.json --root-fingerprint '3f2a 91c0 …' --home ./health",
    ),
)
def install(
    admission: Annotated[
        Path, typer.Argument(metavar="ADMISSION", exists=True, dir_okay=False, help="What the parent gave back.")
    ],
    root_fingerprint: Annotated[
        str, typer.Option(metavar="HEX", help="The root key's fingerprint, got by telephone.", show_default=False)
    ] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Install the certificate and the trust file that the parent gave back.

    A trust file that is here already must be the same. Without one, a person compares the root key's fingerprint.
    """
    place = Home(home)
    given = read_admission(admission.read_bytes())
    trust = _admitted_trust(place, given)
    _check_root(place, trust, root_fingerprint)
    check_certificate(given, trust.tls_ca, _tls_public_key(place, given.certificate), now())
    if not (home / TRUST_FILE).exists():
        place.write(TRUST_FILE, given.trust.encode())
    install_certificate(place, given.certificate, now())
    _settle(place)
    until = certificate_end(given.certificate)
    if as_json:
        print_json({"party": str(given.party), "home": str(home), "certificate_until": day_of(until)})
        return
    print_line(f"{given.party} is installed in {home}.")
    print_line(f"Its TLS certificate is valid until {day_of(until)}.")
    print_line(f"Next: exchange status --home {home}")


app.command(
    "rotate",
    epilog=example(
        "exchange key rotate --home ./clinic",
        "exchange key rotate --home ./health",
    ),
)(rotate)
app.command("renew", epilog=example("exchange key renew --home ./health"))(renew)
app.command(
    "revoke",
    epilog=example(
        'exchange key revoke --replaced --reason "Replaced" --home ./health',
        'exchange key revoke 3f2a91c0 --since 2027-01-15T08:30 --reason "Laptop stolen" --home ./health',
    ),
)(revoke)
app.command("recover", epilog=example("exchange key recover --home ./health"))(recover)
app.command("pending", epilog=example("exchange key pending --home ./health"))(pending)
app.command("cancel", epilog=example('exchange key cancel 8c11d0a2 --reason "Nobody asked for it" --home ./health'))(
    cancel
)


def _parsed_party(text: str) -> Party:
    hint = f"write it in full: exchange://{text}" if "://" not in text else ""
    try:
        return Party.parse(text)
    except ValueError as error:
        raise WrongUsageError(str(error), hint or "a name is exchange://DOMAIN/DEPARTMENT[/SYSTEM]") from error


def _make(home: Home, party: Party, role: str, trust: bytes) -> KeyRequest:
    home.new_private_key("signing")
    request = new_key_request(party, role, home.signer(), home.new_tls_request(), now())
    if trust:
        home.write(TRUST_FILE, trust)
    home.write(REQUEST_FILE, request.encode())
    home.finish()
    return request


def _read_trust(path: Path, party: Party) -> bytes:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "get the exchange's trust file again, from somebody you know; it is plain UTF-8"
        raise CommandError(f"{path} is not UTF-8, so it is no trust file", hint, ExitCode.UNTRUSTED) from error
    trust = _parsed_trust(text, str(path))
    if trust.name != party.domain:
        raise WrongUsageError(f"{path} is the trust file of {trust.name}, and {party} belongs to {party.domain}")
    return data


def _parsed_trust(text: str, where: str) -> Trust:
    try:
        return parse_trust(text)
    except TrustError as error:
        hint = "get the exchange's trust file again, from somebody you know"
        raise CommandError(f"{where}: the trust file cannot be read: {error}", hint, ExitCode.UNTRUSTED) from error


def _described(request: KeyRequest, home: Path) -> dict[str, object]:
    return {
        "party": str(request.party),
        "role": request.role,
        "home": str(home),
        "request": str(home / REQUEST_FILE),
        "fingerprint": request.fingerprint,
        "valid_until": day_of(request.key.not_after),
    }


def _show_new(request: KeyRequest, home: Path) -> None:
    path = home / REQUEST_FILE
    if request.role == "system":
        parent, command = f"the steward of {request.party.parent}", f"exchange system add {path.name}"
    elif request.role == "steward":
        parent, command = f"whoever keeps the key of {request.party.parent}", f"exchange steward add {path.name}"
    else:
        parent, command = "the operator", f"exchange department admit {path.name}"
    print_line(f"Made {request.party} ({request.role}).")
    print_line()
    print_pairs(
        {
            "home": f"{home}  (keys/ never leaves it)",
            "key request": path,
            "fingerprint": grouped(request.fingerprint),
            "valid until": day_of(request.key.not_after),
        }
    )
    print_line()
    print_line(f"Next: send {path.name} to {parent}, and read out the fingerprint by telephone.")
    print_line(f"      They run `{command}`, and send you an admission; you run")
    print_line(f"      exchange key install ADMISSION --home {home}")


def _admitted_trust(home: Home, given: Admission) -> Trust:
    """The trust file in an admission, which must be the same as one that is here."""
    if given.party != home.party:
        raise CommandError(f"the admission is for {given.party}, and {home.path} is the home of {home.party}")
    trust = _parsed_trust(given.trust, "the admission")
    if trust.name != home.party.domain:
        raise CommandError(f"the admission is to {trust.name}, not to {home.party.domain}", "", ExitCode.UNTRUSTED)
    if (home.path / TRUST_FILE).exists() and trust != home.trust:
        raise CommandError(
            f"the admission brings another trust file than {home.path / TRUST_FILE}",
            "ask your parent and the operator, by telephone, which one is right; nothing was changed",
            ExitCode.UNTRUSTED,
        )
    return trust


def _check_root(home: Home, trust: Trust, typed: str) -> None:
    """The root key is trusted because a person compared it, here or when the trust file was put here."""
    fingerprint = key_id(trust.root_key)
    if typed:
        if not is_fingerprint(typed, fingerprint):
            raise CommandError(
                "the root key in the admission has another fingerprint",
                f"it has {grouped(fingerprint)}; nothing was changed",
                ExitCode.UNTRUSTED,
            )
        return
    if (home.path / TRUST_FILE).exists():
        return
    say(f"The root key of {trust.name} has the fingerprint\n  {grouped(fingerprint)}")
    if not sys.stdin.isatty():
        raise CommandError(
            f"nobody has compared the root key of {trust.name} yet",
            "get its fingerprint by telephone, and type it after --root-fingerprint",
            ExitCode.UNTRUSTED,
        )
    if not typer.confirm("Did somebody you know read out the same?", err=True):
        raise CommandError("the root key is not trusted; nothing was changed", "", ExitCode.UNTRUSTED)


def _settle(home: Home) -> None:
    """Go over to the signing key that was waiting for this admission, if one was."""
    following = next_signer(home)
    if following is None:
        return
    try:
        signing = settle_installed(home.path)
    except RefusedError as error:
        if error.label != SHUT_OUT:
            raise
        # Its old key is revoked, and the new one stands in public view: nobody lets the party in before it counts.
        say(f"The new signing key is not in force yet: {error.reason}.")
        say("This command again goes over to it then.")
        return
    if signing == key_id(following.public_key):
        say(f"The new signing key {grouped(key_id(following.public_key)[:8])} … is in use.")
    else:
        say("The new signing key is not in force yet; this command again, or `exchange key rotate`, goes over to it.")


def _tls_public_key(home: Home, certificate: bytes) -> ec.EllipticCurvePublicKey:
    """The one of the home's TLS keys that a certificate is for; the present one where it is for neither."""
    following = home.private_key(f"tls{NEXT}") if (home.keys / f"tls{NEXT}.pem").exists() else None
    if isinstance(following, ec.EllipticCurvePrivateKey) and is_for(certificate, following):
        return following.public_key()
    return tls_public_key(home)
