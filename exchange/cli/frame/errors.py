"""What a person is told when something fails, and the exit code: one table for every command.

0 done or verified, 1 refused or tampered, 2 usage, 3 could not check, 4 rollback or fork, 5 untrusted key, 6 stale;
130 interrupted, 141 whoever read the output has left.
"""

import os
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache

import typer

from exchange.cli.frame.output import clean, print_json

TRACEBACK = "EXCHANGE_TRACEBACK"
_YEARS = "write the year's days of rest into a file, and name it under calendar.years of a file for --rules"
INTERRUPTED = 130
BROKEN_PIPE = 141
"""As a program that SIGPIPE ends: nobody reads the output any more."""


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNCHECKED = 3
    FORK = 4
    UNTRUSTED = 5
    STALE = 6


class CommandError(Exception):
    """A command cannot go on; `hint` says what to do.

    Args:
        message: what is wrong, without a full stop.
        hint: what to do, or empty.
        exit_code: one of `ExitCode`.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = ExitCode.REFUSED) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code


class WrongUsageError(CommandError):
    """What was typed cannot be meant."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, ExitCode.USAGE)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is printed of an error."""

    message: str
    hint: str
    exit_code: int
    note: str = ""


def diagnose(error: Exception) -> Diagnosis:
    """Find what to tell a person about any error; the first rule whose class fits holds."""
    for kind, explain in _rules():
        if isinstance(error, kind):
            return explain(error)
    return Diagnosis(
        f"unexpected {type(error).__name__}: {error}",
        f"this is a defect of the program: set {TRACEBACK}=1, run it again, and report what it prints",
        ExitCode.UNCHECKED,
    )


def report(error: Exception, program: str, *, as_json: bool = False) -> int:
    """Print an error and its hint on stderr.

    Args:
        error: any; program: the command's name.
        as_json: a refusal is a result: a program finds it on stdout, too.

    Returns:
        The exit code.
    """
    found = diagnose(error)
    if os.environ.get(TRACEBACK):
        typer.echo("".join(traceback.format_exception(error)), err=True)
    say(f"{program}: {_red('error:')} {clean(found.message)}")
    if found.note:
        say(f"{program}: {clean(found.note)}")
    if found.hint:
        say(f"hint: {clean(found.hint)}")
    if as_json:
        _print_refusal(error)
    return found.exit_code


def _print_refusal(error: Exception) -> None:
    from exchange.client.errors import RefusedError

    if isinstance(error, RefusedError):
        described = {
            "code": error.label,
            "check": error.check or None,
            "reason": error.reason,
            "refuser": error.refuser or None,
            "verified": error.verified,
            "summed_up": error.summed_up or None,
        }
        print_json({"error": described})


def say(text: str) -> None:
    """Print a diagnostic line on stderr."""
    typer.echo(text, err=True, color=False if os.environ.get("NO_COLOR") else None)


@cache
def say_once(text: str) -> None:
    """Say something the first time only that this process comes to it."""
    say(text)


def _red(text: str) -> str:
    return typer.style(text, fg=typer.colors.RED, bold=True)


Explain = Callable[[Exception], Diagnosis]


def _rules() -> Iterable[tuple[type[Exception], Explain]]:
    """Classes of errors in the order they are asked; imported here, because only a failure needs them."""
    import grpc

    from exchange.cli.frame.where import WhereError
    from exchange.client.errors import ExchangeError, RefusedError, UnavailableError
    from exchange.core.calendar import CalendarError
    from exchange.core.errors import CoreError, NameFormatError
    from exchange.core.trust import TrustError
    from exchange.home import HomeError
    from exchange.rules.tables import RulesError
    from exchange.transport import PeerError

    return (
        (typer.TyperException, _usage),
        (CommandError, _own),
        (RefusedError, _refused),
        (UnavailableError, _unavailable),
        (ExchangeError, _own),
        (HomeError, _own),
        (RulesError, _own),
        (WhereError, _where),
        (NameFormatError, _fixed(ExitCode.USAGE, "a party's name is exchange://DOMAIN/DEPARTMENT[/SYSTEM]")),
        (TrustError, _fixed(ExitCode.UNTRUSTED, "get the exchange's trust file again, from somebody you know")),
        (CalendarError, _fixed(ExitCode.UNCHECKED, _YEARS)),
        (CoreError, _fixed(ExitCode.REFUSED)),
        (PeerError, _fixed(ExitCode.UNTRUSTED)),
        (grpc.RpcError, _call),
        (OSError, _system),
    )


def _fixed(exit_code: int, hint: str = "") -> Explain:
    return lambda error: Diagnosis(str(error), getattr(error, "hint", "") or hint, exit_code)


def _own(error: Exception) -> Diagnosis:
    return Diagnosis(str(error), getattr(error, "hint", ""), getattr(error, "exit_code", ExitCode.UNCHECKED))


def _unavailable(error: Exception) -> Diagnosis:
    found = _own(error)
    return replace(found, hint=found.hint or "`exchange status` shows which brokers can be reached")


def _usage(error: Exception) -> Diagnosis:
    assert isinstance(error, typer.TyperException)  # noqa: S101 - `_rules` gives nothing else
    context = getattr(error, "ctx", None)
    hint = f"`{context.command_path} --help` shows an example" if context is not None else ""
    return Diagnosis(error.format_message().rstrip("."), hint, ExitCode.USAGE)


def _refused(error: Exception) -> Diagnosis:
    from exchange.cli.frame.refusals import describe_refusal, describe_refuser, refusal_hint
    from exchange.client.errors import RefusedError

    assert isinstance(error, RefusedError)  # noqa: S101 - `_rules` gives nothing else
    return Diagnosis(describe_refusal(error), refusal_hint(error), error.exit_code, describe_refuser(error))


def _where(error: Exception) -> Diagnosis:
    problem, example = getattr(error, "problem", str(error)), getattr(error, "example", "")
    return Diagnosis(f"--where: {problem}", f"for example: {example}" if example else "", ExitCode.USAGE)


def _call(error: Exception) -> Diagnosis:
    details = getattr(error, "details", lambda: None)()
    return Diagnosis(
        f"the broker did not answer: {details or type(error).__name__}",
        "check that it runs and that its address in trust.toml is right: `exchange status`",
        ExitCode.UNCHECKED,
    )


def _system(error: Exception) -> Diagnosis:
    assert isinstance(error, OSError)  # noqa: S101 - `_rules` gives nothing else
    where = f"{error.filename}: " if error.filename else ""
    hint = ""
    if isinstance(error, PermissionError):
        place = error.filename or "the file and its folder"
        hint = f"this user may not: see the permissions with `ls -ld {place}`, or run as the owner"
    return Diagnosis(f"{where}{error.strerror or error}", hint, ExitCode.UNCHECKED)
