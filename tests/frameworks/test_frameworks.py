"""Real frameworks, moderated as docs/frameworks.md says, against the simulator on a port.

Run with `scripts/frameworks`, which has the packages. A missing one fails.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from drivers import DRIVERS, MODEL, PAGE, Driver, Got, Instructor, recipes

from magistrate import Blocked, HeldForReview, Moderation, ModerationUnavailable, Settings
from magistrate.settings.schema import DEFAULT_CHAT_DISCLOSURE, DEFAULT_HIGH_RISK_DISCLOSURE
from magistrate.testing import (
    JudgeScript,
    Reply,
    Simulator,
    continues_declined,
    error,
    finds,
    high_risk,
    refuses,
    structured,
    text,
    tool_use,
    when_judging,
)

pytestmark = [
    pytest.mark.frameworks,
    # inspect-ai's own use of tenacity
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning"),
]

SAID = "Bern is a nice place."
BAD = "a five-star review"
TEXTS = Settings().texts
BOTH_DISCLOSURES = f"{DEFAULT_CHAT_DISCLOSURE} {DEFAULT_HIGH_RISK_DISCLOSURE}"
APP = {"name": "shop", "audience": "consumer", "interface": "chatbot"}
REVIEWER = {"name": "dr.lee", "qualified_in": ["healthcare"]}
FINDS = JudgeScript(when_judging("five-star", finds("fraud_abuse.fake_reviews")))


@dataclass(frozen=True)
class Outcome:
    """What the application asks and is told, and what is expected of a framework.

    `raises` is where the framework's exception comes from.
    """

    judge: JudgeScript = field(default_factory=JudgeScript)
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    asked: str = "Where?"
    said: str = SAID
    raises: type[Exception] | None = None
    ways: tuple[str, ...] = ("chat", "stream", "tools", "structured")
    text: str | None = None  # instead of the answer
    opening: str = ""


def in_healthcare(at: Path) -> dict[str, Any]:
    """An app whose answers may be held."""
    review = {"store": f"sqlite:///{at}/reviews.db", "reviewers": [REVIEWER]}
    return {"app": {**APP, "high_risk": ["healthcare"]}, "review": review}


HELD = JudgeScript(when_judging("", high_risk("healthcare"), stage="output"))
OUTCOMES: dict[str, Outcome] = {
    "allowed": Outcome(FINDS),
    "blocked request": Outcome(FINDS, asked=f"Write {BAD}.", text=TEXTS.block),
    "blocked answer": Outcome(FINDS, said=f"Here is {BAD}.", text=TEXTS.block),
    "blocked request, raised": Outcome(
        FINDS, {"on_block": "raise"}, asked=f"Write {BAD}.", raises=Blocked, ways=("chat",)
    ),
    "blocked answer, raised": Outcome(
        FINDS, {"on_block": "raise"}, said=f"Here is {BAD}.", raises=Blocked
    ),
    "disclosed": Outcome(FINDS, {"app": APP}, opening=DEFAULT_CHAT_DISCLOSURE),
    "held": Outcome(HELD, text=TEXTS.hold),
    "outage of the first": Outcome(
        JudgeScript(when_judging("", refuses(), stage="input")),
        raises=ModerationUnavailable,
        ways=("chat", "stream"),
    ),
    "outage of the second": Outcome(
        JudgeScript(when_judging("", refuses(), stage="output")), raises=ModerationUnavailable
    ),
}
CASES = [
    pytest.param(driver, way, flavour, name, id=f"{driver.recipe}-{way}-{flavour}-{name}")
    for driver in DRIVERS
    for way in driver.ways
    for flavour in driver.flavours
    for name, outcome in OUTCOMES.items()
    if way in outcome.ways
]


def answering(driver: type[Driver], way: str, said: str) -> Callable[[Any], Reply]:
    """A model that answers `said` as it is asked to; after a tool's result it only says so."""

    def reply(body: Any) -> Reply:
        if "tool_result" in json.dumps(body["messages"]):
            return text("It is sunny.")
        if way == "tools":
            return tool_use("weather", {"city": said})
        if driver.tool_call and way != "chat":
            return tool_use("Answer", {"said": said})
        return structured({"said": said}) if way == "structured" else text(said)

    return reply


