"""The review store: held answers survive, stay private, and the right person decides once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import processes
from magistrate.reviews import (
    HeldItem,
    Review,
    ReviewDamaged,
    ReviewError,
    ReviewNotFound,
    ReviewRefused,
    ReviewStore,
)
from magistrate.settings import Reviewer, ReviewSettings
from magistrate.storage import reviews

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LEE, KIM, BOTH = "dr.lee", "kim", "sam.both"
REVIEWERS = (
    Reviewer(name=LEE, qualified_in=("healthcare",)),
    Reviewer(name=KIM, qualified_in=("legal",)),
    Reviewer(name=BOTH, qualified_in=("healthcare", "legal")),
)
REQUEST = {
    "model": "claude-sonnet-5",
    "max_tokens": 500,
    "messages": [{"role": "user", "content": "Which dose? \u202e\x00 \ud800 \U0001f9ea"}],
    "an_unknown_field": {"kept": [1, 2.5, None, True]},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "Two tablets."}],
    "stop_reason": "end_turn",
}
EDITED = {**MESSAGE, "content": [{"type": "text", "text": "Ask your pharmacist."}]}

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX matter")


class Clock:
    def __init__(self) -> None:
        self.moment = START
        self.running = timedelta(days=3)  # since the machine was started

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, **by: int) -> None:
        """Time passes."""
        self.moment += timedelta(**by)
        self.running += timedelta(**by)

    def steady(self) -> float:
        return self.running.total_seconds()


def configured(path: Path, *, retain_days: int = 30) -> ReviewSettings:
    return ReviewSettings(store=f"sqlite:///{path}", retain_days=retain_days, reviewers=REVIEWERS)


def item(*domains: str, app: str = "acme", request: dict[str, Any] | None = None) -> HeldItem:
    return HeldItem(
        app=app,
        domains=domains or ("healthcare",),
        request=REQUEST if request is None else request,
        message=MESSAGE,
        decision={"id": "dec_1", "action": "hold", "findings": [], "review_id": None},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reviews.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


Opener = Callable[..., ReviewStore]


@pytest.fixture
def opened(path: Path, clock: Clock) -> Iterator[Opener]:
    """Opens stores over one file; closes them after the test."""
    stores: list[ReviewStore] = []

    def open_store(app: str = "acme", retain_days: int = 30, **options: Any) -> ReviewStore:
        settings = configured(path, retain_days=retain_days)
        stores.append(ReviewStore(settings, app=app, now=clock, steady=clock.steady, **options))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Opener) -> ReviewStore:
    return opened()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# What is kept


def test_a_held_item_comes_back_whole(store: ReviewStore) -> None:
    review = store.get(store.hold(item("healthcare", "legal")))
    assert review.request == REQUEST
    assert review.message == review.original == MESSAGE
    assert review.decision["action"] == "hold"
    assert review.domains == ("healthcare", "legal")
    assert (review.app, review.status, review.created_at) == ("acme", "pending", START)
    assert review.expires_at == START + timedelta(days=30)
    assert (review.decided_at, review.reviewer, review.note) == (None, None, None)
    assert review.released is None


def test_the_kept_decision_names_its_review(store: ReviewStore) -> None:
    review_id = store.hold(item())
    assert store.get(review_id).decision["review_id"] == review_id


def test_ids_are_prefixed_and_unguessable(store: ReviewStore) -> None:
    ids = {store.hold(item()) for _ in range(20)}
    assert len(ids) == 20
    assert all(one.startswith("rev_") and len(bytes.fromhex(one[4:])) >= 16 for one in ids)


def test_content_is_not_in_a_repr(store: ReviewStore) -> None:
    review = store.approve(store.hold(item()), reviewer=LEE, note="private note")
    for text in (repr(review), repr(item())):
        assert "dose" not in text
        assert "tablets" not in text
        assert "private note" not in text


@pytest.mark.parametrize(
    "request_body",
    [{"when": START}, {"number": float("nan")}, {"raw": b"bytes"}],
    ids=["datetime", "nan", "bytes"],
)
def test_what_is_not_json_is_refused_and_not_stored(
    store: ReviewStore, request_body: dict[str, Any]
) -> None:
    with pytest.raises(ReviewError, match="request is not plain JSON"):
        store.hold(item(request=request_body))
    assert store.list() == []


def test_an_item_without_a_domain_is_refused(store: ReviewStore) -> None:
    unowned = HeldItem(app="acme", domains=(), request={}, message={}, decision={})
    with pytest.raises(ReviewError, match="needs a domain"):
        store.hold(unowned)


def test_an_item_of_another_app_is_refused(store: ReviewStore) -> None:
    with pytest.raises(ReviewError, match="belongs to app 'acme', not 'other'"):
        store.hold(item(app="other"))


def test_an_item_is_there_after_reopening(store: ReviewStore, opened: Opener) -> None:
    review_id = store.hold(item())
    store.close()
    assert opened().get(review_id).message == MESSAGE


HOLD_AND_DIE = """
import os, signal, sys
from magistrate.reviews import HeldItem, ReviewStore
from magistrate.settings import ReviewSettings, Reviewer

