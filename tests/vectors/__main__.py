"""Writes the worked example, the recording of this version of the protocol and the values in docs/protocol.md.

`python -m tests.vectors` writes, `--check` only compares. Recordings of earlier versions are left as they are.
"""

import argparse
import difflib
import sys
from pathlib import Path

from tests.vectors import recorded
from tests.vectors.document import DOCUMENT, with_values
from tests.vectors.example import CAPSULE, as_json, build

VECTORS = Path(__file__).with_name("worked-example.json")


def main() -> int:
    """Write or compare; 1 where a file is not what the code makes."""
    parser = argparse.ArgumentParser(prog="python -m tests.vectors", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on a difference")
    check = parser.parse_args().check
    example = build()
    wanted = {
        CAPSULE: example.secrets["channel.capsule"].hex() + "\n",
        VECTORS: as_json(example),
        recorded.RECORDED: recorded.as_json(example),
        DOCUMENT: with_values(DOCUMENT.read_text(), example.secrets | example.values),
    }
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in differing:
        if check:
            old = path.read_text() if path.exists() else ""
            sys.stderr.writelines(difflib.unified_diff(old.splitlines(True), wanted[path].splitlines(True), path.name))
        else:
            path.write_text(wanted[path])
    if check and differing:
        print("hint: run `python -m tests.vectors` and look at what changed", file=sys.stderr)
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
