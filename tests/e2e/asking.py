"""What a requester does in the tests: it prepares, sends, sends again."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from exchange.client import Answer, ExchangeClient, Prepared, RefusedError, lookup_query
from exchange.client.calls import call
from exchange.transport import SUBMIT
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.relay_pb2 import SubmitRequest, SubmitResponse
from tests.e2e.founding import FIELDS, PURPOSE, RESIDENTS, person


async def prepare(client: ExchangeClient, number: int = 0, dataset: str = RESIDENTS, **changes: object) -> Prepared:
    """A sealed and signed lookup of one person, not yet sent."""
    asked = {"fields": FIELDS[dataset], "purpose": PURPOSE, "case": "ZF-2027-0001", "officer": "officer-7"}
    query = lookup_query([person(number)], FieldType.FIELD_TYPE_TEXT)
    return await client.prepare(dataset, query, **(asked | changes))  # type: ignore[arg-type]


async def ask(client: ExchangeClient, number: int = 0, dataset: str = RESIDENTS, **changes: object) -> Answer:
    """Look one person up."""
    return await client.submit(await prepare(client, number, dataset, **changes))


async def send_once(client: ExchangeClient, prepared: Prepared, timeout: float = 30.0) -> SubmitResponse:
    """One call, which is not tried again when the connection is lost."""
    request = SubmitRequest(envelope=prepared.envelope.encode())
    return await call(client.session.transport, SUBMIT, request, SubmitResponse, timeout)


@contextmanager
def refused(code: "Code.ValueType") -> Iterator[pytest.ExceptionInfo[RefusedError]]:
    """The block ends with a refusal of this code."""
    with pytest.raises(RefusedError) as caught:
        yield caught
    assert Code.Name(caught.value.code) == Code.Name(code), caught.value
