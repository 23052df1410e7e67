"""Cycles per second and hand-over latency, in turns with redis-py.

    cd crates/bidlock-python
    python -m bench [--rounds 31] [--seconds 0.25] [--unpinned] [--uvloop]

needs `bidlock`, `redis`, `hiredis` and `uvloop` installed, and a `redis-server` in PATH. Server and
clients share one core, as in the other benchmarks, unless it is told otherwise. Every round
measures each contender once, so that what else the machine does meets all of them; shown are
medians, the quartiles of the ratios, and the processor time that a cycle takes in the client.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import redis.asyncio as redis

import bidlock

RELEASE = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
"""

Cycle = Callable[[str], Awaitable[None]]


class Server:
    """A Redis of the bench's own, without persistence."""

    def __init__(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port: int = listener.getsockname()[1]
        self.folder = tempfile.TemporaryDirectory()
        program = shutil.which("redis-server")
        if program is None:
            raise SystemExit("there is no redis-server in PATH")
        command = [program, "--port", str(self.port), "--save", "", "--dir", self.folder.name]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


class Measured(NamedTuple):
    """What was seen in one round."""

    rate: float
    """Cycles per second."""
    cost: float
    """Seconds of processor time in this process for each."""


async def measure(cycle: Cycle, tasks: int, seconds: float) -> Measured:
    """Cycle in so many tasks, each on a key of its own."""
    done = 0
    end = time.perf_counter() + seconds

    async def work(key: str) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await cycle(key)
            done += 1

    began, worked = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work(f"job_{n}") for n in range(tasks)))
    return Measured(
        done / (time.perf_counter() - began), (time.process_time() - worked) / done
    )


async def contenders(server: Server) -> dict[str, Cycle]:
    locker = await bidlock.connect(server.url)
    client = redis.from_url(server.url)
    release = client.register_script(RELEASE)

    async def ours(key: str) -> None:
        lease = await locker.acquire("bench", key)
        await lease.release()

    async def block(key: str) -> None:
        async with locker.acquire("bench", key):
            pass

    async def bare(key: str) -> None:
        value = uuid.uuid4().hex
        assert await client.set(f"bare:{key}", value, nx=True, px=300_000)
        await release(keys=[f"bare:{key}"], args=[value])

    async def lock(key: str) -> None:
        async with client.lock(f"lock:{key}", timeout=300):
            pass

    return {
        "SET NX + script": bare,
        "redis.lock.Lock": lock,
        "bidlock": ours,
        "bidlock, async with": block,
    }


async def hand_over_ours(server: Server, rounds: int) -> list[float]:
    """Seconds from the call that releases to the start of the next holder, on two connections."""
    one, two = await bidlock.connect(server.url), await bidlock.connect(server.url)
    took = []
    for _ in range(rounds):
        lease = await one.acquire("bench", "hand_over")
        started: list[float] = []

        async def waits() -> None:
            async with two.acquire("bench", "hand_over", wait=20):
                started.append(time.perf_counter())

        waiter = asyncio.create_task(waits())
        await asyncio.sleep(0.02)
        released = time.perf_counter()
        await lease.release()
        await waiter
        took.append(started[0] - released)
    return took


async def hand_over_theirs(server: Server, rounds: int) -> list[float]:
    one, two = redis.from_url(server.url), redis.from_url(server.url)
    took = []
    for n in range(rounds):
        lock = one.lock("hand_over", timeout=300)
        await lock.acquire()
        started: list[float] = []

        async def waits() -> None:
            async with two.lock("hand_over", timeout=300):
                started.append(time.perf_counter())

        waiter = asyncio.create_task(waits())
        # It polls every 100 ms: the release falls anywhere in between.
        await asyncio.sleep(0.02 + 0.1 * (n % 10) / 10)
        released = time.perf_counter()
        await lock.release()
        await waiter
        took.append(started[0] - released)
    await one.aclose()
    await two.aclose()
    return took


async def main(rounds: int, seconds: float) -> None:
    server = Server()
    try:
        cycles = await contenders(server)
        for tasks in (1, 100):
            for cycle in cycles.values():
                await measure(cycle, tasks, seconds)
            seen: dict[str, list[Measured]] = {name: [] for name in cycles}
            for _ in range(rounds):
                for name, cycle in cycles.items():
                    seen[name].append(await measure(cycle, tasks, seconds))
            reference = seen["SET NX + script"]
            print(f"cycles/s, {tasks} tasks")
            for name, each in seen.items():
                ratios = [a.rate / b.rate for a, b in zip(each, reference, strict=True)]
                low, middle, high = statistics.quantiles(ratios, n=4)
                print(
                    f"  {name:20} {statistics.median(one.rate for one in each):9,.0f}"
                    f"   x{middle:.2f} ({low:.2f} … {high:.2f})"
                    f"   {statistics.median(one.cost for one in each) * 1e6:5.0f} µs of processor"
                )
        ours = await hand_over_ours(server, 100)
        theirs = await hand_over_theirs(server, 40)
        print("hand-over, p50")
        print(f"  redis.lock.Lock      {statistics.median(theirs) * 1e3:9.2f} ms")
        print(
            f"  bidlock              {statistics.median(ours) * 1e3:9.2f} ms"
            f"   x{statistics.median(ours) / statistics.median(theirs):.3f}"
        )
    finally:
        server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--seconds", type=float, default=0.25)
    parser.add_argument("--unpinned", action="store_true", help="on any core")
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    if not options.unpinned:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    run = asyncio.run
    if options.uvloop:
        import uvloop

        run = uvloop.run
    run(main(options.rounds, options.seconds))
