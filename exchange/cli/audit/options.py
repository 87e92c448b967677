"""What a person may search by: the same options for `search` and `export`, and what they mean."""

import shlex
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from exchange.cli.audit.criteria import CODES, KINDS, Criteria, moment, object_id, one_of, party, request_id
from exchange.cli.errors import WrongUsageError
from exchange.client.datasets import find_dataset
from exchange.client.errors import UsageError
from exchange.core.directory import Directory

_PARTY = "PARTY"

SinceOption = Annotated[str, typer.Option(metavar="TIME", help="From this day or time on, UTC.")]
UntilOption = Annotated[str, typer.Option(metavar="TIME", help="To the end of this day, or to this time, UTC.")]
RequesterOption = Annotated[str, typer.Option(metavar=_PARTY, help="Who asked: a department, or a system of one.")]
ProviderOption = Annotated[str, typer.Option(metavar=_PARTY, help="Who answered, or should have.")]
DatasetOption = Annotated[str, typer.Option(metavar="DEPARTMENT/CODE", help="What was asked for.")]
OfficerOption = Annotated[str, typer.Option(metavar="NAME", help="The pseudonym of the person who asked.")]
PurposeOption = Annotated[str, typer.Option(metavar="CODE", help="What it was said to be for.")]
CaseOption = Annotated[str, typer.Option(metavar="ID", help="The case that it was said to be for.")]
CodeOption = Annotated[str, typer.Option(metavar="CODE", help="Why it was refused, such as NO_AGREEMENT.")]
KindOption = Annotated[
    str, typer.Option(metavar="KIND", help="released, unreleased, refused, or refusals (summed up).")
]
RequestOption = Annotated[str, typer.Option(metavar="ID", help="The request's id, a UUID.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """The options of a search as they were typed; an empty one was not."""

    since: str = ""
    until: str = ""
    requester: str = ""
    provider: str = ""
    dataset: str = ""
    officer: str = ""
    purpose: str = ""
    case: str = ""
    code: str = ""
    kind: str = ""
    request: str = ""

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
        criteria.exact |= {"kind": one_of(self.kind, KINDS, "--kind")} if self.kind else {}
        criteria.exact |= {"code": one_of(self.code, CODES, "--code")} if self.code else {}
        criteria.exact |= {"dataset": _dataset(directory, self.dataset)} if self.dataset else {}
        criteria.exact |= {"request_id": _request(self.request)} if self.request else {}
        return criteria


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
