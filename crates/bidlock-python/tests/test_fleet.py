"""Old bots and new ones in one fleet, and the way from the ones to the others."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest
from conftest import HERE, Server, wait_until

# What a bot writes down when it bids: it is a duplicate when two of them overlap, and when the
# marketplace hears of one posting twice while nobody had released it in between.
BOT = """
import asyncio, os, random, sys, time
from contextlib import asynccontextmanager
kind, url, log, first, last, seed, also = sys.argv[1:]
first, last = int(first), int(last)
random.seed(int(seed))

if kind == "old-redis":
    from old.redis_bid_lock_manager import RedisBidLockManager
    manager = RedisBidLockManager(url)
elif kind == "old-sqlite":
    from old.bid_lock_manager import BidLockManager
    manager = BidLockManager(url)
else:
    from bidlock.compat import RedisBidLockManager
    manager = RedisBidLockManager(url)

stop = False

async def bid(posting, out):
    # The marketplace shows what it has: a bot looks before it asks for the lock, and under it.
    path = os.path.join(log, posting)
    if os.path.exists(path):
        return
    try:
        async with manager.with_lock("upwork", posting, timeout=30):
            if os.path.exists(path):
                return
            out.write(f"in {time.clock_gettime(time.CLOCK_MONOTONIC):.6f} {posting}\\n")
            await asyncio.sleep(random.uniform(0, 0.004))
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.close(fd)
            out.write(f"out {time.clock_gettime(time.CLOCK_MONOTONIC):.6f} {posting}\\n")
    except FileExistsError:
        out.write(f"twice 0 {posting}\\n")
    except TimeoutError:
        out.write(f"late 0 {posting}\\n")

async def main():
    with open(f"{log}.{os.getpid()}", "w") as out:
        postings = [f"job_{n}" for n in range(first, last)]
        for at in range(0, len(postings), 20):
            part = postings[at : at + 20]
            random.shuffle(part)
            limit = asyncio.Semaphore(5)
            async def one(posting):
                async with limit:
                    await bid(posting, out)
            await asyncio.gather(*(one(posting) for posting in part))
            out.flush()
            print(at, flush=True)
            if not sys.stdin.readline():
                break
    await manager.close()

asyncio.run(main())
"""


class Fleet:
    """Bots that go through the same postings at the same time."""

    def __init__(self, folder: Path, postings: int) -> None:
        self.script = folder / "bot.py"
        self.script.write_text(BOT)
        self.log = folder / "market"
        self.log.mkdir()
        self.postings = postings
        self.started = 0

    def start(self, kind: str, url: str, also: str = "", first: int = 0) -> subprocess.Popen[str]:
        self.started += 1
        paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        if also:
            variables["BIDLOCK_ALSO"] = also
        return subprocess.Popen(
            [
                sys.executable,
                str(self.script),
                kind,
                url,
                str(self.log),
                str(first),
                str(self.postings),
                str(self.started),
                also,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
        )

    def judge(self) -> None:
        """No posting was bid on twice, and at no moment did two bots hold one."""
        held: list[tuple[float, float, str]] = []
        for path in self.log.parent.glob("market.*"):
            opened: dict[str, float] = {}
            for line in path.read_text().splitlines():
                word, at, posting = line.split()
                assert word in {"in", "out"}, line
                if word == "in":
                    opened[posting] = float(at)
                else:
                    held.append((opened.pop(posting), float(at), posting))
            assert not opened, "a bot was cut off in the middle"
        assert len(held) == self.postings
        assert len({posting for _, _, posting in held}) == self.postings
        assert len(list(self.log.iterdir())) == self.postings


def rounds(bot: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert bot.stdin is not None and bot.stdout is not None
    return bot.stdin, bot.stdout


def drive(bots: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Let each bot do one part of its postings; returns those that go on."""
    going = []
    for bot in bots:
        orders, said = rounds(bot)
        if said.readline():
            going.append(bot)
        else:
            assert bot.wait(30) == 0
    for bot in going:
        orders, _ = rounds(bot)
        try:
            orders.write("on\n")
            orders.flush()
        except BrokenPipeError:
            pass
    return going


