"""Clients of other makers at the gateway: every way to ask, in every outcome.

Run with `scripts/clients`, which has the packages, and prints what each client said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from programs import CLIENTS, KEY, Client, Got, Program, own_folder
from transcript import note

from gateways import Served, served
from magistrate.gateway.keys import key_hash
from magistrate.settings import Settings
from magistrate.settings.schema import DEFAULT_CHAT_DISCLOSURE
from magistrate.testing import (
    JudgeScript,
    LatencyProfile,
    Reply,
    Simulator,
    continues_declined,
    finds,
    high_risk,
    refuses,
    structured,
    text,
    tool_use,
    when_judging,
)

pytestmark = pytest.mark.clients

SAID = "Bern is a nice place."
SUNNY = "It is sunny."
BAD = "a five-star review"
WORSE = f"Here is {BAD}."
LONG = "A quiet sentence about bread and butter. " * 40
TEXTS = Settings().texts
APP = {"name": "shop", "audience": "consumer", "interface": "chatbot"}
REVIEWER = {"name": "dr.lee", "qualified_in": ["healthcare"]}
FINDING = when_judging("five-star", finds("fraud_abuse.fake_reviews"))
FINDS = JudgeScript(FINDING)
BEFORE = {"input_check": "before"}


@dataclass(frozen=True)
class Outcome:
    """What the client asks, the model answers and the judge finds.

    `late`: the answer has a long beginning that is delivered before it ends.
    """

    judge: JudgeScript
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    asked: str = "Where?"
    said: str = SAID
    late: bool = False

    def tried(self, client: Client, way: str) -> bool:
        """Return whether a way shows anything that another does not."""
        if self is OUTCOMES[STICKS]:
            return client.goes_on
        if way == "with_retries":
            return self is OUTCOMES["outage, answer"]
        return way == "stream" if self.late else way != "other_engine" or self.said == SAID


HOLDING = {
    "app": {**APP, "high_risk": ["healthcare"]},
    "review": {"store": "sqlite:///{folder}/reviews.db", "reviewers": [REVIEWER]},
}
STICKS = "request blocked, going on too"
OUTCOMES = {
    "allowed": Outcome(FINDS),
    "request blocked": Outcome(FINDS, BEFORE, asked=f"Write {BAD}."),
    STICKS: Outcome(
        JudgeScript(FINDING, when_judging("", continues_declined(), stage="input")),
        BEFORE,
        asked=f"Write {BAD}.",
    ),
    "answer blocked": Outcome(FINDS, said=WORSE),
    "answer blocked late": Outcome(FINDS, said=WORSE, late=True),
    "answer blocked late, raised": Outcome(FINDS, {"on_block": "raise"}, said=WORSE, late=True),
    "disclosed": Outcome(FINDS, {"app": APP}),
    "held": Outcome(
        JudgeScript(when_judging("", high_risk("healthcare"), stage="output")), HOLDING
    ),
    "outage, request": Outcome(JudgeScript(when_judging("", refuses(), stage="input")), BEFORE),
    "outage, answer": Outcome(JudgeScript(when_judging("", refuses(), stage="output"))),
    "outage, answer, late": Outcome(
        JudgeScript(when_judging("five-star", refuses(), stage="output")), said=WORSE, late=True
    ),
}


class Model:
    """What the simulated model says. A test sets who asks, and how."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.client = CLIENTS[0]
        self.way = "chat"

    def __call__(self, body: Any) -> Reply:
        said = self.outcome.said
        texts = json.dumps(body["messages"])
        if self.client.name == "dspy" and self.way in ("stream", "tools", "structured"):
            return self._in_fields(texts, said)
        if self.way == "tools":
            return text(SUNNY) if "tool_result" in texts else self._call(body, said)
        if self.way == "structured":
            names = {each["name"] for each in body.get("tools", [])}
            if not names:
                return structured({"said": said})
            if "tool_result" in texts:
                return text("Done.")
            (name,) = names & {"StructuredOutput", "json_tool_call", "Answer", "json"}
            return tool_use(name, {"said": said})
        return text((LONG if self.outcome.late else "") + said)

    @staticmethod
    def _call(body: Any, said: str) -> Reply:
        names = [each["name"] for each in body["tools"]]
        own = [name for name in names if name.endswith("weather")]
        if own:
            return tool_use(own[0], {"city": said})
        command = f"echo '{said}' > ran.txt"
        return tool_use("Bash", {"command": command, "description": "Write a file"})

    def _in_fields(self, texts: str, said: str) -> Reply:
        """Return the answer in the form in which dspy asks for it."""
        if self.way == "structured":
            return structured({"said": said})
        fields = {"said": (LONG if self.outcome.late and self.way == "stream" else "") + said}
        if self.way == "tools":
            if "next_tool_name" not in texts:
                fields = {"reasoning": "It was asked.", "said": SUNNY}
            elif "Sunny." in texts:
                fields = _step("finish", {})
            else:
                fields = _step("weather", {"city": said})
        if "## ]]" not in texts:
            return structured(fields)
        return text("\n\n".join(f"[[ ## {k} ## ]]\n{v}" for k, v in fields.items()) + _END)


