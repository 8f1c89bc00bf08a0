"""How much time has really passed for a review: what deletion waits for.

A wall clock can jump: set wrongly, or repaired. Deleting by it alone could delete for good what was
held a minute ago. So the file counts time by itself. At each write it stores the wall clock and
the machine's steady clock (time since the machine started, which nobody sets). At the next write
the time between counts only if both clocks agree on how long it was; else nothing is counted.
A review is deleted when its retention has passed by the wall clock *and* has been counted since
it was held.

So after a jump forward or back, a restart, or a year switched off, deletions are late by what was
not counted; they are never early. Where each write is on another machine or after another start,
nothing is ever counted: there, `purge(trust_clock=True)` deletes by the wall clock alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from magistrate.storage.review_schema import reviews, to_micros

SteadyClock: TypeAlias = Callable[[], float]

# The clocks are read one after the other, and one of them may be tuned to run a little faster.
_APART_US = 60_000_000
_APART_SHARE = 1_000  # one part in so many

# Beside the table of reviews, which older versions read and write as it is.
_metadata = MetaData()
_counted = Table(
    "counted_time",
    _metadata,
    Column("wall", BigInteger, nullable=False),  # at the last write; all in microseconds
    Column("steady", BigInteger, nullable=False),
    Column("passed", BigInteger, nullable=False),  # counted since the file exists
)
_held = Table(
    "held_when",
    _metadata,
    Column("id", String, primary_key=True),
    Column("passed", BigInteger, nullable=False),  # `counted_time.passed` when it was held
)


def steady_clock() -> float:
    """Return the seconds since this machine started, asleep or not where the system can tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def count_time(connection: Connection, now: datetime, steady_s: float) -> int:
    """Count the time since the last write and return all that was counted, in microseconds.

    Within a write transaction. Reviews that are new to the count begin now: also those that an
    older version held, and all of them if the count itself was damaged.
    """
    for table in (_counted, _held):
        table.create(connection, checkfirst=True)
    wall, steady = to_micros(now), int(steady_s * 1_000_000)
    rows = connection.execute(select(_counted)).all()
    valid = len(rows) == 1 and all(isinstance(value, int) and value >= 0 for value in rows[0])
    passed = rows[0].passed if valid else 0
    if valid:
        by_wall, by_steady = wall - rows[0].wall, steady - rows[0].steady
        apart = abs(by_wall - by_steady)
        if by_steady >= 0 and apart <= _APART_US + by_steady // _APART_SHARE:
            passed += max(0, min(by_wall, by_steady))
        connection.execute(update(_counted).values(wall=wall, steady=steady, passed=passed))
    else:
        connection.execute(delete(_counted))
        connection.execute(delete(_held))
        connection.execute(insert(_counted).values(wall=wall, steady=steady, passed=passed))
    return passed


def begin_counting(connection: Connection, passed: int) -> None:
    """Begin to count for the reviews that have no count yet, and end it for those deleted."""
    same = _held.c.id == reviews.c.id
    is_text = func.typeof(reviews.c.id) == "text"
    new = select(reviews.c.id, literal(passed)).where(is_text, ~exists().where(same))
    begin = insert(_held).prefix_with("OR IGNORE").from_select(["id", "passed"], new)
    connection.execute(begin)
    connection.execute(delete(_held).where(~exists().where(same)))


def counted_for(connection: Connection, review_id: str, passed: int) -> int:
    """Return how much time was counted since a review was held, in microseconds; 0 if unknown."""
    found = connection.execute(select(_held.c.passed).where(_held.c.id == review_id)).scalar()
    return passed - found if isinstance(found, int) and 0 <= found <= passed else 0
