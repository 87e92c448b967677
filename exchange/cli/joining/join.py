"""`exchange join`: a new party makes its keys, hands them in with its invite, and waits to be approved."""

import time
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.fingerprints import is_fingerprint
from exchange.cli.frame.output import clean, grouped, print_json, print_line, print_pairs
from exchange.cli.frame.times import age, day_of, iso, now
from exchange.cli.joining.arriving import Arrival, arrive, ask, install, resume
from exchange.client.errors import RefusedError, UnavailableError
from exchange.core.keys import key_id
from exchange.v1.joining_pb2 import JoinResponse, JoinState

FIRST_PAUSE, LAST_PAUSE = 1.0, 10.0
"""Between two questions, seconds."""

_BUSY = "OVERLOADED_READS"

app = new_command()


@app.command(
    epilog=example(
        "exchange join housing.invite --home ./housing",
        "exchange join --status --home ./housing",
        "exchange join --wait --home ./housing",
    )
)
def join(
    invite: Annotated[
        Path | None,
        typer.Argument(metavar="INVITE", exists=True, dir_okay=False, help="The file that you were sent."),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Say how it stands; once approved, finish the home.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is approved or rejected.")] = False,
    root_fingerprint: Annotated[
        str, typer.Option(metavar="HEX", help="The root key's fingerprint, got by telephone.", show_default=False)
    ] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Join an exchange by invite: make the keys here, and ask to be approved.

    The private keys never leave. Read out the fingerprint by telephone; once they have approved it, the certificate and
    the trust file are installed here. It may be run again at any time, with the same keys.
    """
    if (invite is None) is not (status or wait):
        if invite is None:
            raise WrongUsageError("name the invite, or --status or --wait for a home that has used one")
        if status:
            raise WrongUsageError("--status needs no invite: the home has it")
    arrival = resume(home) if invite is None else arrive(home, invite)
    _check_root(arrival, root_fingerprint)
    answer = ask(arrival)
    if wait and answer.state == JoinState.JOIN_STATE_WAITING:
        _say_waiting(arrival)
        answer = _decided(arrival)
    _tell(arrival, answer, as_json)


def _decided(arrival: Arrival) -> JoinResponse:
    pause, away = FIRST_PAUSE, False
    while True:
        time.sleep(pause)
        try:
            answer = ask(arrival)
        except UnavailableError as error:
            # Days may go by until somebody approves; a broker is started anew meanwhile.
            if not away:
                say(f"{error}; asking again until it answers")
            away = True
        except RefusedError as error:
            # Others behind the same address ask, too.
            if error.label != _BUSY:
                raise
        else:
            if answer.state != JoinState.JOIN_STATE_WAITING:
                return answer
            away = False
        pause = min(1.2 * pause, LAST_PAUSE)


def _tell(arrival: Arrival, answer: JoinResponse, as_json: bool) -> None:
    if answer.state == JoinState.JOIN_STATE_REJECTED:
        raise CommandError(
            f"{arrival.parent} has rejected {arrival.request.party}: {clean(answer.reason)}",
            "speak with them; they can send you another invite, for this home or a new one",
        )
    if answer.state == JoinState.JOIN_STATE_WAITING:
        _show_waiting(arrival, answer, as_json)
        return
    if answer.state != JoinState.JOIN_STATE_APPROVED or not answer.certificate:
        raise CommandError("the broker's answer says nothing", "ask again in a moment", ExitCode.UNCHECKED)
    until = install(arrival, answer.certificate)
    if as_json:
        print_json(_described(arrival, "approved", answer.since) | {"certificate_until": day_of(until)})
        return
    print_line(f"{arrival.request.party} has joined {arrival.request.party.domain}.")
    print_line(f"Its TLS certificate is valid until {day_of(until)}.")
    print_line(f"Next: exchange status --home {arrival.home.path}")


def _show_waiting(arrival: Arrival, answer: JoinResponse, as_json: bool) -> None:
    if as_json:
        print_json(_described(arrival, "waiting", answer.since))
        return
    at = now()
    print_line(f"{arrival.request.party} waits for {arrival.parent} to approve it.")
    print_line()
    print_pairs(
        {
            "home": f"{arrival.home.path}  (keys/ never leaves it)",
            "waits since": f"{iso(answer.since)}  ({age(answer.since, at)})",
            "fingerprint": grouped(arrival.request.fingerprint),
            "root fingerprint": grouped(_root(arrival)),
        }
    )
    print_line()
    print_line(
        f"Next: call {arrival.parent}, by a number that you knew before. Read out the fingerprint, and have them"
    )
    print_line("      read out the root fingerprint. Once they have approved:")
    print_line(f"      exchange join --status --home {arrival.home.path}")


def _say_waiting(arrival: Arrival) -> None:
    say(f"{arrival.request.party} waits for {arrival.parent}. Read out the fingerprint by telephone:")
    say(f"  {grouped(arrival.request.fingerprint)}")
    say("and have them read out the root fingerprint:")
    say(f"  {grouped(_root(arrival))}")


def _described(arrival: Arrival, state: str, since: int) -> dict[str, object]:
    return {
        "party": str(arrival.request.party),
        "role": arrival.request.role,
        "home": str(arrival.home.path),
        "state": state,
        "since": iso(since),
        "waits_for": arrival.parent if state == "waiting" else None,
        "fingerprint": arrival.request.fingerprint,
        "root_fingerprint": _root(arrival),
    }


def _root(arrival: Arrival) -> bytes:
    return key_id(arrival.invite.trusted.root_key)


def _check_root(arrival: Arrival, typed: str) -> None:
    """A person compares the root key before anything is sent: an invite exchanged on its way names another."""
    if typed and not is_fingerprint(typed, _root(arrival)):
        raise CommandError(
            "the root key in the invite has another fingerprint than the one typed",
            f"it has {grouped(_root(arrival))}; nothing was sent",
            ExitCode.UNTRUSTED,
        )
