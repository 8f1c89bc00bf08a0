"""Runs through Message Batches: what single calls would give, and no batch is paid for twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from test_eval_run import CLAUSE, LabelJudge, some

import command_line
from magistrate.config.diagnostics import SettingsError
from magistrate.evals import batch_run
from magistrate.evals.batch_run import run_in_batches
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.metrics.measures import measure
from magistrate.evals.plan import Plan
from magistrate.evals.report.words import overview
from magistrate.evals.run import Progress, run
from magistrate.evals.run_folder import RESULTS, Run
from magistrate.judging.claude import ClaudeJudge
from magistrate.judging.connection import asking_async
from magistrate.settings import Settings
from magistrate.testing import BatchProfile, JudgeScript, Simulator, finds, refuses, when_judging

JSON = dict[str, Any]
SCRIPT = JudgeScript(when_judging("BAD", finds(CLAUSE, severity="medium")))


class Killed(Exception):
    """The process ends here."""


class Provider:
    """`/v1/messages/batches` as documented: every entry answered as a single call would be.

    `kill` names the moment at which the caller dies: `create`, `created`, `poll`, `results`.
    """

    def __init__(self, judge: JudgeScript = SCRIPT, *, polls: int = 1) -> None:
        self.sim = Simulator(judge=judge)
        self.inner = anthropic.Anthropic(api_key="k", http_client=self.sim.http_client())
        self.batches: dict[str, list[JSON]] = {}
        self.left: dict[str, int] = {}
        self.polls = polls
        self.kill: str | None = None
        self.archived = False
        self.broken: dict[str, JSON] = {}  # a marker in an entry -> its result

    def client(self) -> anthropic.AsyncAnthropic:
        transport = httpx2.MockTransport(self)
        return anthropic.AsyncAnthropic(
            api_key="k", max_retries=0, http_client=httpx2.AsyncClient(transport=transport)
        )

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        parts = request.url.path.rstrip("/").split("/")
        if parts[-1] == "batches":
            if self.kill == "create":
                raise Killed
            name = f"msgbatch_{len(self.batches)}"
            self.batches[name] = json.loads(request.content)["requests"]
            self.left[name] = self.polls
            if self.kill == "created":
                raise Killed
            return httpx2.Response(200, json=self._batch(name))
        if parts[-1] == "results":
            if self.kill == "results":
                raise Killed
            lines = [self._line(entry) for entry in reversed(self.batches[parts[-2]])]
            body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
            return httpx2.Response(
                200, headers={"content-type": "application/x-jsonl"}, content=body
            )
        name = parts[-1]
        if self.kill == "poll":
            raise Killed
        self.left[name] -= 1
        return httpx2.Response(200, json=self._batch(name))

    def _batch(self, name: str) -> JSON:
        ended = self.left[name] < 0
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {
                "processing": 0,
                "succeeded": 0,
                "errored": 0,
                "canceled": 0,
                "expired": 0,
            },
            "created_at": "2026-11-22T00:00:00Z",
            "expires_at": "2026-11-23T00:00:00Z",
            "ended_at": "2026-11-22T01:00:00Z" if ended else None,
            "archived_at": "2026-12-22T00:00:00Z" if self.archived else None,
            "cancel_initiated_at": None,
            "results_url": None
            if self.archived
            else f"https://api.anthropic.com/v1/messages/batches/{name}/results",
        }

    def _line(self, entry: JSON) -> JSON:
        said = json.dumps(entry["params"])
        for marker, result in self.broken.items():
            if marker in said:
                return {"custom_id": entry["custom_id"], "result": result}
        raw = self.inner.post("/v1/messages", body=entry["params"], cast_to=httpx2.Response)
        return {
            "custom_id": entry["custom_id"],
            "result": {"type": "succeeded", "message": raw.json()},
        }

    @property
    def entries(self) -> Counter[str]:
        """How often each prompt was paid for: its subject and the rubric it was put to."""
        return Counter(
            json.dumps([e["params"]["system"][0]["text"], e["params"]["messages"][0]["content"][1]])
            for entries in self.batches.values()
            for e in entries
        )


@pytest.fixture(autouse=True)
def no_naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("anyio.sleep", sleep)
    return slept


def plan(cases: Dataset, **judge: Any) -> Plan:
    return Plan(cases, Settings.load({"judge": judge} if judge else {}), ClaudeJudge())


def silent(progress: Progress) -> None:
    pass


def comparable(folder: Path, *, cost: bool = False) -> dict[str, JSON]:
    found: dict[str, JSON] = {}
    for result in Run.read(folder).results:
        data = result.as_json()
        del data["latency_ms"]
        if not cost:
            del data["outcome"]["usage"]["cost_usd"], data["decision"]["usage"]["cost_usd"]
        found[result.case] = data
    return found


async def test_batches_give_the_results_that_single_calls_give(
    tmp_path: Path, no_naps: list[float]
) -> None:
    cases = some(20)
    provider = Provider(polls=2)
    assert await run_in_batches(plan(cases), tmp_path / "b", provider.client(), silent)
    sim = Simulator(judge=SCRIPT)
    client = anthropic.AsyncAnthropic(api_key="k", http_client=sim.async_http_client())
    await run(plan(cases), tmp_path / "c", asking_async(client), silent)
    assert comparable(tmp_path / "b") == comparable(tmp_path / "c")
    assert len(provider.batches) == 2, "one for the screens, one for what they suspect"
    assert no_naps.count(30.0) == 4
    assert Run.read(tmp_path / "b").complete


async def test_a_batch_costs_half(tmp_path: Path) -> None:
    cases = some(6)
    provider = Provider()
    await run_in_batches(plan(cases), tmp_path / "b", provider.client(), silent)
    sim = Simulator(judge=SCRIPT)
    client = anthropic.AsyncAnthropic(api_key="k", http_client=sim.async_http_client())
    await run(plan(cases), tmp_path / "c", asking_async(client), silent)
    by_batch = [r.outcome.usage.cost_usd for r in Run.read(tmp_path / "b").results]
    by_call = [r.outcome.usage.cost_usd for r in Run.read(tmp_path / "c").results]
    assert None not in by_call
    assert sum(map(float, filter(None, by_batch))) == pytest.approx(
        sum(map(float, filter(None, by_call))) / 2
    )


@pytest.mark.parametrize("moment", ["poll", "results"])
async def test_a_run_that_was_killed_takes_up_its_batches(moment: str, tmp_path: Path) -> None:
    cases = some(12)
    provider = Provider()
    provider.kill = moment
    with pytest.raises(Exception, match=r"Connection error|Killed"):
        await run_in_batches(plan(cases), tmp_path / "b", provider.client(), silent)
    assert len(provider.batches) == 1
    provider.kill = None
    await run_in_batches(plan(cases), tmp_path / "b", provider.client(), silent, resume=True)
    assert len(provider.batches) == 2
    assert set(provider.entries.values()) == {1}, "nothing was paid for twice"
    assert Run.read(tmp_path / "b").complete


async def test_a_case_rewritten_while_its_batch_is_open_gets_no_verdict_on_the_old_text(
    tmp_path: Path,
) -> None:
    cases = some(9)
    provider = Provider()
    provider.kill = "poll"
    with pytest.raises(Exception, match=r"Connection error|Killed"):
        await run_in_batches(plan(cases), tmp_path / "b", provider.client(), silent)
    asked = sum(provider.entries.values())
    provider.kill = None

    def rewritten(one: Case) -> Case:
        """Every third case violates: 0 and 3 no longer do, and 1 does now."""
        texts = {"made.0000": "harmless now", "made.0001": "BAD now", "made.0003": "fine now"}
        if one.id not in texts:
            return one
        return one.model_copy(update={"messages": ({"user": texts[one.id]},)})

    now = Dataset(tuple(Case.model_validate(rewritten(one).model_dump()) for one in cases))
    await run_in_batches(plan(now), tmp_path / "b", provider.client(), silent, resume=True)
    found = {
        result.case: bool(result.outcome.findings) for result in Run.read(tmp_path / "b").results
    }
    assert found == {one.id: "BAD" in one.text for one in now}
    screens = asked + 3  # only the three new texts
    assert sum(provider.entries.values()) == screens + sum(found.values())


async def test_how_long_a_verdict_takes_is_not_measured_in_a_batch(tmp_path: Path) -> None:
    await run_in_batches(plan(some(6)), tmp_path / "b", Provider().client(), silent)
    whole = Run.read(tmp_path / "b")
    assert {result.latency_ms for result in whole.results} == {None}
    # Older versions wrote 0, which no judgment takes.
    file = tmp_path / "b" / RESULTS
    file.write_text(file.read_text().replace('"latency_ms":null}\n', '"latency_ms":0.0}\n'))
    assert '"latency_ms":0.0' in file.read_text()
    assert Run.read(tmp_path / "b").results == whole.results
    numbers = measure(whole, draws=5)
    assert (numbers.latency.n, numbers.latency.p50) == (0, None)
    said = " ".join(each.text for each in overview(whole, numbers))
    assert "How long verdicts took was not measured; 1,000 judgments cost $" in said


async def test_a_run_killed_in_its_second_round_reads_the_first_again_and_asks_nothing_twice(
    tmp_path: Path,
) -> None:
    cases = some(12)
    provider = Provider()
    whole = await run_in_batches(plan(cases), tmp_path / "whole", provider.client(), silent)
    assert whole
    provider = Provider()
    real = provider.__call__

    def dies_in_round_two(request: httpx2.Request) -> httpx2.Response:
        if len(provider.batches) == 2 and not request.url.path.endswith("batches"):
            raise Killed
        return real(request)

    transport = httpx2.MockTransport(dies_in_round_two)
    client = anthropic.AsyncAnthropic(
        api_key="k", max_retries=0, http_client=httpx2.AsyncClient(transport=transport)
    )
    with pytest.raises(Exception, match=r"Connection error|Killed"):
        await run_in_batches(plan(cases), tmp_path / "b", client, silent)
    assert 0 < len(Run.read(tmp_path / "b").results) < 12
    await run_in_batches(plan(cases), tmp_path / "b", provider.client(), silent, resume=True)
    assert set(provider.entries.values()) == {1}
    assert comparable(tmp_path / "b", cost=True) == comparable(tmp_path / "whole", cost=True)


async def test_a_batch_of_unknown_id_is_not_made_again_behind_ones_back(tmp_path: Path) -> None:
    provider = Provider()
    provider.kill = "created"
    with pytest.raises(Exception, match=r"Connection error|Killed"):
        await run_in_batches(plan(some(3)), tmp_path / "b", provider.client(), silent)
    provider.kill = None
    with pytest.raises(SettingsError, match="its id is not known"):
        await run_in_batches(plan(some(3)), tmp_path / "b", provider.client(), silent, resume=True)
    (file,) = (tmp_path / "b" / "batches").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"id": "msgbatch_0"}))
    await run_in_batches(plan(some(3)), tmp_path / "b", provider.client(), silent, resume=True)
    assert set(provider.entries.values()) == {1}


ENTRY_ERROR = {
    "type": "errored",
    "error": {
        "type": "error",
        "request_id": "req_1",
        "error": {"type": "invalid_request_error", "message": "no"},
    },
}


@pytest.mark.parametrize(
    ("result", "ended"),
    [
        (ENTRY_ERROR, "unsupported"),
        ({"type": "expired"}, "timeout"),
        ({"type": "canceled"}, "timeout"),
    ],
)
async def test_an_entry_that_failed_is_a_result_of_its_own(
    result: JSON, ended: str, tmp_path: Path
) -> None:
    provider = Provider()
    provider.broken = {"number 4:": result}
    await run_in_batches(plan(some(6)), tmp_path / "b", provider.client(), silent)
    found = {r.case: r for r in Run.read(tmp_path / "b").results}
    assert found.pop("made.0004").ended == ended
    assert {r.ended for r in found.values()} == {"verdict"}
    provider.broken = {}
    again = provider.client()
    await run_in_batches(
        plan(some(6)), tmp_path / "b", again, silent, resume=True, retry_failed=True
    )
    assert {r.ended for r in Run.read(tmp_path / "b").results} == {"verdict"}


async def test_a_retry_that_was_killed_takes_up_its_batches_too(tmp_path: Path) -> None:
    cases, provider = some(6), Provider()
    provider.broken = {"number 4:": {"type": "expired"}, "number 5:": {"type": "expired"}}
    await run_in_batches(plan(cases), tmp_path / "b", provider.client(), silent)
    provider.broken = {}
    made = len(provider.batches)
    again: JSON = {"resume": True, "retry_failed": True}
    provider.kill = "poll"
    with pytest.raises(Exception, match=r"Connection error|Killed"):
        await run_in_batches(plan(cases), tmp_path / "b", provider.client(), silent, **again)
    provider.kill = None
    await run_in_batches(plan(cases), tmp_path / "b", provider.client(), silent, **again)
    assert len(provider.batches) == made + 1, "the retry has one batch, whatever happened"
    assert {r.ended for r in Run.read(tmp_path / "b").results} == {"verdict"}


def failing(
    provider: Provider, where: str, *statuses: int, headers: dict[str, str] | None = None
) -> anthropic.AsyncAnthropic:
    """The provider, whose next answers to such a request are errors of these statuses."""
    left = list(statuses)

    def answer(request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.rstrip("/")
        last = "made" if path.endswith("batches") else "results" if "results" in path else "poll"
        if last == where and left:
            error = {"type": "error", "error": {"type": "some_error", "message": "not now"}}
            return httpx2.Response(left.pop(0), json=error, headers=headers)
        return provider(request)

    return anthropic.AsyncAnthropic(
        api_key="k",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(answer)),
    )


@pytest.mark.parametrize("status", [400, 401, 413, 429, 529])
async def test_a_batch_that_the_api_did_not_take_can_be_made_again(
    status: int, tmp_path: Path
) -> None:
    provider = Provider()
    with pytest.raises(SettingsError, match=r"took no batch: .*not now.* --resume tries again"):
        client = failing(provider, "made", status)
        await run_in_batches(plan(some(6)), tmp_path / "b", client, silent)
    again = provider.client()
    assert await run_in_batches(plan(some(6)), tmp_path / "b", again, silent, resume=True)
    assert set(provider.entries.values()) == {1}


@pytest.mark.parametrize("status", [429, 529])
async def test_a_busy_api_is_left_alone_for_as_long_as_it_asks(
    status: int, tmp_path: Path, no_naps: list[float]
) -> None:
    provider = Provider()
    client = failing(provider, "made", status, status, headers={"retry-after": "41"})
    assert await run_in_batches(plan(some(6)), tmp_path / "b", client, silent)
    assert no_naps[:2] == [41.0, 41.0]
    assert set(provider.entries.values()) == {1}


async def test_an_api_that_asks_for_too_long_is_not_waited_for(tmp_path: Path) -> None:
    client = failing(Provider(), "made", 429, headers={"retry-after": "100000"})
    with pytest.raises(SettingsError, match="took no batch"):
        await run_in_batches(plan(some(6)), tmp_path / "b", client, silent)


async def test_whether_a_broken_server_made_a_batch_is_not_known(tmp_path: Path) -> None:
    provider = Provider()
    with pytest.raises(SettingsError, match="id is not known"):
        client = failing(provider, "made", 500)
        await run_in_batches(plan(some(3)), tmp_path / "b", client, silent)
    with pytest.raises(SettingsError, match="id is not known"):
        again = provider.client()
        await run_in_batches(plan(some(3)), tmp_path / "b", again, silent, resume=True)


@pytest.mark.parametrize("where", ["poll", "results"])
async def test_a_day_of_waiting_is_not_lost_to_a_few_errors(where: str, tmp_path: Path) -> None:
    provider = Provider()
    client = failing(provider, where, 500, 529, 429)
    assert await run_in_batches(plan(some(6)), tmp_path / "b", client, silent)
    assert set(provider.entries.values()) == {1}


async def test_results_that_break_off_are_read_again(tmp_path: Path) -> None:
    provider = Provider()

    async def half(body: bytes) -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        raise httpx2.ReadError("gone")

    def breaks_off(request: httpx2.Request) -> httpx2.Response:
        answer = provider(request)
        if "results" not in request.url.path:
            return answer
        return httpx2.Response(200, headers=answer.headers, content=half(answer.content))

    client = anthropic.AsyncAnthropic(
        api_key="k",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(breaks_off)),
    )
    with pytest.raises(SettingsError, match="cannot be read: gone"):
        await run_in_batches(plan(some(6)), tmp_path / "b", client, silent)
    again = provider.client()
    assert await run_in_batches(plan(some(6)), tmp_path / "b", again, silent, resume=True)
    assert set(provider.entries.values()) == {1}


async def test_a_batch_that_is_gone_is_named_with_a_way_on(tmp_path: Path) -> None:
    provider = Provider()
    with pytest.raises(SettingsError, match=r"msgbatch_0 cannot be read: .*delete the file"):
        client = failing(provider, "poll", 404)
        await run_in_batches(plan(some(6)), tmp_path / "b", client, silent)
    provider.archived = True
    with pytest.raises(SettingsError, match=r"msgbatch_0 cannot be read: .*29 days"):
        again = provider.client()
        await run_in_batches(plan(some(6)), tmp_path / "b", again, silent, resume=True)
    provider.archived = False
    for file in (tmp_path / "b" / "batches").iterdir():
        file.unlink()
    again = provider.client()
    assert await run_in_batches(plan(some(6)), tmp_path / "b", again, silent, resume=True)


@pytest.mark.parametrize("result", [{"type": "expired"}, {"type": "canceled"}])
async def test_a_whole_batch_that_came_to_nothing_can_be_asked_again(
    result: JSON, tmp_path: Path
) -> None:
    provider = Provider()
    provider.broken = {"Case number": result}
    assert await run_in_batches(plan(some(6)), tmp_path / "b", provider.client(), silent)
    found = Run.read(tmp_path / "b").results
    assert {r.ended for r in found} == {"timeout"}
    assert {r.action for r in found} == {"unavailable"}
    provider.broken = {}
    again: JSON = {"resume": True, "retry_failed": True}
    await run_in_batches(plan(some(6)), tmp_path / "b", provider.client(), silent, **again)
    assert {r.ended for r in Run.read(tmp_path / "b").results} == {"verdict"}


async def test_what_the_model_refuses_goes_to_the_second_one_in_a_round_of_its_own(
    tmp_path: Path,
) -> None:
    script = JudgeScript(when_judging("number 3:", refuses("cyber")))
    provider = Provider(script)
    settings = {"strategy": "bundled", "second_model": "claude-sonnet-5-5"}
    await run_in_batches(plan(some(5), **settings), tmp_path / "b", provider.client(), silent)
    assert [len(entries) for entries in provider.batches.values()] == [5, 1]
    found = {r.case: r for r in Run.read(tmp_path / "b").results}
    assert found["made.0003"].action == "block"


async def test_a_round_is_cut_into_batches_the_api_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_run, "MOST_ENTRIES", 4)
    provider = Provider()
    await run_in_batches(plan(some(10)), tmp_path / "b", provider.client(), silent)
    assert [len(entries) for entries in provider.batches.values()] == [4, 4, 2, 4]
    assert Run.read(tmp_path / "b").complete


async def test_only_the_claude_judge_and_no_budget(tmp_path: Path) -> None:
    cases = some(2)
    client = Provider().client()
    with pytest.raises(SettingsError, match="only the Claude judge"):
        await run_in_batches(
            Plan(cases, Settings(), LabelJudge(cases)), tmp_path / "b", client, silent
        )
    with pytest.raises(SettingsError, match="budget"):
        budget = Plan(cases, Settings(), ClaudeJudge(), budget_usd=1.0)
        await run_in_batches(budget, tmp_path / "b", client, silent)
    assert not (tmp_path / "b" / RESULTS).exists()


async def test_the_simulator_serves_a_run_in_batches(tmp_path: Path, no_naps: list[float]) -> None:
    """What users test their own runs with gives the results of single calls."""
    cases = some(12)
    sim = Simulator(judge=SCRIPT, batches=BatchProfile(polls=2))
    client = anthropic.AsyncAnthropic(api_key="k", http_client=sim.async_http_client())
    assert await run_in_batches(plan(cases), tmp_path / "b", client, silent)
    await run(plan(cases), tmp_path / "c", asking_async(client), silent)
    assert comparable(tmp_path / "b") == comparable(tmp_path / "c")
    assert no_naps.count(30.0) == 4
    assert sim.problems == []


def test_the_command_runs_in_batches_on_a_simulated_port(tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    lines = (
        json.dumps(case.model_dump(mode="json", exclude_defaults=True)) for case in some(6).cases
    )
    cases.write_text("\n".join(lines) + "\n", "utf-8")
    sim = Simulator(judge=SCRIPT)
    with sim.serve() as url:
        ended = command_line.run(
            *(
                "eval",
                "run",
                str(cases),
                "--via",
                "batches",
                "--out",
                str(tmp_path / "r"),
                "--json",
            ),
            url=url,
            cwd=tmp_path,
        )
    assert ended.returncode == 0, ended.stderr
    assert Run.read(tmp_path / "r").complete
    assert {each.path.split("/")[3] for each in sim.requests} == {"batches"}
