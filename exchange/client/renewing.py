"""A party renews what of its keys it can by itself: its TLS certificate, and a system its signing key (ADR 0012)."""

import asyncio
import secrets

from exchange.client.calls import call_until
from exchange.client.errors import RefusedError
from exchange.client.session import TIMEOUT, Session
from exchange.core.entries import key_entry, signing_key_statement
from exchange.core.keys import EcdsaSigner, key_id
from exchange.core.lifetimes import HEAD_START, SYSTEM_KEY, SYSTEM_RENEWAL
from exchange.core.renewal import renewal_request
from exchange.core.state import OBJECT_ID
from exchange.home import HomeError
from exchange.succession import (
    adopt_signer,
    certificate_end,
    install_certificate,
    is_certificate_due,
    make_next_signer,
    next_signer,
    next_tls_request,
)
from exchange.transport import RENEW, PeerError, certificate_key
from exchange.v1.directory_pb2 import Role
from exchange.v1.log_pb2 import RenewResponse


async def renew_certificate(session: Session, *, timeout: float = TIMEOUT) -> int:
    """Have the TLS certificate renewed for the home's signing key, and show the new one from now on.

    Args:
        session: the party's open home.
        timeout: seconds.

    Returns:
        When the new certificate ends, milliseconds.

    Raises:
        RefusedError: the key does not stand, or this machine's clock is off.
        UnavailableError, ResponseInvalidError: no broker, or no answer that can be used.
        HomeError: what came back does not fit this home; nothing has changed.
    """
    home, now = session.home, session.clock()
    request = renewal_request(session.trust.name, session.signer, next_tls_request(home), now)
    deadline = asyncio.get_running_loop().time() + timeout
    response = await call_until(session.transport, RENEW, request, RenewResponse, deadline)
    install_certificate(home, response.certificate, session.clock())
    await session.use_new_keys()
    return certificate_end(home)


def is_due(session: Session) -> bool:
    """Whether anything has come near its end, as far as the home and its mirror know.

    Raises:
        HomeError: a key or certificate cannot be read.
    """
    return is_signing_key_due(session) or _is_certificate_due(session)


async def renew_if_due(session: Session) -> bool:
    """Renew what has come near its end: a system's signing key under the old one, and the TLS certificate.

    Args:
        session: the party's open home.

    Returns:
        Whether anything was renewed.

    Raises:
        ExchangeError, HomeError: as `renew_signing_key` and `renew_certificate`.
    """
    renewed = is_signing_key_due(session) and await renew_signing_key(session)
    if _is_certificate_due(session):
        await renew_certificate(session)
        return True
    return renewed


def is_signing_key_due(session: Session) -> bool:
    """Whether a system's signing key is near its end, or its renewal was begun and not finished.

    Raises:
        HomeError: the key cannot be read.
    """
    if session.home.role != "system":
        return False
    record = session.directory.state.keys.get(key_id(session.signer.public_key))
    waits = next_signer(session.home) is not None
    return waits or (record is not None and record.not_after - session.clock() <= SYSTEM_RENEWAL)


async def renew_signing_key(session: Session) -> bool:
    """A system's next signing key, entered under the one that it has; in use when this returns.

    The same again goes on where it stopped: the key that waits is kept until the directory holds it or refuses it.

    Args:
        session: the system's open home.

    Returns:
        Whether the home signs with another key now.

    Raises:
        RefusedError: the directory's rules refuse it: the old key is revoked, or has a successor already.
        ExchangeError: the directory cannot be reached.
        HomeError: a key cannot be written or read.
    """
    await session.sync()
    if not await adopt_if_entered(session):
        await _enter(session, make_next_signer(session.home))
        return await adopt_if_entered(session)
    return True


async def adopt_if_entered(session: Session) -> bool:
    """Sign with the key that waits, once the directory as it is known here holds it in force.

    Raises:
        HomeError: a key cannot be read or moved.
    """
    adopted = adopt_signer(session.home, session.directory.state, session.clock())
    if adopted:
        await session.use_new_keys()
    return adopted


async def _enter(session: Session, signer: EcdsaSigner) -> None:
    now = session.clock()
    # The broker's clock may be behind, and the key is needed at once.
    validity = (now - HEAD_START, now + SYSTEM_KEY)
    statement = signing_key_statement(session.trust.name, session.party, Role.ROLE_SYSTEM, signer, validity)
    try:
        await session.append(session.sign(key_entry(session.party, secrets.token_bytes(OBJECT_ID), statement)))
    except RefusedError:
        # Another run of the same home may have entered this very key.
        await session.sync()
        if key_id(signer.public_key) not in session.directory.state.keys:
            raise


def _is_certificate_due(session: Session) -> bool:
    return is_certificate_due(session.home, session.clock()) or not _fits(session)


def _fits(session: Session) -> bool:
    """Whether the certificate is good for as long as the present signing key is: it dies with the one that it names."""
    try:
        return certificate_key(session.home.certificate()) == key_id(session.signer.public_key)
    except (PeerError, HomeError):
        return True
