"""The system's sealing keys: made here, signed by its own signing key, replaced, destroyed (DESIGN section 3)."""

import asyncio
import secrets
from collections.abc import Callable
from functools import partial

import structlog

from exchange.client.errors import BrokenLogError, ExchangeError
from exchange.client.session import Session
from exchange.core.directory import Directory
from exchange.core.entries import key_entry, sealing_key_statement
from exchange.core.keys import key_id
from exchange.core.lifetimes import SEALING_KEY, SEALING_RENEWAL
from exchange.core.state import OBJECT_ID, KeyRecord

RENEW_BEFORE = SEALING_RENEWAL

logger = structlog.get_logger("exchange.adapter")


class SealingKeys:
    """Keeps one sealing key of this system valid in the directory.

    Args:
        session: the system's open home.
        take_up: called once a new key is in the home, before anybody can seal to it.
    """

    def __init__(self, session: Session, take_up: Callable[[], None] = lambda: None) -> None:
        self._session = session
        self._take_up = take_up
        self._lock = asyncio.Lock()

    async def ensure(self) -> None:
        """Enter a new sealing key where none of the home's own is valid for another week; destroy those that ended.

        One that cannot be entered is tried again at the next look; until then the last one that stands is used.

        Raises:
            ExchangeError: the directory cannot be reached, or refuses the key and none stands.
            HomeError: a key cannot be written.
        """
        async with self._lock:
            directory = await self._session.sync()
            now = self._session.clock()
            own = self._session.home.sealing_keys()
            records = [directory.state.keys.get(digest) for digest in own]
            if not any(map(partial(_stands, directory, now + RENEW_BEFORE), records)):
                # One that never reached the directory is as good as new.
                waiting = [digest for digest in own if digest not in directory.state.keys]
                home = self._session.home
                public = home.sealing_public(waiting[0]) if waiting else home.new_sealing_key()
                # Who reads the directory at the moment of the entry seals to it at once.
                self._take_up()
                await self._replace(public, now, is_needed=not any(map(partial(_stands, directory, now), records)))
            for record in records:
                if record is not None and record.not_after < now:
                    self._session.home.destroy_sealing_key(record.key_id)
                    logger.info("sealing key destroyed", key=record.key_id.hex()[:16])

    async def _replace(self, public: bytes, now: int, *, is_needed: bool) -> None:
        try:
            await self._enter(public, now)
        except BrokenLogError:
            raise
        except ExchangeError as error:
            if is_needed:
                raise
            logger.warning("the sealing key cannot be renewed now", reason=str(error))

    async def _enter(self, public: bytes, now: int) -> None:
        session = self._session
        statement = sealing_key_statement(session.party, public, (now, now + SEALING_KEY))
        draft = key_entry(session.party, secrets.token_bytes(OBJECT_ID), statement)
        appended = await session.append(session.sign(draft))
        logger.info("sealing key entered", key=key_id(public).hex()[:16], entry=appended.index)


def _stands(directory: Directory, moment: int, record: KeyRecord | None) -> bool:
    return record is not None and directory.is_usable(record, moment)
