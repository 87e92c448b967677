"""`exchange key rotate`, `recover` and `renew`: the next keys of a home, while the present ones stay in use."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.output import grouped, print_json, print_line, print_pairs
from exchange.cli.frame.times import day_of, iso, now
from exchange.cli.joining.admission import KeyRequest, new_key_request, read_key_request
from exchange.client.errors import ExchangeError, RefusedError
from exchange.client.renewing import adopt_if_entered, renew_certificate, renew_signing_key
from exchange.client.session import Session
from exchange.core.keys import key_id
from exchange.home import Home, HomeError
from exchange.succession import make_next_signer, next_signer, next_tls_request

REQUEST_FILE = "request-next.json"
REQUESTING = frozenset({"department", "coordinator", "auditor", "head"})


@dataclass(frozen=True, slots=True)
class Rotated:
    """What became of a rotation: the new key in use, or the request that its parent has to sign first."""

    key: bytes
    old: bytes
    request: KeyRequest | None = None


def rotate(
    department: Annotated[
        bool, typer.Option("--by-department", help="Of a system: have its department sign the new key.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Replace a home's signing key by a new one, made here; the old one stays in use until the new one is in force.

    A system's new key is signed by its old one, and in use at once. Any other party's is signed by its parent: this
    writes the request, which the old key vouches for, so that nobody waits. The same command again goes on where it
    stopped.
    """
    place = Home(home)
    if place.role == "system" and not department:
        _shown_rotation(home, _rotate_system(home), as_json)
        return
    if place.role != "system" and place.role not in REQUESTING:
        raise CommandError(
            f"the key of a {place.role} is not rotated so",
            "the root's is in every trust file, a broker's is replaced with its broker: docs/operator.md",
            ExitCode.USAGE,
        )
    old = key_id(place.signer().public_key)
    if next_signer(place) is not None and _is_adopted(home):
        _shown_rotation(home, Rotated(key_id(place.signer().public_key), old), as_json)
        return
    _shown_rotation(home, Rotated(b"", old, _request(place, vouched=place.role not in {"system", "head"})), as_json)


