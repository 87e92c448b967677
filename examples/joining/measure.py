"""One department joins an exchange that runs, step by step, with the commands that people type; each step is timed."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from examples.city.population import generate_city
from examples.city.records import City
from examples.city.stage import HOUSING, NAME, POPULATION, PURPOSE, Stage, new_seed, someone

FIELDS = "id_number,name,address"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what was done, and how long it took, seconds."""

    name: str
    seconds: float


class AnswerError(Exception):
    """The first answer is not the one that was to come."""


class Measurement:
    """A department that joins.

    Args:
        stage: a folder of its own; `prepare` founds an exchange in it.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._steps: list[Step] = []

    def prepare(self) -> str:
        """What is there before anybody is invited: an exchange with a purpose, and housing, which will ask.

        Returns:
            The URL of the newcomer's database.
        """
        self.city: City = generate_city(new_seed())
        stage = self._stage
        stage.found()
        stage.join(stage.home("data-bureau"), "data-bureau", "coordinator", stage.operator)
        stage.join(stage.steward(HOUSING), HOUSING.name, "department", stage.operator)
        stage.join(stage.system(HOUSING), f"{HOUSING.name}/{HOUSING.system}", "system", stage.steward(HOUSING))
        texts = ("--label", "保障性住房分配", "--legal-basis", "Decree 809, article 20")
        stage.must("purpose", "register", PURPOSE, *texts, "--home", stage.home("data-bureau"))
        return stage.fill(POPULATION, self.city)

    def run(self, url: str) -> list[Step]:
        """From the invite to the first answer; what people do between two commands is not waited for.

        Args:
            url: of the newcomer's database.

        Returns:
            Every step.

        Raises:
            CommandFailedError, ProcessError: a step failed.
            AnswerError: the answer is another one, or not verified.
        """
        stage, steward, system = self._stage, self._stage.steward(POPULATION), self._stage.system(POPULATION)
        self._admit("department", POPULATION.name, stage.operator, steward)
        self._admit("system", POPULATION.system, steward, system)
        self._timed("the dataset is published", lambda: stage.publish(POPULATION))
        self._timed(
            "housing applies, population agrees", lambda: stage.apply_and_sign(POPULATION, "LOOKUP", FIELDS, "")
        )
        self._timed("the adapter is attached", lambda: stage.attach(POPULATION, url))
        self._timed("housing has a verified answer", self._ask)
        return self._steps

    def _admit(self, group: str, name: str, parent: Path, home: Path) -> None:
        stage, invite = self._stage, self._stage.folder / f"{name}.invite"
        options = ("--expires", "7d", "--out", invite, "--home", parent)
        self._timed(f"the {group} is invited", lambda: stage.must(group, "invite", name, *options))
        told = self._timed(f"the {group} makes its keys", lambda: stage.must("join", invite, "--home", home, "--json"))
        compared = ("--fingerprint", json.loads(told)["fingerprint"])
        self._timed(f"the {group} is approved", lambda: stage.must(group, "approve", name, *compared, "--home", parent))
        self._timed(f"the {group} has its certificate", lambda: stage.must("join", "--status", "--home", home))

    def _ask(self) -> str:
        person = someone(self.city)
        asked = ("--key", person, "--fields", "name,address", "--purpose", PURPOSE, "--officer", "officer-17")
        home = self._stage.system(HOUSING)
        told = self._stage.must("request", POPULATION.dataset, *asked, "--case", "HS-1", "--home", home, "--json")
        answer = json.loads(told)
        resident = next(resident for resident in self.city.residents if resident.id_number == person)
        if [row["name"] for row in answer["rows"]] != [resident.name]:
            raise AnswerError(f"{NAME} answered something else:\n{told}")
        return told

    def _timed(self, name: str, work: Callable[[], str | None]) -> str:
        began = time.monotonic()
        result = work()
        self._steps.append(Step(name, time.monotonic() - began))
        return result or ""
