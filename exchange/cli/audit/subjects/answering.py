"""An owner's answer is its adapter's to give: the program beside this one is started in this one's place.

The auditor's command imports nothing of the adapters, so that it runs none of the code of those whom it audits.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from exchange.cli.frame.errors import CommandError, ExitCode

PROGRAM: Final = "exchange-adapter"


def become_adapter(arguments: Sequence[str]) -> NoReturn:
    """Go on as `exchange-adapter` with these arguments: its output and its exit code are this process's.

    Raises:
        CommandError: it is not installed here, or cannot be started.
    """
    program = _program()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(program, [PROGRAM, *arguments])  # noqa: S606 - the program that was installed with this one
    except OSError as error:
        raise CommandError(f"{program} cannot be started: {error.strerror}", exit_code=ExitCode.UNCHECKED) from error


def _program() -> str:
    """Beside this interpreter, where one installation puts both; else by PATH."""
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
    if found is None:
        hint = f"answer beside the owner's ledger: {PROGRAM} subject-answer REQUEST --output ANSWER --home HOME"
        raise CommandError(f"{PROGRAM} is not installed here", hint, ExitCode.UNCHECKED)
    return found
