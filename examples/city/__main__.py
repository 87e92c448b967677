"""`make demo`: three departments share real records through a broker that nobody trusts.

python -m examples.city         build the city under .demo/, show what it does, end it
python -m examples.city stop    end a city that KEEP=1 left running
"""

import os
import shutil
import sys
import time
from pathlib import Path

from examples.city.population import generate_city
from examples.city.postgres import PostgresError
from examples.city.processes import ProcessError
from examples.city.stage import CommandFailedError, Stage, new_seed
from examples.city.story import Story, StoryError, introduce, offer

FOLDER = Path(".demo")


def main(arguments: list[str]) -> int:
    """Run the demo, or stop one. Returns the exit code."""
    stage = Stage(FOLDER.resolve())
    if arguments == ["stop"]:
        stopped = stage.stop()
        print(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")
        return 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    stage.stop()
    shutil.rmtree(stage.folder, ignore_errors=True)
    return _show(Stage(stage.folder), keep=bool(os.environ.get("KEEP")))


def _show(stage: Stage, keep: bool) -> int:
    kept = False
    try:
        began = time.monotonic()
        print("Setting the city up: databases, keys, a broker, three adapters …", file=sys.stderr, flush=True)
        city = generate_city(new_seed())
        agreements = stage.build(city)
        introduce(city, time.monotonic() - began)
        Story(stage, city, agreements).tell()
        kept = keep
        offer(kept)
    except (CommandFailedError, ProcessError, PostgresError, StoryError) as error:
        print(f"error: {error}\nhint: what the processes printed is in {stage.folder / 'run'}", file=sys.stderr)
        return 1
    finally:
        if not kept:
            stage.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
