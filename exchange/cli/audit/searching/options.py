"""What a person may search by: the same options for `search` and `export`, and what they mean."""

import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Final, get_type_hints

import typer

from exchange.cli.audit.searching.criteria import (
    CODES,
    KINDS,
    Criteria,
    key_of,
    moment,
    object_id,
    one_of,
    party,
    request_id,
)
from exchange.cli.frame.errors import WrongUsageError
from exchange.client.datasets import find_dataset
from exchange.client.errors import UsageError
from exchange.core.directory import Directory

_PARTY = "PARTY"
KEYWORD: Final = Parameter.KEYWORD_ONLY


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """The options of a search as they were typed; an empty one was not. Each field is an option: see `searched`."""

    since: Annotated[str, typer.Option(metavar="TIME", help="From this day or time on, UTC.")] = ""
    until: Annotated[str, typer.Option(metavar="TIME", help="To the end of this day, or to this time, UTC.")] = ""
    requester: Annotated[str, typer.Option(metavar=_PARTY, help="Who asked: a department, or a system of one.")] = ""
    provider: Annotated[str, typer.Option(metavar=_PARTY, help="Who answered, or should have.")] = ""
    dataset: Annotated[str, typer.Option(metavar="DEPARTMENT/CODE", help="What was asked for.")] = ""
    officer: Annotated[str, typer.Option(metavar="NAME", help="The pseudonym of the person who asked.")] = ""
    purpose: Annotated[str, typer.Option(metavar="CODE", help="What it was said to be for.")] = ""
    case: Annotated[str, typer.Option(metavar="ID", help="The case that it was said to be for.")] = ""
    code: Annotated[str, typer.Option(metavar="CODE", help="Why it was refused, such as NO_AGREEMENT.")] = ""
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="released, unreleased, refused, or refusals (summed up).")
    ] = ""
    request: Annotated[str, typer.Option(metavar="ID", help="The request's id, a UUID.")] = ""
    key: Annotated[str, typer.Option(metavar="KEY-ID", help="What this key signed: its fingerprint, or 8 digits.")] = ""

    def words(self) -> list[str]:
        """The same options, for a command line."""
        typed = [(name, text) for name, text in asdict(self).items() if text]
        return [word for name, text in typed for word in _option(name, text)]

    def criteria(self, directory: Directory) -> Criteria:
        """What they mean.

        Args:
            directory: names datasets.

        Raises:
            WrongUsageError: one cannot be meant.
        """
        words = {"officer": self.officer, "purpose": self.purpose, "case_id": self.case}
        criteria = Criteria({name: word for name, word in words.items() if word})
        criteria.since = moment(self.since, "--since", end=False) if self.since else None
        criteria.until = moment(self.until, "--until", end=True) if self.until else None
        for name, text in (("requester", self.requester), ("provider", self.provider)):
            if text:
                criteria.parties[name] = party(text, directory.origin, f"--{name}")
        criteria.key = key_of(self.key, directory) if self.key else None
        criteria.exact |= {"kind": one_of(self.kind, KINDS, "--kind")} if self.kind else {}
        criteria.exact |= {"code": one_of(self.code, CODES, "--code")} if self.code else {}
        criteria.exact |= {"dataset": _dataset(directory, self.dataset)} if self.dataset else {}
        criteria.exact |= {"request_id": _request(self.request)} if self.request else {}
        return criteria


def searched(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a search, in the place of its parameter `typed`, which carries them.

    Args:
        command: a function for typer with a parameter `typed: Typed`.
    """
    options = get_type_hints(Typed, include_extras=True)
    parameters: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        if parameter.name == "typed":
            parameters += [Parameter(name, KEYWORD, default="", annotation=hint) for name, hint in options.items()]
        else:
            parameters.append(parameter.replace(kind=KEYWORD))

    @wraps(command)
    def with_options(**given: object) -> None:
        typed = Typed(**{name: str(given.pop(name)) for name in options})
        command(typed=typed, **given)

    with_options.__dict__["__signature__"] = Signature(parameters)
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def _option(name: str, text: str) -> tuple[str, ...]:
    """An option with its value; one that begins with a dash would be taken for another option."""
    quoted = shlex.quote(text)
    return (f"--{name}={quoted}",) if text.startswith("-") else (f"--{name}", quoted)


def _dataset(directory: Directory, text: str) -> bytes:
    """The object id of a dataset, published still or once."""
    ended = {f"{owner.rpartition('/')[2]}/{code}": key for (owner, code), key in directory.terms.codes.items()}
    known = object_id(text) or ended.get(text)
    if known is not None:
        return known
    try:
        return find_dataset(directory, text).object_id
    except UsageError as error:
        raise WrongUsageError(f"--dataset: {error}", error.hint) from error


def _request(text: str) -> bytes:
    found = request_id(text)
    if found is None:
        raise WrongUsageError(
            f"--request: not a request's id: {text}",
            "a UUID, as `exchange request --json` or `exchange-audit search --json` prints it",
        )
    return found
