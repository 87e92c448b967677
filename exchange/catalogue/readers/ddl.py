"""SQL that creates tables: columns, types and comments, as PostgreSQL, MySQL, SQLite, Oracle, SQL Server write them."""

import logging
import re
from collections.abc import Iterator, Sequence

from sqlglot import Expr, exp, parse
from sqlglot.errors import SqlglotError

from exchange.catalogue.errors import SchemaError
from exchange.catalogue.fields import FieldProfile, Profile
from exchange.catalogue.readers.source import SourceFile, distinct

_DIALECTS = ("postgres", "mysql", "sqlite", "oracle", "tsql")
_MYSQL = re.compile(r"`|\bcomment\s*=?\s*'|\bauto_increment\b", re.IGNORECASE)
_LINE = re.compile(r"[Ll]ine (\d+)")
_ONE_DIGIT = "1"
MAX_SQL = 1024 * 1024
# The parser tries every way to read a bracket within a bracket: no definition of a table needs more.
MAX_NESTING = 10
_ONLY = "keep only the CREATE TABLE statements: pg_dump --schema-only, mysqldump --no-data"
_TYPES: Sequence[tuple[str, frozenset[exp.DType]]] = (
    ("boolean", frozenset({exp.DType.BOOLEAN, exp.DType.BIT})),
    ("date", frozenset(exp.DataType.TEMPORAL_TYPES) - {exp.DType.TIME, exp.DType.TIMETZ}),
    ("integer", frozenset(exp.DataType.INTEGER_TYPES)),
    ("decimal", frozenset(exp.DataType.NUMERIC_TYPES) - frozenset(exp.DataType.INTEGER_TYPES)),
    ("text", frozenset(exp.DataType.TEXT_TYPES)),
)


def read_ddl(source: SourceFile) -> Profile:
    """Read the columns of every CREATE TABLE; with several tables a path is `table.column`.

    Raises:
        SchemaError: no dialect that is known reads it, or it creates no table.
    """
    tables, comments = _parsed(source)
    several = len(tables) > 1
    seen: dict[str, int] = {}
    fields: list[FieldProfile] = []
    titles = []
    for name, (title, columns) in tables.items():
        said = title or comments.get(name, "")
        titles.append(said or name)
        for column in columns:
            path = distinct(f"{name}.{column.name}" if several else column.name, seen)
            label = _comment(column) or comments.get(f"{name}.{column.name}", "")
            fields.append(FieldProfile(path, column.name, label, "", said, _type(column)))
    return Profile(" ".join(titles), "sql", tuple(fields))


Tables = dict[str, tuple[str, list[exp.ColumnDef]]]


def _parsed(source: SourceFile) -> tuple[Tables, dict[str, str]]:
    text = source.whole_text
    _check_size(source, text)
    dialects = sorted(_DIALECTS, key=lambda name: name != "mysql") if _MYSQL.search(text) else _DIALECTS
    failure: Exception | None = None
    for dialect in dialects:
        try:
            statements = _statements(text, dialect)
        except (SqlglotError, RecursionError) as error:
            failure = failure or error
            continue
        tables = dict(_tables(statements))
        if tables:
            return tables, dict(_comments(statements))
    if failure is None:
        raise source.error(1, "no CREATE TABLE is in it", "give the statements that create the tables")
    found = _LINE.search(str(failure))
    problem = str(failure).partition("\n")[0].partition(". Line")[0]
    raise source.error(int(found[1]) if found else 1, f"not SQL: {problem}", f"check it there; or {_ONLY}") from failure


def _check_size(source: SourceFile, text: str) -> None:
    if len(text) > MAX_SQL:
        raise SchemaError(str(source.path), f"is larger than {MAX_SQL >> 20} MiB", _ONLY)
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        for character in line:
            depth += (character in "([{") - (character in ")]}")
            if depth > MAX_NESTING:
                raise source.error(number, f"more than {MAX_NESTING} brackets are open", _ONLY)


def _statements(text: str, dialect: str) -> list[Expr]:
    # What it does not know it keeps as it is, and says so in a log that nobody asked for.
    log = logging.getLogger("sqlglot")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return [statement for statement in parse(text, dialect=dialect) if statement is not None]
    finally:
        log.setLevel(level)


def _tables(statements: Sequence[Expr]) -> Iterator[tuple[str, tuple[str, list[exp.ColumnDef]]]]:
    for statement in statements:
        if not isinstance(statement, exp.Create) or not isinstance(statement.this, exp.Schema):
            continue
        table = statement.this.this
        columns = [item for item in statement.this.expressions if isinstance(item, exp.ColumnDef)]
        if isinstance(table, exp.Table) and columns:
            said = statement.find(exp.SchemaCommentProperty)
            title = said.this.name if said is not None else " ".join(map(str.strip, statement.comments or ()))
            yield table.name, (title, columns)


def _comments(statements: Sequence[Expr]) -> Iterator[tuple[str, str]]:
    """What `COMMENT ON TABLE|COLUMN` says of each."""
    for statement in statements:
        if isinstance(statement, exp.Comment) and statement.expression is not None:
            named = statement.this
            name = f"{named.table}.{named.name}" if isinstance(named, exp.Column) else named.name
            yield name, statement.expression.name


def _comment(column: exp.ColumnDef) -> str:
    """The comment in the column's definition, or behind it on its line."""
    said = column.find(exp.CommentColumnConstraint)
    if said is not None:
        return str(said.this.name)
    return " ".join(text.strip() for node in column.walk() for text in node.comments or ())


def _type(column: exp.ColumnDef) -> str:
    kind = column.kind
    if kind is None:
        return ""
    if kind.is_type(exp.DType.TINYINT) and [str(size) for size in kind.expressions] == [_ONE_DIGIT]:
        return "boolean"
    return next((name for name, types in _TYPES if kind.this in types), "")
