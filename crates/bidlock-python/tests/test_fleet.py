"""Old bots and new ones in one fleet, and the way from the ones to the others."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import HERE, Server, wait_until

# A bot goes through the postings that there are so far, in an order of its own, until it is told
# to stop. It writes down when it began to bid and when it was done; the marketplace, which is a
# folder, refuses a second bid.
BOT = """
import asyncio, os, random, signal, sys, time
kind, url, folder, seed = sys.argv[1:]
random.seed(int(seed))
market, limits = os.path.join(folder, "market"), os.path.join(folder, "limit")

if kind == "old-redis":
    from old.redis_bid_lock_manager import RedisBidLockManager
    manager = RedisBidLockManager(url)
elif kind == "old-sqlite":
    from old.bid_lock_manager import BidLockManager
    manager = BidLockManager(url)
else:
    from bidlock.compat import RedisBidLockManager
    manager = RedisBidLockManager(url)

def now():
    return time.clock_gettime(time.CLOCK_MONOTONIC)

async def bid(posting, out):
    # A bot looks before it asks for the lock, and under it.
    path = os.path.join(market, posting)
    if os.path.exists(path):
        return
    try:
        async with manager.with_lock("upwork", posting, timeout=30):
            if os.path.exists(path):
                return
            began = now()
            await asyncio.sleep(random.uniform(0, 0.02))
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            out.write(f"bid {began:.6f} {now():.6f} {posting}\\n")
    except FileExistsError:
        out.write(f"twice {began:.6f} {now():.6f} {posting}\\n")

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    limit = asyncio.Semaphore(4)
    done = 0
    with open(os.path.join(folder, f"log.{os.getpid()}"), "w") as out:
        await manager.acquire_lock("upwork", f"warm_{os.getpid()}")
        await manager.release_lock("upwork", f"warm_{os.getpid()}")
        open(os.path.join(folder, f"ready.{os.getpid()}"), "w").close()
        while not stop.is_set():
            with open(limits) as file:
                there = int(file.read() or 0)
            part = [f"job_{n}" for n in range(done, there)]
            part = [p for p in part if not os.path.exists(os.path.join(market, p))]
            if not part:
                done = there
                await asyncio.sleep(0.02)
                continue
            part = part[:60]
            random.shuffle(part)
            async def one(posting):
                async with limit:
                    if not stop.is_set():
                        await bid(posting, out)
            await asyncio.gather(*(one(posting) for posting in part))
    await manager.close()

asyncio.run(main())
"""


class Fleet:
    """Bots that go through the same postings at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "bot.py"
        self.script.write_text(BOT)
        self.market = folder / "market"
        self.market.mkdir()
        self.postings = 0
        self.bots: list[subprocess.Popen[bytes]] = []
        (folder / "limit").write_text("0")

    def start(self, kind: str, url: str, also: str = "") -> subprocess.Popen[bytes]:
        paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        if also:
            variables["BIDLOCK_ALSO"] = also
        seed = str(len(self.bots))
        command = [sys.executable, str(self.script), kind, url, str(self.folder), seed]
        bot = subprocess.Popen(command, env=variables)
        self.bots.append(bot)
        return bot

    def ready(self, *bots: subprocess.Popen[bytes]) -> None:
        for bot in bots:
            self._ready(bot)

    def _ready(self, bot: subprocess.Popen[bytes]) -> None:
        mark = self.folder / f"ready.{bot.pid}"
        wait_until(lambda: mark.exists() or bot.poll() is not None, 60)
        assert bot.poll() is None

    def post(self, count: int) -> None:
        """Let so many more postings appear."""
        self.postings += count
        aside = self.folder / "limit.new"
        aside.write_text(str(self.postings))
        aside.rename(self.folder / "limit")

    def placed(self) -> int:
        return len(list(self.market.iterdir()))

    def end(self, *bots: subprocess.Popen[bytes]) -> None:
        for bot in bots:
            bot.send_signal(signal.SIGTERM)
        for bot in bots:
            assert bot.wait(60) == 0

    def kill(self) -> None:
        for bot in self.bots:
            if bot.poll() is None:
                bot.kill()
                bot.wait()

    def judge(self) -> None:
        """No posting was bid on twice, and at no moment did two bots hold one."""
        bids: dict[str, list[str]] = {}
        for path in self.folder.glob("log.*"):
            for line in path.read_text().splitlines():
                word, _, _, posting = line.split()
                bids.setdefault(posting, []).append(f"{path.name}: {line}")
                assert word == "bid", line
        twice = {posting: lines for posting, lines in bids.items() if len(lines) > 1}
        assert not twice
        assert len(bids) == self.postings == self.placed()


def rehearse(fleet: Fleet, old: tuple[str, str], new: tuple[str, str], also: str) -> None:
    """Replace 8 old workers one by one, among 2,000 postings."""
    try:
        olds = [fleet.start(*old) for _ in range(8)]
        fleet.ready(*olds)
        news: list[subprocess.Popen[bytes]] = []
        for bot in olds:
            fleet.post(110)
            news.append(fleet.start(*new, also=also))
            fleet.ready(news[-1])
            # The new one bids beside the old ones; one of those goes in the middle of its work.
            fleet.post(110)
            wait_until(lambda: fleet.placed() > fleet.postings - 80, 60)
            fleet.end(bot)
        fleet.post(240)
        assert fleet.postings == 2_000
        wait_until(lambda: fleet.placed() == fleet.postings, 60)
        fleet.end(*news)
    finally:
        fleet.kill()
    fleet.judge()


def test_old_clients_and_new_ones_never_hold_one_posting_together(
    server: Server, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path)
    try:
        bots = [fleet.start("old-redis", server.url) for _ in range(3)]
        bots += [fleet.start("new", server.url) for _ in range(3)]
        fleet.ready(*bots)
        fleet.post(400)
        wait_until(lambda: fleet.placed() == fleet.postings, 60)
        fleet.end(*bots)
    finally:
        fleet.kill()
    fleet.judge()


def test_the_way_from_the_lock_of_redis_py(server: Server, tmp_path: Path) -> None:
    # docs/migrate.md: 8 workers are replaced one by one, among 2,000 postings.
    rehearse(Fleet(tmp_path), ("old-redis", server.url), ("new", server.url), "")


def test_the_way_from_the_row_in_sqlite(server: Server, tmp_path: Path) -> None:
    # docs/migrate.md: the new workers hold the old row as well, until the last old one is gone.
    old = tmp_path / "old.db"
    with sqlite3.connect(old) as connection:
        connection.execute(
            "CREATE TABLE distributed_locks (id TEXT PRIMARY KEY, lock_key TEXT UNIQUE NOT NULL, "
            "holder_id TEXT NOT NULL, acquired_at REAL NOT NULL, expires_at REAL NOT NULL)"
        )
    connection.close()
    also = f"sqlite://{old}?table=distributed_locks"
    rehearse(Fleet(tmp_path), ("old-sqlite", str(old)), ("new", server.url), also)
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
