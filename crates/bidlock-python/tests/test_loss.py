"""What a holder sees of a lost lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from conftest import Server, wait_until

import bidlock
from bidlock import LeaseLostError, sync

Run = Callable[[Coroutine[Any, Any, Any]], Any]
KEY = "bid_lock:upwork:job_1"


def test_losing_the_lease_cancels_the_block(server: Server, run_loop: Run) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        seen: list[str] = []
        told = asyncio.Event()

        def tell(reason: str) -> None:
            seen.append(reason)
            told.set()

        with pytest.raises(LeaseLostError) as lost:
            async with locker.acquire("upwork", "job_1", ttl=0.6) as lease:
                lease.lost.add_callback(tell)
                server.command("SET", KEY, "thief")
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError:
                    seen.append("cancelled")
                    raise
        assert lost.value.reason == "taken"
        assert lost.value.key == KEY
        await asyncio.wait_for(told.wait(), 5)
        assert sorted(seen) == ["cancelled", "taken"]
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        await asyncio.sleep(0)
        assert server.value(KEY) == "thief"

    run_loop(main())


def test_a_callback_hears_of_a_loss_that_its_loop_had_no_time_for(
    server: Server, run_loop: Run
) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        lease = await locker.acquire("upwork", "job_1", ttl=0.6)
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        lease.lost.add_callback(told.set_result)
        server.command("SET", KEY, "thief")
        # The loop is blocked until it is lost.
        wait_until(lambda: bool(lease.lost))
        with pytest.raises(LeaseLostError):
            await lease.release()
        assert await asyncio.wait_for(told, 5) == "taken"

    run_loop(main())


def test_the_blocks_own_exception_wins(server: Server) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        with pytest.raises(KeyError):
            async with locker.acquire("upwork", "job_1", ttl=0.6):
                server.command("SET", KEY, "thief")
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError:
                    raise KeyError("mine") from None
        # Nothing of the loss is left for who comes after.
        await asyncio.sleep(0.01)

    asyncio.run(main())


def test_a_block_that_swallows_its_cancellation_ends_with_the_loss_all_the_same(
    server: Server,
) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        with pytest.raises(LeaseLostError):
            async with locker.acquire("upwork", "job_1", ttl=0.6):
                server.command("SET", KEY, "thief")
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError:
                    pass

    asyncio.run(main())


def test_a_cancellation_from_outside_stays_one(server: Server, run_loop: Run) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        inside = asyncio.Event()

        async def work() -> None:
            async with locker.acquire("upwork", "job_1"):
                inside.set()
                await asyncio.sleep(20)

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await locker.inspect("upwork", "job_1") is None

        # Both at once: the outer one wins.
        async def both() -> None:
            async with locker.acquire("upwork", "job_1", ttl=0.6):
                server.command("SET", KEY, "thief")
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError:
                    asyncio.current_task().cancel()  # type: ignore[union-attr]
                    raise

        task = asyncio.create_task(both())
        with pytest.raises(asyncio.CancelledError):
            await task
        server.command("DEL", KEY)

    run_loop(main())


def test_a_timeout_around_and_inside_a_block_works_as_ever(server: Server) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), locker.acquire("upwork", "job_1"):
                await asyncio.sleep(20)
        async with locker.acquire("upwork", "job_1", wait=1):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asyncio.sleep(20)
        # A nested one is lost, and the outer one is not.
        async with locker.acquire("upwork", "job_1", wait=1):
            with pytest.raises(LeaseLostError):
                async with locker.acquire("upwork", "job_2", max_hold=0.2):
                    await asyncio.sleep(20)
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_every_reason_arrives(server: Server) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)

        async def reason(spoil: Callable[[], object], **options: Any) -> str | None:
            lease = await locker.acquire("upwork", "job_1", wait=0, **options)
            spoil()
            async with asyncio.timeout(10):
                found = await lease.lost
            with pytest.raises(LeaseLostError) as lost:
                lease.check()
            assert lost.value.reason == found == lease.lost.reason
            server.command("DEL", KEY)
            return found

        assert await reason(lambda: None, max_hold=0.2) == "max_hold"
        assert await reason(lambda: None, ttl=0.3, renew=False) == "expired"
        assert await reason(lambda: server.command("DEL", KEY), ttl=0.6) == "taken"
        assert await reason(lambda: server.command("FLUSHALL"), ttl=0.6) in {"taken", "data_lost"}
        lease = await locker.acquire("upwork", "job_1")
        told = asyncio.create_task(_wait(lease))
        await asyncio.sleep(0.05)
        await lease.release()
        assert await told is None

    async def _wait(lease: bidlock.Lease) -> str | None:
        return await lease.lost

    asyncio.run(main())


def test_a_server_that_goes_away_is_a_loss_in_time(servers: Callable[[str], Server]) -> None:
    server = Server("redis70", servers("redis70").folder)

    async def main() -> None:
        locker = await bidlock.connect(server.url)
        with pytest.raises(LeaseLostError) as lost:
            async with locker.acquire("upwork", "job_1", ttl=1):
                server.stop()
                async with asyncio.timeout(5):
                    await asyncio.sleep(20)
        assert lost.value.reason == "unreachable"
        with pytest.raises(bidlock.UnavailableError):
            await locker.acquire("upwork", "job_1", wait=0.2)

    asyncio.run(main())


def test_a_thread_is_told_too(server: Server) -> None:
    locker = sync.connect(server.url)
    seen: list[str] = []
    with pytest.raises(LeaseLostError):
        with locker.acquire("upwork", "job_1", ttl=0.6) as lease:
            lease.lost.add_callback(seen.append)
            server.command("SET", KEY, "thief")
            assert lease.lost.wait() == "taken"
            with pytest.raises(LeaseLostError):
                lease.check()
    wait_until(lambda: seen == ["taken"])
