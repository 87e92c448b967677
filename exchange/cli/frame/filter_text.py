"""A filter as text, in the same language that `--where` reads."""

from exchange.v1.request_pb2 import Comparator, Filter, Value

_SIGNS = {
    Comparator.COMPARATOR_EQUAL: "=",
    Comparator.COMPARATOR_NOT_EQUAL: "<>",
    Comparator.COMPARATOR_LESS: "<",
    Comparator.COMPARATOR_LESS_OR_EQUAL: "<=",
    Comparator.COMPARATOR_GREATER: ">",
    Comparator.COMPARATOR_GREATER_OR_EQUAL: ">=",
}


def filter_text(filter: Filter) -> str:
    """Write a checked filter as a condition; `parse_where` reads it back."""
    match filter.WhichOneof("node"):
        case "all_of":
            return " AND ".join(_operand(item) for item in filter.all_of.filters)
        case "any_of":
            return " OR ".join(_operand(item) for item in filter.any_of.filters)
        case "negation":
            return f"NOT ({filter_text(filter.negation)})"
        case "comparison":
            item = filter.comparison
            return f"{item.field} {_SIGNS[item.comparator]} {_value(item.value)}"
        case "membership":
            values = ", ".join(_value(value) for value in filter.membership.values)
            return f"{filter.membership.field} IN ({values})"
        case _:
            return f"{filter.null_test.field} IS NULL"


def _operand(filter: Filter) -> str:
    text = filter_text(filter)
    return f"({text})" if filter.WhichOneof("node") in {"all_of", "any_of"} else text


def _value(value: Value) -> str:
    match value.WhichOneof("kind"):
        case "integer":
            return str(value.integer)
        case "decimal":
            return value.decimal
        case "boolean":
            return "TRUE" if value.boolean else "FALSE"
        case "date":
            return f"'{value.date}'"
        case _:
            quoted = value.text.replace("'", "''")
            return f"'{quoted}'"
