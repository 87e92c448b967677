"""The tables of a log store, and the statements that read and write them, built once."""

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    Index,
    LargeBinary,
    MetaData,
    Select,
    SmallInteger,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    tuple_,
    update,
)

from exchange.store.ports import RELEASED, UNRELEASED, Log

VERSION = 3

METADATA = MetaData()

# Compared byte by byte in every engine: the names under one are a range only in that order.
_TEXT = String().with_variant(String(collation="C"), "postgresql")

_RELEASED = text(f"kind = {RELEASED}")
# A partial index serves only a query that repeats its condition word for word: no bound parameters.
_SETTLES = text(f"kind IN ({RELEASED}, {UNRELEASED})")

# The small columns come first, so that what they tell is read without the page that holds the body.
ENTRIES = Table(
    "entries",
    METADATA,
    Column("log", _TEXT, primary_key=True),
    Column("idx", BigInteger, primary_key=True),
    Column("time", BigInteger),
    Column("kind", SmallInteger),
    Column("code", SmallInteger),
    Column("requester", _TEXT),
    Column("provider", _TEXT),
    Column("request_id", LargeBinary),
    Column("request_digest", LargeBinary),
    Column("response_digest", LargeBinary),
    Column("leaf", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
_E = ENTRIES.c

# The only unique index beside the primary keys: at most one released entry for each request (DESIGN section 6).
# The id comes first: UUIDv7s grow with time, so a batch changes few pages.
Index(
    "entries_released",
    _E.request_id,
    _E.requester,
    unique=True,
    sqlite_where=_RELEASED,
    postgresql_where=_RELEASED,
)
Index("entries_settled", _E.response_digest, sqlite_where=_SETTLES, postgresql_where=_SETTLES)
Index("entries_taken", _E.time, _E.idx, sqlite_where=_SETTLES, postgresql_where=_SETTLES)
Index("entries_requester", _E.requester, _E.idx)
Index("entries_provider", _E.provider, _E.idx)

# By `node_place`, so that rows are only ever added at the end, and a proof's nodes are one list of numbers.
NODES = Table(
    "nodes",
    METADATA,
    Column("log", _TEXT, primary_key=True),
    Column("place", BigInteger, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

HEADS = Table(
    "heads",
    METADATA,
    Column("log", _TEXT, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("checkpoint", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
)

# The last checkpoint of each log that enough witnesses have cosigned.
COSIGNED = Table(
    "cosigned",
    METADATA,
    Column("log", _TEXT, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
)

# Operational, no truth: who was invited, and what they handed in. One row a name; see `exchange.store.invites`.
INVITES = Table(
    "invites",
    METADATA,
    Column("party", _TEXT, primary_key=True),
    Column("parent", _TEXT, nullable=False),
    Column("role", SmallInteger, nullable=False),
    Column("code_sha256", LargeBinary, nullable=False),
    Column("invited_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("joined_at", BigInteger, nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("csr", LargeBinary, nullable=False),
    Column("rejected_at", BigInteger, nullable=False),
    Column("reason", _TEXT, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
)
Index("invites_parent", INVITES.c.parent, INVITES.c.party)

_H, _N, _C, _I = HEADS.c, NODES.c, COSIGNED.c, INVITES.c
_START: BindParameter[int] = bindparam("start")
_COUNT: BindParameter[int] = bindparam("count")
_SINCE: BindParameter[int] = bindparam("time", type_=BigInteger)
_AFTER: BindParameter[int] = bindparam("index", type_=BigInteger)

# Compare-and-swap: no row is updated when the size is another.
MOVE_HEAD = (
    update(HEADS)
    .where(_H.log == bindparam("of_log"), _H.size == bindparam("old_size"))
    .values(size=bindparam("new_size"), checkpoint=bindparam("note"), time=bindparam("last_time"))
)
HEADS_OF_ALL = select(_H.log, _H.size, _H.checkpoint, _H.time)
HEAD = HEADS_OF_ALL.where(_H.log == bindparam("of_log"))

ERASE = (
    update(ENTRIES)
    .where(_E.log == bindparam("of_log"), _E.idx >= bindparam("first"), _E.idx < bindparam("end"))
    .values(body=b"")
)

# Brokers that share a database gather at the same time: the larger checkpoint stays, or the later cosignatures.
_KEPT_SIZE, _KEPT_TIME = (bindparam(name, type_=BigInteger) for name in ("kept_size", "kept_time"))
KEEP_COSIGNED = (
    update(COSIGNED)
    .where(_C.log == bindparam("of_log"), tuple_(_C.size, _C.time) <= tuple_(_KEPT_SIZE, _KEPT_TIME))
    .values(size=_KEPT_SIZE, time=_KEPT_TIME, note=bindparam("kept_note"))
)
COSIGNED_OF = select(_C.log, _C.size, _C.time, _C.note).where(_C.log == bindparam("of_log"))

_STORED = select(_E.idx, _E.leaf, _E.body)
_IN_ACCESS = _E.log == literal_column(f"'{Log.ACCESS}'")
ENTRY = _STORED.where(_E.log == bindparam("of_log"), _E.idx == bindparam("index"))
ENTRIES_FROM = _STORED.where(_E.log == bindparam("of_log"), _E.idx >= _START).order_by(_E.idx).limit(_COUNT)
ACCESS_ENTRIES = _STORED.where(_IN_ACCESS, _E.idx.in_(bindparam("indexes", expanding=True))).order_by(_E.idx)

NODES_AT = select(_N.place, _N.hash).where(
    _N.log == bindparam("of_log"), _N.place.in_(bindparam("places", expanding=True))
)

RELEASE = select(_E.idx, _E.request_digest).where(
    _RELEASED, _E.requester == bindparam("requester"), _E.request_id == bindparam("request_id")
)
# RELEASED sorts before UNRELEASED.
SETTLEMENTS = (
    select(_E.response_digest, _E.idx)
    .where(_SETTLES, _E.response_digest.in_(bindparam("digests", expanding=True)))
    .order_by(_E.kind, _E.idx)
)
TAKEN_AFTER = (
    select(_E.idx, _E.time, _E.requester, _E.request_id, _E.request_digest)
    .where(_SETTLES, tuple_(_E.time, _E.idx) > tuple_(_SINCE, _AFTER))
    .order_by(_E.time, _E.idx)
    .limit(_COUNT)
)


def _names_between(column: Column[str]) -> Select[tuple[str]]:
    """The distinct names between two, exclusive: one step down the index for each name, however many entries it has."""
    above = column < bindparam("high")
    names = select(func.min(column).label("name")).where(column > bindparam("low"), above).cte(recursive=True)
    following = select(func.min(column)).where(column > names.c.name, above).scalar_subquery()
    names = names.union_all(select(following).where(names.c.name.is_not(None)))
    return select(names.c.name).where(names.c.name.is_not(None))


def _indexes_of(column: Column[str]) -> Select[tuple[int]]:
    return select(_E.idx).where(column == bindparam("name"), _E.idx >= _START).order_by(_E.idx).limit(_COUNT)


# For each of the two columns that name a party: the names under one, and the indexes of one name.
PARTIES = tuple((_names_between(column), _indexes_of(column)) for column in (_E.requester, _E.provider))

INVITE = select(INVITES).where(_I.party == bindparam("of_party"))
INVITES_OF = select(INVITES).where(_I.parent == bindparam("of_parent")).order_by(_I.party)
FORGET_INVITE = delete(INVITES).where(_I.party == bindparam("of_party"))
ADD_INVITE = insert(INVITES)
