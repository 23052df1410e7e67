"""Bids as the old system did: SET NX EX, a loop that polls, and a plain DEL."""

import os
import random
import sys
import time

import redis


def now():
    """Microseconds since the machine's start, as the clients of bidlock count them."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def connect():
    return redis.Redis.from_url(os.environ["BIDLOCK_TEST_URL"])


def acquire(client, key, holder, seconds):
    """Polls with backoff until the key is its own."""
    pause = 0.01
    while not client.set(key, holder, nx=True, ex=seconds):
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(pause * 2, 0.1)


def fleet(keys, rounds, hold_ms):
    """Takes random keys so many times, and writes down when it had them."""
    client = connect()
    folder = os.environ["BIDLOCK_TEST_FOLDER"]
    print("ready", flush=True)
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)
    with open(os.path.join(folder, "old-log"), "ab", buffering=0) as log:
        for _ in range(rounds):
            key = "bid_lock:upwork:job_%06d" % random.randrange(keys)
            acquire(client, key, "holder", 300)
            entered = now()
            time.sleep(hold_ms / 1000 * random.random())
            log.write(b"%s %d %d\n" % (key.encode(), entered, now()))
            client.delete(key)
            # Among its own clients bidlock hands over without a gap.
            time.sleep(hold_ms / 1000 * random.random())


def hold(key, ms):
    """Takes a key once, holds it, and says when it deleted it."""
    client = connect()
    acquire(client, "bid_lock:upwork:job_%06d" % key, "holder", 300)
    print("held", now(), flush=True)
    time.sleep(ms / 1000)
    client.delete("bid_lock:upwork:job_%06d" % key)
    print("deleted", now(), flush=True)


def turns(key, rounds):
    """Takes a key again and again, and leaves time for others."""
    for _ in range(rounds):
        hold(key, 100)
        time.sleep(1.5)


def steal(key):
    """Deletes whatever stands under a key."""
    print("stolen", connect().delete("bid_lock:upwork:job_%06d" % key), now(), flush=True)


def attempt(key):
    """Asks once."""
    got = connect().set("bid_lock:upwork:job_%06d" % key, "holder", nx=True, ex=300)
    print("got" if got else "refused", flush=True)


if __name__ == "__main__":
    parts = {"fleet": fleet, "hold": hold, "turns": turns, "steal": steal, "attempt": attempt}
    parts[sys.argv[1]](*[int(word) for word in sys.argv[2:]])
