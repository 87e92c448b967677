"""The way to each broker, step by step: its name, its port, its TLS certificate, its health, its clock, its version."""

import asyncio
import socket
import ssl
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

import grpc
import httpx
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from exchange.core.decision import SKEW
from exchange.core.errors import VersionError
from exchange.core.policy import PolicyWitness
from exchange.core.protocol import SILENT, Announcement, agreed
from exchange.health.checks import SECONDS, Check, Finding, OnlineCheck, fail, ok, warn
from exchange.health.files import ending
from exchange.home import Home
from exchange.transport import HEALTH_CHECK, TIME_METADATA, announced, announcement_in, open_channel, own_announcement

NOTICEABLE = 5.0
"""Seconds by which clocks may differ before it is said."""

_SET_CLOCK = "timedatectl set-ntp true (on the machine whose clock is wrong)"


def of_brokers(home: Home) -> list[Check | OnlineCheck]:
    """The checks of the way to every broker of the trust file.

    Args:
        home: with a trust file.
    """
    checks: list[Check | OnlineCheck] = []
    for address in home.trust.brokers:
        checks += _of_broker(home, address)
    policy = home.trust.policy
    if policy is not None and policy.needs_witnesses:
        checks += [_of_witness(witness) for witness in policy.witnesses if witness.url]
    return checks


def _of_broker(home: Home, address: str) -> list[Check | OnlineCheck]:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    restart = "start it there: exchange broker run --home BROKER"
    return [
        Check(f"name {address}", lambda: _resolved(address, host), f"getent hosts {host}"),
        Check(f"port {address}", lambda: _reached(address, host, int(port)), restart),
        Check(f"TLS {address}", lambda: _shaken(home, address, host, int(port)), restart),
        OnlineCheck(f"broker {address}", lambda: _asked(home, address), restart),
    ]


def _resolved(address: str, host: str) -> Sequence[Finding]:
    mend = f"getent hosts {host}; mend DNS, or the address under brokers in trust.toml"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        text = error.strerror if isinstance(error, OSError) else "not a name"
        return [fail(f"name {address}", f"{host} has no address: {text}", mend)]
    return [ok(f"name {address}", f"{host} is {', '.join(sorted({str(one[4][0]) for one in found}))}")]


def _reached(address: str, host: str, port: int) -> Sequence[Finding]:
    mend = "start the broker (exchange broker run), or open the port between this machine and it"
    try:
        with socket.create_connection((host, port), timeout=SECONDS - 1):
            return [ok(f"port {address}", "takes connections")]
    except (OSError, UnicodeError) as error:
        text = (error.strerror or str(error)) if isinstance(error, OSError) else "not a name"
        return [fail(f"port {address}", text, mend)]


