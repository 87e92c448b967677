import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from exchange.client import ExchangeClient, RefusedError, Session, SyncExchangeClient, lookup_query
from exchange.home import Home
from tests.simulator import Simulator
from tests.world import ID_NUMBER, PURPOSE, ROWS

DATASET = "population/residents"
WHY = {"fields": ["name", "address"], "purpose": PURPOSE, "case": "ZF-2027-0001", "officer": "o-7"}


def new_client(home: Home, simulator: Simulator) -> SyncExchangeClient:
    return SyncExchangeClient(Session(home, simulator, simulator.clock))


def test_asks_without_an_event_loop(home: Home, simulator: Simulator) -> None:
    with new_client(home, simulator) as client:
        assert client.lookup(DATASET, [ID_NUMBER], **WHY).rows == ROWS
        assert client.query(DATASET, None, **WHY).rows == ROWS
        prepared = client.prepare(DATASET, lookup_query([ID_NUMBER], 1), **WHY)
        assert client.submit(prepared).index == 2
        assert client.dataset(DATASET).code == "residents"
        assert client.run(client.asynchronous.session.sync()).size == simulator.world.directory.size
        client.settle()
    assert simulator.closed


def test_raises_what_the_asynchronous_client_raises(home: Home, simulator: Simulator) -> None:
    with new_client(home, simulator) as client, pytest.raises(RefusedError) as caught:
        client.lookup(DATASET, [ID_NUMBER], **(WHY | {"fields": ["birth_date"]}))
    assert caught.value.verified


def test_serves_several_threads(home: Home, simulator: Simulator) -> None:
    with new_client(home, simulator) as client, ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda number: client.lookup(DATASET, [ID_NUMBER], **WHY), range(8))
        assert {answer.index for answer in answers} == set(range(8))


def test_leaves_no_thread_behind(home: Home, simulator: Simulator) -> None:
    before = set(threading.enumerate())
    with new_client(home, simulator):
        pass
    assert set(threading.enumerate()) == before


def test_is_entered_before_it_is_used(home: Home, simulator: Simulator) -> None:
    with pytest.raises(RuntimeError, match="enter the client"):
        new_client(home, simulator).settle()


def test_a_client_that_cannot_open_ends_its_thread(home: Home, simulator: Simulator) -> None:
    (home.path / "mirror.db").mkdir()
    before = set(threading.enumerate())
    with pytest.raises(Exception, match="mirror"), new_client(home, simulator):
        pass
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("name", ["lookup", "query", "prepare", "submit", "dataset", "settle"])
def test_has_the_same_signatures(name: str) -> None:
    synchronous, asynchronous = getattr(SyncExchangeClient, name), getattr(ExchangeClient, name)
    assert inspect.signature(synchronous) == inspect.signature(asynchronous)
    assert synchronous.__doc__ == asynchronous.__doc__
