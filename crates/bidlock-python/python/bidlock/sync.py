"""The same without an event loop: for threads, scripts, Celery and Django.

A wait lets other threads run, and hears of ``KeyboardInterrupt`` within 50 ms. No thread can be
made to stop: in a ``with`` block look at ``lease.check()`` before each thing that counts. A block
whose lease was lost ends with LeaseLostError.
"""

from bidlock._sync import Acquire, Lease, Locker, Loss, connect
from bidlock._sync_bids import Bid, Guard, Ledger, open_ledger

__all__ = [
    "Acquire",
    "Bid",
    "Guard",
    "Lease",
    "Ledger",
    "Locker",
    "Loss",
    "connect",
    "open_ledger",
]