def _shaken(home: Home, address: str, host: str, port: int) -> Sequence[Finding]:
    """The broker's certificate, by the authority of the trust file."""
    name, trust = f"TLS {address}", home.trust
    context = ssl.create_default_context(cadata=trust.tls_ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    mend = "on its machine: a certificate that is valid, for a name under hosts in broker.toml"
    try:
        with (
            socket.create_connection((host, port), timeout=SECONDS - 1) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            certificate = secured.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return [fail(name, f"its certificate does not hold: {error.verify_message}", mend)]
    except (OSError, UnicodeError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        return [fail(name, f"no handshake: {text}", "see the lines above", checked=False)]
    until = ssl.cert_time_to_seconds(str(certificate.get("notAfter", "")))
    return [ending(name, until, time.time(), mend)]


async def _asked(home: Home, address: str) -> Sequence[Finding]:
    name = f"broker {address}"
    identity = await asyncio.to_thread(home.tls_identity)
    async with open_channel(address, identity) as channel:
        method, request = channel.unary_unary(HEALTH_CHECK, None, None), HealthCheckRequest().SerializeToString()
        call = method(request, timeout=SECONDS - 1, metadata=announced())
        began, asked = time.time(), time.monotonic()
        try:
            answer = HealthCheckResponse.FromString(await call)
        except grpc.aio.AioRpcError as error:
            # gRPC's text begins with the address, and ends with the cause.
            reason = (error.details() or error.code().name).rpartition(": ")[2]
            mend = "exchange broker run --home BROKER, on its machine; the lines above say how far the way is open"
            return [fail(name, f"no answer: {reason}", mend), *_unknown(address)]
        took = time.monotonic() - asked
        told = {str(key): str(value) for key, value in await call.initial_metadata() or ()}
        theirs = announcement_in(await call.trailing_metadata())
    if answer.status != HealthCheckResponse.SERVING:
        return [fail(name, "it answers, but does not serve: it is starting or stopping", f"its log, on {address}")]
    serves = ok(name, f"serves, answered in {took * 1000:.0f} ms")
    return [serves, *judged(address, told.get(TIME_METADATA, ""), theirs, began + took / 2, took)]


def _unknown(address: str) -> Sequence[Finding]:
    mend = "see the broker's line"
    return [fail(f"clock {address}", "not known: the broker does not answer", mend, checked=False)]


def judged(address: str, time_there: str, theirs: Announcement, now: float, took: float) -> Sequence[Finding]:
    """What a broker says of its clock and its version.

    Args:
        time_there: milliseconds in decimal, or whatever it sent; theirs: as it announced.
        now: seconds, in the middle of the call; took: seconds.
    """
    found = []
    if time_there.isascii() and time_there.isdigit():
        found.append(clock(f"clock {address}", int(time_there) / 1000 - now, took / 2))
    if theirs != SILENT:
        found.append(skew(f"version {address}", theirs, own_announcement()))
    return found


def clock(name: str, offset: float, doubt: float) -> Finding:
    """How another clock stands to this one.

    Args:
        name: of the check.
        offset: seconds by which the other is ahead; doubt: by which that may be wrong.
    """
    size = max(abs(offset) - doubt, 0.0)
    side = "ahead of" if offset > 0 else "behind"
    text = f"{abs(offset):.1f} s {side} this one, within {doubt:.1f} s"
    if size * 1000 >= SKEW:
        return fail(name, f"{text}: requests are refused as EXPIRED", _SET_CLOCK)
    return warn(name, text, _SET_CLOCK) if size >= NOTICEABLE else ok(name, text)


def skew(name: str, theirs: Announcement, ours: Announcement) -> Finding:
    """How another's version stands to this one: they must speak a version of the protocol that both know."""
    try:
        spoken = agreed(ours, theirs, ("this program", "the broker"))
    except VersionError as error:
        return fail(name, str(error), "install the release that it names, there or here")
    text = f"{theirs.package} there, {ours.package} here, protocol {spoken}"
    if theirs.package == ours.package:
        return ok(name, text)
    return warn(name, text, "install one release on both sides: one minor version apart works, more is not promised")


def _of_witness(witness: PolicyWitness) -> Check:
    return Check(f"witness {witness.name}", lambda: _witness(witness), f"tell whoever runs it: {witness.url}")


def _witness(witness: PolicyWitness) -> Sequence[Finding]:
    """Whether it answers at all, and what its clock says: HTTP's Date is to the second (RFC 9110 section 6.6.1)."""
    name, began = f"witness {witness.name}", time.time()
    try:
        # Whatever it answers to a GET: its head says the time. Its certificate is the broker's to check.
        answer = httpx.get(witness.url, timeout=SECONDS - 1, verify=False, trust_env=False)  # noqa: S501
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return [fail(name, f"no answer: {type(error).__name__}", f"tell whoever runs it: {witness.url}")]
    took = time.time() - began
    try:
        there = parsedate_to_datetime(answer.headers["date"]).timestamp() + 0.5
    except (KeyError, ValueError):
        return [ok(name, "answers, and does not say what time it is")]
    return [clock(name, there - (began + took / 2), took / 2 + 0.5)]
