"""Numbers of the contract in words."""

from exchange.v1.catalogue_pb2 import Level, Sharing, SharingClass
from exchange.v1.request_pb2 import Operation

UNCLASSED = "not classed yet"


def operation_names(operations: frozenset[Operation.ValueType]) -> list[str]:
    """Operations as people write them: LOOKUP, QUERY."""
    return [Operation.Name(number).removeprefix("OPERATION_") for number in sorted(operations)]


def sharing_class(sharing: Sharing) -> str:
    """A class of sharing in words."""
    if sharing.sharing_class == SharingClass.SHARING_CLASS_UNSPECIFIED:
        return UNCLASSED
    return SharingClass.Name(sharing.sharing_class).removeprefix("SHARING_CLASS_").lower().replace("_", " ")


def level_name(level: "Level.ValueType") -> str | None:
    """A level of government, or None where the owner names none."""
    return None if level == Level.LEVEL_UNSPECIFIED else Level.Name(level).removeprefix("LEVEL_").lower()
