"""The container file: what is locked and needed alone, no root, no secret; and what it copies is a release."""

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.component.deployment.reading import DEPLOY, ROOT, instructions, is_accepted
from tools.runtime_lock import BUILD, EXTRAS, RUNTIME, wanted

FILE = DEPLOY / "Containerfile"
LINES = list(instructions(FILE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def values(name: str) -> list[str]:
    return [rest for instruction, rest in LINES if instruction == name]


def copied() -> list[str]:
    """What is copied out of the repository."""
    return [source for rest in values("COPY") if not rest.startswith("--from=") for source in rest.split()[:-1]]


def test_images_are_named_whole_and_by_a_version() -> None:
    for rest in values("FROM"):
        assert re.fullmatch(r"docker\.io/library/python:3\.[0-9]+\.[0-9]+-slim-[a-z]+( AS build)?", rest)


def test_what_is_copied_is_there_and_nothing_else_reaches_the_build() -> None:
    assert copied()
    assert all((ROOT / source).exists() for source in copied())
    rules = (DEPLOY / "Containerfile.dockerignore").read_text().split("\n")
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    assert "*" in rules
    assert sorted(allowed) == sorted(copied())
    # No home, no key and no password has such a name.
    assert not any(fnmatch.fnmatch(source, pattern) for source in copied() for pattern in ("*.pem", "*.env", "*home*"))


def test_nobody_is_root_in_it() -> None:
    assert values("USER") == ["10001:10001"]
    after = LINES[[name for name, _ in LINES].index("USER") :]
    assert not any(name in {"RUN", "COPY"} for name, _ in after)


def test_its_programs_are_the_releases() -> None:
    [entry], [command] = values("ENTRYPOINT"), values("CMD")
    words = [*re.findall(r'"([^"]+)"', entry), *re.findall(r'"([^"]+)"', command)]
    assert words[0] in PROJECT["scripts"]
    assert is_accepted(words)


def test_no_secret_is_built_in() -> None:
    assert values("ARG") == []
    assert not re.search(
        r"password|secret|token|passwd", "\n".join(f"{name} {rest}" for name, rest in LINES), re.IGNORECASE
    )


def test_everything_is_installed_with_its_hashes() -> None:
    installs = [part for rest in values("RUN") for part in rest.split("&&") if "pip install" in part]
    assert len(installs) == 3
    for part in installs:
        assert "--require-hashes" in part or "--no-index" in part
    for path in (RUNTIME, BUILD):
        entries = re.split(r"\n(?=\S)", path.read_text().strip())[1:]
        assert entries
        assert all(re.search(r"==\S+.*\\\n +--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_the_runtime_lock_is_the_locks() -> None:
    """Run `python -m tools.runtime_lock` where it is not."""
    assert {path: path.read_text() for path in wanted()} == wanted()


def test_the_runtime_lock_has_all_that_a_release_needs_here() -> None:
    locked = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", RUNTIME.read_text(), re.MULTILINE)}
    asked = [*PROJECT["dependencies"], *(line for extra in EXTRAS for line in PROJECT["optional-dependencies"][extra])]
    pending, seen = [Requirement(line) for line in asked], set[str]()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        assert name in locked, requirement
        if str(requirement) not in seen:
            seen.add(str(requirement))
            needs = [Requirement(line) for line in requires(name) or []]
            pending += [
                need
                for need in needs
                for extra in ("", *requirement.extras)
                if need.marker is None or need.marker.evaluate({"extra": extra})
            ]
    assert not {"pytest", "mypy", "ruff", "alembic-utils"} & locked


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that the build stage makes, of what it copies alone."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / Path(name).name)
    [build] = [part for rest in values("RUN") for part in rest.split("&&") if "pip wheel" in part]
    arguments = build.split()[1:]
    arguments[arguments.index("dist")] = str(dist)
    made = subprocess.run([sys.executable, *arguments], cwd=source, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    [path] = dist.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_image_has_the_whole_release(wheel: zipfile.ZipFile) -> None:
    inside = set(wheel.namelist())
    tracked = [path.relative_to(ROOT) for top in ("exchange", "adapters") for path in (ROOT / top).rglob("*.py")]
    assert {str(path) for path in tracked} <= inside
    data = [path.relative_to(ROOT) for path in (ROOT / "exchange").rglob("*.toml")]
    assert data
    assert {str(path) for path in data} <= inside
    assert any(name.startswith("exchange/store/migrations/versions/v0001") for name in inside)
    [entry_points] = [name for name in inside if name.endswith("entry_points.txt")]
    assert all(f"{name} = " in wheel.read(entry_points).decode() for name in PROJECT["scripts"])
