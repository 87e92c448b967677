"""The compose file: valid by its specification, on loopback alone, secrets in files, commands the programs' own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.component.deployment.reading import DEPLOY, DRAIN, check_variables, compose, is_accepted

FILE = DEPLOY / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = compose()["services"]
OURS = {name: service for name, service in SERVICES.items() if name != "database"}


def validate(path: Path) -> int:
    """By the schema that check-jsonschema brings along: nothing is fetched."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_it_is_valid(tmp_path: Path) -> None:
    assert validate(FILE) == 0
    (tmp_path / "compose.yaml").write_text(FILE.read_text().replace("healthcheck:", "healthchek:"))
    assert validate(tmp_path / "compose.yaml") == 1


def test_it_is_a_broker_with_its_database_and_an_adapter() -> None:
    assert SERVICES.keys() == {"database", "broker", "adapter"}
    assert all(":" in service["image"] and not service["image"].endswith("latest") for service in SERVICES.values())
    assert all("healthcheck" in service and service["restart"] == "unless-stopped" for service in SERVICES.values())
    assert SERVICES["broker"]["depends_on"] == {"database": {"condition": "service_healthy"}}


def test_ports_are_on_loopback_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert SERVICES["database"]["networks"] == ["logs"]
    assert compose()["networks"]["logs"]["internal"]


def test_secrets_are_files_and_nowhere_else() -> None:
    secrets = compose()["secrets"]
    assert all(secret.keys() == {"file"} for secret in secrets.values())
    used = {name for service in SERVICES.values() for name in service["secrets"]}
    assert used == secrets.keys()
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or name.endswith("_FILE")
            if name.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]


@pytest.mark.parametrize("service", OURS.values(), ids=OURS)
def test_commands_and_variables_are_the_programs_own(service: dict[str, Any]) -> None:
    assert is_accepted([*service.get("entrypoint", ["exchange"]), *service["command"]])
    check_variables(service.get("environment", {}))
    probe = service["healthcheck"]["test"][1:]
    assert probe[0] == "python" or is_accepted(probe)


@pytest.mark.parametrize("service", OURS.values(), ids=OURS)
def test_a_service_of_ours_may_do_little_and_has_time_to_stop(service: dict[str, Any]) -> None:
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "privileged" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert float(service["stop_grace_period"].removesuffix("s")) > DRAIN
