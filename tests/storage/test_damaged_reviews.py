"""One damaged record does not take the others with it, and is never lost in silence."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from magistrate.reviews import (
    DamagedReview,
    HeldItem,
    ReviewDamaged,
    ReviewNotFound,
    ReviewStore,
)
from magistrate.settings import Reviewer, ReviewSettings

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REVIEWER = Reviewer(name="lee", qualified_in=("healthcare",))
COLUMNS = ("id", "app", "status", "domains", "created_at", "expires_at", "decided_at", "reviewer")
COLUMNS += ("note", "request", "message", "edited", "decision")
# What a disk or another program may leave, as SQL.
GARBAGE = ["NULL", "0", "-1", "7", "4611686018427387904", "1.5", "''", "'x'", "'[]'", "'{}'"]
GARBAGE += ["'[1]'", "'[\"a\", 2]'", "'null'", "'{\"a\": NaN}'", "'{\"cut'", "'\u00fc'", "x''"]
GARBAGE += ["x'ff00fe'", "CAST(x'ff00fe' AS TEXT)", "x'7b7d'", "'" + "[" * 100_000 + "'"]


class Clock:
    def __init__(self) -> None:
        self.days = 0

    def __call__(self) -> datetime:
        return START + timedelta(days=self.days)

    def steady(self) -> float:
        return self.days * 86_400.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reviews.db"


@pytest.fixture
def store(path: Path, clock: Clock) -> Iterator[ReviewStore]:
    settings = ReviewSettings(store=f"sqlite:///{path}", reviewers=(REVIEWER,))
    with closing(ReviewStore(settings, app="acme", now=clock, steady=clock.steady)) as store:
        yield store


def held(store: ReviewStore, request: dict[str, Any] | None = None) -> str:
    return store.hold(HeldItem("acme", ("healthcare",), request or {"q": 1}, {"m": 1}, {"id": "d"}))


def raw(path: Path, *statements: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        for statement in statements:
            found = connection.execute(statement).fetchall()
        connection.commit()
    return found


def without_constraints(path: Path) -> None:
    raw(
        path,
        "CREATE TABLE loose AS SELECT * FROM reviews",
        "DROP TABLE reviews",
        "ALTER TABLE loose RENAME TO reviews",
    )


def is_utf8(kind: str, value: Any) -> bool:
    try:
        return kind == "text" and value.decode() is not None
    except UnicodeDecodeError:
        return False


def is_legal(column: str, status: str, kind: str, value: Any) -> bool:
    """Whether the store could have written this value itself, next to the row's other values."""
    text = value.decode() if is_utf8(kind, value) else None
    decided = status == "approved"
    match column:
        case "decided_at":
            year_9999 = 253_402_300_800_000_000
            return kind == "integer" and abs(value) < year_9999 if decided else kind == "null"
        case "reviewer":
            return text is not None if decided else kind == "null"
        case "note":
            return kind == "null" or (decided and text is not None)
        case "edited":
            return kind == "null" or (decided and text == "{}")
        case "request" | "message" | "decision":
            return text == "{}"
        case _:
            return False


