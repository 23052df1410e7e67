"""The lock manager that bidlock replaces, as its bots have it: redis-py and ``SET NX EX``.

It is kept with its faults, because the old bots in the tests have them too.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as redis


class RedisBidLockManager:
    """Guards postings by keys of a Redis server."""

    def __init__(self, redis_url: str | None = None, ttl: int = 300) -> None:
        self.redis_url = redis_url or "redis://localhost:6379/0"
        self.ttl = ttl
        self.redis = redis.from_url(self.redis_url, decode_responses=True)
        self.held: dict[str, str] = {}
        self.metrics = {"lock_attempts": 0, "lock_successes": 0, "lock_conflicts": 0,
                        "lock_timeouts": 0, "redis_errors": 0}

    def _key(self, marketplace_id: str, posting_id: str) -> str:
        return f"bid_lock:{marketplace_id}:{posting_id}"

    async def acquire_lock(
        self,
        marketplace_id: str,
        posting_id: str,
        timeout: float = 10.0,
        holder_id: str | None = None,
    ) -> bool:
        key = self._key(marketplace_id, posting_id)
        holder = holder_id or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.metrics["lock_attempts"] += 1
        end, pause = time.monotonic() + timeout, 0.05
        while True:
            try:
                if await self.redis.set(key, holder, nx=True, ex=self.ttl):
                    self.held[key] = holder
                    self.metrics["lock_successes"] += 1
                    return True
            except redis.RedisError:
                self.metrics["redis_errors"] += 1
                return False
            self.metrics["lock_conflicts"] += 1
            if time.monotonic() >= end:
                self.metrics["lock_timeouts"] += 1
                return False
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 1.0)

    async def release_lock(
        self, marketplace_id: str, posting_id: str, holder_id: str | None = None
    ) -> bool:
        key = self._key(marketplace_id, posting_id)
        holder = self.held.pop(key, None)
        if holder is None:
            return False
        try:
            # Compared, and then deleted: two steps, with a gap between them.
            if await self.redis.get(key) != holder:
                return False
            await self.redis.delete(key)
        except redis.RedisError:
            self.metrics["redis_errors"] += 1
            return False
        return True

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
        await self.redis.aclose()
