"""The life of a dataset in the catalogue: submitted, reviewed, published, deprecated, retired (Decree 809, art. 17).

A version is submitted by its own entry. Where the rules ask for a review, the coordinator publishes it or returns it,
once and with everything that is missing; without such rules it is published as soon as it is signed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from exchange.core.names import Party
from exchange.core.procedure_terms import ReviewEvent, StepTerms
from exchange.core.state import State, Version
from exchange.core.terms import Terms, TermsError
from exchange.core.values import quick, replace
from exchange.v1.directory_pb2 import Role
from exchange.v1.procedure_pb2 import Action, Step

UPDATE = "catalogue.update"
REVIEW = "catalogue.review"


class Standing(StrEnum):
    """The states of a dataset in the catalogue."""

    SUBMITTED = "submitted"
    RETURNED = "returned"
    PUBLISHED = "published"
    DEPRECATED = "deprecated"
    RETIRED = "retired"


@quick
@dataclass(frozen=True, slots=True)
class Timing:
    """A clock that runs: its code, and the events that started and extended it. Times are milliseconds."""

    code: str
    started: int
    extended: bool = False


@quick
@dataclass(frozen=True, slots=True)
class Review:
    """How a dataset stands in the catalogue.

    Args:
        standing: of its latest version; since: milliseconds.
        by: who brought it there.
        published: message digest of the version that was published last; empty for none.
        text: what the coordinator or the owner says; missing: of a return, everything that is.
        until: from when a deprecated dataset is retired, milliseconds; 0 otherwise.
        timing: the clock that runs, or None.
    """

    standing: Standing
    since: int
    by: Party
    published: bytes = b""
    text: str = ""
    missing: tuple[str, ...] = ()
    until: int = 0
    timing: Timing | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can be applied for: some version of it is published, and it is not retired."""
        return bool(self.published) and self.standing != Standing.RETIRED

    def at(self, now: int) -> "Review":
        """The same at another moment: notice runs out by itself."""
        if self.standing == Standing.DEPRECATED and now >= self.until:
            return replace(self, standing=Standing.RETIRED, since=self.until)
        return self


def review_of(terms: Terms, object_id: bytes, now: int) -> Review | None:
    """How a dataset stands; None where its body is not known.

    Args:
        terms: what is folded.
        object_id: of the dataset, 16 bytes.
        now: milliseconds.
    """
    review: Review | None = None
    for event in terms.reviews.get(object_id, ()):
        review = _after(review, event)
    return review.at(now) if review is not None else None


def submit(state: State, terms: Terms, version: Version) -> Terms:
    """Note that a version of a dataset was opened: with it a review begins, where the rules ask for one."""
    event = ReviewEvent(version, is_reviewed=state.rules_at(version.index).review)
    return _noted(terms, version.object_id, event)


def check_open(terms: Terms, object_id: bytes, now: int) -> None:
    """Whether a dataset can be applied for, and agreed to.

    Raises:
        TermsError: no version of it was published yet, or it is retired.
    """
    review = review_of(terms, object_id, now)
    if review is None or not review.is_open:
        standing = review.standing if review is not None else "unknown"
        raise TermsError(f"the dataset is {standing}: it can be applied for while it is published")


def open_review_step(state: State, terms: Terms, version: Version, step: Step) -> Terms:
    """Open a step of a dataset's review.

    Args:
        state: with `version` folded in; terms: of every entry before.
        version: of the step; step: its words.

    Raises:
        TermsError: it cannot come now, or not from this party; the text says what can.
    """
    dataset = terms.datasets.get(step.subject)
    review = review_of(terms, step.subject, version.time)
    if dataset is None or review is None:
        raise TermsError("the dataset is not known here")
    check_review_step(review, dataset.version, version, step, _role(state, version.owner))
    taken = StepTerms(version, step, step.subject)
    noted = _noted(terms, step.subject, ReviewEvent(version, step))
    return replace(noted, steps=noted.steps.set(version.digest, taken))


