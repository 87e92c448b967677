"""What leaves an adapter under an agreement with masks and row limits, from the owner's signature alone."""

import hashlib
import hmac
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from adapters.connectors import Question
from adapters.mask_secret import mask_secret
from exchange.core.decision import Deny
from exchange.core.enforcement import TERMS
from exchange.core.entries import ObjectVersion
from exchange.core.envelope import Envelope
from exchange.core.masking import hash_key
from exchange.home import Home, HomeError
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Field, FieldType
from exchange.v1.request_pb2 import Comparator, Comparison, Filter, Membership, Query, Selection, Value
from exchange.v1.terms_pb2 import KeyedHash, Limits, Mask, YearOnly
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.world import FIELDS, GRANTED, ID_NUMBER, QUERY, World, lookup

LAST = Mask(field="id_number", last=4)
FIRST = Mask(field="name", first=1)
HASH = Mask(field="id_number", hash=KeyedHash())
SEEN = "*" * 14 + ID_NUMBER[-4:]


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@asynccontextmanager
async def masked(path: Path, *masks: Mask, **changes: Any) -> AsyncIterator[Provider]:
    """The registry's adapter, with one agreement that has these masks."""
    world = World.standard()
    fields = (*GRANTED, "birth_date")
    dataset = world.publish("people", filterable=list(FIELDS))
    application = world.apply_for(dataset, fields=fields, filterable=["id_number", "birth_date", "area_m2"])
    world.grant(application, masks=masks, **changes)
    async with provider_at(path, world) as provider:
        yield provider


def request(provider: Provider, query: Query | None = None, **header: Any) -> Envelope:
    world = provider.world
    dataset = next(found for found in world.directory.terms.datasets.values() if found.code == "people")
    [agreement] = [found for found in world.directory.terms.agreements.values() if found.dataset == dataset.object_id]
    named = {"dataset": dataset.object_id, "agreement": agreement.digest}
    return world.request(query, **(named | header))


async def read(provider: Provider, query: Query | None = None, **header: Any) -> list[dict[str, Any]]:
    sent = request(provider, query, **header)
    rows: list[dict[str, Any]] = provider.rows(sent, await provider.answer(sent))
    return rows


async def denied(provider: Provider, query: Query | None = None, **header: Any) -> Deny:
    deny = await provider.denied(request(provider, query, **header))
    assert ID_NUMBER not in deny.reason
    return deny


def selection(filter: Filter | None = None, limit: int = 0) -> Query:
    return Query(format=1, selection=Selection(filter=filter, limit=limit))


def equal(field: str, **value: Any) -> Filter:
    return Filter(comparison=Comparison(field=field, comparator=Comparator.COMPARATOR_EQUAL, value=Value(**value)))


def asked(provider: Provider) -> Question:
    return provider.sources.questions[-1]


async def test_rows_are_masked_before_they_are_sealed(tmp_path: Path) -> None:
    async with masked(tmp_path, FIRST, Mask(field="birth_date", year_only=YearOnly())) as provider:
        provider.sources.rows = ({"id_number": ID_NUMBER, "name": "王小芳", "birth_date": None},)
        assert await read(provider, fields=["id_number", "name", "birth_date"]) == [
            {"id_number": ID_NUMBER, "name": "王**", "birth_date": None}
        ]


async def test_the_ledger_knows_whom_an_answer_told_of_behind_the_mask(tmp_path: Path) -> None:
    """A person may ask the owner who was told about them."""
    async with masked(tmp_path, LAST) as provider:
        assert await read(provider, lookup(SEEN), fields=["id_number"]) == [{"id_number": SEEN}]
        [told] = provider.ledger.told(ID_NUMBER)
        assert (told.asked, told.told) == (False, True)
        assert provider.ledger.told(SEEN) == ()


async def test_hashes_are_under_a_key_of_the_agreement(tmp_path: Path) -> None:
    async with masked(tmp_path, HASH) as provider:
        [row] = await read(provider, selection(), operation=QUERY, fields=["id_number"])
        [again] = await read(provider, selection(), operation=QUERY, fields=["id_number", "name"])
        secret = mask_secret(provider.session.home)
        [agreement] = [found for found in provider.world.directory.terms.agreements.values() if found.masks]
        key = hash_key(secret, agreement.version.object_id)
        assert row["id_number"] == hmac.new(key, ID_NUMBER.encode(), hashlib.sha256).hexdigest()
        assert again["id_number"] == row["id_number"]


async def test_without_its_secret_an_adapter_gives_no_hash(tmp_path: Path) -> None:
    async with masked(tmp_path, HASH) as provider:
        mask_secret(provider.session.home)
        (provider.session.home.keys / "masking.key").chmod(0o644)
        deny = await denied(provider, selection(), operation=QUERY, fields=["id_number"])
        assert (deny.check, deny.code) == (9, Code.CODE_PROVIDER_UNAVAILABLE)
        assert not provider.sources.questions


async def test_a_masked_key_is_looked_up_as_it_is_shown(tmp_path: Path) -> None:
    async with masked(tmp_path, LAST) as provider:
        await read(provider, lookup(SEEN, SEEN), fields=["name"])
        assert asked(provider).keys is None
        assert not asked(provider).key_shown
        values = [Value(text=SEEN)] * 2
        assert asked(provider).filter == Filter(membership=Membership(field="id_number", values=values))
        deny = await denied(provider, lookup(ID_NUMBER), fields=["name"])
        assert (deny.check, deny.code) == (10, Code.CODE_MALFORMED)
        assert "the key is masked" in deny.reason


