"""The review queue gives the same guarantees in a file and on a server."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import create_engine, inspect, text

import command_line
from edges import CLAUSE, asking, edge
from gateways import served
from magistrate import Moderation
from magistrate.settings.schema import ReviewSettings
from magistrate.storage.migrations import BASE, HEAD, SCHEMA, migrate, version_of
from magistrate.storage.review_items import (
    HeldItem,
    ReviewError,
    ReviewNotFound,
    ReviewRefused,
)
from magistrate.storage.reviews import ReviewStore
from magistrate.testing import JudgeScript, Simulator, finds, when_judging
from magistrate.testing import text as says
from services import Cable, postgres_database

REVIEWERS = [
    {"name": "ada", "qualified_in": ["legal", "finance"]},
    {"name": "bob", "qualified_in": ["legal"]},
]
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/reviews.db"
        return
    with postgres_database() as url:
        yield url


@pytest.fixture
def server() -> Iterator[str]:
    with postgres_database() as url:
        yield url


def settings(address: str, days: int = 30) -> ReviewSettings:
    data = {"store": address, "retain_days": days, "reviewers": REVIEWERS}
    return ReviewSettings.model_validate(data)


_opened: list[ReviewStore] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def opened(address: str, app: str = "shop", **more: Any) -> ReviewStore:
    store = ReviewStore(settings(address, more.pop("days", 30)), app=app, **more)
    _opened.append(store)
    return store


def item(app: str = "shop", *domains: str, said: str = "an answer") -> HeldItem:
    request = {"messages": ["q \u0000 \ud800"]}
    message = {"content": [{"type": "text", "text": said}]}
    return HeldItem(app, domains or ("legal",), request, message, {"a": 1})


# --- the guarantees -------------------------------------------------------------------------------


def test_a_held_answer_comes_back_whole(address: str) -> None:
    store = opened(address)
    review_id = store.hold(item())
    found = opened(address).get(review_id)
    assert (found.status, found.domains, found.app) == ("pending", ("legal",), "shop")
    assert found.request == {"messages": ["q \u0000 \ud800"]}
    assert found.message == {"content": [{"type": "text", "text": "an answer"}]}
    assert found.decision == {"a": 1, "review_id": review_id}
    assert found.released is None
    assert [each.id for each in store.pending()] == [review_id]
    assert store.list("approved") == []


def test_each_is_decided_exactly_once(address: str) -> None:
    store = opened(address)
    review_id = store.hold(item())
    ready, results = threading.Barrier(8), list[str]()

    def decide(number: int) -> None:
        own = opened(address)
        ready.wait()
        try:
            found = (
                own.approve(review_id, reviewer="ada", note=f"by {number}")
                if number % 2
                else own.reject(review_id, reviewer="bob", note=f"by {number}")
            )
            results.append(f"{found.status} {found.note}")
        except ReviewRefused as error:
            results.append(str(error))

    threads = [threading.Thread(target=decide, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [each for each in results if not each.startswith("already")]
    assert (len(results), len(done)) == (8, 1)
    found = store.get(review_id)
    assert done == [f"{found.status} {found.note}"]
    assert (found.released is None) is (found.status == "rejected")


def test_an_edited_answer_is_released_and_the_held_one_kept(address: str) -> None:
    store = opened(address)
    review_id = store.hold(item(said="first"))
    edited = {"content": [{"type": "text", "text": "second"}]}
    store.approve(review_id, reviewer="ada", message=edited)
    found = store.get(review_id)
    assert found.released == edited
    assert "first" in json.dumps(found.original)


def test_only_who_is_listed_and_qualified_decides(address: str) -> None:
    store = opened(address)
    review_id = store.hold(item("shop", "legal", "finance"))
    for reviewer, said in (("bob", "not qualified in finance"), ("eve", "not listed")):
        with pytest.raises(ReviewRefused, match=said):
            store.approve(review_id, reviewer=reviewer)
    for note in ("a\0b", "\ud800"):
        with pytest.raises(ReviewError, match="the note"):
            store.reject(review_id, reviewer="ada", note=note)
    assert store.get(review_id).status == "pending"
    assert store.reject(review_id, reviewer="ada", note="é").note == "é"


def test_an_app_sees_only_its_own(address: str) -> None:
    shop, clinic = opened(address), opened(address, "clinic")
    review_id = shop.hold(item())
    assert clinic.list() == []
    for call in (clinic.get, lambda name: clinic.approve(name, reviewer="ada")):
        with pytest.raises(ReviewNotFound):
            call(review_id)
    with pytest.raises(ReviewError, match="belongs to app"):
        shop.hold(item("clinic"))
    for name in ("", "rev_1", "rev_" + "0" * 40, "' OR 1=1 --"):
        with pytest.raises(ReviewNotFound):
            shop.get(name)


def test_what_is_past_its_retention_is_neither_shown_nor_released(address: str) -> None:
    now = NOW
    store = opened(address, days=1, now=lambda: now)
    review_id = store.hold(item())
    store.approve(review_id, reviewer="ada")
    now = NOW + timedelta(days=1)
    with pytest.raises(ReviewNotFound):
        store.get(review_id)
    found = store.list()
    assert (list(found), found.expired) == ([], 1)


def test_a_clock_that_jumped_deletes_nothing(address: str) -> None:
    now = datetime.now(UTC)
    store = opened(address, days=1, now=lambda: now)
    review_id = store.hold(item())
    now += timedelta(days=400)
    store.hold(item())
    assert store.purge() == 0
    now -= timedelta(days=400)
    assert store.get(review_id).status == "pending"
    now += timedelta(days=400)
    assert store.purge(trust_clock=True) == 1


def test_a_closed_store_says_so(address: str) -> None:
    store = opened(address)
    store.check()
    store.close()
    store.close()
    with pytest.raises(ReviewError, match="closed"):
        store.hold(item())


# --- PostgreSQL -----------------------------------------------------------------------------------


def test_a_review_is_deleted_when_two_clocks_agree(server: str) -> None:
    old = datetime.now(UTC) - timedelta(days=2)
    now = old
    store = opened(server, days=1, now=lambda: now)
    store.hold(item())
    now = datetime.now(UTC)
    assert store.purge() == 1
    assert store.list() == []


def tables(address: str) -> set[str]:
    engine = create_engine(address.replace("postgresql://", "postgresql+psycopg://"))
    try:
        return set(inspect(engine).get_table_names(schema=SCHEMA))
    finally:
        engine.dispose()


def test_the_tables_go_up_and_down_and_up_again(server: str) -> None:
    engine = create_engine(server.replace("postgresql://", "postgresql+psycopg://"))
    for _ in range(2):
        with engine.begin() as connection:
            assert version_of(connection) is None
            migrate(connection, HEAD)
            assert version_of(connection) == HEAD
        assert "reviews" in tables(server)
        store = opened(server, create=False)
        review_id = store.hold(item())
        assert store.get(review_id).status == "pending"
        store.close()
        with engine.begin() as connection:
            migrate(connection, BASE)
        assert "reviews" not in tables(server)
    engine.dispose()


def test_a_migration_that_fails_changes_nothing(server: str) -> None:
    engine = create_engine(server.replace("postgresql://", "postgresql+psycopg://"))
    with pytest.raises(RuntimeError, match="half way"), engine.begin() as connection:
        migrate(connection, HEAD)
        raise RuntimeError("half way")
    assert tables(server) == set()
    engine.dispose()


def test_tables_of_another_version_are_not_touched(server: str) -> None:
    opened(server).close()
    engine = create_engine(server.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {SCHEMA}.alembic_version SET version_num = '9999'"))
    with pytest.raises(ReviewError, match=r"version 9999.* needs version 0001"):
        opened(server)
    with engine.begin() as connection:
        assert version_of(connection) == "9999"
    engine.dispose()


def test_without_tables_and_not_to_make_them_it_says_what_to_run(server: str) -> None:
    with pytest.raises(ReviewError, match=r"no tables.*magistrate db upgrade"):
        opened(server, create=False)


def _open_and_hold(address: str, results: Any) -> None:
    results.put(opened(address).hold(item()))


def test_processes_that_start_at_once_make_the_tables_once(server: str) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    running = [context.Process(target=_open_and_hold, args=(server, results)) for _ in range(4)]
    for each in running:
        each.start()
    ids = {results.get(timeout=60) for _ in running}
    for each in running:
        each.join()
    assert {review.id for review in opened(server).list()} == ids


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:s3cret@127.0.0.1:9/x",
        "postgresql://u:s3cret@127.0.0.1:5432/no_such_database",
        "postgresql://nobody:s3cret@no.such.host/x",
    ],
)
def test_no_message_holds_the_password(address: str) -> None:
    with pytest.raises(ReviewError) as caught:
        opened(address)
    said = str(caught.value)
    assert "PostgreSQL" in said
    assert "s3cret" not in said + repr(caught.value.__cause__) + repr(caught.value.__context__)


@contextmanager
def cabled(address: str) -> Iterator[tuple[Cable, str]]:
    """The same database behind a cable."""
    at = urlsplit(address)
    cable = Cable(at.hostname or "", at.port or 5432)
    user = f"{at.username}@" if at.username else ""
    try:
        yield cable, f"postgresql://{user}127.0.0.1:{cable.port}{at.path}"
    finally:
        cable.close()


def test_a_server_that_goes_and_comes_back_needs_no_restart(server: str) -> None:
    with cabled(server) as (cable, address):
        store = opened(address)
        review_id = store.hold(item())
        cable.cut()
        attempts: list[Callable[[], Any]] = [
            lambda: store.hold(item()),
            lambda: store.get(review_id),
            store.list,
            store.check,
            lambda: store.approve(review_id, reviewer="ada"),
        ]
        for attempt in attempts:
            with pytest.raises(ReviewError, match="PostgreSQL"):
                attempt()
        cable.mend()
        assert store.get(review_id).status == "pending"
        assert len(store.list()) == 1
        store.close()


def held(address: str) -> dict[str, Any]:
    return {
        "actions": {"privacy_identity": {"output": "hold"}},
        "review": {
            "store": address,
            "reviewers": [{"name": "ada", "qualified_in": ["privacy_identity"]}],
        },
    }


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_an_answer_that_cannot_be_stored_is_not_promised(server: str, flavour: str) -> None:
    sim = Simulator(says("bad words"), judge=JudgeScript(when_judging("bad", finds(CLAUSE))))
    with (
        cabled(server) as (cable, address),
        edge(flavour, sim, moderation=Moderation({"version": 1, **held(address)})) as at,
    ):
        cable.cut()
        got = at.ask("create", asking("hi"))
        assert "PostgreSQL" in str(got.error)
        assert "bad words" not in got.seen
        cable.mend()
        again = at.ask("create", asking("hi again")).moderation
        assert again is not None and again["review_id"]


def test_an_answer_held_by_one_gateway_is_decided_and_read_at_another(
    server: str, tmp_path: Path
) -> None:
    sim = Simulator(says("bad words"), judge=JudgeScript(when_judging("bad", finds(CLAUSE))))
    key = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        served(sim, tmp_path / "one", held(server)) as one,
        served(sim, tmp_path / "two", held(server)) as two,
        one.http(headers=key) as at_one,
        two.http(headers=key) as at_two,
    ):
        answer = at_one.post("/v1/messages", json=asking("hi")).json()
        page = f"/magistrate/reviews/{answer['moderation']['review_id']}"
        assert at_two.get(page).json()["status"] == "pending"
        store = two.gateway.apps.all[0].engine.reviews
        assert store is not None
        store.approve(answer["moderation"]["review_id"], reviewer="ada")
        found = at_one.get(page).json()
        assert found["status"] == "approved"
        assert "bad words" in json.dumps(found["message"])


def test_the_command_makes_says_and_removes(server: str, tmp_path: Path) -> None:
    file = tmp_path / "magistrate.yaml"
    file.write_text(json.dumps({"version": 1, **held(server)}))

    def db(*words: str) -> tuple[int, str]:
        done = command_line.run("db", *words, "--config", str(file))
        return done.returncode, done.stdout + done.stderr

    assert db("status")[0] == 1
    assert db("upgrade")[0] == 0
    code, said = db("status")
    assert code == 0
    assert HEAD in said
    assert db("upgrade")[0] == 0
    opened(server).hold(item())
    assert db("remove")[0] == 2
    assert "reviews" in tables(server)
    assert db("remove", "--yes")[0] == 0
    assert "reviews" not in tables(server)


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("sqlite:///r.db", "no PostgreSQL address"),
        ("postgresql://u:s3cret@127.0.0.1:9/x", "PostgreSQL 127.0.0.1:9/x"),
    ],
)
def test_the_command_says_what_is_wrong(store: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "magistrate.yaml"
    file.write_text(json.dumps({"version": 1, **held(store)}))
    done = command_line.run("db", "status", "--config", str(file))
    assert done.returncode == 2
    assert said in (done.stdout + done.stderr).replace("\n", " ")
    assert "s3cret" not in (done.stdout + done.stderr)