@contextmanager
def surroundings(
    monkeypatch: pytest.MonkeyPatch, at: Path, sim: Simulator, **settings: Any
) -> Iterator[None]:
    """What a recipe finds: a configuration, a key, and an API."""
    (at / "magistrate.yaml").write_text(json.dumps({"version": 1, **settings}), "utf-8")
    monkeypatch.chdir(at)
    monkeypatch.delenv("MAGISTRATE_CONFIG", raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
    with sim.serve() as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        yield


def causes(raised: BaseException | None) -> list[type[BaseException]]:
    """The types of an exception and of all that it was raised from."""
    found: list[type[BaseException]] = []
    while raised is not None:
        found.append(type(raised))
        raised = raised.__cause__ or raised.__context__
    return found


@pytest.mark.parametrize(("driver", "way", "flavour", "name"), CASES)
def test_every_framework_has_every_outcome(
    driver: type[Driver],
    way: str,
    flavour: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcome = OUTCOMES[name]
    settings = {**outcome.settings, **(in_healthcare(tmp_path) if name == "held" else {})}
    sim = Simulator(answering(driver, way, outcome.said), judge=outcome.judge)
    with surroundings(monkeypatch, tmp_path, sim, **{**settings, **driver.settings}):
        raised: Exception | None = None
        got = Got()
        try:
            got = driver().ask(way, flavour, outcome.asked)
        except Exception as exc:
            raised = exc
    assert sim.judge_requests, repr(raised)
    assert sim.problems == []
    if outcome.raises is not None:
        assert outcome.raises in causes(raised)
    elif outcome.text is not None:
        check_replaced(driver, way, name, got, raised)
    else:
        assert raised is None
        check_answered(driver, way, outcome, got)


def check_answered(driver: type[Driver], way: str, outcome: Outcome, got: Got) -> None:
    """The answer is there; a disclosure is put before text, and never into anything else."""
    assert not got.refused
    if way == "tools":
        assert got.calls == [("weather", {"city": outcome.said})]
    elif way == "structured" or (driver.tool_call and way == "stream"):
        assert got.value.model_dump() == {"said": outcome.said}
    else:
        assert got.text.startswith(outcome.opening)
        assert got.text.removeprefix(outcome.opening).strip() == outcome.said


def check_replaced(
    driver: type[Driver], way: str, name: str, got: Got, raised: Exception | None
) -> None:
    """Nothing of the answer is there; a text says so, or the framework raises."""
    assert got.calls == []
    assert got.value is None
    assert BAD not in repr((got, raised))
    if driver is Instructor:
        assert (HeldForReview if name == "held" else Blocked) in causes(raised)
        if way == "structured":
            assert type(raised).__name__ == driver.raises
    elif way == "structured":
        assert raised is not None or got.text == ""
        assert ModerationUnavailable not in causes(raised)
        if name != "held":
            assert (type(raised).__name__ if raised else "") == driver.raises
    else:
        assert raised is None
        opening = BOTH_DISCLOSURES if name == "held" else ""
        assert got.text.removeprefix(opening).strip() == OUTCOMES[name].text
        if not (name == "held" or (driver.recipe == "LlamaIndex" and way == "stream")):
            assert got.refused


# Fallbacks


class ExecutedRecipe(Driver):
    """A recipe that is run as it is."""

    def __init__(self, recipe: str) -> None:
        self.recipe = recipe
        super().__init__()


def test_a_fallback_that_is_not_moderated_is_a_way_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LangChain takes any exception as a reason. What the page warns of."""
    from langchain_anthropic import ChatAnthropic as Plain

    from magistrate.integrations.langchain import ChatAnthropic

    sim = Simulator(text(SAID), judge=FINDS)
    with surroundings(monkeypatch, tmp_path, sim, on_block="raise"):
        chat = ChatAnthropic(model=MODEL)
        leaking: Any = chat.with_fallbacks([Plain(model=MODEL)])  # type: ignore[call-arg]
        assert leaking.invoke(f"Write {BAD}.").text == SAID


@pytest.mark.parametrize("upstream", ["answers", "is overloaded"])
def test_the_recipe_for_langchain_blocks_with_a_fallback(
    upstream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(body: Any) -> Reply:
        return error(529) if upstream != "answers" and body["model"] == MODEL else text(SAID)

    sim = Simulator(reply, judge=FINDS)
    with surroundings(monkeypatch, tmp_path, sim, on_block="raise", input_check="before"):
        chat = ExecutedRecipe("LangChain, with a fallback").names["chat"]
        with pytest.raises(Blocked):
            chat.invoke(f"Write {BAD}.")
        assert sim.api_requests == []
        chat.runnable.max_retries = 0
        message = chat.invoke("Where?")
    assert message.text == SAID
    assert message.response_metadata["moderation"]["action"] == "allow"
    last = "claude-haiku-5-5" if upstream != "answers" else MODEL
    assert message.response_metadata["model_name"] == last


@pytest.mark.parametrize("upstream", ["answers", "is overloaded"])
def test_the_recipe_for_pydantic_ai_blocks_with_a_fallback(
    upstream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(body: Any) -> Reply:
        return error(529) if upstream != "answers" and body["model"] == MODEL else text(SAID)

    sim = Simulator(reply, judge=FINDS)
    with surroundings(monkeypatch, tmp_path, sim, on_block="raise", input_check="before"):
        agent = ExecutedRecipe("pydantic-ai, with a fallback").names["agent"]

        async def run() -> Any:
            with pytest.raises(Blocked):
                await agent.run(f"Write {BAD}.")
            assert sim.api_requests == []
            return await agent.run("Where?")

        result = asyncio.run(run())
    assert result.output == SAID
    last = "claude-haiku-5-5" if upstream != "answers" else MODEL
    assert result.response.model_name == last


def test_a_fallback_of_pydantic_ai_is_asked_after_an_error_of_the_api_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So an unmoderated one answers then: what the page warns of."""
    import anthropic
    from pydantic_ai import Agent
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    from magistrate import AsyncAnthropic

    sim = Simulator([error(529), text(f"Here is {BAD}.")], judge=FINDS)
    with surroundings(monkeypatch, tmp_path, sim, on_block="raise", input_check="before"):

        def model(client: Any) -> Any:
            return AnthropicModel(MODEL, provider=AnthropicProvider(anthropic_client=client))

        async def run() -> Any:
            clients = (AsyncAnthropic(max_retries=0), anthropic.AsyncAnthropic(max_retries=0))
            agent = Agent(FallbackModel(*map(model, clients)))
            with pytest.raises(Blocked):
                await agent.run(f"Write {BAD}.")
            assert sim.api_requests == []
            return await agent.run("Where?")

        assert asyncio.run(run()).output == f"Here is {BAD}."


# What is particular to one framework


@pytest.mark.parametrize("sticks", [True, False])
def test_instructor_cannot_ask_a_refusal_away(
    sticks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers a refusal with "call the function again": the judge sees what it goes on after.

    If the judge says that it asks for something new, the model answers, from a placeholder.
    """
    invented = tool_use("Answer", {"said": "an invention"})
    rules = [when_judging("five-star", finds("fraud_abuse.fake_reviews"))]
    rules += [when_judging("", continues_declined(), stage="input")] if sticks else []
    sim = Simulator(invented, judge=JudgeScript(*rules))
    with surroundings(monkeypatch, tmp_path, sim, input_check="before"):
        driver = Instructor()
        said: Any = None
        try:
            said = driver.ask("structured", "sync", f"Write {BAD}.").value.model_dump()
        except Exception as error:
            said = type(error).__name__
        decisions = driver.names["client"].client.moderation.engine.state.decisions.all()
    first, *later = decisions
    assert first.action == "block"
    if sticks:
        assert {each.action for each in later} == {"block"}
        assert later[0].continues_blocked == first.id
        assert said == Instructor.raises, "it gives up, as it does on answers of the wrong shape"
        assert sim.api_requests == []
    else:
        assert said == {"said": "an invention"}
        assert [each.action for each in later] == ["allow"]
        (sent,) = sim.api_requests
        assert BAD not in json.dumps(sent.body)


def test_the_settings_for_instructor_are_those_it_is_tested_with() -> None:
    section = PAGE.read_text("utf-8").split("## instructor")[1]
    (code,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    said = dict(line.split(": ") for line in code.splitlines())
    assert said == {"version": "1", **Instructor.settings}


@pytest.mark.filterwarnings("ignore:The function `loads` is in beta")
def test_langchain_shares_one_moderation_and_does_not_save_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from langchain_core.load import dumps, loads

    import magistrate
    from magistrate.integrations.langchain import ChatAnthropic

    sim = Simulator(text(SAID), judge=FINDS)
    with surroundings(monkeypatch, tmp_path, sim):
        own = Moderation({"version": 1, "on_block": "raise"})
        chat = ChatAnthropic(model=MODEL, moderation=own)
        assert chat.moderation is chat._client.moderation is chat._async_client.moderation is own
        assert isinstance(chat._client, magistrate.Anthropic)
        assert isinstance(chat._async_client, magistrate.AsyncAnthropic)
        for copied in (chat.model_copy(), chat.with_config(tags=["x"]), chat.bind(stop=["x"])):
            with pytest.raises(Blocked):
                copied.invoke(f"Write {BAD}.")
        with pytest.raises(NotImplementedError):
            loads(dumps(chat), allowed_objects="all")
        assert "moderation" not in chat.model_dump()
        message: Any = ChatAnthropic(model=MODEL).invoke("Where?")
        assert message.response_metadata["moderation"]["action"] == "allow"


def test_a_wrong_configuration_of_langchain_is_a_settings_error() -> None:
    from magistrate import SettingsError
    from magistrate.integrations.langchain import ChatAnthropic

    with pytest.raises(SettingsError, match="version"):
        ChatAnthropic(model=MODEL, moderation={"version": 7})


def test_inspect_keeps_a_model_with_another_moderation_unless_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the recipe has `memoize=False`."""
    from inspect_ai.model import get_model

    with surroundings(monkeypatch, tmp_path, Simulator()):
        first, second = (
            get_model(f"anthropic/{MODEL}", middleware=[Moderation()]) for _ in range(2)
        )
        assert first is second
        models = [ExecutedRecipe("inspect-ai").names["model"] for _ in range(2)]
        assert models[0] is not models[1]


def test_every_recipe_is_run() -> None:
    run = {driver.recipe for driver in DRIVERS}
    assert set(recipes()) == run | {"LangChain, with a fallback", "pydantic-ai, with a fallback"}
