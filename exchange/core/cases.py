"""Bodies as they are opened, in the order of their entries: what each of them leaves in the case that it belongs to.

The fold keeps the events of a case; `tell` makes a case of them. An agreement opens only where its case lets the owner
give it, with the consents that the rules ask for (Decree 809, articles 20 and 21).
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from exchange.core.approvals import approve, is_unconditional, open_approval
from exchange.core.case import Case, Event, actors
from exchange.core.case_moves import begin, lapse, perform
from exchange.core.corrections import CORRECTION_ACTIONS, open_correction_step
from exchange.core.names import Party
from exchange.core.opening import checked_body, open_terms
from exchange.core.procedure import TABLE, Act, Stage, Who
from exchange.core.procedure_terms import StepTerms
from exchange.core.review import REVIEW_ACTIONS, check_open, open_review_step, submit
from exchange.core.state import State, Version
from exchange.core.steps import CASE_ACTS, read_step
from exchange.core.terms import AgreementTerms, ApplicationTerms, Terms, TermsError
from exchange.core.values import replace
from exchange.v1.directory_pb2 import EntryKind, Role
from exchange.v1.procedure_pb2 import Action, Step

# An enum's attribute costs more than a hash, and every body asks for it.
_A_STEP, _STANDING_APPROVAL = EntryKind.ENTRY_KIND_STEP, EntryKind.ENTRY_KIND_STANDING_APPROVAL
_DATASET, _APPLICATION = EntryKind.ENTRY_KIND_DATASET, EntryKind.ENTRY_KIND_APPLICATION
_AGREEMENT = EntryKind.ENTRY_KIND_AGREEMENT


def open_body(state: State, terms: Terms, version: Version, attachment: bytes) -> Terms:
    """Open the body of an entry, check it against the objects that it names, and against its case.

    Args:
        state: with `version` folded in.
        terms: of every entry before.
        version: of a dataset, application, agreement, standing approval, or a step.
        attachment: 32 bytes of salt, then the serialised body.

    Raises:
        CoreError: not this entry's body, or a rule is broken; the text says which.
    """
    kind = version.kind
    if kind == _A_STEP:
        return _step(state, terms, version, checked_body(version, attachment))
    if kind == _STANDING_APPROVAL:
        opened = open_approval(state, terms, version, checked_body(version, attachment))
        return _approved(state, opened, version)
    opened = open_terms(state, terms, version, attachment)
    if kind == _DATASET:
        return submit(state, opened, version)
    if kind == _APPLICATION:
        return _applied(state, opened, version)
    if kind == _AGREEMENT:
        return _agreed(state, opened, version)
    return opened


def tell(state: State, terms: Terms, application: bytes, size: int | None = None) -> Case | None:
    """The case of an application; None where its body is not known.

    Args:
        application: its object id, 16 bytes.
        size: of the directory as which it is told; None is all of it.
    """
    events = terms.events.get(application, ())
    if not events:
        return None
    until = state.size if size is None else size
    known = [*events, *_lapses(state, terms, events)]
    first, *rest = sorted((event for event in known if event.index < until), key=lambda event: event.index)
    case = begin(first)
    for event in rest:
        case = lapse(case, event) if event.subject and event.act in {Act.WITHDRAW, Act.END} else perform(case, event)
    return case


def stands(state: State, terms: Terms, agreement: AgreementTerms) -> bool:
    """Whether an agreement is not revoked or superseded, and its case has not ended it."""
    # Asked for every request.
    versions = state.versions
    for digest in _grounds(agreement):
        if versions[digest].ended_index is not None:
            return False
    end = terms.ends.get(versions[agreement.application].object_id)
    return end is None or end < agreement.version.index


def _grounds(agreement: AgreementTerms) -> tuple[bytes, ...]:
    """The versions that must stand: the agreement's own, or those that stand for it under a standing approval."""
    if not agreement.approval:
        return (agreement.version.digest,)
    return (agreement.application, agreement.approval)


