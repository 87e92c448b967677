"""Values that are made for every message and every entry: frozen dataclasses that cost what plain ones do."""

from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")

_PLAIN = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}


def quick(kind: type[T]) -> type[T]:
    """Give a frozen, slotted dataclass an `__init__` that takes a quarter of the time, and `replace` a quick way too.

    A frozen dataclass refuses `self.x = x`, so its own `__init__` calls `object.__setattr__` for each field. This one
    writes `self.x = x` while the new object, which nobody else has, is of a class that has no such guard. Nothing else
    of the dataclass changes.

    Args:
        kind: a dataclass from which none is derived.
    """
    given = [field for field in fields(kind) if field.init]  # type: ignore[arg-type]
    factories = [field.name for field in given if field.default_factory is not MISSING]
    # Names that no field has begin with two underscores.
    lines = [
        f"def __init__(self, {', '.join(map(_parameter, given))}):",
        "    __become(self, '__class__', __plain)",
        *(f"    if {name} is __missing: {name} = __default_{name}()" for name in factories),
        *(f"    self.{field.name} = {field.name}" for field in given),
        "    self.__class__ = __frozen",
        *(["    self.__post_init__()"] if hasattr(kind, "__post_init__") else []),
        # The name that Python 3.13 has for it.
        f"def __replace__(self, *, {', '.join(f'{field.name}=__missing' for field in given)}):",
        f"    return __frozen({', '.join(map(_kept, given))})",
    ]
    known: dict[str, Any] = {
        "__become": object.__setattr__,
        "__frozen": kind,
        "__missing": MISSING,
        "__plain": type(kind.__name__, (kind,), _PLAIN),
        **{f"__default_{field.name}": _default(field) for field in given},
    }
    exec("\n".join(lines), known)  # noqa: S102 - made of the names of fields alone, as `dataclass` itself does it
    for name in ("__init__", "__replace__"):
        known[name].__qualname__ = f"{kind.__qualname__}.{name}"
        setattr(kind, name, known[name])
    return kind


if TYPE_CHECKING:
    from dataclasses import replace as replace
else:

    def replace(value, /, **changes):
        """As `dataclasses.replace`, in a third of the time, for a dataclass that is `quick`."""
        return value.__replace__(**changes)


def _parameter(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return f"{field.name}=__missing"
    return field.name if field.default is MISSING else f"{field.name}=__default_{field.name}"


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory


def _kept(field: Field[Any]) -> str:
    return f"self.{field.name} if {field.name} is __missing else {field.name}"
