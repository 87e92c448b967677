"""Break the core's decisions on purpose, one small change at a time: the tests must notice every one.

Each mutant is the module's own source with one node of its tree changed. A forked worker imports it in place of
the original, runs the tests that are named for it, and is done at the first failure. Nothing is written to disk.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = "exchange/core"
UNIT = "tests/unit/core"
WORKERS = 2
# Seconds of processor time that a mutant's tests may take; by the clock, a busy machine would kill what nobody noticed.
SLOWEST = 10
# And by the clock, for a mutant that waits for something: far more than the processor time takes on any machine.
LONGEST = 600

# Which tests must notice a change of which file.
TESTS: dict[str, tuple[str, ...]] = {
    f"{CORE}/{name}.py": tuple(f"{UNIT}/test_{test}.py" for test in tests.split())
    for name, tests in {
        "access": "access",
        "bars": "barring_rules guardrails decision",
        "calendar": "calendar",
        "chunks": "snapshot",
        "climbing": "climbing",
        "clocks": "clocks calendar",
        "cosignature": "cosignature",
        "decision": "decision",
        "directory": "directory terms fold",
        "entries": "entries",
        "envelope": "envelope",
        "explain": "explain",
        "fold": "fold",
        "guardrails": "guardrails",
        "kept": "snapshot",
        "key_rules": "key_rules renewed_keys",
        "keys": "keys",
        "layered": "snapshot",
        "opening": "terms snapshot",
        "policy": "policy",
        "records": "snapshot",
        "reopening": "snapshot reopening",
        "response": "response",
        "restrictions": "hours explain terms",
        "rules": "rules key_rules barring_rules people_rules steward_rules procedure_rules "
        "successions erasures snapshot",
        "sealing": "sealing",
        "snapshot": "snapshot",
        "state": "rules key_rules fold directory",
        "summary": "summary",
        "suspending": "barring_rules",
        "terms": "terms snapshot",
        "trust": "trust",
        "usage": "usage",
        "values": "values",
        "wire": "wire",
    }.items()
}
# Where every mutant is killed, and has to be.
STRICT = [f"{CORE}/{name}.py" for name in ("decision", "guardrails", "key_rules", "response", "rules", "suspending")]

# Loaded once and inherited by every worker. Nothing of the exchange but its messages: that is imported anew.
PRELOADED = (
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.hpke",
    "exchange.v1.access_pb2",
    "exchange.v1.directory_pb2",
    "exchange.v1.request_pb2",
    "hypothesis",
    "immutables",
    "pytest",
)

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
NAMES = {"any": "all", "all": "any", "max": "min", "min": "max"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the file, the line, the source of the mutated node before and after, the whole mutated source."""

    file: str
    line: int
    before: str
    after: str
    source: str


# --- what is changed ----------------------------------------------------------------------------------


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Every replacement of one node, its children left as they are."""
    for operator in OPERATORS:
        yield from operator(node)


def _comparisons(node: ast.AST) -> Iterator[ast.AST]:
    """Each operator turned to its neighbours; of a chain, each end left out."""
    if not isinstance(node, ast.Compare):
        return
    for place, operator in enumerate(node.ops):
        for other in COMPARISONS[type(operator)]:
            yield ast.Compare(node.left, [*node.ops[:place], other(), *node.ops[place + 1 :]], node.comparators)
    if len(node.ops) > 1:
        yield ast.Compare(node.left, node.ops[:-1], node.comparators[:-1])
        yield ast.Compare(node.comparators[0], node.ops[1:], node.comparators[1:])


def _connectives(node: ast.AST) -> Iterator[ast.AST]:
    """`not` dropped, `and` and `or` swapped, each operand left out."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    if isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        for place in range(len(node.values)):
            rest = node.values[:place] + node.values[place + 1 :]
            yield ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0]


def _order(node: ast.AST) -> Iterator[ast.AST]:
    """Neighbours of a returned `or` of checks swapped: the earlier one names the code."""
    if isinstance(node, ast.Return) and isinstance(node.value, ast.BoolOp) and isinstance(node.value.op, ast.Or):
        values = node.value.values
        for place in range(len(values) - 1):
            swapped = [*values[:place], values[place + 1], values[place], *values[place + 2 :]]
            yield ast.Return(ast.BoolOp(node.value.op, swapped))


def _conditions(node: ast.AST) -> Iterator[ast.AST]:
    """Each condition always true, and always false."""
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        for value in (True, False):
            yield _with(node, test=ast.Constant(value))
    if isinstance(node, ast.comprehension):
        for place in range(len(node.ifs)):
            for value in (True, False):
                yield _with(node, ifs=[*node.ifs[:place], ast.Constant(value), *node.ifs[place + 1 :]])


def _effects(node: ast.AST) -> Iterator[ast.AST]:
    """Each raise and each bare call removed, each returned value withheld."""
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.Pass()
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield ast.Return(ast.Constant(None))


def _values(node: ast.AST) -> Iterator[ast.AST]:
    """Each number one more and one less, `any` and `all` and `max` and `min` swapped."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield ast.Name(NAMES[node.id], node.ctx)


OPERATORS: tuple[Callable[[ast.AST], Iterator[ast.AST]], ...] = (
    _comparisons,
    _connectives,
    _order,
    _conditions,
    _effects,
    _values,
)


def _with(node: ast.AST, **changes: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def mutants_of(file: str, source: str) -> Iterator[Mutant]:
    """Every mutant of one file, in the order of its lines."""
    tree = ast.parse(source)
    for parent, name, place, node in list(_places(tree)):
        for variant in variants(node):
            ast.copy_location(variant, node)
            _put(parent, name, place, variant)
            mutated = ast.unparse(ast.fix_missing_locations(tree))
            _put(parent, name, place, node)
            line = getattr(node, "lineno", 0) or getattr(parent, "lineno", 0)
            yield Mutant(file, line, _first_line(node), _first_line(variant), mutated)


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every node that could be replaced, with its place: parent, field, and index where the field is a list."""
    for name, value in ast.iter_fields(tree):
        items = enumerate(value) if isinstance(value, list) else [(None, value)]
        for place, child in items:
            # Annotations and decorators are not decisions.
            if isinstance(child, ast.AST) and name not in {"annotation", "returns", "decorator_list"}:
                yield tree, name, place, child
                yield from _places(child)


def _put(parent: ast.AST, name: str, place: int | None, node: ast.AST) -> None:
    if place is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[place] = node


def _first_line(node: ast.AST) -> str:
    text = ast.unparse(node).splitlines()
    return text[0] if text else ""


# --- how a mutant meets the tests ---------------------------------------------------------------------


class Injected(MetaPathFinder, InspectLoader):
    """Imports one module from a text instead of from its file."""

    def __init__(self, module: str, source: str) -> None:
        self.module, self.source = module, source

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Claim the one module."""
        return spec_from_loader(fullname, self) if fullname == self.module else None

    def get_source(self, fullname: str) -> str:
        """Its source, mutated."""
        return self.source


def run_tests(file: str, source: str) -> int:
    """Run a file's tests with another source in its place. Returns pytest's exit code; for a process of its own."""
    import pytest

    sys.meta_path.insert(0, Injected(file.removesuffix(".py").replace("/", "."), source))
    options = [
        "-x",
        "-q",
        "--tb=no",
        "--assert=plain",
        # The timer of its own would be this worker's alarm.
        "--timeout=0",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
    ]
    # What kills a mutant is a named case, not a lucky draw.
    return int(pytest.main([*options, "-m", "not hypothesis", *TESTS[file]]))


def start(file: str, source: str, *, silent: bool = True) -> int:
    """Fork a worker for one mutant; what it prints is for nobody, or a diagnostic. Returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        limit_time()
        if silent:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(2, 1)
        code = run_tests(file, source)
    except BaseException:  # noqa: BLE001 - a forked worker must never return into the parent's code
        traceback.print_exc()
    finally:
        os._exit(code)


