"""How well fields are found that a dataset already provides, measured on schemas labelled by hand (`labels.toml`)."""

import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from exchange.catalogue.fields import Profile
from exchange.catalogue.readers import read_profile
from exchange.catalogue.similar import Catalogue, Match, Source
from tests.similarity.workbook import build_workbook

FOLDER = Path(__file__).parent
RECALL, PRECISION = 0.9, 0.8


@dataclass(frozen=True, slots=True)
class Pair:
    """What somebody wants to collect, a dataset, and which of its fields provide it."""

    wanted: str
    dataset: str
    provided: dict[str, str]
    arguable: frozenset[str]
    held_out: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """One field of a pair: the label, and what was found; `field` is empty where there is none."""

    pair: Pair
    wanted: str
    label: str
    match: Match | None

    @property
    def field(self) -> str:
        return self.match.field.path if self.match else ""


@dataclass(frozen=True, slots=True)
class Quality:
    """Counts of fields: found as labelled, found otherwise, labelled and not found so."""

    pairs: int
    right: int
    wrong: int
    missed: int

    @property
    def recall(self) -> float:
        return self.right / (self.right + self.missed)

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong)

    def __str__(self) -> str:
        return (
            f"{self.pairs} pairs, {self.right + self.missed} provided fields: recall {self.recall:.3f}, "
            f"precision {self.precision:.3f} ({self.right} right, {self.wrong} wrong, {self.missed} missed)"
        )


@cache
def pairs() -> tuple[Pair, ...]:
    with (FOLDER / "labels.toml").open("rb") as file:
        entries = tomllib.load(file)["pair"]
    return tuple(
        Pair(
            entry["wanted"],
            entry["dataset"],
            entry["provided"],
            frozenset(entry.get("arguable", ())),
            entry.get("held_out", False),
        )
        for entry in entries
    )


@cache
def profile(name: str) -> Profile:
    """A labelled schema; a workbook is built first."""
    [path] = [path for path in FOLDER.glob("*/*") if name in (path.name, path.stem)]
    if not path.name.endswith(".xlsx.csv"):
        return read_profile(path)
    with tempfile.TemporaryDirectory() as folder:
        return read_profile(build_workbook(path, Path(folder)))


def judge(pair: Pair) -> Iterator[Verdict]:
    """Hold a pair's fields against its labels."""
    found = Catalogue.of([Source(pair.dataset, profile(pair.dataset))]).similar(profile(pair.wanted))
    for field in found.fields:
        if field.field.path not in pair.arguable:
            match = field.matches[0] if field.matches else None
            yield Verdict(pair, field.field.path, pair.provided.get(field.field.path, ""), match)


def measure(chosen: Iterable[Pair]) -> tuple[Quality, list[Verdict]]:
    """The quality over some pairs, and the verdicts that are not as labelled."""
    chosen = tuple(chosen)
    verdicts = [verdict for pair in chosen for verdict in judge(pair)]
    right = sum(1 for verdict in verdicts if verdict.label and verdict.field == verdict.label)
    wrong = sum(1 for verdict in verdicts if verdict.field and verdict.field != verdict.label)
    missed = sum(1 for verdict in verdicts if verdict.label and verdict.field != verdict.label)
    return Quality(len(chosen), right, wrong, missed), [v for v in verdicts if v.field != v.label]
