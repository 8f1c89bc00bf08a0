"""The bounded map that forgets: what is in it, and for how long."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.storage import expiring_map
from magistrate.storage.expiring_map import ExpiringMap


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(expiring_map, "time", found)
    return found


def test_an_entry_lasts_from_when_it_was_last_put(clock: Clock) -> None:
    kept: ExpiringMap[int] = ExpiringMap(9, 10.0)
    kept.put(["a", "b"], 1)
    clock.now = 9.0
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, 1, None)
    kept.put(["a"], 2)
    clock.now = 10.0
    assert (kept.get("a"), kept.get("b")) == (2, None)
    clock.now = 19.0
    assert kept.get("a") is None


def test_the_earliest_go_first_where_there_is_no_room(clock: Clock) -> None:
    kept: ExpiringMap[int] = ExpiringMap(2, 10.0)
    kept.put(["a", "b"], 1)
    kept.put(["a"], 2)  # now later than b
    kept.put(["c"], 3)
    assert [kept.get(key) for key in "abc"] == [2, None, 3]
    kept.put("defg", 4)
    assert [kept.get(key) for key in "acdefg"] == [None, None, None, None, 4, 4]
    assert len(kept) == 2


def test_what_expired_takes_no_memory_once_anything_is_put(clock: Clock) -> None:
    kept: ExpiringMap[int] = ExpiringMap(1000, 10.0)
    kept.put(map(str, range(1000)), 1)
    clock.now = 11.0
    kept.put(["new"], 1)
    assert len(kept) == 1


@settings(deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.floats(0, 4)), max_size=30),
)
def test_it_is_the_last_entries_that_have_not_expired(
    maxsize: int, puts: list[tuple[str, int, float]]
) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(expiring_map, "time", clock)
        kept: ExpiringMap[int] = ExpiringMap(maxsize, 5.0)
        log: list[tuple[str, int, float]] = []
        for key, value, later in puts:
            clock.now += later
            kept.put([key], value)
            log = [each for each in log if each[0] != key] + [(key, value, clock.now)]
            log = [each for each in log[-maxsize:] if each[2] + 5.0 > clock.now]
            expected: dict[str, Any] = {key: value for key, value, _ in log}
            assert {key: kept.get(key) for key in "abcdef"} == {
                key: expected.get(key) for key in "abcdef"
            }
            assert len(kept) == len(log)