settings = ReviewSettings(store=f"sqlite:///{sys.argv[1]}",
                          reviewers=(Reviewer(name="dr.lee", qualified_in=("healthcare",)),))
store = ReviewStore(settings, app="acme")
item = HeldItem(app="acme", domains=("healthcare",), request={"n": "x" * 200_000},
                message={"m": 1}, decision={})
os.write(1, store.hold(item).encode())
os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
def test_a_process_killed_right_after_hold_has_lost_nothing(path: Path) -> None:
    killed = processes.run(HOLD_AND_DIE, str(path))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = ReviewStore(configured(path), app="acme")
    review = store.get(killed.stdout)
    store.close()
    assert review.request == {"n": "x" * 200_000}
    assert review.message == {"m": 1}


def test_every_connection_asks_for_full_durability(store: ReviewStore) -> None:
    connection = store._database._connect()
    extra = 3  # FULL is 2
    assert connection.execute("PRAGMA synchronous").fetchone() == (extra,)
    connection.close()


# Lookup


def test_every_id_that_is_not_ones_own_is_the_same_error(
    store: ReviewStore, opened: Opener, clock: Clock
) -> None:
    purged = store.hold(item())
    clock.forward(days=31)
    store.purge()
    foreign = opened("other").hold(item(app="other"))
    unknown = "rev_" + "0" * 40
    said: set[str] = set()
    for review_id in (purged, foreign, unknown, "", "rev_", "' OR 1=1 --", "\ud800", "rev_\0"):
        for attempt in (
            lambda i=review_id: store.get(i),
            lambda i=review_id: store.approve(i, reviewer=LEE),
            lambda i=review_id: store.reject(i, reviewer=LEE),
        ):
            with pytest.raises(ReviewNotFound) as caught:
                attempt()
            said.add(f"{type(caught.value)} {caught.value}")
    assert len(said) == 1


def test_not_found_is_a_key_error_and_a_review_error_in_plain_words(store: ReviewStore) -> None:
    with pytest.raises(KeyError) as caught:
        store.get("rev_x")
    assert isinstance(caught.value, ReviewError)
    assert str(caught.value) == "no review with this id exists"


def test_lists_are_oldest_first_by_status_and_of_one_app(
    store: ReviewStore, opened: Opener, clock: Clock
) -> None:
    ids: list[str] = []
    for _ in range(4):
        ids.append(store.hold(item()))
        clock.forward(seconds=1)
    opened("other").hold(item(app="other"))
    store.approve(ids[1], reviewer=LEE)
    store.reject(ids[2], reviewer=LEE)

    def listed(found: list[Review]) -> list[str]:
        return [review.id for review in found]

    assert listed(store.list()) == ids
    assert listed(store.pending()) == listed(store.list("pending")) == [ids[0], ids[3]]
    assert listed(store.list("approved")) == [ids[1]]
    assert listed(store.list("rejected")) == [ids[2]]


