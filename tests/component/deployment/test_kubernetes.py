"""The Kubernetes manifests: valid, hardened, closed by default, without a secret in them; and the home gets whole."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.component.deployment.reading import DEPLOY, DRAIN, check_variables, is_accepted, manifests

FOLDER = DEPLOY / "kubernetes"
OBJECTS = manifests()
SETS = [found for found in OBJECTS if found["kind"] == "StatefulSet"]
each_set = pytest.mark.parametrize("found", SETS, ids=lambda found: str(found["metadata"]["name"]))


def validate(*paths: Path) -> int:
    """Strictly, by the schemas that kubernetes-validate brings along: nothing is fetched."""
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet", *map(str, paths)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def pod(found: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def containers(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod(found)["initContainers"], *pod(found)["containers"]]


def test_they_are_valid(tmp_path: Path) -> None:
    assert validate(*FOLDER.glob("*.yaml")) == 0
    wrong = tmp_path / "broker.yaml"
    wrong.write_text((FOLDER / "broker.yaml").read_text().replace("readinessProbe", "readynessProbe"))
    assert validate(wrong) != 0


def test_there_is_a_broker_and_an_adapter_and_no_secret() -> None:
    assert [found["metadata"]["name"] for found in SETS] == ["adapter", "broker"]
    assert {found["kind"] for found in OBJECTS} == {"Namespace", "NetworkPolicy", "Service", "StatefulSet"}


def test_nothing_is_reached_that_no_policy_names() -> None:
    policies = {found["metadata"]["name"]: found["spec"] for found in OBJECTS if found["kind"] == "NetworkPolicy"}
    assert policies.keys() == {"default-deny", "adapter", "broker"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies["adapter"]["ingress"] == []
    assert [port["port"] for rule in policies["broker"]["ingress"] for port in rule["ports"]] == [7443, 7444]


@each_set
def test_a_pod_is_as_closed_as_the_restricted_standard_asks(found: dict[str, Any]) -> None:
    spec = pod(found)
    security = spec["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] == 10001
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert "hostNetwork" not in spec
    for container in containers(found):
        wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True}
        assert container["securityContext"] == wanted | {"capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["limits"]["memory"]
        assert ":" in container["image"]


@each_set
def test_commands_variables_and_probes_are_the_programs_own(found: dict[str, Any]) -> None:
    [container] = pod(found)["containers"]
    assert is_accepted([*container.get("command", ["exchange"]), *container["args"]])
    check_variables({item["name"]: item["value"] for item in container.get("env", [])})
    # Else a service's name could make a variable that the program refuses.
    assert pod(found)["enableServiceLinks"] is False
    probe = container["readinessProbe"]
    if "exec" in probe:
        assert is_accepted(probe["exec"]["command"])
    else:
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports[probe["tcpSocket"]["port"]] == 7443


@each_set
def test_one_home_runs_once_and_has_time_to_stop(found: dict[str, Any]) -> None:
    assert found["spec"]["replicas"] == 1
    assert pod(found)["terminationGracePeriodSeconds"] > DRAIN


@each_set
def test_secrets_are_kept_from_everybody_else(found: dict[str, Any]) -> None:
    secrets = [volume["secret"] for volume in pod(found)["volumes"] if "secret" in volume]
    assert secrets
    assert all(secret["defaultMode"] == 0o440 for secret in secrets)
    mounted = {mount["name"] for container in containers(found) for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod(found)["volumes"]} | {"home"}


@each_set
def test_the_home_is_filled_once_for_its_owner_alone(found: dict[str, Any], tmp_path: Path) -> None:
    [init] = pod(found)["initContainers"]
    run, home = tmp_path / "run", tmp_path / "home"
    home.mkdir()
    for mount in init["volumeMounts"]:
        if mount["mountPath"] != init["workingDir"]:
            folder = Path(mount["mountPath"].replace("/run", str(run), 1))
            folder.mkdir(parents=True)
            (folder / f"{folder.name}.pem").write_text("first")
            (folder / f"{folder.name}.pem").chmod(0o440)

    def fill() -> None:
        command = [part.replace("/run/", f"{run}/") for part in init["command"]]
        subprocess.run(command, cwd=home, check=True)

    fill()
    files = {str(path.relative_to(home)): path for path in home.rglob("*") if path.is_file()}
    names = {"files.pem", "keys/keys.pem"} | ({"anchor/anchor.pem"} if found["metadata"]["name"] == "broker" else set())
    assert files.keys() == names
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files.values())
    assert (home / "keys").stat().st_mode & 0o777 == 0o700
    # What the program has renewed since then is not put back.
    files["files.pem"].write_text("renewed")
    fill()
    assert files["files.pem"].read_text() == "renewed"
    assert files["keys/keys.pem"].read_text() == "first"