def check_review_step(review: Review, dataset: Version, version: Version, step: Step, role: "Role.ValueType") -> None:
    """Whether a step of the review may come now.

    Args:
        review: how the dataset stands; dataset: its latest version.
        version: of the step, signed by a party of this role.

    Raises:
        TermsError: it may not.
    """
    stands, needed = _STEPS[step.action]
    is_owner = role == Role.ROLE_DEPARTMENT and version.owner == dataset.owner
    if needed == Role.ROLE_COORDINATOR and role != Role.ROLE_COORDINATOR:
        raise TermsError("the coordinator reviews what departments submit")
    if needed == Role.ROLE_DEPARTMENT and not is_owner:
        raise TermsError(f"{dataset.owner} alone may do this with its dataset")
    if review.standing not in stands:
        raise TermsError(f"the dataset is {review.standing}: this is done while it is {' or '.join(sorted(stands))}")
    if step.action in _OF_VERSION and step.digest != dataset.digest:
        raise TermsError("this is about another version than the latest")
    if step.action == Action.ACTION_RETURN_DATASET and not (step.missing and all(step.missing)):
        raise TermsError("a return says everything that is missing, at once")
    if step.action == Action.ACTION_DEPRECATE and (not step.text or step.until <= version.time):
        raise TermsError("a deprecation gives its reason, and a day to come from which the dataset is retired")
    if step.action == Action.ACTION_EXTEND:
        _check_extension(review, step)


def _check_extension(review: Review, step: Step) -> None:
    timing = review.timing
    if timing is None or timing.code != step.clock or timing.code != UPDATE or timing.extended:
        raise TermsError(f"what can be extended is {UPDATE}, once, while it runs")


def _noted(terms: Terms, object_id: bytes, event: ReviewEvent) -> Terms:
    return replace(terms, reviews=terms.reviews.set(object_id, (*terms.reviews.get(object_id, ()), event)))


def _after(review: Review | None, event: ReviewEvent) -> Review:
    version, step = event.version, event.step
    if step is None or review is None:
        return _submitted(review, event)
    if step.action == Action.ACTION_EXTEND:
        timing = review.timing
        return replace(review, timing=replace(timing, extended=True) if timing is not None else None)
    moved = replace(review, since=version.time, by=version.owner, text=step.text, missing=tuple(step.missing))
    if step.action == Action.ACTION_PUBLISH:
        return replace(moved, standing=Standing.PUBLISHED, published=step.digest, timing=None)
    if step.action == Action.ACTION_RETURN_DATASET:
        return replace(moved, standing=Standing.RETURNED, timing=Timing(UPDATE, version.time))
    return replace(moved, standing=Standing.DEPRECATED, until=step.until)


def _submitted(review: Review | None, event: ReviewEvent) -> Review:
    version = event.version
    if not event.is_reviewed:
        return Review(Standing.PUBLISHED, version.time, version.owner, version.digest)
    published = review.published if review is not None else b""
    return Review(Standing.SUBMITTED, version.time, version.owner, published, timing=Timing(REVIEW, version.time))


def _role(state: State, party: Party) -> "Role.ValueType":
    # All keys of a party have one role.
    return state.keys_of(party)[0].role


_STANDING = frozenset({Standing.PUBLISHED})
_UNDER_REVIEW = frozenset({Standing.SUBMITTED})

_STEPS: Mapping["Action.ValueType", tuple[frozenset[Standing], "Role.ValueType"]] = MappingProxyType(
    {
        Action.ACTION_PUBLISH: (_UNDER_REVIEW, Role.ROLE_COORDINATOR),
        Action.ACTION_RETURN_DATASET: (_UNDER_REVIEW, Role.ROLE_COORDINATOR),
        Action.ACTION_EXTEND: (frozenset({Standing.RETURNED}), Role.ROLE_COORDINATOR),
        Action.ACTION_DEPRECATE: (_STANDING, Role.ROLE_DEPARTMENT),
    }
)

_OF_VERSION = frozenset({Action.ACTION_PUBLISH, Action.ACTION_RETURN_DATASET, Action.ACTION_DEPRECATE})

REVIEW_ACTIONS = frozenset({Action.ACTION_PUBLISH, Action.ACTION_RETURN_DATASET, Action.ACTION_DEPRECATE})
"""The steps that are of a review whatever they are about; an extension is, where it is about a dataset."""