# Deciding


def test_an_approved_answer_is_released_as_it_was_held(store: ReviewStore, clock: Clock) -> None:
    review_id = store.hold(item())
    clock.forward(hours=1)
    review = store.approve(review_id, reviewer=LEE, note="fine \u202e")
    assert review == store.get(review_id)
    assert review.released == MESSAGE
    assert (review.status, review.reviewer, review.note) == ("approved", LEE, "fine \u202e")
    assert review.decided_at == START + timedelta(hours=1)


def test_an_edited_text_is_released_and_the_original_is_kept(store: ReviewStore) -> None:
    review = store.approve(store.hold(item()), reviewer=LEE, message=EDITED)
    assert review.released == review.message == EDITED
    assert review.original == MESSAGE


def test_a_rejected_answer_is_never_released(store: ReviewStore) -> None:
    review = store.reject(store.hold(item()), reviewer=LEE, note="wrong dose")
    assert (review.status, review.released, review.note) == ("rejected", None, "wrong dose")


UNQUALIFIED = "is not qualified in healthcare; may decide: dr.lee, sam.both"
UNLISTED = "is not listed as a reviewer; listed: dr.lee, kim, sam.both"


@pytest.mark.parametrize(
    ("domains", "reviewer", "said"),
    [
        (("healthcare",), "stranger", f"'stranger' {UNLISTED}"),
        (("healthcare",), "", f"'' {UNLISTED}"),
        (("healthcare",), "DR.LEE", f"'DR.LEE' {UNLISTED}"),
        (
            ("healthcare",),
            KIM,
            f"'kim' {UNQUALIFIED}",
        ),
        (("healthcare", "legal"), LEE, "'dr.lee' is not qualified in legal; may decide: sam.both"),
        (
            ("insurance", "legal"),
            LEE,
            "'dr.lee' is not qualified in insurance, legal; "
            "may decide: none of the listed reviewers",
        ),
    ],
)
def test_only_a_listed_reviewer_qualified_in_all_domains_decides(
    store: ReviewStore, domains: tuple[str, ...], reviewer: str, said: str
) -> None:
    review_id = store.hold(item(*domains))
    for decide in (store.approve, store.reject):
        with pytest.raises(ReviewRefused) as caught:
            decide(review_id, reviewer=reviewer)
        assert str(caught.value) == said
    assert store.get(review_id).status == "pending"


def test_a_reviewer_qualified_in_all_domains_may_decide(store: ReviewStore) -> None:
    review_id = store.hold(item("healthcare", "legal"))
    assert store.may_decide(store.get(review_id)) == (BOTH,)
    assert store.approve(review_id, reviewer=BOTH).status == "approved"


def test_a_second_decision_is_refused_and_says_by_whom_and_when(store: ReviewStore) -> None:
    review_id = store.hold(item())
    store.reject(review_id, reviewer=LEE)
    for decide in (store.approve, store.reject):
        with pytest.raises(ReviewRefused) as caught:
            decide(review_id, reviewer=BOTH)
        assert str(caught.value) == "already rejected by 'dr.lee' at 2026-03-01 12:00 UTC"
    assert store.get(review_id).reviewer == LEE


