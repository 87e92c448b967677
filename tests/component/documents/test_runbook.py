"""The alerts: of figures that are there, each with a chapter in docs/runbook.md, and every chapter with its alert."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from exchange.broker import metrics as broker_metrics
from exchange.core.access import code_name
from exchange.metrics.expiry import CERTIFICATE, SEALING, SIGNING
from exchange.v1.access_pb2 import Code
from tests.component.documents.exposed import both_registries
from tests.fixtures import world
from tests.world import World

__all__ = ["world"]

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
BEGINNING = "Before anything happens"

_NAME = re.compile(r"\bexchange_[a-z_]+")
_TYPE = re.compile(r"^# TYPE (\w+) (\w+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)(?:=~|!=|=)"([^"]*)"')


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def chapters() -> list[str]:
    return re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)


@pytest.fixture
async def exposed(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of all that broker and adapter expose."""
    async with both_registries(world, tmp_path, monkeypatch) as registries:
        return {
            name
            for registry in registries
            for base, kind in _TYPE.findall(generate_latest(registry).decode())
            for name in ([f"{base}_bucket", f"{base}_sum", f"{base}_count"] if kind == "histogram" else [base])
        }


async def test_every_figure_of_an_alert_is_exposed(exposed: set[str]) -> None:
    asked = {name for rule in alerts() for name in _NAME.findall(rule["expr"])}
    assert len(asked) > 15
    assert asked - exposed == set()


def test_every_label_of_an_alert_has_a_value_that_comes() -> None:
    known = {
        "code": {broker_metrics.RELEASED, *(code_name(code) for code in Code.values())},
        "what": {CERTIFICATE, SIGNING, SEALING},
        "job": {"exchange-broker", "exchange-adapter"},
        "reason": {"INTERNAL"},
    }
    labels = [(label, value) for rule in alerts() for label, value in _LABEL.findall(rule["expr"])]
    assert labels
    for label, values in labels:
        assert set(values.split("|")) <= known[label], label


def test_an_alert_says_how_grave_it_is_and_where_to_read_on() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_every_alert_has_a_chapter_and_every_chapter_an_alert() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names)) > 20
    assert chapters() == [BEGINNING, *names]


def test_a_chapter_says_what_it_means_and_what_to_type() -> None:
    _, *texts = re.split(r"^## .+$", RUNBOOK, flags=re.MULTILINE)
    for name, text in zip(chapters()[1:], texts[1:], strict=True):
        assert "**Means:**" in text, name
        assert "**Type" in text, name
        assert "```sh" in text, name


def test_links_within_the_runbook_lead_somewhere() -> None:
    targets = {name.lower() for name in chapters()}
    assert set(re.findall(r"\]\(#([a-z]+)\)", RUNBOOK)) <= targets
