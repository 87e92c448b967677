"""Writes deploy/requirements.txt, what a release needs to run, out of requirements-dev.txt: same versions, same hashes.

`python -m tools.runtime_lock` writes, `--check` only compares. What is needed is read from pyproject.toml and from the
packages that are installed here; a marker decides nothing but an extra, so that one file serves every Python.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK, RUNTIME, BUILD = (
    ROOT / name for name in ("requirements-dev.txt", "deploy/requirements.txt", "deploy/requirements-build.txt")
)
# A container image hosts any of the three: broker, adapter, witness.
EXTRAS = ("witness",)

_HEADER = "# Out of requirements-dev.txt, by `python -m tools.runtime_lock`; {what}.\n"
_ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==.*?(?=^[A-Za-z0-9]|\Z)", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Write or compare; 1 where a file is not what the lock has."""
    parser = argparse.ArgumentParser(prog="python -m tools.runtime_lock", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on a difference")
    check = parser.parse_args().check
    differing = [path for path, text in wanted().items() if not path.exists() or path.read_text() != text]
    for path in differing:
        if check:
            print(f"{path}: run `python -m tools.runtime_lock`", file=sys.stderr)
        else:
            path.write_text(wanted()[path])
    return int(check and bool(differing))


def wanted() -> Mapping[Path, str]:
    """The two files as they have to be."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = project["project"]
    asked = [
        *declared["dependencies"],
        *(line for extra in EXTRAS for line in declared["optional-dependencies"][extra]),
    ]
    build = project["build-system"]["requires"]
    locked = {canonicalize_name(match[1]): match[0].rstrip() for match in _ENTRY.finditer(LOCK.read_text())}
    return {
        RUNTIME: _text("what a release needs to run", _closure(asked, locked), locked),
        BUILD: _text("what builds one", _closure(build, locked), locked),
    }


def _text(what: str, names: Iterable[str], locked: Mapping[str, str]) -> str:
    return _HEADER.format(what=what) + "".join(f"{locked[name]}\n" for name in sorted(names))


def _closure(asked: Iterable[str], locked: Mapping[str, str]) -> set[str]:
    """Everything that the requirements need, as far as the lock has it: the rest no platform of ours needs."""
    found: dict[tuple[str, str], None] = {}
    pending = [Requirement(line) for line in asked]
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if name in locked and (name, extra) not in found:
                found[name, extra] = None
                pending.extend(_needs(name, extra))
    return {name for name, _ in found}


def _needs(name: str, extra: str) -> Iterator[Requirement]:
    """What an installed package needs, with an extra or without one."""
    try:
        lines = requires(name) or []
    except ModuleNotFoundError:
        # Of another platform: the lock says so with a marker of its own.
        return
    for line in lines:
        requirement = Requirement(line)
        wants_extra = requirement.marker is not None and "extra" in str(requirement.marker)
        if not wants_extra if not extra else wants_extra and _is_of(requirement, extra):
            yield requirement


def _is_of(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is not None and requirement.marker.evaluate({"extra": extra})


if __name__ == "__main__":
    sys.exit(main())