def test_two_reviewers_at_once_make_one_decision(store: ReviewStore, opened: Opener) -> None:
    for _ in range(15):
        review_id = store.hold(item())
        barrier = threading.Barrier(2)
        outcomes: dict[str, str] = {}

        def decide(
            name: str,
            verb: str,
            its_store: ReviewStore,
            review_id: str = review_id,
            barrier: threading.Barrier = barrier,
            outcomes: dict[str, str] = outcomes,
        ) -> None:
            barrier.wait()
            try:
                outcomes[name] = getattr(its_store, verb)(review_id, reviewer=name).status
            except ReviewRefused as error:
                outcomes[name] = str(error)

        threads = [
            threading.Thread(target=decide, args=(LEE, "approve", opened())),
            threading.Thread(target=decide, args=(BOTH, "reject", opened())),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        review = store.get(review_id)
        winner, loser = (LEE, BOTH) if review.reviewer == LEE else (BOTH, LEE)
        assert outcomes[winner] == review.status
        assert outcomes[loser].startswith(f"already {review.status} by {winner!r}")


def test_a_note_that_is_no_text_is_refused(store: ReviewStore) -> None:
    review_id = store.hold(item())
    with pytest.raises(ReviewError, match="the note is not valid text"):
        store.approve(review_id, reviewer=LEE, note="\udcff")
    assert store.get(review_id).status == "pending"


# Retention


def test_an_item_ends_exactly_with_its_retention(store: ReviewStore, clock: Clock) -> None:
    review_id = store.hold(item())
    clock.forward(days=30, microseconds=-1)
    assert store.get(review_id).status == "pending"
    clock.forward(microseconds=1)
    with pytest.raises(ReviewNotFound):
        store.get(review_id)


def test_purge_deletes_what_expired_decided_or_not(store: ReviewStore, clock: Clock) -> None:
    store.hold(item())
    store.approve(store.hold(item()), reviewer=LEE)
    clock.forward(days=10)
    kept = store.hold(item())
    clock.forward(days=20)
    assert store.purge() == 2
    assert store.purge() == 0
    assert [review.id for review in store.list()] == [kept]


@pytest.mark.parametrize(
    ("operation", "deletes"),
    [("hold", True), ("approve", True), ("reject", True), ("list", False), ("get", False)],
)
def test_writing_purges_and_reading_deletes_nothing(
    store: ReviewStore, clock: Clock, path: Path, operation: str, deletes: bool
) -> None:
    old = store.hold(item())
    clock.forward(days=29)
    other = store.hold(item())
    clock.forward(days=1)
    match operation:
        case "hold":
            store.hold(item())
        case "list":
            assert [review.id for review in store.list()] == [other]
            assert store.list().expired == 1
        case "get":
            with pytest.raises(ReviewNotFound):
                store.get(old)
        case _:
            getattr(store, operation)(other, reviewer=LEE)
    with sqlite3.connect(path) as raw:
        (count,) = raw.execute(
            "SELECT count(*) FROM reviews WHERE created_at <= ?",
            (int(START.timestamp() * 1_000_000),),
        ).fetchone()
    raw.close()
    assert count == (0 if deletes else 1)


def test_expired_content_leaves_the_disk(store: ReviewStore, clock: Clock, path: Path) -> None:
    words = "a sentence nobody else would write " * 500
    store.hold(item(request={"q": words}))
    assert words[:35].encode() in path.read_bytes()
    clock.forward(days=30)
    store.purge()
    assert words[:35].encode() not in path.read_bytes()


def test_an_expired_answer_is_no_longer_released(store: ReviewStore, clock: Clock) -> None:
    review = store.approve(store.hold(item()), reviewer=LEE)
    clock.forward(days=29)
    assert review.released == MESSAGE
    clock.forward(days=1)
    assert review.released is None


def test_a_shortened_retention_counts_for_what_is_stored_a_longer_one_does_not(
    opened: Opener, clock: Clock
) -> None:
    review_id = opened(retain_days=30).hold(item())
    week, year = opened(retain_days=7), opened(retain_days=365)
    assert week.get(review_id).expires_at == START + timedelta(days=7)
    assert year.get(review_id).expires_at == START + timedelta(days=30)
    clock.forward(days=7)
    assert year.purge() == 0
    with pytest.raises(ReviewNotFound):
        week.get(review_id)
    assert week.purge() == 1


def test_what_another_app_left_behind_is_purged_on_its_own_date(
    opened: Opener, clock: Clock
) -> None:
    opened("gone", retain_days=20).hold(item(app="gone"))
    mine = opened(retain_days=1)
    clock.forward(days=19)
    assert mine.purge() == 0
    clock.forward(days=1)
    assert mine.purge() == 1


# The file


@posix
def test_file_and_folders_are_created_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "var" / "queue" / "reviews.db"
    old = os.umask(0)
    try:
        store = ReviewStore(configured(path), app="acme")
        store.hold(item())
        store.close()
    finally:
        os.umask(old)
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == mode_of(path.parent.parent) == 0o700
    assert list(path.parent.iterdir()) == [path]


@posix
def test_a_strict_umask_leaves_the_file_usable(path: Path) -> None:
    old = os.umask(0o777)
    try:
        store = ReviewStore(configured(path), app="acme")
    finally:
        os.umask(old)
    store.hold(item())
    store.close()
    assert mode_of(path) == 0o600


@posix
def test_the_journal_beside_the_file_is_private_too(store: ReviewStore, path: Path) -> None:
    store.hold(item())
    old = os.umask(0)
    try:
        raw = sqlite3.connect(path, isolation_level=None)
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("UPDATE reviews SET note = 'x'")
        assert mode_of(path.with_name("reviews.db-journal")) == 0o600
        raw.execute("ROLLBACK")
        raw.close()
    finally:
        os.umask(old)


@posix
def test_a_file_left_open_to_others_is_tightened(store: ReviewStore, path: Path) -> None:
    review_id = store.hold(item())
    path.chmod(0o644)
    store.get(review_id)
    assert mode_of(path) == 0o600


@posix
@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_files_beside_it_left_open_to_others_are_tightened(
    store: ReviewStore, path: Path, suffix: str
) -> None:
    beside = path.with_name(path.name + suffix)
    beside.touch()
    beside.chmod(0o666)
    store.list()
    assert not beside.exists() or mode_of(beside) == 0o600


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="needs root to chown")
def test_anothers_file_that_is_open_to_others_is_refused(store: ReviewStore, path: Path) -> None:
    path.chmod(0o644)
    os.chown(path, 65534, 65534)
    with pytest.raises(ReviewError, match="open to others"):
        store.hold(item())
    assert mode_of(path) == 0o644


