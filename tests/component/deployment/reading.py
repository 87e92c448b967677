"""What the files of deploy/ say, and whether the programs themselves would take it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from adapters import host
from adapters.cli import app as adapter_app
from adapters.config import PREFIX as ADAPTER_PREFIX
from adapters.config import AdapterSettings
from exchange.broker.config import PREFIX as BROKER_PREFIX
from exchange.broker.config import BrokerConfig
from exchange.cli.audit.main import app as audit_app
from exchange.cli.main import app as exchange_app
from exchange.overrides import overrides
from exchange.witness import server

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
PROGRAMS: Mapping[str, Any] = {
    "exchange": exchange_app,
    "exchange-adapter": adapter_app,
    "exchange-audit": audit_app,
}
DRAIN = max(BrokerConfig(listen="h:1").drain_seconds, host.DRAIN_SECONDS, server.DRAIN_SECONDS)
"""Seconds that a program takes to stop, unless it is told otherwise."""


def is_accepted(command: Sequence[str]) -> bool:
    """Whether a program knows a command with these options; it is not run."""
    result = CliRunner().invoke(PROGRAMS[Path(command[0]).name], [*command[1:], "--help"])
    return result.exit_code == 0 and "Usage:" in result.stdout


def check_variables(environment: Mapping[str, str]) -> None:
    """Every variable that looks like a setting is one.

    Raises:
        OverrideError: one is not.
    """
    overrides(BROKER_PREFIX, BrokerConfig.model_fields, environment)
    overrides(ADAPTER_PREFIX, AdapterSettings.model_fields, environment)


def unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """A systemd unit: sections, and each setting's values in order."""
    sections: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section.setdefault(name, []).append(value)
    return sections


def instructions(path: Path) -> Iterator[tuple[str, str]]:
    """The instructions of a container file, each on one line."""
    text = path.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, " ".join(rest.split())


def manifests() -> list[dict[str, Any]]:
    """Every Kubernetes object."""
    return [
        found
        for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
        for found in yaml.safe_load_all(path.read_text())
    ]


def compose() -> dict[str, Any]:
    """The compose file."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found