def retire(bot: subprocess.Popen[str]) -> None:
    """Let a bot finish what it has begun."""
    orders, said = rounds(bot)
    said.readline()
    orders.close()
    assert bot.wait(60) == 0
    said.close()


def rehearse(fleet: Fleet, old: tuple[str, str], new: tuple[str, str], also: str) -> None:
    """Replace 8 old workers one by one under load, until the last one is new."""
    workers: list[tuple[str, subprocess.Popen[str]]] = []
    for _ in range(8):
        workers.append(("old", fleet.start(*old)))
    part, step = 0, max(1, fleet.postings // 20 // 12)
    try:
        while any(bot.poll() is None for _, bot in workers):
            part += 1
            going = drive([bot for _, bot in workers])
            workers = [(kind, bot) for kind, bot in workers if bot in going]
            olds = [bot for kind, bot in workers if kind == "old"]
            if part % step == 0 and olds:
                retire(olds[0])
                workers = [(kind, bot) for kind, bot in workers if bot is not olds[0]]
                workers.append(("new", fleet.start(*new, also=also, first=part * 20)))
            if not workers:
                break
        assert fleet.started == 16, "not every worker was replaced"
    finally:
        for _, bot in workers:
            bot.kill()
            bot.communicate()


def test_old_clients_and_new_ones_never_hold_one_posting_together(
    server: Server, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, 200)
    bots = [fleet.start("old-redis", server.url) for _ in range(3)]
    bots += [fleet.start("new", server.url) for _ in range(3)]
    while bots:
        bots = drive(bots)
    fleet.judge()


def test_the_way_from_the_lock_of_redis_py(server: Server, tmp_path: Path) -> None:
    # docs/migrate.md: 8 workers are replaced one by one, among 2,000 postings.
    fleet = Fleet(tmp_path, 2_000)
    rehearse(fleet, ("old-redis", server.url), ("new", server.url), "")
    fleet.judge()


def test_the_way_from_the_row_in_sqlite(server: Server, tmp_path: Path) -> None:
    # docs/migrate.md: the new workers hold the old row as well, until the last old one is gone.
    old = tmp_path / "old.db"
    with sqlite3.connect(old) as connection:
        connection.execute(
            "CREATE TABLE distributed_locks (id TEXT PRIMARY KEY, lock_key TEXT UNIQUE NOT NULL, "
            "holder_id TEXT NOT NULL, acquired_at REAL NOT NULL, expires_at REAL NOT NULL)"
        )
    connection.close()
    fleet = Fleet(tmp_path, 2_000)
    also = f"sqlite://{old}?table=distributed_locks"
    rehearse(fleet, ("old-sqlite", str(old)), ("new", server.url), also)
    fleet.judge()
    with sqlite3.connect(old) as connection:
        assert connection.execute("SELECT count(*) FROM distributed_locks").fetchone() == (0,)
    connection.close()


def test_a_late_delete_of_an_old_client_is_reported_as_taken(server: Server) -> None:
    import bidlock

    async def main() -> None:
        locker = await bidlock.connect(server.url)
        with pytest.raises(bidlock.LeaseLostError) as lost:
            async with locker.acquire("upwork", "job_1", ttl=0.6):
                # An old client that was paused for longer than its TTL.
                server.command("DEL", "bid_lock:upwork:job_1")
                await asyncio.sleep(20)
        assert lost.value.reason == "taken"

    asyncio.run(main())


def test_a_new_waiter_has_an_old_lock_soon_after_it_is_deleted(server: Server) -> None:
    import bidlock

    async def main() -> None:
        locker = await bidlock.connect(server.url)
        server.command("SET", "bid_lock:upwork:job_1", "old-bot", "NX", "EX", "300")
        waiter = asyncio.create_task(locker.acquire("upwork", "job_1", wait=20)._acquire())
        await asyncio.sleep(0.3)
        server.command("DEL", "bid_lock:upwork:job_1")
        began = time.monotonic()
        lease = await waiter
        assert time.monotonic() - began < 2
        await lease.release()

    asyncio.run(main())
    wait_until(lambda: server.value("bid_lock:upwork:job_1") == "$-1")
