"""Who speaks which version, between real programs: told on every call, logged at attach, refused in words."""

import json
import subprocess
import sys

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from exchange.core.protocol import PROTOCOL
from exchange.core.wire import decode_open
from exchange.transport import ACCESS_READ, ATTACH, HEALTH_CHECK, VERSIONS, announcement_in, open_channel
from exchange.transport import own_announcement as ours
from exchange.v1.log_pb2 import ReadResponse
from tests.e2e.city import City
from tests.e2e.founding import APPLICATIONS, REGISTRY

NEXT = f"0.9.0 {PROTOCOL}-{PROTOCOL.major}.{PROTOCOL.minor + 1}"
FUTURE = f"9.0.0 {PROTOCOL.major + 1}.0-{PROTOCOL.major + 1}.1"


async def test_a_call_says_what_it_is_and_hears_what_the_broker_is(city: City) -> None:
    async with open_channel(city.address, city.home(APPLICATIONS).tls_identity()) as channel:
        read = channel.unary_unary(ACCESS_READ, None, None)
        for metadata in ((), ((VERSIONS, NEXT),)):
            call = read(b"", timeout=5, metadata=metadata)
            assert decode_open(ReadResponse, await call).checkpoint
            assert announcement_in(await call.trailing_metadata()) == ours()
        call = read(b"", timeout=5, metadata=((VERSIONS, FUTURE),))
        try:
            await call
        except grpc.aio.AioRpcError as error:
            refused = error
        assert refused.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert f"this broker is too old, and needs a release that speaks {FUTURE.split()[1][:3]}" in str(
            refused.details()
        )
        trailing = dict(refused.trailing_metadata())
        info = ErrorInfo()
        assert Status.FromString(trailing["grpc-status-details-bin"]).details[0].Unpack(info)
        assert (info.reason, trailing[VERSIONS]) == ("VERSION_UNSUPPORTED", str(ours()))
        # Whether it lives, everybody may ask.
        assert await channel.unary_unary(HEALTH_CHECK)(b"", timeout=5, metadata=((VERSIONS, FUTURE),))


async def test_a_tunnel_of_another_version_is_refused_at_once(city: City) -> None:
    async with open_channel(city.address, city.home(REGISTRY).tls_identity()) as channel:
        call = channel.stream_stream(ATTACH, None, None)(metadata=((VERSIONS, FUTURE),))
        # A refusal at once may have no initial metadata of its own.
        metadata = dict(await call.initial_metadata()) | dict(await call.trailing_metadata())
        assert announcement_in(tuple(metadata.items())) == ours()
        assert await call.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert FUTURE.split()[0] in str(await call.details())


def test_both_logs_and_the_status_say_which_release_is_there(city: City) -> None:
    for output, event in ((city.broker.output, "tunnel attached"), (city.registry.output, "attached")):
        lines = [line for line in output.splitlines() if event in line and "protocol" in line]
        assert lines
        assert all(ours().package in line and ours().spoken in line for line in lines)
    home = str(city.home(APPLICATIONS).path)
    command = [sys.executable, "-m", "exchange.cli.main", "status", "--json", "--home", home]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    assert shown["brokers"] == [
        {"address": city.address, "state": "reachable", "release": ours().package, "protocol": ours().spoken}
    ]