@pytest.mark.parametrize("status", ["pending", "approved"])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_row_with_any_garbage_in_any_column_is_named_and_the_others_are_listed(
    store: ReviewStore, path: Path, clock: Clock, column: str, status: str
) -> None:
    first, last = held(store), held(store)
    if status == "approved":
        store.approve(first, reviewer="lee")
    without_constraints(path)
    damaged: set[str] = set()  # ids, or rows
    foreign = 0
    for number, value in enumerate(GARBAGE):
        id = f"rev_{number:040x}"
        changed = {"id": f"'{id}'"} | {column: value}
        values = ", ".join(changed.get(name, name) for name in COLUMNS)
        ((rowid, kind, found),) = raw(
            path,
            f"INSERT INTO reviews ({', '.join(COLUMNS)}) SELECT {values} FROM reviews "
            f"WHERE id = '{first}'",
            f"SELECT rowid, typeof({column}), {column} FROM reviews ORDER BY rowid DESC LIMIT 1",
        )
        kind = kind.decode()
        if column == "app" and is_utf8(kind, found):
            foreign += 1  # any text may be another app's name
        elif not is_legal(column, status, kind, found):
            damaged.add(f"row {rowid}" if column == "id" else id)
    rows = len(raw(path, "SELECT 1 FROM reviews"))

    listed = store.list()
    assert {record.id for record in listed.damaged} == damaged
    blamed = {record.column for record in listed.damaged}
    allowed = {"status": {"status", "decided_at"}, "created_at": {"created_at", "expires_at"}}
    assert blamed <= allowed.get(column, {column})
    assert len(listed) == rows - len(damaged) - foreign
    assert {first, last} <= {review.id for review in listed}
    for wanted in ("pending", "approved", "rejected"):
        lost = column == "status" or status == wanted  # a lost status may be any
        ids = {record.id for record in store.list(wanted).damaged}
        assert ids == (damaged if lost else set())
    for id in damaged:
        with pytest.raises(ReviewNotFound if column == "id" else ReviewDamaged) as caught:
            store.get(id)
        assert column == "id" or str(caught.value).startswith(f"{path}: the record of {id} is")
    if column != "id":
        with pytest.raises(ReviewDamaged):
            store.approve(id, reviewer="lee")

    # Long after, everything else is gone, and not one damaged record.
    clock.days = 200
    assert store.purge(trust_clock=True) == rows - len(damaged)
    assert {record.id for record in store.list().damaged} == damaged
    assert len(raw(path, "SELECT 1 FROM reviews")) == len(damaged)


@pytest.mark.parametrize("verdict", ["approved", "rejected"])
def test_a_status_that_nobody_decided_is_damage_and_releases_nothing(
    store: ReviewStore, path: Path, verdict: str
) -> None:
    review_id = held(store)
    raw(path, f"UPDATE reviews SET status = '{verdict}'")
    assert store.list().damaged == (DamagedReview(review_id, "decided_at"),)
    with pytest.raises(ReviewDamaged):
        store.get(review_id)


def test_a_page_that_cannot_be_read_takes_one_review_with_it(
    store: ReviewStore, path: Path
) -> None:
    kept, lost, last = held(store), held(store, {"q": "marked " * 5_000}), held(store)
    data = bytearray(path.read_bytes())
    found = (
        start for start in range(0, len(data), 4096) if b"marked" in data[start : start + 4096]
    )
    page = next(start for start in found if data[start] != 0x0D)  # not where rows begin
    data[page : page + 4] = b"\xff\xff\xff\xff"  # where the row goes on
    path.write_bytes(data)
    listed = store.list()
    assert [review.id for review in listed] == [kept, last]
    assert listed.damaged == (DamagedReview(lost, "page"),)
    with pytest.raises(ReviewDamaged, match=rf"the record of {lost} is damaged \(page\)"):
        store.get(lost)


def test_no_message_about_damage_carries_content(store: ReviewStore, path: Path) -> None:
    review_id = held(store, {"q": "secret words"})
    raw(path, "UPDATE reviews SET request = substr(request, 2)")
    with pytest.raises(ReviewDamaged) as caught:
        store.get(review_id)
    assert "secret" not in f"{caught.value} {store.list().damaged}"
    assert caught.value.__suppress_context__


def test_random_bytes_in_a_row_are_never_another_error(store: ReviewStore, path: Path) -> None:
    ids = [held(store) for _ in range(3)]
    without_constraints(path)
    for column in COLUMNS[1:]:
        noise = random.Random(column).randbytes(20).hex()
        raw(path, f"UPDATE reviews SET {column} = CAST(x'{noise}' AS TEXT) WHERE rowid = 2")
        listed = store.list()
        assert [review.id for review in listed] == [ids[0], ids[2]]
        assert [record.id for record in listed.damaged] == [ids[1]]
