"""redis-py's asyncio Lock, measured as a child of bidlock-bench.

Reads one order per line from its standard input and answers each with one line of figures:

    cycles TASKS SECONDS   cycles per second, and the median and 99th percentile of one in us
    waiters NUMBER HOLD    seconds in all, and seconds that the lock was held, of one key
    count NUMBER           runs as many cycles one after the other; answers with their number
"""

import asyncio
import sys
import time

import redis.asyncio

TTL = 300


async def cycles(client, tasks, seconds, run):
    taken = []
    start = time.perf_counter()
    end = start + seconds

    async def task(own):
        number = 0
        last = time.perf_counter()
        while last < end:
            number += 1
            lock = client.lock(f"bid_lock:upwork:job_{run}_{own}_{number}", timeout=TTL)
            await lock.acquire()
            await lock.release()
            now = time.perf_counter()
            taken.append(now - last)
            last = now

    await asyncio.gather(*(task(own) for own in range(tasks)))
    rate = len(taken) / (time.perf_counter() - start)
    taken.sort()
    return rate, taken[len(taken) // 2] * 1e6, taken[len(taken) * 99 // 100] * 1e6


async def waiters(client, number, hold, run):
    held = 0.0

    async def waiter():
        nonlocal held
        lock = client.lock(f"bid_lock:upwork:waited_{run}", timeout=TTL)
        await lock.acquire()
        start = time.perf_counter()
        await asyncio.sleep(hold)
        held += time.perf_counter() - start
        await lock.release()

    start = time.perf_counter()
    await asyncio.gather(*(waiter() for _ in range(number)))
    return time.perf_counter() - start, held


async def count(client, number, run):
    for n in range(number):
        lock = client.lock(f"bid_lock:upwork:counted_{run}_{n}", timeout=TTL)
        await lock.acquire()
        await lock.release()
    return (number,)


async def main():
    client = redis.asyncio.Redis(host="127.0.0.1", port=int(sys.argv[1]))
    loop = asyncio.get_running_loop()
    run = 0
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        run += 1
        order, *words = line.split()
        if order == "cycles":
            figures = await cycles(client, int(words[0]), float(words[1]), run)
        elif order == "waiters":
            figures = await waiters(client, int(words[0]), float(words[1]), run)
        else:
            figures = await count(client, int(words[0]), run)
        print(*figures, flush=True)
    await client.aclose()


asyncio.run(main())