def recover(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Ask for a new signing key where the old one is gone: the root alone signs it, after a call by telephone.

    It takes effect after 72 hours, in which everybody sees it and the old key can cancel it. Where the whole home is
    gone, `exchange key new` makes another one: its key waits the same 72 hours. A system needs no recovery: its
    department signs a new key at once.
    """
    place = Home(home)
    if place.role not in REQUESTING | {"system"}:
        raise CommandError(f"the key of a {place.role} is not recovered so", "see docs/operator.md", ExitCode.USAGE)
    request = _request(place, vouched=False)
    if as_json:
        print_json(_described_request(request, home))
        return
    _show_request(request, home)
    if place.role in REQUESTING - {"head"}:
        print_line("      It takes effect 72 hours after they have signed it; everybody's `exchange status` shows it,")
        print_line("      and whoever still holds the old key can cancel it: exchange key cancel")


def renew(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Renew the TLS certificate of a home, with a TLS key made here.

    Brokers and adapters do so by themselves, a month before it ends.
    """
    if Home(home).role == "broker":
        raise CommandError(
            "a broker renews its certificate by itself", "let it run: exchange broker run", ExitCode.USAGE
        )
    until = act_unsynced(home)
    if as_json:
        print_json({"party": str(Home(home).party), "certificate_until": iso(until)})
        return
    print_line(f"The TLS certificate is renewed; it is valid until {day_of(until)}.")


def act_unsynced(home: Path) -> int:
    """Renew within a session that has read nothing new: a certificate needs no directory."""

    async def run() -> int:
        async with Session(Home(home)) as session:
            return await renew_certificate(session)

    return asyncio.run(run())


def settle_installed(home: Path) -> bytes:
    """After an admission was installed: sign with the new key if it is in force; the id of the one that signs now.

    Raises:
        ExchangeError: no broker can be asked whether it is.
    """

    async def settle(session: Session) -> bytes:
        await adopt_if_entered(session)
        return key_id(session.home.signer().public_key)

    return act(home, settle)


def _rotate_system(home: Path) -> Rotated:
    async def rotated(session: Session) -> Rotated:
        old = key_id(session.signer.public_key)
        try:
            await renew_signing_key(session)
        except RefusedError as error:
            hint = "its department signs the new key: exchange key rotate --by-department"
            raise CommandError(f"the old key cannot give a new one: {error}", hint) from error
        # A certificate dies with the signing key that it came with: the new one's must not be the old one's.
        await renew_certificate(session)
        return Rotated(key_id(session.signer.public_key), old)

    return act(home, rotated)


def _is_adopted(home: Path) -> bool:
    """Whether the waiting key is in use now; a home that reaches no broker goes on with its request."""
    try:
        return act(home, adopt_if_entered)
    except (ExchangeError, HomeError) as error:
        say(f"whether the new key is in force cannot be seen now: {error}")
        return False


def _request(place: Home, *, vouched: bool) -> KeyRequest:
    """The request for the key that waits: the one that was made before, while it can still be signed."""
    signer = make_next_signer(place)
    path = place.path / REQUEST_FILE
    if path.exists():
        try:
            request = read_key_request(path.read_bytes(), now())
        except CommandError:
            request = None
        same = request is not None and request.key.public_key == signer.public_key
        if request is not None and same and bool(request.statement.succession) == vouched:
            return request
    predecessor = place.signer() if vouched else None
    request = new_key_request(place.party, place.role, signer, next_tls_request(place), now(), predecessor)
    place.write(REQUEST_FILE, request.encode())
    return request


def _shown_rotation(home: Path, rotated: Rotated, as_json: bool) -> None:
    if as_json:
        key = {"key": rotated.key, "old_key": rotated.old, "in_use": True}
        print_json(key if rotated.request is None else _described_request(rotated.request, home))
        return
    if rotated.request is not None:
        _show_request(rotated.request, home)
        return
    print_line("The new signing key is in the directory, and in use.")
    print_line()
    print_pairs({"new key": grouped(rotated.key), "old key": grouped(rotated.old)})
    if rotated.old != rotated.key:
        print_line()
        print_line("The old key's private half is gone from this home; until its end it would still be believed.")
        print_line(f'To end it: exchange key revoke --replaced --reason "Replaced" --home {home}')


def _described_request(request: KeyRequest, home: Path) -> dict[str, object]:
    return {
        "party": str(request.party),
        "role": request.role,
        "in_use": False,
        "key": request.fingerprint,
        "request": str(home / REQUEST_FILE),
        "vouched_for_by_old_key": bool(request.statement.succession),
    }


def _show_request(request: KeyRequest, home: Path) -> None:
    below = request.role in {"system", "head"}
    parent = f"the steward of {request.party.parent}" if below else "the operator"
    command = f"exchange {request.role} add" if below else "exchange department admit"
    print_line(f"Made a new signing key of {request.party}; the old one stays in use until it is in force.")
    print_line()
    print_pairs({"key request": home / REQUEST_FILE, "fingerprint": grouped(request.fingerprint)})
    print_line()
    print_line(f"Next: send {REQUEST_FILE} to {parent}, and read out the fingerprint by telephone.")
    print_line(f"      They run `{command} {REQUEST_FILE}`, and send you an admission; you run")
    print_line(f"      exchange key install ADMISSION --home {home}")


def require_key_id(text: str) -> str:
    """A key's id, or an unambiguous beginning of it, in small hexadecimal digits.

    Raises:
        WrongUsageError: not 8 or more of them.
    """
    prefix = "".join(text.lower().split())
    if len(prefix) < 8 or len(prefix) > 64 or any(char not in "0123456789abcdef" for char in prefix):
        raise WrongUsageError(f"not a key's id: {text[:100]}", "give 8 or more hexadecimal digits of it")
    return prefix
