"""Generate exchange/v1 from proto/exchange/v1: messages and their types, no gRPC stubs.

Services are registered by name through generic handlers, so a stub would have no user.
`--check` writes nothing and fails if what is checked in is not what the contract generates.
"""

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = ROOT / "proto"
PACKAGE = Path("exchange/v1")


def main() -> int:
    """Regenerate, or with `--check` compare. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools.proto", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = read_generated(Path(scratch))
    if arguments.check:
        return report(difference(fresh, read_generated(ROOT)))
    write(fresh)
    return 0


def generate(target: Path) -> None:
    """Run protoc over the whole contract, with its output below `target`."""
    sources = sorted(str(path.relative_to(CONTRACT)) for path in (CONTRACT / PACKAGE).glob("*.proto"))
    if not sources:
        sys.exit(f"error: no .proto file in {(CONTRACT / PACKAGE).relative_to(ROOT)}")
    command = [
        "protoc",
        # The interpreter's own folder: the plugin is found without an activated environment.
        f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}",
        f"-I{CONTRACT}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"--python_out={target}",
        f"--mypy_out=quiet:{target}",
        *sources,
    ]
    if protoc.main(command) != 0:
        sys.exit("error: protoc failed")


def read_generated(root: Path) -> dict[str, bytes]:
    """Return the generated files below `root`, by name; `__init__.py` is written by hand and left out."""
    return {path.name: path.read_bytes() for path in (root / PACKAGE).glob("*_pb2.py*")}


def difference(fresh: dict[str, bytes], present: dict[str, bytes]) -> list[str]:
    """Return the names of files that are missing, left over or different."""
    return sorted(name for name in fresh | present if fresh.get(name) != present.get(name))


def report(stale: list[str]) -> int:
    """Name the stale files on stderr. Returns the exit code."""
    for name in stale:
        print(f"error: {PACKAGE / name} is not what the contract generates", file=sys.stderr)
    if stale:
        print("hint: run `make proto` and commit the result", file=sys.stderr)
    return int(bool(stale))


def write(fresh: dict[str, bytes]) -> None:
    """Replace what is checked in, and remove what the contract no longer generates."""
    folder = ROOT / PACKAGE
    folder.mkdir(parents=True, exist_ok=True)
    for name in read_generated(ROOT).keys() - fresh.keys():
        (folder / name).unlink()
    for name, content in fresh.items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