def _applied(state: State, terms: Terms, version: Version) -> Terms:
    application = terms.applications[version.digest]
    check_open(terms, application.dataset, version.time)
    # Refused at once, rather than never answered by what it names.
    granted = approve(state, terms, application, version)
    event = _event(state, terms, application, version, Act.APPLY, Who.APPLICANT)
    case = tell(state, terms, version.object_id, version.index)
    if case is not None:
        perform(case, event)
    noted = _noted(terms, version.object_id, event)
    return noted if event.consent or granted is None else _granted(noted, granted, event)


def _agreed(state: State, terms: Terms, version: Version) -> Terms:
    agreement = terms.agreements[version.digest]
    check_open(terms, agreement.dataset, version.time)
    application = terms.applications[agreement.application]
    case = _told(state, terms, application, version)
    granted = (event.digest for event in case.history if event.act in {Act.AGREE, Act.AMEND})
    replaced = [digest for digest in granted if state.versions[digest].superseded_by == version.digest]
    act = Act.AMEND if replaced else Act.AGREE
    event = _event(state, terms, application, version, act, Who.OWNER, subject=replaced[0] if replaced else b"")
    perform(case, event)
    return _with_grantee(_noted(terms, application.version.object_id, event), agreement)


def _approved(state: State, terms: Terms, version: Version) -> Terms:
    dataset = terms.approvals[version.digest].dataset
    if state.rules_at(version.index).consent and terms.consents.get(version.body_sha256) != dataset:
        raise TermsError(f"{Who.OWNER_HEAD} consents to exactly this standing approval first")
    return terms


def _step(state: State, terms: Terms, version: Version, body: bytes) -> Terms:
    step = read_step(body)
    if step.action in CORRECTION_ACTIONS:
        return open_correction_step(state, terms, version, step)
    if step.action == Action.ACTION_CONSENT_ANSWER and step.subject in terms.datasets:
        return _consent_to_approval(state, terms, version, step)
    is_extended = step.action == Action.ACTION_EXTEND and step.subject in terms.datasets
    if step.action in REVIEW_ACTIONS or is_extended:
        return open_review_step(state, terms, version, step)
    act = CASE_ACTS.get((step.action, step.outcome))
    if act is None:
        raise TermsError("this step belongs to no procedure")
    about = _application_of(state, terms, step)
    versions = [event.digest for event in terms.events.get(about, ()) if event.act == Act.APPLY]
    if not versions:
        raise TermsError("the application is not known here")
    application = terms.applications[versions[-1]]
    case = _told(state, terms, application, version)
    if step.subject != about and act != Act.OPEN_DISPUTE and _dispute_of(case) != step.subject:
        raise TermsError("the dispute is not the one that is open in this case")
    who = _who(state, terms, application, version, (case.stage, act))
    event = replace(_event(state, terms, application, version, act, who), step=step)
    perform(case, event)
    noted = _with_step(_noted(terms, about, event), version, step, about)
    if act == Act.SUBMIT:
        granted = approve(state, terms, application, version)
        return noted if granted is None else _granted(noted, granted, event)
    if act == Act.OPEN_DISPUTE:
        return replace(noted, disputes=noted.disputes.set(step.subject, about))
    if act in {Act.END, Act.SETTLE_END}:
        return replace(noted, ends=noted.ends.set(about, version.index))
    return noted


def _consent_to_approval(state: State, terms: Terms, version: Version, step: Step) -> Terms:
    """The head's consent to a standing approval, which goes before it as any other answer's."""
    owner = terms.datasets[step.subject].version.owner
    if _role(state, version.owner) != "head" or version.owner.own_department != owner:
        raise TermsError(f"{version.owner} is not {Who.OWNER_HEAD}")
    noted = _with_step(terms, version, step, step.subject)
    return replace(noted, consents=noted.consents.set(step.digest, step.subject))


def _application_of(state: State, terms: Terms, step: Step) -> bytes:
    """The object id of the application that a step is about."""
    if step.action == Action.ACTION_OPEN_DISPUTE:
        if step.subject in state.objects or step.subject in terms.disputes:
            raise TermsError("the dispute's object id is in use")
        return step.about
    if step.action in {Action.ACTION_ESCALATE, Action.ACTION_SETTLE}:
        return terms.disputes.get(step.subject, b"")
    return step.subject


