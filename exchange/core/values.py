"""Values that are made for every message and every entry: frozen dataclasses that cost what plain ones do."""

from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

T = TypeVar("T")

_PLAIN = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}


def quick(kind: type[T]) -> type[T]:
    """Give a frozen, slotted dataclass an `__init__` that takes a sixth of the time; nothing else of it changes.

    A frozen dataclass refuses `self.x = x`, so its own `__init__` calls `object.__setattr__` for each field. This one
    writes `self.x = x` while the new object, which nobody else has, is of a class that has no such guard.

    Args:
        kind: a dataclass from which none is derived.
    """
    named = fields(kind)  # type: ignore[arg-type]
    given = [field for field in named if field.init]
    factories = [field for field in given if field.default_factory is not MISSING]
    lines = [
        f"def __init__(self, {', '.join(map(_parameter, given))}):",
        "    become(self, '__class__', plain)",
        *(f"    if {field.name} is missing: {field.name} = default_{field.name}()" for field in factories),
        *(f"    self.{field.name} = {field.name}" for field in given),
        "    self.__class__ = frozen",
        *(["    self.__post_init__()"] if hasattr(kind, "__post_init__") else []),
    ]
    known: dict[str, Any] = {
        "become": object.__setattr__,
        "frozen": kind,
        "missing": MISSING,
        "plain": type(kind.__name__, (kind,), _PLAIN),
        **{f"default_{field.name}": _default(field) for field in given},
    }
    exec("\n".join(lines), known)  # noqa: S102 - of the names of fields alone, as `dataclass` does it itself
    made = known["__init__"]
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    made.__annotations__ = kind.__init__.__annotations__
    kind.__init__ = made  # type: ignore[method-assign]
    return kind


def _parameter(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return f"{field.name}=missing"
    return field.name if field.default is MISSING else f"{field.name}=default_{field.name}"


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory
