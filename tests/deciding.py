"""The table of decisions: `tests/decisions/*.yaml`, one file a check, and the requests that its rows describe.

A row changes one thing in a request that is allowed otherwise; without a code it still is.

    that          what the row shows
    at            the moment, in ISO 8601
    grant         terms of the agreement's next version, as the JSON form of the message has them
    standing      the agreement is what a standing approval gave to an application
    review        review date of the agreement's next version, milliseconds after now
    sensitivity   levels of the dataset's fields; the others were not classed
    used          when the requester's department was answered under the agreement, milliseconds after now;
                  used_by_another and used_of_another: another department, or under another agreement
    suspend       what is suspended, by whom, until when (milliseconds after now), and who has lifted it
    officers      pseudonyms that a department registers, and those that it has removed since
    forbid        trees of guardrails; their codes are rule-1, rule-2 and so on
    fault         names of faults in tests/attempts.py, applied in order
    later         milliseconds that pass until the request is made
    header        fields of the request's header
    size          a bytes field of the header, cut or filled to this length
    issued        issued-at, milliseconds after now; expires-at is five minutes later
    expires       expires-at, milliseconds after now
    check, code   the refusal; `reason` occurs in its text
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.json_format import ParseDict

from exchange.core.names import Party
from exchange.core.terms import AgreementTerms
from exchange.v1.directory_pb2 import Agreement, Field
from exchange.v1.guardrail_pb2 import Officer, Test, Tests
from exchange.v1.request_pb2 import Operation
from tests.attempts import FAULTS, Attempt, another_agreement, approved, next_dataset, regrant
from tests.world import APPLICATIONS, CIVIL_AFFAIRS, FIELDS, HOUSING, MARRIAGE, ORIGIN, REGISTRY

FOLDER = Path(__file__).parent / "decisions"
CASES: list[dict[str, Any]] = [
    case for file in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(file.read_text())
]


def attempt_of(case: Mapping[str, Any]) -> Attempt:
    """The attempt that a row of the table describes."""
    attempt = Attempt.allowed()
    _arrange(attempt, case)
    for name in case.get("fault", ()):
        FAULTS[name](attempt)
    attempt.world.now += case.get("later", 0)
    _change_header(attempt, case)
    return attempt


def uses(attempt: Attempt) -> list[tuple[AgreementTerms, Party, int]]:
    """What was used before the attempt: under which agreement, by which system, and when, in the order of time."""
    systems = {system.own_department: system for system in (APPLICATIONS, MARRIAGE)}
    agreements = {terms.object_id: terms for terms in attempt.world.directory.terms.agreements.values()}
    found = [(agreements[used], systems[department], time) for used, department, time in attempt.world.uses]
    return sorted(found, key=lambda use: use[2])


def party(name: str) -> Party:
    """A party by what follows the exchange's name."""
    return Party.parse(f"exchange://{ORIGIN}/{name}" if name else f"exchange://{ORIGIN}")


def _arrange(attempt: Attempt, case: Mapping[str, Any]) -> None:
    """What the directory says, and what was used, before the request is made."""
    world = attempt.world
    if "at" in case:
        world.now = round(datetime.fromisoformat(case["at"]).timestamp() * 1000)
        world.give_sealing_key(REGISTRY, "of that day")
    if "sensitivity" in case:
        levels = case["sensitivity"]
        fields = [Field(name=name, type=kind, sensitivity=levels.get(name, 0)) for name, kind in FIELDS.items()]
        next_dataset(attempt, fields=fields)
    _grant(attempt, case)
    for offset in case.get("used", ()):
        world.use(attempt.agreement, HOUSING, world.now + offset)
    for offset in case.get("used_by_another", ()):
        world.use(attempt.agreement, CIVIL_AFFAIRS, world.now + offset)
    for offset in case.get("used_of_another", ()):
        world.use(another_agreement(attempt), HOUSING, world.now + offset)
    for number, tree in enumerate(case.get("forbid", ()), start=1):
        world.forbid(tree_of(attempt, tree), f"rule-{number}")
    _name_officers(attempt, case.get("officers", {}))
    for suspension in case.get("suspend", ()):
        _suspend(attempt, suspension)


def _name_officers(attempt: Attempt, said: Mapping[str, Any]) -> None:
    for name, pseudonyms in said.items():
        for standing in ("registered", "removed"):
            for pseudonym in pseudonyms.get(standing, ()):
                attempt.world.name_officer(party(name), pseudonym, removed=standing == "removed")


def _grant(attempt: Attempt, case: Mapping[str, Any]) -> None:
    if "grant" in case or "review" in case:
        terms = ParseDict(case.get("grant", {}), Agreement())
        changes = {name.name: value for name, value in terms.ListFields()}
        if "review" in case:
            changes["review_at"] = attempt.world.now + case["review"]
        attempt.agreement = regrant(attempt, **changes)
    if "standing" in case:
        attempt.agreement = approved(attempt)


def _suspend(attempt: Attempt, said: Mapping[str, Any]) -> None:
    world = attempt.world
    target: dict[str, Any] = {}
    if "agreement" in said:
        target["agreement"] = attempt.agreement.digest
    elif "another_agreement" in said:
        target["agreement"] = another_agreement(attempt).digest
    elif "dataset" in said:
        target["dataset"] = world.dataset.object_id
    elif "party" in said:
        target["party"] = str(party(said["party"]))
    else:
        department, pseudonym = said["officer"]
        target["officer"] = Officer(department=str(party(department)), pseudonym=pseudonym)
    if "until" in said:
        target["until"] = world.now + said["until"]
    digest = world.suspend(party(said["by"]), **target).digest
    if "lifted_by" in said:
        world.revoke(digest, party(said["lifted_by"]))


def tree_of(attempt: Attempt, tree: Mapping[str, Any]) -> Test:
    """A guardrail's test out of a row: parties without the exchange's name, the dataset by whether it is this one."""
    ((name, value),) = tree.items()
    if name in {"all_of", "any_of"}:
        return Test(**{name: Tests(tests=[tree_of(attempt, child) for child in value])})
    if name == "not":
        return Test(negation=tree_of(attempt, value))
    if name in {"requester", "provider"}:
        return Test(**{name: str(party(value))})
    if name == "dataset":
        return Test(dataset=attempt.world.dataset.object_id if value else bytes(16))
    if name == "operation":
        return Test(operation=Operation.Value(f"OPERATION_{value}"))
    return Test(**{name: value})


def _change_header(attempt: Attempt, case: Mapping[str, Any]) -> None:
    attempt.changes |= case.get("header", {})
    now = attempt.world.now
    if "issued" in case:
        attempt.changes |= {"issued_at": now + case["issued"], "expires_at": now + case["issued"] + 300_000}
    if "expires" in case:
        attempt.changes["expires_at"] = now + case["expires"]
    for name, size in case.get("size", {}).items():
        header = attempt.world.header(**({"agreement": attempt.agreement.digest} | attempt.changes))
        attempt.changes[name] = (getattr(header, name) + bytes(size))[:size]
