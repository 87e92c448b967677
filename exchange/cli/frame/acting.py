"""A party acts: a session with a broker, its directory synced first, around one piece of work."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from exchange.client.seconds import SecondNeededError
from exchange.client.session import Session
from exchange.core.entries import ObjectVersion
from exchange.core.state import OBJECT_ID
from exchange.core.terms import SALT
from exchange.home import Home

T = TypeVar("T")


def act(home: Path, work: Callable[[Session], Awaitable[T]]) -> T:
    """Run some work of a party within a session whose directory is up to date.

    Args:
        home: the party's folder.
        work: gets the session.

    Raises:
        CommandError: the department asks for two stewards, and this one has signed first.
    """

    async def run() -> T:
        async with Session(Home(home)) as session:
            await session.sync()
            return await work(session)

    try:
        return asyncio.run(run())
    except SecondNeededError as error:
        from exchange.cli.people.countersigning import handed_on

        raise handed_on(Home(home), error) from None


def new_object() -> ObjectVersion:
    """A new object's first version, under a random id."""
    return ObjectVersion(secrets.token_bytes(OBJECT_ID))


def new_salt() -> bytes:
    """Salt of a body, 32 random bytes."""
    return secrets.token_bytes(SALT)