def _dispute_of(case: Case) -> bytes:
    opened = [event.step.subject for event in case.history if event.act == Act.OPEN_DISPUTE]
    return opened[-1] if opened else b""


def _who(state: State, terms: Terms, application: ApplicationTerms, version: Version, place: tuple[Stage, Act]) -> Who:
    """In which part the signer takes a step: of those that are theirs, one that may."""
    owner = terms.datasets[application.dataset].version.owner
    parts = actors(application.version.owner, owner, version.owner, _role(state, version.owner))
    if not parts:
        raise TermsError(f"{version.owner} has no part in this case")
    may = TABLE[place].who if place in TABLE else parts
    return min(parts & may or parts)


def _role(state: State, party: Party) -> str:
    # All keys of a party have one role.
    return Role.Name(state.keys_of(party)[0].role).removeprefix("ROLE_").lower()


def _told(state: State, terms: Terms, application: ApplicationTerms, version: Version) -> Case:
    case = tell(state, terms, application.version.object_id, version.index)
    if case is None:
        raise TermsError("the application is not known here")
    return case


def _event(
    state: State,
    terms: Terms,
    application: ApplicationTerms,
    version: Version,
    act: Act,
    who: Who,
    subject: bytes = b"",
) -> Event:
    kind = "unconditional" if is_unconditional(terms.datasets[application.dataset]) else "conditional"
    return Event(
        act,
        version.owner,
        who,
        version.index,
        version.time,
        version.digest,
        subject,
        version.body_sha256,
        consent=state.rules_at(version.index).consent,
        clock=f"application.answer.{kind}",
    )


def _noted(terms: Terms, application: bytes, event: Event) -> Terms:
    return replace(terms, events=terms.events.set(application, (*terms.events.get(application, ()), event)))


def _with_step(terms: Terms, version: Version, step: Step, about: bytes) -> Terms:
    return replace(terms, steps=terms.steps.set(version.digest, StepTerms(version, step, about)))


def _granted(terms: Terms, agreement: AgreementTerms, event: Event) -> Terms:
    """An agreement that a standing approval gives: its rights, and its place in the case."""
    agreed = replace(event, act=Act.AGREE, actor=agreement.version.owner, who=Who.OWNER, consent=False)
    application = terms.applications[agreement.application].version.object_id
    noted = _noted(terms, application, agreed)
    return _with_grantee(replace(noted, agreements=noted.agreements.set(agreement.digest, agreement)), agreement)


def _with_grantee(terms: Terms, agreement: AgreementTerms) -> Terms:
    whom = agreement.dataset, agreement.grantee.own_department
    return replace(terms, granted=terms.granted.set(whom, True))


def _lapses(state: State, terms: Terms, events: tuple[Event, ...]) -> Iterator[Event]:
    """What revocations ended, which stand in leaves alone: no more is known of them than their place."""
    own = {event.digest for event in events}
    for event in events:
        act = _LAPSES.get(event.act)
        ended = _ended_index(state, terms, event, own) if act is not None else None
        if act is not None and ended is not None:
            yield replace(event, act=act, index=ended, time=0, digest=b"", subject=event.digest)


def _ended_index(state: State, terms: Terms, event: Event, own: set[bytes]) -> int | None:
    agreement = terms.agreements.get(event.digest)
    if agreement is not None and agreement.approval and event.act != Act.APPLY:
        ends = (state.versions[digest].ended_index for digest in _grounds(agreement))
        return min((end for end in ends if end is not None), default=None)
    version = state.versions[event.digest]
    return None if _is_replaced(state, version, own) else version.ended_index


def _is_replaced(state: State, version: Version, own: set[bytes]) -> bool:
    """Whether a version ended because a later one of the same case came, and not before it by a revocation."""
    later = version.superseded_by
    return later is not None and later in own and state.versions[later].index == version.ended_index


_LAPSES: Mapping[Act, Act] = MappingProxyType({Act.APPLY: Act.WITHDRAW, Act.AGREE: Act.END, Act.AMEND: Act.END})