def limit_time() -> None:
    """End this process when its time is over: SIGXCPU, or SIGALRM where it only waits."""
    resource.setrlimit(resource.RLIMIT_CPU, (SLOWEST, resource.RLIM_INFINITY))
    signal.alarm(LONGEST)


@dataclass(slots=True)
class Worker:
    """A running mutant."""

    mutant: Mutant
    started: float


def survivors(mutants: Sequence[Mutant]) -> list[Mutant]:
    """Run every mutant, `WORKERS` at a time, and return those that no test noticed, in order."""
    waiting, running = list(reversed(mutants)), dict[int, Worker]()
    alive: list[Mutant] = []
    while waiting or running:
        while waiting and len(running) < WORKERS:
            mutant = waiting.pop()
            running[start(mutant.file, mutant.source)] = Worker(mutant, time.monotonic())
        pid, status = os.wait()
        mutant = running.pop(pid).mutant
        if not is_killed(status):
            alive.append(mutant)
        progress(len(mutants) - len(waiting) - len(running), len(mutants), len(alive))
    return sorted(alive, key=mutants.index)


def is_killed(status: int) -> bool:
    """Whether a worker's end means that the tests noticed: they failed, could not be collected, or hung."""
    code = os.waitstatus_to_exitcode(status)
    if code in {0, 1, 2}:
        return code != 0
    if code in {-signal.SIGXCPU, -signal.SIGALRM}:
        return True
    sys.exit(f"error: pytest ended with {code}; the tests did not run")


def progress(done: int, total: int, alive: int) -> None:
    """One line that is written over on a terminal, now and then a line elsewhere."""
    if sys.stderr.isatty():
        print(f"\r{done} of {total} mutants, {alive} alive ", end="", file=sys.stderr, flush=True)
    elif done % 100 == 0 or done == total:
        print(f"{done} of {total} mutants, {alive} alive", file=sys.stderr, flush=True)


def preload() -> None:
    """Import what every worker needs and no mutant changes."""
    for name in PRELOADED:
        importlib.import_module(name)
    loaded = [name for name in sys.modules if name.startswith(CORE.replace("/", "."))]
    assert not loaded, f"a worker would not import these anew: {loaded}"


def main() -> int:
    """Print the survivors and the counts. Returns the exit code: 1 if one is alive."""
    parser = argparse.ArgumentParser(prog="tools.mutants", description=__doc__)
    parser.add_argument(
        "files", nargs="*", default=STRICT, help=f"of {', '.join(TESTS)}; by default {', '.join(STRICT)}"
    )
    parser.add_argument("--list", action="store_true", help="print the mutants, run nothing")
    arguments = parser.parse_args()
    unknown = set(arguments.files) - TESTS.keys()
    if unknown:
        parser.error(f"no tests are named for {', '.join(sorted(unknown))}")

    os.chdir(ROOT)
    # The same examples every time, and none kept.
    os.environ["CI"] = "1"
    mutants: list[Mutant] = []
    for file in arguments.files:
        mutants += mutants_of(file, Path(file).read_text())
    if arguments.list:
        table(mutants)
        return 0
    preload()
    for file in arguments.files:
        # Written out anew, as every mutant is.
        _, status = os.waitpid(start(file, ast.unparse(ast.parse(Path(file).read_text())), silent=False), 0)
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            ended = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
            sys.exit(f"error: the tests of {file} fail without any change ({ended})")
    began = time.monotonic()
    alive = survivors(mutants)
    table(alive)
    print(f"{len(mutants)} mutants, {len(mutants) - len(alive)} killed, in {time.monotonic() - began:.0f} s")
    return int(bool(alive))


def table(mutants: Sequence[Mutant]) -> None:
    """Print mutants as file, line, and what was changed to what."""
    with contextlib.suppress(BrokenPipeError):
        for mutant in mutants:
            print(f"{mutant.file}:{mutant.line}: {mutant.before}  ->  {mutant.after}")


if __name__ == "__main__":
    sys.exit(main())
