"""deploy/prometheus: every alert is played through, with and without its fault, in figures that the programs have."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from exchange.broker import metrics as broker_metrics
from exchange.broker.metrics import RELEASED
from exchange.broker.status import UNFORESEEN
from exchange.core.access import code_name
from exchange.metrics.expiry import CERTIFICATE, SEALING, SIGNING
from exchange.store.ports import Log
from exchange.transport import CERTIFIED_METHODS
from exchange.v1.access_pb2 import Code
from tests.component.documents.exposed import LABELS_OF_PROMETHEUS, both_registries
from tests.fixtures import world
from tests.world import World

__all__ = ["world"]

FOLDER = Path(__file__).parents[3] / "deploy" / "prometheus"
PROMTOOL = shutil.which("promtool")
NOW, EVER = 'ALERTS{alertstate="firing"}', 'last_over_time(ALERTS{alertstate="firing"}[2d])'
_SERIES = re.compile(r'(?P<name>\w+)\{(?P<labels>(?:\w+="[^"]*"(?:, )?)+)\}')
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_METRIC = re.compile(r"\b(?:up|exchange_[a-z_]+)\b")
# A label in an expression: within braces, or after `by`.
_ASKED = re.compile(r'(\w+)(?:=~|!=|=)"|by \(([^)]*)\)')

VALUES: Mapping[str, set[str]] = {
    "code": {RELEASED, *(code_name(code) for code in Code.values() if code)},
    "what": {CERTIFICATE, SIGNING, SEALING},
    "reason": {"OK", UNFORESEEN},
    "method": {method.rpartition(".")[2] for method in CERTIFIED_METHODS},
    "log": {log.value for log in Log},
    "role": {"broker", "adapter"},
    "le": {"+Inf", *map(str, broker_metrics.SECONDS)},
}
"""What a label of a figure may be; others say where it was scraped, or which version runs."""


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def cases() -> dict[str, dict[str, Any]]:
    """All cases, by their names."""
    found = [case for file in FOLDER.glob("*_test.yml") for case in yaml.safe_load(file.read_text())["tests"]]
    named = {case["name"]: case for case in found}
    assert len(named) == len(found)
    return named


def parsed(series: str) -> tuple[str, dict[str, str]]:
    found = _SERIES.fullmatch(series)
    assert found, series
    return found["name"], dict(_LABEL.findall(found["labels"]))


def fired(case: dict[str, Any], expression: str) -> list[set[str]]:
    """The alerts that fire in a case, for each time that it looks."""
    return [
        {parsed(sample["labels"])[1]["alertname"] for sample in test["exp_samples"]}
        for test in case["promql_expr_test"]
        if test["expr"] == expression
    ]


def figures_of(expression: str) -> set[str]:
    return set(_METRIC.findall(expression))


def labels_of(expression: str) -> set[str]:
    return {
        label.strip() for one, many in _ASKED.findall(expression) for label in (one or many).split(",") if label.strip()
    }


@pytest.mark.skipif(PROMTOOL is None, reason="promtool, of Debian's package prometheus, is not in PATH")
@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml"), ("test", "rules", "alerts_days_test.yml")],
    ids=" ".join,
)
def test_promtool_evaluates_every_alert(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_every_alert_is_played_through_with_its_fault_and_without() -> None:
    played, alerts = cases(), rules()
    assert len(alerts) > 20
    assert played.keys() == {f"{alert}, {case}" for alert in alerts for case in ("its fault", "no fault")}
    for alert, rule in alerts.items():
        before, after = fired(played[f"{alert}, its fault"], NOW)
        assert (before, after) == (set(), {alert})
        assert fired(played[f"{alert}, no fault"], EVER) == [set()]
        for case in ("its fault", "no fault"):
            given = {parsed(series["series"])[0] for series in played[f"{alert}, {case}"]["input_series"]}
            assert given == figures_of(rule["expr"]), alert


@pytest.fixture
async def labels(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The labels of every figure that broker and adapter expose, and of `up`, which is Prometheus's own."""
    async with both_registries(world, tmp_path, monkeypatch) as registries:
        found = {name: names for registry in registries for name, names in labelled(registry)}
    return {"up": set(), **found}


def labelled(registry: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    """Every name of a registry that may be asked for, with its labels."""
    for collector in registry._collector_to_names:
        own = set(getattr(collector, "_labelnames", ()))
        for family in collector.describe():
            names = own | set(getattr(family, "_labelnames", ()))
            if family.type == "histogram":
                yield f"{family.name}_bucket", names | {"le"}
                yield f"{family.name}_count", names
            else:
                yield family.name + ("_total" if family.type == "counter" else ""), names


def test_every_series_of_a_case_is_one_that_the_programs_have(labels: dict[str, set[str]]) -> None:
    for name, case in cases().items():
        for series in case["input_series"]:
            figure, found = parsed(series["series"])
            assert found.keys() == labels[figure] | LABELS_OF_PROMETHEUS, (name, figure)
            assert all(value in VALUES[label] for label, value in found.items() if label in VALUES), (name, found)


def test_every_label_that_an_alert_asks_for_is_one_that_its_figures_have(labels: dict[str, set[str]]) -> None:
    for alert, rule in rules().items():
        known = set.union(*(labels[figure] for figure in figures_of(rule["expr"])), LABELS_OF_PROMETHEUS)
        assert labels_of(rule["expr"]) <= known, alert
