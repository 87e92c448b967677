"""What applications and agreements say, checked against dataset and application before anything is signed.

The directory's rules say the same (exchange.core.terms); here a person is told which name is wrong, and which is near.
"""

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from exchange.cli.datasets.descriptors import OPERATIONS
from exchange.cli.frame.errors import WrongUsageError
from exchange.cli.frame.homes import has_key
from exchange.cli.frame.times import day_of
from exchange.core.decision import SKEW
from exchange.core.directory import Directory
from exchange.core.names import Party
from exchange.core.terms import ApplicationTerms, DatasetTerms
from exchange.core.wire import FORMAT
from exchange.v1.directory_pb2 import Agreement, Application
from exchange.v1.procedure_pb2 import StandingApproval
from exchange.v1.request_pb2 import Filter

_NOT_ASKED = "was not asked for"


@dataclass(frozen=True, slots=True)
class Wish:
    """What an applicant typed."""

    grantee: Party
    operations: str
    fields: str
    filterable: str
    purposes: str
    legal_basis: str
    scenario: str
    not_after: int
    standing_approval: bytes = b""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What an owner grants less than was asked for; empty texts and None grant it all."""

    fields: str = ""
    filterable: str = ""
    not_after: int | None = None
    row_filter: Filter | None = None
    terms: Path | None = None


@dataclass(frozen=True, slots=True)
class Approving:
    """What an owner typed of a standing approval; empty texts are everybody, and all that the dataset offers."""

    grantees: str
    operations: str
    fields: str
    filterable: str
    purposes: str
    days: int
    not_after: int


def draft_approval(directory: Directory, dataset: DatasetTerms, wanted: Approving) -> StandingApproval:
    """A standing approval of what a dataset offers.

    Raises:
        WrongUsageError: something is not offered, or not registered.
    """
    offered = {name: number for name, number in OPERATIONS.items() if number in dataset.operations}
    purposes = [code for code in directory.state.purposes if directory.state.purpose(code) is not None]
    operations = named("--operations", wanted.operations.upper(), offered) if wanted.operations else list(offered)
    return StandingApproval(
        format=FORMAT,
        dataset=dataset.object_id,
        grantees=split(wanted.grantees) or [str(Party(directory.origin))],
        operations=[offered[name] for name in operations],
        fields=named("--fields", wanted.fields, dataset.fields) if wanted.fields else list(dataset.fields),
        filterable=named("--filterable", wanted.filterable, dataset.filterable) if wanted.filterable else [],
        purposes=named("--purposes", wanted.purposes, purposes),
        days=wanted.days,
        not_after=wanted.not_after,
    )


def draft_application(directory: Directory, applicant: Party, dataset: DatasetTerms, wish: Wish) -> Application:
    """An application for what a dataset offers.

    Raises:
        WrongUsageError: something is not offered, or not registered, or not the applicant's to ask for.
    """
    if not applicant.covers(wish.grantee):
        raise WrongUsageError(
            f"--grantee: {wish.grantee} is not {applicant} or one of its systems",
            "a department applies for itself or for its systems",
        )
    if not has_key(directory, wish.grantee):
        raise WrongUsageError(
            f"--grantee: {wish.grantee} has no key in the directory, so it could not ask",
            "check its name, or add it first: `exchange key new` there, `exchange system add` here",
        )
    offered = {name: number for name, number in OPERATIONS.items() if number in dataset.operations}
    purposes = [code for code in directory.state.purposes if directory.state.purpose(code) is not None]
    return Application(
        format=FORMAT,
        dataset=dataset.object_id,
        grantee=str(wish.grantee),
        operations=[offered[name] for name in named("--operations", wish.operations.upper(), offered)],
        fields=named("--fields", wish.fields, dataset.fields),
        filterable=named("--filterable", wish.filterable, dataset.filterable) if wish.filterable else [],
        purposes=named("--purposes", wish.purposes, purposes),
        legal_basis=wish.legal_basis,
        scenario=wish.scenario,
        not_after=wish.not_after,
        standing_approval=wish.standing_approval,
    )


def draft_agreement(application: ApplicationTerms, narrowing: Narrowing, now: int) -> Agreement:
    """An agreement that grants what was asked for, or less of it.

    Args:
        application: what was asked for.
        narrowing: what is granted less.
        now: milliseconds.

    Raises:
        WrongUsageError: more is granted than was asked for.
    """
    until = narrowing.not_after if narrowing.not_after is not None else application.not_after
    if until > application.not_after:
        raise WrongUsageError(f"--until: the application asks until {day_of(application.not_after)}, not longer")
    if until <= now:
        raise WrongUsageError(f"the application asks until {day_of(until)}, which is over", "they apply again")
    fields = tuple(application.fields)
    if narrowing.fields:
        fields = tuple(named("--fields", narrowing.fields, application.fields, _NOT_ASKED))
    return Agreement(
        format=FORMAT,
        dataset=application.dataset,
        grantee=str(application.grantee),
        application=application.version.digest,
        operations=sorted(application.operations),
        fields=fields,
        filterable=_filterable(application, narrowing, fields),
        purposes=sorted(application.purposes),
        # The clock of a broker or an adapter may be behind the steward's.
        not_before=now - SKEW,
        not_after=until,
        row_filter=narrowing.row_filter,
    )


def _filterable(application: ApplicationTerms, narrowing: Narrowing, fields: Collection[str]) -> list[str]:
    """A filter tells what is in its field: what the owner strikes out cannot be filtered by either, unless named."""
    if narrowing.filterable:
        return named("--filterable", narrowing.filterable, application.filterable, _NOT_ASKED)
    struck = set(application.fields) - set(fields)
    return sorted(application.filterable - struck)


def split(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def named(option: str, text: str, known: Iterable[str], complaint: str = "is not known here") -> list[str]:
    """The names in an option, each known and typed once.

    Args:
        option: where it was typed, for the error; text: names between commas.
        known: what can be named; complaint: what a stranger is told to be.

    Raises:
        WrongUsageError: nothing, a stranger, or the same twice.
    """
    names, known = split(text), sorted(known)
    if not names:
        raise WrongUsageError(f"{option}: nothing is named", f"known are {', '.join(known) or 'none'}")
    for name in names:
        if name not in known:
            raise WrongUsageError(f"{option}: {name} {complaint}", _near(name, known))
    if len(set(names)) != len(names):
        raise WrongUsageError(f"{option}: each is named once")
    return names


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1) or [item for item in known if item.lower() == name.lower()]
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known) or 'none'}"
