"""What bars requests for now: the guardrails and suspensions that stand (DESIGN sections 6 and 7). Values."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from immutables import Map

from exchange.core.guardrails import Case, Condition, GuardrailError, read_guardrail
from exchange.core.names import Party
from exchange.v1.guardrail_pb2 import Guardrail, Suspension

Target = tuple[str, bytes | str]
"""What a suspension holds up: a kind, and the object id or the name of one of that kind."""

Barring = Guardrail | Suspension


AGREEMENT, DATASET, PARTY, OFFICER = "agreement", "dataset", "party", "officer"


def agreement_target(object_id: bytes) -> Target:
    """An agreement with all of its versions."""
    return AGREEMENT, object_id


def dataset_target(object_id: bytes) -> Target:
    """A dataset with all of its versions."""
    return DATASET, object_id


def party_target(party: Party) -> Target:
    """A department or a system."""
    return PARTY, str(party)


def officer_target(department: Party, pseudonym: str) -> Target:
    """An officer of a department."""
    # Neither of them contains a space.
    return OFFICER, f"{department} {pseudonym}"


@dataclass(frozen=True, slots=True)
class StandingGuardrail:
    """A guardrail: the message digest of its version, what it says, and what it forbids."""

    digest: bytes
    said: Guardrail
    forbids: Condition


@dataclass(frozen=True, slots=True)
class StandingSuspension:
    """A suspension: its message digest, who signed it, and what it says."""

    digest: bytes
    by: Party
    said: Suspension

    def is_due(self, now: int) -> bool:
        """Whether it holds up anything now, milliseconds."""
        return not self.said.until or now < self.said.until


@dataclass(frozen=True, slots=True)
class Bars:
    """The guardrails and the suspensions, by what they hold up; both in the order in which they came.

    `kinds` is of what is suspended at all: of the other kinds no request need be looked up.
    """

    guardrails: tuple[StandingGuardrail, ...] = ()
    suspensions: Map[Target, tuple[StandingSuspension, ...]] = Map()  # noqa: RUF009 - an immutable value
    kinds: frozenset[str] = frozenset()

    def with_guardrail(self, digest: bytes, said: Guardrail) -> "Bars":
        """One guardrail more.

        Raises:
            GuardrailError: it is not in its form, or another one has its code.
        """
        forbids = read_guardrail(said)
        if any(other.said.code == said.code for other in self.guardrails):
            raise GuardrailError(f"another guardrail has the code {said.code}")
        return replace(self, guardrails=(*self.guardrails, StandingGuardrail(digest, said, forbids)))

    def with_suspension(self, target: Target, suspension: StandingSuspension) -> "Bars":
        """One suspension more."""
        held = (*self.suspensions.get(target, ()), suspension)
        return replace(self, suspensions=self.suspensions.set(target, held), kinds=self.kinds | {target[0]})

    def without(self, digest: bytes) -> "Bars":
        """All but the version of this message digest: it was revoked or superseded."""
        suspensions = self.suspensions
        for target, held in self.suspensions.items():
            left = tuple(one for one in held if one.digest != digest)
            if not left:
                suspensions = suspensions.delete(target)
            elif len(left) < len(held):
                suspensions = suspensions.set(target, left)
        guardrails = tuple(one for one in self.guardrails if one.digest != digest)
        return Bars(guardrails, suspensions, frozenset(kind for kind, _ in suspensions))

    def forbidding(self, case: Case) -> StandingGuardrail | None:
        """The first guardrail that a request runs into."""
        for guardrail in self.guardrails:
            if guardrail.forbids.holds(case):
                return guardrail
        return None

    def holding(self, target: Target, now: int) -> StandingSuspension | None:
        """The first suspension that holds something up now, milliseconds."""
        held = self.suspensions.get(target)
        if held is None:
            return None
        return next((suspension for suspension in held if suspension.is_due(now)), None)

    def digests(self) -> Iterator[bytes]:
        """The message digests of all of them."""
        yield from (guardrail.digest for guardrail in self.guardrails)
        yield from (suspension.digest for _, suspension in self.all_suspensions())

    def all_suspensions(self) -> Iterator[tuple[Target, StandingSuspension]]:
        """Every suspension that was not lifted, with what it holds up, due or not; in no order."""
        for target, held in self.suspensions.items():
            for suspension in held:
                yield target, suspension


def suspended_target(said: Suspension, object_of: Callable[[bytes], bytes]) -> Target:
    """What a suspension that was accepted holds up.

    Args:
        said: as it was signed.
        object_of: the object id of a version, by its message digest.
    """
    kind = said.WhichOneof("target")
    if kind == "agreement":
        return agreement_target(object_of(said.agreement))
    if kind == "dataset":
        return dataset_target(said.dataset)
    if kind == "party":
        return party_target(Party.parse(said.party))
    return officer_target(Party.parse(said.officer.department), said.officer.pseudonym)