@posix
@pytest.mark.parametrize("dangling", [False, True])
def test_a_symbolic_link_is_refused(tmp_path: Path, path: Path, dangling: bool) -> None:
    target = tmp_path / "elsewhere.db"
    if not dangling:
        ReviewStore(configured(target), app="acme").close()
    path.symlink_to(target)
    with pytest.raises(ReviewError, match=r"reviews\.db: is a symbolic link"):
        ReviewStore(configured(path), app="acme")
    assert target.exists() is not dangling


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match="is not a file"):
        ReviewStore(configured(tmp_path), app="acme")


def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ReviewError, match=r"file/sub/reviews\.db"):
        ReviewStore(configured(tmp_path / "file" / "sub" / "reviews.db"), app="acme")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
        "sqlite:///reviews.db?mode=memory",
        "sqlite:///file:reviews.db",
        "sqlite://host/reviews.db",
        "reviews.db",
        "",
        "sqlite:///a\0b",
    ],
)
def test_only_the_url_of_a_file_is_accepted(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ReviewSettings.model_construct(store=url, retain_days=30, reviewers=REVIEWERS)
    with pytest.raises(ReviewError, match="review store"):
        ReviewStore(settings, app="acme")
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_is_pinned_when_the_store_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = ReviewStore(configured(Path("var/r.db")), app="acme")
    monkeypatch.chdir("/")
    store.hold(item())
    store.close()
    assert store.place == str(tmp_path / "var" / "r.db")


@pytest.mark.parametrize(
    "name", ["with space.db", "100%25.db", "a#b.db", "\u00fcml\u00e4ut.db", "a;b&c.db"]
)
def test_any_file_name_is_taken_literally(tmp_path: Path, name: str) -> None:
    store = ReviewStore(configured(tmp_path / name), app="acme")
    store.hold(item())
    store.close()
    assert [found.name for found in tmp_path.iterdir()] == [name]


def test_opening_without_creating_needs_the_file(path: Path) -> None:
    with pytest.raises(ReviewError, match="no review store exists here"):
        ReviewStore(configured(path), app="acme", create=False)
    assert not path.exists()


def test_a_store_deleted_underneath_is_an_error_not_a_new_store(
    store: ReviewStore, path: Path
) -> None:
    path.unlink()
    for operation in (lambda: store.hold(item()), store.list, lambda: store.get("rev_x")):
        with pytest.raises(ReviewError, match="no review store exists here"):
            operation()
    path.touch()
    with pytest.raises(ReviewError, match="is empty"):
        store.hold(item())
    assert path.stat().st_size == 0


def test_a_connection_never_creates_the_file(store: ReviewStore, path: Path) -> None:
    path.unlink()
    with pytest.raises(sqlite3.OperationalError):
        store._database._connect()
    assert not path.exists()


def test_a_closed_store_refuses_use(store: ReviewStore) -> None:
    store.close()
    store.close()
    with pytest.raises(ReviewError, match="closed"):
        store.hold(item())


def test_many_threads_open_and_fill_one_new_store(path: Path) -> None:
    barrier = threading.Barrier(8)
    ids: list[str] = []

    def fill() -> None:
        barrier.wait()
        store = ReviewStore(configured(path), app="acme")
        ids.extend(store.hold(item()) for _ in range(5))
        store.close()

    threads = [threading.Thread(target=fill) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = ReviewStore(configured(path), app="acme")
    assert {review.id for review in store.list()} == set(ids)
    store.close()
    assert len(ids) == 40


# A file that is not, or no longer, a review store


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"this is a text file, and a rather long one at that " * 20, "is not a database"),
        (b"\0" * 4096, "is not a database"),
        (b"SQLite format 3\0" + b"\xff" * 4080, "is not a database|is damaged"),
    ],
    ids=["text", "zeroes", "header only"],
)
def test_a_file_that_is_no_database_is_refused_untouched(
    path: Path, content: bytes, said: str
) -> None:
    path.write_bytes(content)
    path.chmod(0o644)
    with pytest.raises(ReviewError, match=said) as caught:
        ReviewStore(configured(path), app="acme")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content
    assert mode_of(path) == 0o644


