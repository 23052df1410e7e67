"""Bids as the old system did: a row in SQLite with a unique key, an end, and no renewal."""

import os
import random
import sqlite3
import sys
import time
import uuid

FOLDER = os.environ["BIDLOCK_TEST_FOLDER"]
DATABASE = os.path.join(FOLDER, "old.db")
TTL = 60.0


def now():
    """Microseconds since the machine's start, as the clients of bidlock count them."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class BidLockManager:
    """The lock of the old system."""

    def __init__(self, ttl=TTL):
        self.ttl = ttl
        self.connection = sqlite3.connect(DATABASE, timeout=30)

    def acquire_lock(self, marketplace, posting, timeout, holder):
        """Tries until the time is over; whether it has the lock."""
        key = f"bid:lock:{marketplace}:{posting}"
        end = time.monotonic() + timeout
        pause = 0.005
        while True:
            seconds = time.time()
            try:
                with self.connection:
                    self.connection.execute(
                        "DELETE FROM distributed_locks WHERE expires_at < ?", (seconds,)
                    )
                    self.connection.execute(
                        "INSERT INTO distributed_locks"
                        " (id, lock_key, holder_id, acquired_at, expires_at)"
                        " VALUES (?, ?, ?, ?, ?)",
                        (str(uuid.uuid4()), key, holder, seconds, seconds + self.ttl),
                    )
                return True
            except sqlite3.IntegrityError:
                pass
            except sqlite3.OperationalError as error:
                # What its users saw now and then; they tried again.
                if "locked" not in str(error):
                    raise
            if time.monotonic() > end:
                return False
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, 0.1)

    def release_lock(self, marketplace, posting, holder):
        """Deletes its own row, and no other."""
        key = f"bid:lock:{marketplace}:{posting}"
        while True:
            try:
                with self.connection:
                    self.connection.execute(
                        "DELETE FROM distributed_locks WHERE lock_key = ? AND holder_id = ?",
                        (key, holder),
                    )
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise


def bid(locks, log, posting, timeout):
    """Holds a posting for a moment, and writes down from when to when."""
    holder = f"old:{os.getpid()}:{uuid.uuid4()}"
    if not locks.acquire_lock("upwork", posting, timeout, holder):
        return
    os.write(log, b"%s old enter %d\n" % (posting.encode(), now()))
    time.sleep(random.uniform(0, 0.002))
    os.write(log, b"%s old exit %d\n" % (posting.encode(), now()))
    locks.release_lock("upwork", posting, holder)


def started():
    print("ready", flush=True)
    while not os.path.exists(os.path.join(FOLDER, "go")):
        time.sleep(0.002)
    return os.open(os.path.join(FOLDER, "log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def race(postings):
    """Bids on each posting once, together with everybody else."""
    locks, log = BidLockManager(), started()
    for number in range(postings):
        bid(locks, log, f"job_{number}", random.choice([0, 0.05, 0.3]))


def loop(postings):
    """Bids on any of them until it is told to stop."""
    locks, log = BidLockManager(), started()
    while not os.path.exists(os.path.join(FOLDER, "stop")):
        bid(locks, log, f"job_{random.randrange(postings)}", 0.5)


def hold(ttl):
    """Takes a posting and never gives it back."""
    holder = f"old:{os.getpid()}:{uuid.uuid4()}"
    assert BidLockManager(float(ttl)).acquire_lock("upwork", "held", 60, holder)
    print("held", now(), flush=True)
    time.sleep(600)


if __name__ == "__main__":
    parts = {"race": race, "loop": loop, "hold": hold}
    parts[sys.argv[1]](int(sys.argv[2]))