async def test_filters_have_the_types_that_masks_leave(tmp_path: Path) -> None:
    async with masked(tmp_path, Mask(field="birth_date", year_only=YearOnly())) as provider:
        query = selection(equal("birth_date", integer=1990))
        await read(provider, query, operation=QUERY, fields=["name"])
        assert asked(provider).filter == query.selection.filter
        assert set(asked(provider).masking.masks) == {"birth_date"}
        deny = await denied(
            provider, selection(equal("birth_date", date="1990-03-07")), operation=QUERY, fields=["name"]
        )
        assert (deny.check, deny.code) == (10, Code.CODE_MALFORMED)


@pytest.mark.parametrize(
    ("fields", "masks", "operation", "shown"),
    [
        (("id_number", "name"), (), QUERY, True),
        (("id_number", "name"), (LAST,), QUERY, False),
        (("name",), (), QUERY, False),
        (("name",), (), None, True),
    ],
)
async def test_rows_are_ordered_by_a_key_only_where_it_may_be_seen(
    tmp_path: Path, fields: tuple[str, ...], masks: tuple[Mask, ...], operation: int | None, shown: bool
) -> None:
    async with masked(tmp_path, *masks, fields=fields) as provider:
        if operation is None:
            await read(provider, fields=["name"])
        else:
            await read(provider, selection(), operation=operation, fields=["name"])
        assert asked(provider).key_shown is shown


@pytest.mark.parametrize(("wanted", "limit"), [(0, 3), (2, 2), (3, 3), (50, 3)])
async def test_an_answer_has_no_more_rows_than_the_agreement_grants(tmp_path: Path, wanted: int, limit: int) -> None:
    async with masked(tmp_path, limits=Limits(rows=3)) as provider:
        await read(provider, selection(limit=wanted), operation=QUERY)
        assert asked(provider).limit == limit


async def test_an_adapters_own_limit_holds_too(tmp_path: Path) -> None:
    async with masked(tmp_path, limits=Limits(rows=1000)) as provider:
        await read(provider, selection(), operation=QUERY)
        assert asked(provider).limit == provider.sources.row_limit("people") == 100


async def test_a_lookup_has_no_more_keys_than_the_agreement_grants(tmp_path: Path) -> None:
    async with masked(tmp_path, limits=Limits(rows=2)) as provider:
        await read(provider, lookup("1", "2"))
        assert asked(provider).limit == 2
        deny = await denied(provider, lookup("1", "2", "3"))
        assert (deny.check, deny.code) == (10, Code.CODE_MALFORMED)
        assert "at most 2 keys" in deny.reason


def publish_again(world: World, types: Mapping[str, FieldType.ValueType]) -> None:
    """The owner publishes another version of the dataset."""
    dataset = next(found for found in world.directory.terms.datasets.values() if found.code == "people")
    fields = [Field(name=name, label=name, type=kind) for name, kind in types.items()]
    version = ObjectVersion(dataset.object_id, dataset.version.digest)
    world.publish("people", fields=fields, filterable=["id_number"], version=version)


async def test_a_mask_that_fits_the_dataset_no_more_ends_answers(tmp_path: Path) -> None:
    """The owner has made another type of a field: what its mask would leave then, nobody signed."""
    async with masked(tmp_path, FIRST) as provider:
        publish_again(provider.world, FIELDS | {"name": FieldType.FIELD_TYPE_INTEGER})
        deny = await denied(provider, fields=["area_m2"])
        assert (deny.check, deny.code) == (10, Code.CODE_FIELD_NOT_GRANTED)


async def test_a_field_that_the_dataset_has_no_more_is_not_in_the_way(tmp_path: Path) -> None:
    async with masked(tmp_path, FIRST, Mask(field="area_m2", hash=KeyedHash())) as provider:
        publish_again(provider.world, {name: kind for name, kind in FIELDS.items() if name != "name"})
        await read(provider, fields=["area_m2"])
        assert set(asked(provider).masking.masks) == {"area_m2"}


# --- the secret ----------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "keys").mkdir()
    return Home(tmp_path)


def test_the_secret_is_made_once_and_for_its_owners_eyes(home: Home) -> None:
    secret = mask_secret(home)
    assert len(secret) == 32
    assert mask_secret(Home(home.path)) == secret
    assert stat.S_IMODE((home.keys / "masking.key").stat().st_mode) == 0o600
    assert [path.name for path in home.keys.iterdir()] == ["masking.key"]


def test_adapters_that_start_at_once_share_one_secret(home: Home) -> None:
    found: list[bytes] = []
    threads = [Thread(target=lambda: found.append(mask_secret(home))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_secret_that_others_can_read_or_that_is_cut_is_refused(home: Home) -> None:
    mask_secret(home)
    path = home.keys / "masking.key"
    path.chmod(0o640)
    with pytest.raises(HomeError, match="can be read by others"):
        mask_secret(home)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(HomeError, match="not a secret"):
        mask_secret(home)


# --- terms that an adapter does not enforce ------------------------------------------------------------


@pytest.mark.parametrize("lacking", ["mask.last", "limits.rows"])
async def test_an_agreement_with_a_term_that_is_not_enforced_is_not_served(tmp_path: Path, lacking: str) -> None:
    async with masked(tmp_path, LAST, limits=Limits(rows=2)) as provider:
        provider.sources.enforced = TERMS - {lacking}
        deny = await denied(provider, lookup(SEEN))
        assert (deny.check, deny.code) == (9, Code.CODE_PROVIDER_UNAVAILABLE)
        assert "cannot enforce" in deny.reason
        assert not provider.sources.questions
        provider.sources.enforced = frozenset({"mask.last", "limits.rows"})
        assert await read(provider, lookup(SEEN), fields=["name"])