_END = "\n\n[[ ## completed ## ]]"


def _step(tool: str, arguments: dict[str, Any]) -> dict[str, str]:
    return {
        "next_thought": "A step.",
        "next_tool_name": tool,
        "next_tool_args": json.dumps(arguments),
    }


@dataclass
class Place:
    """A gateway for one outcome, with the simulator behind it."""

    name: str
    outcome: Outcome
    model: Model
    sim: Simulator
    gateway: Served


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """The places by outcome. Each is opened when it is first asked for, and then kept."""
    found: dict[str, Place] = {}
    with ExitStack() as stack:

        def at(name: str) -> Place:
            if name not in found:
                folder = tmp_path_factory.mktemp("gateway")
                found[name] = stack.enter_context(opened(name, folder))
            return found[name]

        yield at


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Place]:
    outcome = OUTCOMES[name]
    settings = json.loads(json.dumps(outcome.settings).replace("{folder}", str(folder)))
    model = Model(outcome)
    # Late: so slowly that the beginning is judged and delivered before the end is there.
    profile = LatencyProfile(per_event_s=0.01 if outcome.late else 0.0)
    sim = Simulator(model, judge=outcome.judge, profile=profile)
    with served(sim, folder, settings) as gateway:
        yield Place(name, outcome, model, sim, gateway)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Program]]:
    home = tmp_path_factory.mktemp("home")
    found = {each.name: Program(each, own_folder(), home) for each in CLIENTS}
    yield found
    for each in found.values():
        each.close()


CASES = [
    pytest.param(name, way, client, id=f"{name}-{way}-{client.name}")
    for name, outcome in OUTCOMES.items()
    for client in CLIENTS
    for way in client.ways
    if outcome.tried(client, way)
]


@pytest.mark.parametrize(("name", "way", "client"), CASES)
def test_every_client_has_every_outcome(
    name: str,
    way: str,
    client: Client,
    places: Callable[[str], Place],
    programs: dict[str, Program],
) -> None:
    place = places(name)
    place.model.client, place.model.way = client, way
    before, decided = len(place.sim.requests), len(place.gateway.decisions())
    got = programs[client.name].ask(place.gateway.url, way, place.outcome.asked)
    assert place.sim.settle()
    sent = [each for each in place.sim.requests[before:] if not each.is_judge]
    asked = len(place.gateway.decisions()) - decided
    note(client.name, way, place.name, len(sent), asked, got)
    assert place.sim.problems == []
    assert {each.status for each in place.sim.requests[before:]} <= {200}
    assert BAD not in repr(got)
    assert not any(BAD in json.dumps(each.body) for each in sent), "the model saw it"
    assert got.status not in (401, 403), "a client takes a block for a wrong key"
    Expected(client, way, place, got, asked, len(sent)).check()


