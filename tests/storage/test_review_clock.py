"""A clock that jumped deletes nothing: deletions may be late, never early."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from magistrate.reviews import HeldItem, ReviewNotFound, ReviewStore
from magistrate.settings import Reviewer, ReviewSettings
from magistrate.storage.review_clock import count_time, steady_clock

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY, YEAR = timedelta(days=1), timedelta(days=365)
RETENTION = 30 * DAY


@dataclass
class Machine:
    """A machine whose wall clock may be wrong. `real` is what nobody in it can see."""

    real: timedelta = timedelta()
    wrong_by: timedelta = timedelta()
    running: timedelta = field(default_factory=lambda: 2 * DAY)

    def wall(self) -> datetime:
        return START + self.real + self.wrong_by

    def steady(self) -> float:
        return self.running.total_seconds()

    def run(self, time: timedelta) -> None:
        self.real += time
        self.running += time

    def jump(self, by: timedelta) -> None:
        self.wrong_by += by

    def restart(self, off_for: timedelta = timedelta()) -> None:
        self.real += off_for
        self.running = timedelta(seconds=20)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def store(tmp_path: Path, machine: Machine) -> Iterator[ReviewStore]:
    with closing(opened(tmp_path / "r.db", machine)) as store:
        yield store


def opened(path: Path, machine: Machine) -> ReviewStore:
    reviewer = Reviewer(name="lee", qualified_in=("healthcare",))
    settings = ReviewSettings(store=f"sqlite:///{path}", reviewers=(reviewer,))
    return ReviewStore(settings, app="acme", now=machine.wall, steady=machine.steady)


def held(store: ReviewStore) -> str:
    return store.hold(HeldItem("acme", ("healthcare",), {}, {"m": 1}, {}))


def live(store: ReviewStore, machine: Machine, days: int) -> int:
    """Let days pass, with a few writes, and return how many reviews were deleted."""
    deleted = 0
    for begin in range(0, days, 7):
        machine.run(min(7, days - begin) * DAY)
        deleted += store.purge()
    return deleted


def test_without_a_jump_a_review_is_deleted_on_its_day(
    store: ReviewStore, machine: Machine
) -> None:
    held(store)
    assert live(store, machine, 29) == 0
    assert live(store, machine, 1) == 1


@pytest.mark.parametrize("steps", [1, 2, 12])
def test_a_jump_forward_deletes_nothing_and_hides_until_it_is_repaired(
    store: ReviewStore, machine: Machine, steps: int
) -> None:
    review_id = held(store)
    for _ in range(steps):
        machine.jump(YEAR / steps)
        assert store.purge() == 0
        machine.run(timedelta(minutes=1))
    assert store.list() == []
    assert store.list().expired == 1
    with pytest.raises(ReviewNotFound):
        store.get(review_id)
    machine.jump(-YEAR)
    assert store.purge() == 0
    assert [review.id for review in store.list()] == [review_id]
    assert store.approve(review_id, reviewer="lee").released == {"m": 1}


def test_a_wrong_clock_that_stays_wrong_deletes_nothing_early(
    store: ReviewStore, machine: Machine
) -> None:
    held(store)
    machine.run(DAY)
    machine.jump(YEAR)
    assert store.purge() == 0
    assert live(store, machine, 29) == 0  # 30 real days, of which the one with the jump is lost
    assert live(store, machine, 1) == 1


def test_a_jump_back_deletes_late(store: ReviewStore, machine: Machine) -> None:
    held(store)
    machine.jump(-10 * DAY)
    assert live(store, machine, 39) == 0
    assert live(store, machine, 1) == 1


def test_a_clock_that_goes_to_and_fro_counts_no_time(store: ReviewStore, machine: Machine) -> None:
    held(store)
    for _ in range(6):
        for by in (YEAR, -YEAR, 50 * DAY, -50 * DAY, timedelta(minutes=59), -timedelta(minutes=59)):
            machine.jump(by)
            assert store.purge() == 0


def test_after_a_year_switched_off_what_was_held_stays_for_its_days(
    store: ReviewStore, machine: Machine
) -> None:
    held(store)
    assert live(store, machine, 5) == 0
    machine.restart(off_for=YEAR)
    assert store.purge() == 0
    assert store.list().expired == 1  # not shown and not released, but not deleted yet
    new = held(store)
    assert live(store, machine, 25) == 1
    assert [review.id for review in store.list()] == [new]
    assert live(store, machine, 5) == 1


def test_a_restart_loses_only_the_time_around_it(store: ReviewStore, machine: Machine) -> None:
    held(store)
    assert live(store, machine, 20) == 0
    machine.restart(off_for=timedelta(minutes=3))
    assert store.purge() == 0
    assert live(store, machine, 9) == 0
    assert live(store, machine, 1) == 1


def test_who_knows_that_the_clock_is_right_can_delete_by_it(
    store: ReviewStore, machine: Machine
) -> None:
    held(store)
    machine.restart(off_for=RETENTION - timedelta(seconds=1))
    assert store.purge(trust_clock=True) == 0
    machine.restart(off_for=timedelta(seconds=1))
    assert store.purge() == 0
    assert store.purge(trust_clock=True) == 1


def test_two_machines_with_other_clocks_on_one_file_delete_nothing_early(tmp_path: Path) -> None:
    one, other = Machine(), Machine(running=40 * DAY, wrong_by=timedelta(hours=2))
    with (
        closing(opened(tmp_path / "r.db", one)) as mine,
        closing(opened(tmp_path / "r.db", other)) as theirs,
    ):
        held(mine)
        for _ in range(29):
            for machine in (one, other):
                machine.run(DAY)
            assert mine.purge() == theirs.purge() == 0


def test_a_file_of_an_older_version_begins_to_count_when_it_is_written(
    store: ReviewStore, machine: Machine
) -> None:
    """Older versions have neither table. They still read and write the file."""
    held(store)
    with store._database.transaction("BEGIN IMMEDIATE") as connection:
        connection.exec_driver_sql("DROP TABLE counted_time")
        connection.exec_driver_sql("DROP TABLE held_when")
    machine.run(20 * DAY)
    assert len(store.list()) == 1
    assert store.purge() == 0
    assert live(store, machine, 29) == 0
    assert live(store, machine, 1) == 1


@pytest.mark.parametrize("value", ["NULL", "-5", "'x'", "x'ff'", "1.5", "CAST(x'ff' AS TEXT)"])
@pytest.mark.parametrize(
    "column",
    ["counted_time.wall", "counted_time.steady", "counted_time.passed", "held_when.passed"],
)
def test_a_damaged_count_begins_again(
    store: ReviewStore, machine: Machine, column: str, value: str
) -> None:
    held(store)
    assert live(store, machine, 20) == 0
    table, _, name = column.partition(".")
    with store._database.transaction("BEGIN IMMEDIATE") as connection:
        for statement in (
            f"CREATE TABLE loose AS SELECT * FROM {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE loose RENAME TO {table}",
            f"UPDATE {table} SET {name} = {value}",
        ):
            connection.exec_driver_sql(statement)
    machine.run(DAY)
    assert store.purge() == 0
    assert live(store, machine, 8) == 0
    assert live(store, machine, 60) <= 1


MINUTES = st.integers(0, 60 * 24 * 40).map(lambda minutes: timedelta(minutes=minutes))
EVENTS = st.lists(
    st.tuples(st.sampled_from(["run", "jump", "back", "restart"]), MINUTES), max_size=25
)


@settings(max_examples=100)
@given(EVENTS)
@example([("jump", YEAR), ("run", DAY), ("back", YEAR), ("run", DAY)])
def test_no_order_of_jumps_restarts_and_pauses_counts_more_than_passed(
    events: list[tuple[str, timedelta]],
) -> None:
    machine = Machine()
    with create_engine("sqlite://").connect() as connection:
        count_time(connection, machine.wall(), machine.steady())
        for kind, by in events:
            match kind:
                case "run":
                    machine.run(by)
                case "restart":
                    machine.restart(by)
                case _:
                    machine.jump(by if kind == "jump" else -by)
            passed = count_time(connection, machine.wall(), machine.steady())
            assert timedelta(microseconds=passed) <= machine.real


def test_the_steady_clock_runs_and_nobody_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before: Any = steady_clock()
    assert 0 < before <= steady_clock()
