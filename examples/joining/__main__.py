"""`python -m examples.joining`: a department joins a running exchange, and the time of each step is printed.

python -m examples.joining           in a folder that is deleted afterwards
python -m examples.joining FOLDER    in this folder, which must not exist, and stays
"""

import sys
import tempfile
from pathlib import Path

from examples.city.processes import ProcessError
from examples.city.stage import CommandFailedError, Stage
from examples.joining.measure import AnswerError, Measurement, Step

TARGET = 30.0
"""Seconds that all of it may take."""


def main(arguments: list[str]) -> int:
    """Measure once. Returns the exit code."""
    if len(arguments) > 1 or (arguments and Path(arguments[0]).exists()):
        print(__doc__, file=sys.stderr)
        return 2
    if arguments:
        return _measure(Path(arguments[0]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder) / "joining")


def _measure(folder: Path) -> int:
    stage = Stage(folder)
    try:
        measurement = Measurement(stage)
        print("Founding an exchange with one department that will ask …", file=sys.stderr, flush=True)
        _show(measurement.run(measurement.prepare()))
    except (CommandFailedError, ProcessError, AnswerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        stage.stop()
    return 0


def _show(steps: list[Step]) -> None:
    width = max(len(step.name) for step in steps)
    for step in steps:
        print(f"{step.name:{width}}  {step.seconds:5.1f} s")
    total = sum(step.seconds for step in steps)
    print(f"\nFrom the invite to the first verified answer: {total:.1f} s (target: under {TARGET:.0f} s).")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
