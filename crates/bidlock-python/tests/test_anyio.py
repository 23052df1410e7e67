"""Locks under anyio, on its asyncio backend."""

from __future__ import annotations

import anyio
import pytest
from conftest import Server

import bidlock


@pytest.mark.parametrize("use_uvloop", [False, True])
def test_cancel_scopes_and_task_groups(server: Server, use_uvloop: bool) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        with anyio.move_on_after(0.1) as scope:
            async with locker.acquire("upwork", "job_1"):
                await anyio.sleep(20)
        assert scope.cancelled_caught
        with anyio.fail_after(5):
            async with locker.acquire("upwork", "job_1"):
                pass

        seen: list[int] = []

        async def work() -> None:
            async with locker.acquire("upwork", "job_1", wait=30) as lease:
                seen.append(lease.token)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(work)
        assert seen == sorted(set(seen)) and len(seen) == 10

        with pytest.raises(bidlock.LeaseLostError):
            async with locker.acquire("upwork", "job_1", max_hold=0.2):
                await anyio.sleep(20)
        with anyio.move_on_after(0.1):
            held = await locker.acquire("upwork", "job_1")
            with anyio.move_on_after(0.05):
                await locker.acquire("upwork", "job_1", wait=None)
            await held.release()
        await anyio.sleep(0)

    anyio.run(main, backend_options={"use_uvloop": use_uvloop})


def test_without_asyncio_it_says_so() -> None:
    coroutine = bidlock.connect("memory:")._connect()
    with pytest.raises(RuntimeError, match="no running event loop"):
        coroutine.send(None)