def test_another_programs_database_is_refused_untouched(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE customers (name)")
    raw.commit()
    raw.close()
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(ReviewError, match="is another program's database"):
        ReviewStore(configured(path), app="acme")
    assert path.read_bytes() == before
    assert mode_of(path) == 0o644


def test_a_newer_schema_is_refused(store: ReviewStore, path: Path) -> None:
    store.hold(item())
    altered(path, "PRAGMA user_version=2")
    with pytest.raises(ReviewError, match="written by a newer magistrate"):
        ReviewStore(configured(path), app="acme")
    with pytest.raises(ReviewError, match="written by a newer magistrate"):
        store.hold(item())


@pytest.mark.parametrize(
    ("column", "damage"),
    [
        ("request", "'{\"cut'"),
        ("message", "'[]'"),
        ("domains", "'7'"),
        ("created_at", "9000000000000000000"),
        ("expires_at", "'soon'"),
    ],
)
def test_a_damaged_record_is_named(
    store: ReviewStore, path: Path, column: str, damage: str
) -> None:
    review_id = store.hold(item())
    altered(path, f"UPDATE reviews SET {column} = {damage}")
    for attempt in (store.get, lambda id: store.approve(id, reviewer=LEE)):
        with pytest.raises(ReviewDamaged) as caught:
            attempt(review_id)
        assert str(caught.value) == f"{path}: the record of {review_id} is damaged ({column})"


def test_damaged_pages_are_an_error_with_the_path(store: ReviewStore, path: Path) -> None:
    for _ in range(50):
        store.hold(item(request={"q": "x" * 3000}))
    data = bytearray(path.read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(ReviewError) as caught:
        store.list()
    assert str(caught.value).startswith(f"{path}: ")


def test_no_error_carries_content(store: ReviewStore, path: Path) -> None:
    altered(path, "ALTER TABLE reviews RENAME COLUMN request TO gone")
    with pytest.raises(ReviewError) as caught:
        store.hold(item(request={"q": "secret words"}))
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.__cause__ is not None
    assert "secret words" not in f"{caught.value} {caught.value.__cause__}"


def altered(path: Path, statement: str) -> None:
    raw = sqlite3.connect(path)
    raw.execute(statement)
    raw.commit()
    raw.close()


# When nothing can be stored


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_locked_store_is_an_error_after_the_timeout(
    opened: Opener, path: Path, lock: str
) -> None:
    store = opened(busy_timeout_s=0.05)
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute(lock)
    with pytest.raises(ReviewError, match="is locked by another process"):
        store.hold(item())
    raw.execute("ROLLBACK")
    raw.close()
    assert store.list() == []
    store.hold(item())


def test_a_reader_that_never_ends_makes_hold_fail_without_a_trace(
    opened: Opener, path: Path
) -> None:
    store = opened(busy_timeout_s=0.05)
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("BEGIN")
    raw.execute("SELECT count(*) FROM reviews").fetchall()
    with pytest.raises(ReviewError, match="is locked by another process"):
        store.hold(item())
    raw.execute("ROLLBACK")
    raw.close()
    assert store.list() == []


def test_a_short_lock_is_waited_for(store: ReviewStore, path: Path) -> None:
    raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    raw.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, raw.execute, ["ROLLBACK"])
    release.start()
    store.hold(item())
    release.join()
    raw.close()


def test_the_store_waits_five_seconds_by_default() -> None:
    assert reviews.BUSY_TIMEOUT_S == 5.0


HOLD_ON_A_FULL_DISK = """
import resource, sys
from magistrate.reviews import HeldItem, ReviewError, ReviewStore
from magistrate.settings import ReviewSettings, Reviewer

settings = ReviewSettings(store=f"sqlite:///{sys.argv[1]}",
                          reviewers=(Reviewer(name="dr.lee", qualified_in=("healthcare",)),))
store = ReviewStore(settings, app="acme")
def item(size):
    return HeldItem(app="acme", domains=("healthcare",), request={"n": "x" * size},
                    message={}, decision={})
kept = store.hold(item(10))
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, resource.RLIM_INFINITY))
try:
    store.hold(item(8_000_000))
except ReviewError as error:
    print("refused:", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert [review.id for review in store.list()] == [kept]
store.hold(item(8_000_000))
"""


@posix
def test_no_room_on_the_disk_is_an_error_and_stores_nothing(path: Path) -> None:
    full = python(HOLD_ON_A_FULL_DISK, path)
    assert full.returncode == 0, full.stderr
    assert full.stdout.startswith(f"refused: {path}: ")


@posix
def test_a_read_only_store_can_be_read_and_holds_nothing(
    store: ReviewStore, opened: Opener, path: Path
) -> None:
    review_id = store.hold(item())
    path.chmod(0o400)
    if os.access(path, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert opened().get(review_id).message == MESSAGE
    with pytest.raises(ReviewError, match="is read-only"):
        store.hold(item())


# What it needs


def test_the_store_needs_no_sdk() -> None:
    code = "import sys, magistrate.reviews; print(any(m == 'anthropic' for m in sys.modules))"
    assert python(code).stdout.strip() == "False"
