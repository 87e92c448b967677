"""Runs a write path once for every step and case, each in a process of its own that may die: `python -m …` PATH FOLDER.

It forks: every child starts with the modules loaded and one thread, and works on its own copy of FOLDER/template, in
FOLDER/NUMBER-CASE. What came of each is printed as one JSON object.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from tests.component.durability.paths import FIRST, PATHS, WritePath
from tests.component.durability.steps import Case, Steps

TEMPLATE = "template"


def main() -> None:
    """Prepare the path, list its steps, then let each go wrong in each way."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    structlog.configure(processors=[_silence])
    path, template = PATHS[name], folder / TEMPLATE
    template.mkdir()
    path.prepare(template)
    found = json.loads(_in_child(folder / "rehearsal", path, -1, Case.FAILED)[0])
    runs = [_run(folder, path, number, case) for number in range(len(found["steps"])) for case in Case]
    print(json.dumps(found | {"runs": runs}))


def _run(folder: Path, path: WritePath, number: int, case: Case) -> dict[str, Any]:
    copy = folder / f"{number}-{case.name.lower()}"
    said, signal = _in_child(copy, path, number, case)
    outcome = json.loads(said.splitlines()[-1]) if not signal else {"error": "killed"}
    acknowledged = said.startswith("acknowledged")
    return outcome | {"folder": str(copy), "step": number, "case": case.value, "acknowledged": acknowledged}


def _in_child(folder: Path, path: WritePath, number: int, case: Case) -> tuple[str, int]:
    """What the child wrote, and the signal that ended it."""
    shutil.copytree(folder.parent / TEMPLATE, folder)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _write(folder, path, number, case, lambda text: os.write(writer, text.encode()))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    return said, os.WTERMSIG(os.waitpid(child, 0)[1])


def _write(folder: Path, path: WritePath, number: int, case: Case, say: Callable[[str], Any]) -> None:
    steps, error = Steps(), ""
    steps.install()
    rehearsing = number < 0

    def acknowledge() -> None:
        if not rehearsing:
            say("acknowledged\n")

    try:
        path.write(folder, FIRST, steps.armed(number, case), acknowledge)
    except Exception as raised:  # noqa: BLE001 - whatever it is, the test looks at its name
        error = type(raised).__name__
    say(json.dumps({"steps": steps.names, "unseen": steps.unseen, "error": error}))


def _silence(_logger: Any, _name: str, _event: Any) -> Any:
    raise structlog.DropEvent


if __name__ == "__main__":
    main()
