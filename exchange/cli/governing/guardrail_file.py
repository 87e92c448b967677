"""A guardrail as a coordinator writes it, a TOML file, and as people read it."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exchange.cli.datasets.descriptors import OPERATIONS
from exchange.cli.frame.placed import PlacedError, PlacedFile
from exchange.cli.frame.words import operation_names
from exchange.client.datasets import dataset_name, find_dataset
from exchange.client.errors import UsageError
from exchange.core.directory import Directory
from exchange.core.guardrails import FORMAT, GuardrailError, read_guardrail
from exchange.v1.guardrail_pb2 import Guardrail, Test, Tests

TEMPLATE = """\
# A guardrail: a rule of the whole exchange that only denies. Add it with: exchange guardrail add FILE

# Its code, unique among guardrails: small letters, digits and hyphens, joined by dots.
code = "no-sensitive-bulk"
label = "敏感数据不得批量查询"
label_en = "Sensitive data is not queried in bulk"
legal_basis = "Data Security Law, article 21"

# Whatever the test holds for is refused: FORBIDDEN_BY_RULE. At most 8 levels and 64 conditions.
#   all_of = [ … ]   any_of = [ … ]   not = { … }
#   requester = "exchange://DOMAIN/DEPARTMENT[/SYSTEM]"   who asks: this party, or one below it
#   provider = "exchange://DOMAIN/DEPARTMENT"             whose dataset it is
#   dataset = "DEPARTMENT/CODE"
#   sensitivity = 3        the most sensitive field asked for is of this level (1 to 4) or above it;
#                          a field that its owner did not class counts as 4
#   purpose = "social.housing-subsidy"
#   operation = "QUERY"
[test]
all_of = [
  { operation = "QUERY" },
  { sensitivity = 3 },
  { not = { purpose = "emergency.response" } },
]
"""

_TEXTS = ("code", "label", "label_en", "legal_basis")
_NODES = ("all_of", "any_of", "not", "requester", "provider", "dataset", "sensitivity", "purpose", "operation")


def read_guardrail_file(path: Path, directory: Directory) -> Guardrail:
    """Read a guardrail.

    Args:
        path: a TOML file, as `TEMPLATE` has it.
        directory: where datasets are looked up.

    Raises:
        PlacedError: the first thing that is wrong, with its place.
    """
    file = PlacedFile(path)
    guardrail = Guardrail(format=FORMAT)
    for key, value in file.said.items():
        line = file.reach(key)
        if key == "test":
            guardrail.test.CopyFrom(_Tree(file, directory).read(value, "test", line))
        elif key not in _TEXTS:
            raise file.error(key, line, "is not known here", _near(key, (*_TEXTS, "test")))
        elif not isinstance(value, str):
            raise file.error(key, line, "is a text")
        else:
            setattr(guardrail, key, value)
    try:
        read_guardrail(guardrail)
    except GuardrailError as error:
        raise PlacedError(str(path), str(error), "`exchange guardrail template` shows how it is written") from error
    return guardrail


class _Tree:
    """Reads the test, in the order in which it is written."""

    def __init__(self, file: PlacedFile, directory: Directory) -> None:
        self._file = file
        self._directory = directory

    def read(self, node: Any, key: str, line: int) -> Test:
        """The test of a table with one condition."""
        if not isinstance(node, dict) or len(node) != 1:
            raise self._file.error(key, line, "is one condition", f"one of {', '.join(_NODES)}")
        ((name, value),) = node.items()
        line = self._file.reach(name)
        if name not in _NODES:
            raise self._file.error(name, line, "is not a condition", _near(name, _NODES))
        if name in {"all_of", "any_of"}:
            if not isinstance(value, list):
                raise self._file.error(name, line, "is a list of conditions")
            tests = Tests(tests=[self.read(child, name, line) for child in value])
            return Test(all_of=tests) if name == "all_of" else Test(any_of=tests)
        if name == "not":
            return Test(negation=self.read(value, name, line))
        return self._leaf(name, value, line)

    def _leaf(self, name: str, value: object, line: int) -> Test:
        if name == "sensitivity":
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4:
                raise self._file.error(name, line, "is 1 to 4")
            return Test(sensitivity=value)
        if not isinstance(value, str):
            raise self._file.error(name, line, "is a text")
        if name == "dataset":
            return Test(dataset=self._dataset(value, line))
        if name == "operation":
            if value not in OPERATIONS:
                raise self._file.error(name, line, f"{value} is no operation", _near(value, tuple(OPERATIONS)))
            return Test(operation=OPERATIONS[value])
        test = Test()
        setattr(test, name, value)
        try:
            read_guardrail(Guardrail(format=FORMAT, code="read", label="read", test=test))
        except GuardrailError as error:
            raise self._file.error(name, line, str(error).partition(": ")[2]) from error
        return test

    def _dataset(self, value: str, line: int) -> bytes:
        try:
            return find_dataset(self._directory, value).object_id
        except UsageError as error:
            raise self._file.error("dataset", line, str(error), error.hint) from error


def tree_lines(test: Test, directory: Directory) -> list[str]:
    """A test in words, one condition a line, indented by its depth."""
    kind = test.WhichOneof("node")
    if kind == "negation":
        heading, children = "not:", [test.negation]
    elif kind == "all_of":
        heading, children = "all of these:", list(test.all_of.tests)
    elif kind == "any_of":
        heading, children = "any of these:", list(test.any_of.tests)
    else:
        return [_leaf_text(test, directory)]
    return [heading, *(f"  {line}" for child in children for line in tree_lines(child, directory))]


def _leaf_text(test: Test, directory: Directory) -> str:
    kind = test.WhichOneof("node")
    if kind == "requester":
        return f"the requester is {test.requester}, or below it"
    if kind == "provider":
        return f"the dataset's owner is {test.provider}, or below it"
    if kind == "dataset":
        dataset = directory.dataset(test.dataset)
        return f"the dataset is {dataset_name(dataset) if dataset is not None else test.dataset.hex()}"
    if kind == "sensitivity":
        return f"a field is asked for of sensitivity {test.sensitivity} or above"
    if kind == "purpose":
        return f"the purpose is {test.purpose}"
    return f"the operation is {operation_names(frozenset({test.operation}))[0]}"


def _near(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
