"""The systemd units: systemd finds nothing wrong with them, and their commands are the programs' own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exchange.cli.frame.errors import ExitCode
from tests.component.deployment.reading import DEPLOY, DRAIN, is_accepted, unit

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
NAMES = {"exchange-broker", "exchange-adapter", "exchange-witness"}
# Of 100, as `systemd-analyze security` counts; a unit that says nothing has 96.
MOST_EXPOSED = 15

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed here (Debian: apt install systemd)",
)
each_unit = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False)


def installed(path: Path, folder: Path) -> Path:
    """The unit, with the programs of this environment in place of /opt/exchange/bin."""
    copy = folder / path.name
    copy.write_text(path.read_text().replace("/opt/exchange/bin", str(Path(sys.executable).parent)))
    return copy


def test_there_is_a_unit_for_each_service() -> None:
    assert {path.stem for path in UNITS} == NAMES


@needs_systemd
@each_unit
def test_systemd_finds_nothing_wrong(path: Path, tmp_path: Path) -> None:
    copy = installed(path, tmp_path)
    found = analyze("verify", copy)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    copy.write_text(copy.read_text().replace("ProtectSystem=", "ProtectSistem="))
    assert "ProtectSistem" in analyze("verify", copy).stderr


@needs_systemd
@each_unit
def test_a_unit_is_hardly_exposed(path: Path, tmp_path: Path) -> None:
    copy = installed(path, tmp_path)
    check = ("security", "--offline=true", f"--threshold={MOST_EXPOSED}")
    assert analyze(*check, copy).returncode == 0
    copy.write_text(f"[Service]\nExecStart={sys.executable}\n")
    assert analyze(*check, copy).returncode != 0


@each_unit
def test_its_command_is_the_programs_own(path: Path) -> None:
    [command] = unit(path)["Service"]["ExecStart"]
    assert is_accepted(command.split())
    assert not is_accepted([*command.split(), "--nonsense"])
    # The home is the one folder that it may write to.
    assert command.split()[-1] == unit(path)["Service"]["ReadWritePaths"][0] == f"%S/{path.stem}"


@each_unit
def test_it_stops_as_its_program_does(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["KillSignal"] == ["SIGTERM"]
    assert int(service["TimeoutStopSec"][0]) > DRAIN
    assert service["Restart"] == ["on-failure"]
    lasting = {ExitCode.USAGE, ExitCode.FORK, ExitCode.UNTRUSTED}
    assert {int(code) for code in service["RestartPreventExitStatus"][0].split()} == lasting


@each_unit
def test_it_runs_as_a_user_of_its_own_and_holds_no_secret(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["User"] == service["Group"] == service["StateDirectory"] == [path.stem]
    assert f"u {path.stem} " in (DEPLOY / "systemd" / "exchange.sysusers.conf").read_text()
    assert "password" not in path.read_text().lower()
    wanted = {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "CapabilityBoundingSet": "",
        "MemoryDenyWriteExecute": "yes",
    }
    assert {name: service[name] for name in wanted} == {name: [value] for name, value in wanted.items()}
