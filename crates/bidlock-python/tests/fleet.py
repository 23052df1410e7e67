"""Fleets of bots that go through the same postings at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from conftest import HERE, wait_until

# A bot goes through the postings that there are so far, in an order of its own, until it is told
# to stop. It writes down from when to when it held each, and what it did; the marketplace, which is
# a folder, refuses a second bid. A bot looks there before it asks for the lock, and under it, as
# bots do; but not at the postings of the late comers, which all bots bid on that do not know better.
BOT = """
import asyncio, os, random, signal, sys, time
from contextlib import asynccontextmanager
kind, url, folder, seed = sys.argv[1:]
random.seed(int(seed))
market, limits = os.path.join(folder, "market"), os.path.join(folder, "limit")
with open(os.path.join(folder, "skip")) as file:
    skip = set(file.read().split())

if kind == "old-redis":
    from old.redis_bid_lock_manager import RedisBidLockManager
    manager = RedisBidLockManager(url)
elif kind == "old-sqlite":
    from old.bid_lock_manager import BidLockManager
    manager = BidLockManager(url)
else:
    from bidlock import NotBidError
    from bidlock.compat import RedisBidLockManager
    manager = RedisBidLockManager(url)

@asynccontextmanager
async def held(posting):
    if kind == "ledger":
        try:
            async with (await manager.guard()).bid("upwork", posting, wait=30) as attempt:
                yield attempt
        except NotBidError:
            # The block did not run: nothing was to be sent.
            yield None
    else:
        async with manager.with_lock("upwork", posting, timeout=30):
            yield manager

def now():
    return time.clock_gettime(time.CLOCK_MONOTONIC)

async def bid(n, late, out):
    posting = f"job_{n}"
    path = os.path.join(market, posting)
    looks = not late[0] <= n < late[1]
    if posting in skip or looks and os.path.exists(path):
        return
    async with held(posting) as attempt:
        if attempt is None:
            return
        began, word = now(), "looked"
        if not (looks and os.path.exists(path)):
            await asyncio.sleep(random.uniform(0, 0.02))
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                word = "bid"
            except FileExistsError:
                word = "twice"
        if kind == "ledger":
            attempt.not_sent("bid on before") if word == "looked" else attempt.placed()
        out.write(f"{word} {began:.6f} {now():.6f} {posting}\\n")
        out.flush()

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    limit = asyncio.Semaphore(4)
    seen = set()
    with open(os.path.join(folder, f"log.{os.getpid()}"), "w") as out:
        await manager.acquire_lock("upwork", f"warm_{os.getpid()}")
        await manager.release_lock("upwork", f"warm_{os.getpid()}")
        open(os.path.join(folder, f"ready.{os.getpid()}"), "w").close()
        while not stop.is_set():
            with open(limits) as file:
                there, *late = map(int, file.read().split())
            part = [n for n in range(there) if n not in seen][:60]
            if not part:
                await asyncio.sleep(0.02)
                continue
            random.shuffle(part)
            async def one(n):
                async with limit:
                    if not stop.is_set():
                        await bid(n, late, out)
            await asyncio.gather(*map(one, part))
            seen.update(part)
    await manager.close()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Kind:
    """How a bot is started."""

    name: str
    """``old-redis``, ``old-sqlite``, ``new``, or ``ledger``: a new one that asks the ledger."""
    url: str
    settings: dict[str, str] = field(default_factory=dict)


class Fleet:
    """Bots, and the postings that they bid on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "bot.py"
        self.script.write_text(BOT)
        self.market = folder / "market"
        self.market.mkdir()
        self.postings = 0
        # From which posting to which nobody looks whether it was bid on before.
        self.late = (0, 0)
        self.bots: list[subprocess.Popen[bytes]] = []
        self.running: list[subprocess.Popen[bytes]] = []
        self.skip([])
        self.post(0)

    def skip(self, postings: Iterable[str]) -> None:
        """Let bots that start from now on leave these alone."""
        (self.folder / "skip").write_text("\n".join(postings))

    def start(self, kind: Kind, count: int = 1) -> None:
        """Start bots, and wait until they bid."""
        paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        started = []
        for _ in range(count):
            seed = str(len(self.bots))
            command = [sys.executable, str(self.script), kind.name, kind.url, str(self.folder), seed]
            bot = subprocess.Popen(command, env={**variables, **kind.settings})
            self.bots.append(bot)
            started.append(bot)
        for bot in started:
            mark = self.folder / f"ready.{bot.pid}"
            wait_until(lambda: mark.exists() or bot.poll() is not None, 60)
            assert bot.poll() is None
        self.running += started

    def post(self, count: int) -> None:
        """Let so many more postings appear."""
        self.postings += count
        aside = self.folder / "limit.new"
        aside.write_text(f"{self.postings} {self.late[0]} {self.late[1]}")
        aside.rename(self.folder / "limit")

    def placed(self) -> int:
        return len(list(self.market.iterdir()))

    def bid_on_all(self) -> None:
        wait_until(lambda: self.placed() >= self.postings, 120)

    def replace(self, kind: Kind, postings: int) -> None:
        """Replace the bots one by one, with twice so many new postings for each.

        The new one bids beside the old ones; one of those goes in the middle of its work.
        """
        for bot in self.running[:]:
            self.post(postings)
            self.start(kind)
            self.post(postings)
            wait_until(lambda: self.placed() > self.postings - postings * 3 // 4, 60)
            self.end(bot)

    def late_comers(self, postings: int) -> None:
        """Let postings appear which every bot bids on that does not know better."""
        self.bid_on_all()
        self.late = (self.postings, self.postings + postings)
        self.post(postings)
        self.bid_on_all()

    def end(self, *bots: subprocess.Popen[bytes]) -> None:
        for bot in bots:
            bot.send_signal(signal.SIGTERM)
        for bot in bots:
            assert bot.wait(60) == 0
            self.running.remove(bot)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for bot in self.bots:
            if bot.poll() is None:
                bot.kill()
                bot.wait()

    def said(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("log.*"))

    def judge(self) -> str:
        """No posting was bid on twice, and at no moment did two bots hold one."""
        assert not self.running
        holds: dict[str, list[tuple[float, float, str]]] = {}
        for line in self.said().splitlines():
            word, began, ended, posting = line.split()
            assert word in {"bid", "looked"}, line
            holds.setdefault(posting, []).append((float(began), float(ended), word))
        for posting, each in holds.items():
            assert [word for _, _, word in each].count("bid") == 1, (posting, each)
            each.sort()
            for (_, before, _), (after, _, _) in zip(each, each[1:], strict=False):
                assert before <= after, (posting, each)
        assert len(holds) == self.postings == self.placed()
        count = sum(map(len, holds.values()))
        return f"{len(self.bots)} bots, {self.postings} postings, {count} holds, none twice"