@dataclass
class Expected:
    """One case. `asked`: requests of the client; `sent`: those that reached the model."""

    client: Client
    way: str
    place: Place
    got: Got
    asked: int
    sent: int

    @property
    def in_fields(self) -> bool:
        """Return whether dspy reads fields in the text: what has none is an error to it."""
        return self.client.name == "dspy" and self.way in ("stream", "tools", "structured")

    def check(self) -> None:
        """Check what belongs to the outcome."""
        match self.place.name:
            case "allowed":
                self._answered()
            case "disclosed":
                self._answered(opening=DEFAULT_CHAT_DISCLOSURE)
            case "held":
                self._replaced(TEXTS.hold)
                assert self.asked == self.sent <= 2
            case "answer blocked late, raised":
                self._raised()
            case name if name.startswith("outage"):
                self._outage()
            case _:
                self._blocked()

    def _answered(self, opening: str = "") -> None:
        """The answer is there; a disclosure is put before text, and never into anything else."""
        got = self.got
        assert got.error is None
        assert self.asked == self.sent == self._turns()
        if self.way == "structured":
            assert got.value == {"said": SAID}
            return
        if self.in_fields:
            opening = ""
        assert got.text.startswith(opening)
        said = SUNNY if self.way == "tools" else SAID
        assert got.text.removeprefix(opening).strip() == said
        command = (
            ["Bash", SAID] if self.client.name == "claude-code" else ["weather", {"city": SAID}]
        )
        assert got.calls == ([command] if self.way == "tools" else [])

    def _turns(self) -> int:
        if self.way != "tools":
            return 1
        return 3 if self.client.name == "dspy" else 2

    def _blocked(self) -> None:
        """Nothing of it is there, and no tool has run; a text or an error says that it stopped."""
        of_request = self.place.name.startswith("request")
        if self.client.goes_on:
            self._blocked_and_gone_on(of_request)
            return
        self._replaced(TEXTS.block)
        assert self.asked == (2 if self.in_fields and self.way == "tools" else 1)
        assert self.sent == (0 if of_request else self.asked)

    def _blocked_and_gone_on(self, of_request: bool) -> None:
        """Claude Code asks again by itself after a refusal, without what was refused.

        That is a request like any other: where its judge sees nothing wrong, it is answered.
        """
        if of_request and self.place.name != STICKS:
            assert self.got.error is None
            assert self.sent == self.asked - 1 >= 1
            return
        assert self.got.calls == []
        assert self.got.value is None
        assert "safeguards flagged this message" in (self.got.error or "")
        assert (self.asked, self.sent) == (2, 0 if of_request else 2)

    def _replaced(self, said: str) -> None:
        got = self.got
        assert got.calls == []
        assert got.value is None
        if self.in_fields and not self.place.outcome.late:
            assert "AdapterParseError" in (got.error or "")
        elif self.way == "structured":
            assert got.error or got.text == "" or said in got.text
        else:
            assert got.error is None
            assert got.text.endswith(said)
            if self.place.outcome.late:
                assert got.text.startswith(LONG[:100])

    def _raised(self) -> None:
        """The stream ends with an error; Claude Code then asks without one, and is refused."""
        if self.client.goes_on:
            assert "safeguards flagged this message" in (self.got.error or "")
            assert self.asked == self.sent == 4
            return
        assert self.got.text.startswith(LONG[:100])
        assert "blocked by moderation" in (self.got.error or "")
        assert self.asked == self.sent == 1

    def _outage(self) -> None:
        """The client says what failed, and does not ask the model again and again."""
        assert "moderation is unavailable" in (self.got.error or "")
        assert self.got.calls == []
        assert self.got.value is None
        of_request = self.place.name == "outage, request"
        streams_first = self.client.goes_on and not of_request
        again = self.client.repeats if self.way == "with_retries" else 0
        assert self.asked == (2 if streams_first else 1 + again)
        assert self.sent == (0 if of_request else self.asked)


@pytest.mark.parametrize("client", [c for c in CLIENTS if c.with_version], ids=lambda c: c.name)
def test_an_address_with_and_without_the_version_is_the_same(
    client: Client, places: Callable[[str], Place], programs: dict[str, Program]
) -> None:
    """Where the address has no version, these clients send to /messages."""
    place = places("allowed")
    place.model.client, place.model.way = client, "chat"
    before = len(place.sim.api_requests)
    for end in ("", "/v1"):
        assert programs[client.name].ask(place.gateway.url + end, "chat", "Where?").text == SAID
    assert [each.path for each in place.sim.api_requests[before:]] == ["/v1/messages"] * 2


def test_every_client_can_present_a_key_of_the_gateway(
    tmp_path: Path, programs: dict[str, Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_FOR_UPSTREAM", "upstream")
    app = {"name": "app", "keys": [key_hash(KEY)]}
    gateway = {"upstream_key_env": "KEY_FOR_UPSTREAM", "apps": [app]}
    sim = Simulator(text(SAID), judge=FINDS)
    with served(sim, tmp_path, gateway=gateway) as at:
        for client in CLIENTS:
            got = programs[client.name].ask(at.url, "chat", "Where?")
            assert (got.text, got.error) == (SAID, None), client.name
    assert len(sim.api_requests) == len(CLIENTS)
    for request in sim.requests:
        assert request.headers["x-api-key"] == "upstream"
        assert KEY not in request.headers.values()
        assert f"Bearer {KEY}" not in request.headers.values()
