"""Every state store gives the same guarantees; what is shared holds nothing that can be read."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from edges import CLAUSE, Edge, asking, both, edge
from gateways import served
from magistrate import Moderation
from magistrate.core.decision_record import Decision, JudgeFailure
from magistrate.engine.engine import Engine
from magistrate.settings import DEFAULT_BLOCK_TEXT, Settings, SettingsError
from magistrate.storage.base import StateStore, StoreError
from magistrate.storage.memory import MemoryState
from magistrate.storage.redis import APPROVAL_S, BLOCK_S, RedisState
from magistrate.testing import (
    JudgeScript,
    LatencyProfile,
    ScriptedJudge,
    Simulator,
    finds,
    text,
    when_judging,
)
from magistrate.verdicts import Finding, HighRiskAnswer, JudgeInfo, Usage, Verdict
from magistrate.wire.parts import Uninspected
from services import own_redis, redis_url

KEY = b"a secret of the deployment"
BAD = "the bad words"


@pytest.fixture
def app() -> str:
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
def shared(app: str) -> Iterator[RedisState]:
    url = redis_url()
    yield RedisState(url, key=KEY, app=app)
    client = redis.Redis.from_url(url)
    for name in client.scan_iter(f"magistrate:{app}:*"):
        client.delete(name)


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> StateStore:
    if request.param == "memory":
        return MemoryState()
    found: RedisState = request.getfixturevalue("shared")
    return found


# Every field with a value that is not its default.
VERDICT = Verdict(
    JudgeInfo("claude", "model", "prompt"),
    (Finding(CLAUSE, "certain", "high", "output", "content[0]", "quoted", "because"),),
    (HighRiskAnswer("legal", "advice", True),),
    True,
    Usage(1, 2, 3, 4, 5, 0.5),
    2,
    ("screen",),
    continues_declined=True,
)
DECISION = Decision(
    id="dec_1",
    action="hold",
    disclosure="added",
    stage="output",
    policy="p@1",
    policy_hash="h",
    settings_hash="s",
    app="shop",
    judge=JudgeInfo("claude", "model", "prompt"),
    findings=VERDICT.findings,
    review_id="rev_1",
    domains=("legal",),
    uninspected=(Uninspected("messages[0]", "thread"),),
    judge_failures=(JudgeFailure("input", "timeout", "late"),),
    upstream="completed",
    usage=Usage(1, 2, 3, 4, 5, None),
    latency_ms=1.5,
    shadow="block",
    platform={"stop": 1},
    continues_blocked="dec_0",
)


# --- the guarantees -------------------------------------------------------------------------------


def test_approvals_are_known_by_the_decision_they_follow_from(store: StateStore) -> None:
    assert store.known([]) == {}
    store.remember(["allowed a", "blocked b"], "dec_1")
    store.remember(["allowed a"], "dec_2")
    store.remember([], "dec_3")
    found = store.known(["allowed a", "blocked b", "allowed c", "allowed a"])
    assert found == {"allowed a": "dec_2", "blocked b": "dec_1"}


def test_a_verdict_comes_back_whole_and_free_of_charge(store: StateStore) -> None:
    assert store.verdict("k") is None
    store.keep_verdict("k", VERDICT)
    assert store.verdict("k") == VERDICT.without_usage()


def test_a_decision_comes_back_whole(store: StateStore) -> None:
    with pytest.raises(KeyError):
        store.decision("dec_1")
    store.keep_decision(DECISION)
    assert store.decision("dec_1") == DECISION
    for name in Decision.__dataclass_fields__:
        assert getattr(DECISION, name) not in (None, (), ""), f"{name} is tried with nothing"


def test_threads_and_batches_come_back_whole(store: StateStore) -> None:
    said = {"messages": [{"role": "user", "content": "é\U0001f600 1e400"}], "n": 2**80}
    assert store.thread("msg_1") is None
    assert store.batch("b") is None
    store.keep_thread("msg_1", said)
    store.keep_batch("b", {"questions": {"a": said}, "omitted": {}})
    assert store.thread("msg_1") == said
    assert store.batch("b") == {"questions": {"a": said}, "omitted": {}}
    assert store.thread("b") is None


def test_a_store_survives_a_fork(store: StateStore) -> None:
    store.after_fork()
    store.remember(["allowed a"], "dec_1")
    assert store.known(["allowed a"]) == {"allowed a": "dec_1"}


# --- what a shared store holds --------------------------------------------------------------------


def everything(app: str) -> dict[bytes, bytes]:
    client = redis.Redis.from_url(redis_url())
    names = list(client.scan_iter(f"magistrate:{app}:*"))
    return {name: client.get(name) for name in names}  # type: ignore[misc]


def test_nothing_in_it_can_be_read_and_everything_ends(shared: RedisState, app: str) -> None:
    shared.remember(["allowed a", "blocked b", "floor c", "refused d", "setup e"], "dec_mark")
    shared.keep_verdict("k", VERDICT)
    shared.keep_decision(DECISION)
    shared.keep_thread("msg_1", {"messages": ["mark in a thread"]})
    shared.keep_batch("b", {"questions": "mark in a batch"})
    found = everything(app)
    assert len(found) == 9
    for value in found.values():
        for word in (b"mark", b"quoted", b"because", b"certain", b"hold", CLAUSE.encode()):
            assert word not in value
    client = redis.Redis.from_url(redis_url())
    lasts = {name.decode().split(":")[-1]: client.ttl(name) for name in found}
    for key in ("blocked b", "floor c", "refused d"):
        assert BLOCK_S - 60 < lasts[key] <= BLOCK_S
    for key in ("allowed a", "setup e"):
        assert APPROVAL_S - 60 < lasts[key] <= APPROVAL_S
    assert all(int(seconds) > 0 for seconds in lasts.values())


def test_who_can_write_to_it_cannot_make_up_an_approval(shared: RedisState, app: str) -> None:
    shared.remember(["allowed a"], "dec_1")
    shared.keep_verdict("k", VERDICT)
    client = redis.Redis.from_url(redis_url())
    sealed = client.get(f"magistrate:{app}:approval:allowed a")
    forged = {
        f"magistrate:{app}:approval:allowed moved": sealed,
        f"magistrate:{app}:approval:allowed clear": b"dec_1",
        f"magistrate:{app}:approval:allowed empty": b"",
        f"magistrate:{app}:approval:allowed cut": bytes(sealed)[:-1],  # type: ignore[arg-type]
        f"magistrate:{app}:verdict:made": json.dumps({"findings": []}).encode(),
        f"magistrate:{app}:decision:dec_9": sealed,
        f"magistrate:{app}:thread:msg_9": sealed,
    }
    for name, value in forged.items():
        client.set(name, value)  # type: ignore[arg-type]
    keys = [f"allowed {word}" for word in ("a", "moved", "clear", "empty", "cut")]
    assert shared.known(keys) == {"allowed a": "dec_1"}
    assert shared.verdict("made") is None
    assert shared.thread("msg_9") is None
    with pytest.raises(KeyError):
        shared.decision("dec_9")


def test_another_secret_and_another_app_read_nothing(shared: RedisState, app: str) -> None:
    shared.remember(["allowed a"], "dec_1")
    shared.keep_decision(DECISION)
    for other in (
        RedisState(redis_url(), key=b"another", app=app),
        RedisState(redis_url(), key=KEY, app=app + "2"),
    ):
        assert other.known(["allowed a"]) == {}
        with pytest.raises(KeyError):
            other.decision("dec_1")


def test_a_server_that_evicts_is_refused(tmp_path: Path) -> None:
    with own_redis(tmp_path, "--maxmemory-policy", "allkeys-lru") as server:
        state = RedisState(server.url, key=KEY, app="a")
        with pytest.raises(StoreError, match="noeviction"):
            state.known(["allowed a"])


def test_a_full_server_fails_and_forgets_nothing(tmp_path: Path) -> None:
    with own_redis(tmp_path, "--maxmemory", "3mb") as server:
        state = RedisState(server.url, key=KEY, app="a")
        state.remember(["blocked a"], "dec_1")
        with pytest.raises(StoreError, match="Redis"):
            for number in range(2000):
                state.keep_thread(f"msg_{number}", {"text": "x" * 10_000})
        assert state.known(["blocked a"]) == {"blocked a": "dec_1"}


def test_an_error_names_the_store_and_no_password(tmp_path: Path) -> None:
    state = RedisState("redis://:s3cret@127.0.0.1:9/0", key=KEY, app="a")
    with pytest.raises(StoreError) as caught:
        state.known(["allowed a"])
    assert "Redis" in str(caught.value)
    assert "s3cret" not in str(caught.value) + repr(caught.value.__cause__)


def test_a_claim_is_one_callers_until_it_ends(shared: RedisState) -> None:
    first = shared.claim("k", 0.3)
    assert first
    assert shared.claim("k", 5.0) is None
    time.sleep(0.4)
    second = shared.claim("k", 5.0)
    assert second
    shared.release("k", first)  # too late: it is another's now
    assert shared.claim("k", 5.0) is None
    shared.release("k", second)
    assert shared.claim("k", 5.0)


# --- the settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["redis", "redis://", "http://x", "", 7, "memory://", " memory"])
def test_a_wrong_address_is_refused(state: Any) -> None:
    with pytest.raises(SettingsError, match=r"state: .*(redis://|memory|text)"):
        Settings.load({"version": 1, "state": state})


def test_shared_state_needs_a_shared_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAGISTRATE_KEY", raising=False)
    settings = Settings.load({"version": 1, "state": "redis://127.0.0.1:6379/0"})
    with pytest.raises(SettingsError, match="MAGISTRATE_KEY"):
        Engine(settings, ScriptedJudge())


def test_where_state_is_kept_changes_no_decision() -> None:
    one, two = ({"version": 1}, {"version": 1, "state": "redis://127.0.0.1/0"})
    assert Settings.load(one).hash == Settings.load(two).hash


# --- two processes --------------------------------------------------------------------------------


@pytest.fixture
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGISTRATE_KEY", KEY.decode())


@contextmanager
def replicas(
    flavour: str, sim: Simulator, app: str, **settings: Any
) -> Iterator[tuple[Edge, Edge]]:
    """Two clients that share nothing but a server, as two processes do."""
    profile = {"name": app, "audience": "internal", "interface": "api"}
    given = {"state": redis_url(), "app": profile, **settings}
    with edge(flavour, sim, settings=given) as one, edge(flavour, sim, settings=given) as two:
        yield one, two


@both
@pytest.mark.usefixtures("_secret", "shared")
def test_a_turn_that_one_allowed_is_context_for_the_other(flavour: str, app: str) -> None:
    sim = Simulator(text("Good day."), judge=JudgeScript())
    with replicas(flavour, sim, app) as (one, two):
        got = one.ask("create", asking("first question"))
        earlier = len(sim.judge_requests)
        two.ask("create", asking("first question", "Good day.", "second question"))
        later = [json.dumps(r.body) for r in sim.judge_requests[earlier:]]
        assert any("second question" in said for said in later)
        from magistrate.testing.prompt_parser import parse_prompt

        for request in sim.judge_requests[earlier:]:
            prompt = parse_prompt(request.body or {})
            assert prompt is not None
            assert "first question" not in {p.text for p in prompt.parts if p.judged}
        decision = got.moderation
        assert decision is not None
        assert two.moderation.decision(decision["id"]).action == "allow"


@both
@pytest.mark.usefixtures("_secret", "shared")
def test_what_one_declined_the_other_never_sends(flavour: str, app: str) -> None:
    sim = Simulator(text("Good day."), judge=JudgeScript(when_judging(BAD, finds(CLAUSE))))
    with replicas(flavour, sim, app, input_check="before") as (one, two):
        refused = one.ask("create", asking(f"say {BAD}"))
        assert refused.text == DEFAULT_BLOCK_TEXT
        got = two.ask("create", asking(f"say {BAD}", DEFAULT_BLOCK_TEXT, "What is the time?"))
        assert got.text == "Good day."
        (sent,) = sim.api_requests
        assert BAD not in json.dumps(sent.body)


@pytest.mark.usefixtures("_secret", "shared")
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_equal_questions_at_once_cost_one_judge_call(kind: str, app: str) -> None:
    sim = Simulator(
        text("Good day."), judge=JudgeScript(), judge_profile=LatencyProfile(first_byte_s=0.5)
    )
    judge = {"strategy": "bundled"}
    with replicas(kind, sim, app, input_check="before", judge=judge) as (one, two):
        results: list[Any] = []

        def ask(at: Edge) -> None:
            results.append(at.ask("create", asking("the same question")))

        threads = [threading.Thread(target=ask, args=(at,)) for at in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [got.text for got in results] == ["Good day."] * 2
        inputs = [r for r in sim.judge_requests if "this input" in json.dumps(r.body)]
        assert len(inputs) == 1


@pytest.mark.usefixtures("_secret", "shared")
def test_a_question_whose_judge_died_is_judged_by_another(app: str) -> None:
    sim = Simulator(text("Good day."), judge=JudgeScript())
    judge = {"strategy": "bundled", "deadline_s": 1.5}
    with replicas("sync", sim, app, judge=judge) as (one, _):
        state = one.moderation.engine.state
        claim, died = type(state).claim, set[str]()

        def dead(self: Any, key: str, lifetime_s: float) -> str | None:
            """As if a process that has died had claimed every question for 300 ms."""
            if key not in died:
                died.add(key)
                claim(self, key, 0.3)
            return claim(self, key, lifetime_s)

        type(state).claim = dead  # type: ignore[method-assign]
        try:
            began = time.monotonic()
            assert one.ask("create", asking("hello")).text == "Good day."
            assert died
            assert time.monotonic() - began >= 0.25
        finally:
            type(state).claim = claim  # type: ignore[method-assign]


# --- a server that goes away ----------------------------------------------------------------------


def fails_closed(ask: Callable[[], Any]) -> None:
    got = ask()
    assert got.error is not None
    assert "Redis" in str(got.error)
    assert "secret answer" not in got.seen


@both
@pytest.mark.usefixtures("_secret")
@pytest.mark.parametrize("surface", ["create", "stream"])
def test_without_its_server_nothing_is_released_and_it_comes_back(
    surface: str, flavour: str, tmp_path: Path
) -> None:
    sim = Simulator(text("secret answer"), judge=JudgeScript())
    with own_redis(tmp_path) as server:
        settings = {"state": server.url, "input_check": "before"}
        moderation = Moderation({"version": 1, **settings})
        with edge(flavour, sim, moderation=moderation) as at:
            assert at.ask(surface, asking("one")).text == "secret answer"
            server.stop()
            sent = len(sim.api_requests)
            fails_closed(lambda: at.ask(surface, asking("two")))
            assert len(sim.api_requests) == sent
            assert at.moderation.engine.not_ready()
            server.start()
            assert at.ask(surface, asking("three")).text == "secret answer"
            assert at.moderation.engine.not_ready() == []


@pytest.mark.usefixtures("_secret")
def test_a_gateway_without_its_server_says_so_and_comes_back(tmp_path: Path) -> None:
    sim = Simulator(text("secret answer"), judge=JudgeScript(when_judging(BAD, finds(CLAUSE))))
    key = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    with own_redis(tmp_path) as server:
        settings = {"state": server.url, "input_check": "before"}
        with served(sim, tmp_path, settings) as gateway, gateway.http(headers=key) as http:
            refused = http.post("/v1/messages", json=asking(f"say {BAD}"))
            assert refused.json()["stop_reason"] == "refusal"
            server.stop()
            for stream in (False, True):
                answer = http.post("/v1/messages", json=asking("two", stream=stream))
                assert answer.status_code == 529
                assert "Redis" in answer.json()["error"]["message"]
            assert http.get("/readyz").status_code == 503
            server.start()
            assert http.get("/readyz").status_code == 200
            # What was promised is still there: the declined turn is not sent.
            again = asking(f"say {BAD}", DEFAULT_BLOCK_TEXT, "What is the time?")
            assert http.post("/v1/messages", json=again).status_code == 200
            assert all(BAD not in json.dumps(r.body) for r in sim.api_requests)


@pytest.mark.usefixtures("_secret")
def test_a_server_that_goes_in_the_middle_releases_nothing_unjudged(tmp_path: Path) -> None:
    """It dies after the request was judged: the answer is an outage, and on record as one."""
    with own_redis(tmp_path) as server:

        def dying(subject: Any) -> Verdict:
            if subject.stage == "output":
                server.stop()
            return ScriptedJudge.verdict()

        sim = Simulator(text("secret answer"))
        moderation = Moderation({"version": 1, "state": server.url}, judge=ScriptedJudge(dying))
        with edge("sync", sim, moderation=moderation) as at:
            got = at.ask("create", asking("hello"))
            assert "Redis" in str(got.error)
            assert "secret answer" not in got.seen
