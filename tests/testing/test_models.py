"""The models of the simulated API, and the sampling parameters that each takes."""

from __future__ import annotations

from typing import Any, get_args

import anthropic
import pytest
from anthropic.types import Model

from magistrate.testing import Simulator, text
from magistrate.testing.models import MODELS, RETIRES_AT
from simulated import connected, everywhere, got, items

ASKED = [{"role": "user", "content": "hi"}]


def test_all_models_are_ones_that_the_sdk_names() -> None:
    assert set(MODELS) <= set(get_args(get_args(Model)[0]))
    assert set(RETIRES_AT) <= set(MODELS)


@everywhere
async def test_models_are_listed_a_page_at_a_time(where: str, flavour: str) -> None:
    sim = Simulator()
    async with connected(sim, where, flavour) as client:
        first = await got(client.models.list(limit=5))
        assert [each.id for each in first.data] == list(MODELS[:5])
        assert (first.has_more, first.first_id, first.last_id) == (True, MODELS[0], MODELS[4])
        assert [each.id for each in await items(client.models.list(limit=5))] == list(MODELS)
        before = client.models.list(before_id=MODELS[9], limit=4)
        assert [each.id for each in (await got(before)).data] == list(MODELS[5:9])
        backwards = await items(client.models.list(before_id=MODELS[9], limit=4))
        assert {each.id for each in backwards} == set(MODELS[:9])
        last = await got(client.models.list(after_id=MODELS[-1]))
        assert (last.data, last.has_more, last.first_id) == ([], False, None)
    assert {each.path.partition("?")[0] for each in sim.requests} == {"/v1/models"}


@everywhere
async def test_a_model_is_found_by_its_id(where: str, flavour: str) -> None:
    async with connected(Simulator(), where, flavour) as client:
        model = await got(client.models.retrieve("claude-haiku-5-5"))
        assert (model.id, model.type, model.line) == ("claude-haiku-5-5", "model", "haiku")
        assert (model.display_name, model.lifecycle) == ("Claude Haiku 5.5", "active")
        old = await got(client.beta.models.retrieve("claude-opus-4-5"))
        assert (old.lifecycle, old.retires_at.year) == ("deprecated", 2027)
        with pytest.raises(anthropic.NotFoundError) as caught:
            await got(client.models.retrieve("claude-unheard-of"))
        assert caught.value.type == "not_found_error"
        assert str(caught.value.request_id).startswith("req_sim_")


@everywhere
async def test_models_are_filtered_by_their_stage_of_life(where: str, flavour: str) -> None:
    async with connected(Simulator(), where, flavour) as client:
        old = await items(client.models.list(lifecycle=["deprecated"]))
        assert {each.id for each in old} == set(RETIRES_AT)
        assert await items(client.models.list(lifecycle=["retired"])) == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"after_id": "nobody"}, "after_id"),
        ({"before_id": "nobody"}, "before_id"),
        ({"after_id": MODELS[0], "before_id": MODELS[3]}, "Only one"),
        ({"lifecycle[]": "asleep"}, "lifecycle"),
    ],
)
async def test_a_wrong_page_is_refused(query: dict[str, str], said: str) -> None:
    async with connected(Simulator(), "process", "sync") as client:
        with pytest.raises(anthropic.BadRequestError, match=said):
            client.models.list(extra_query=query)


EARLIER, LATER, UNHEARD = "claude-haiku-4-5", "claude-haiku-5-5", "my-own-deployment"
DATED, OLD = "claude-haiku-4-5-20251001", "claude-3-5-haiku-20241022"
THINKS = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("model", "sampled", "said"),
    [
        (EARLIER, {"temperature": 0.2}, None),
        (EARLIER, {"top_p": 0.5, "top_k": 3}, None),
        (DATED, {"temperature": 0}, None),
        ("claude-opus-4-6", {"temperature": 0}, None),
        ("claude-sonnet-4-6", {"temperature": 0}, None),
        (OLD, {"temperature": 0.2, "top_p": 0.5}, None),
        (UNHEARD, {"temperature": 0.2, "top_p": 0.5}, None),
        (LATER, {"temperature": 1, "top_p": 1.0}, None),
        (LATER, {"temperature": None}, None),
        (LATER, {"temperature": 0}, "temperature: sampling parameters are not supported"),
        (LATER, {"top_p": 0.5}, "top_p: sampling parameters"),
        (LATER, {"top_k": 5}, "top_k: sampling parameters"),
        ("claude-opus-4-7", {"temperature": 0.5}, "sampling parameters"),
        ("claude-sonnet-5", {"temperature": 0.5}, "sampling parameters"),
        ("claude-mythos-preview", {"temperature": 0.5}, "sampling parameters"),
        (EARLIER, {"temperature": 0.2, "top_p": 0.5}, "cannot both be specified"),
        (EARLIER, {"temperature": 1.5}, "temperature: Input should be a number between 0 and 1"),
        (EARLIER, {"temperature": "hot"}, "temperature: Input should be a number"),
        (EARLIER, {"temperature": True}, "temperature: Input should be a number"),
        (EARLIER, {"top_k": 0.5}, "top_k: Input should be an integer"),
        (EARLIER, {"temperature": 0.5, "thinking": THINKS}, "only be set to 1 when thinking"),
        (EARLIER, {"top_p": 0.5, "thinking": THINKS}, "greater than or equal to 0.95"),
        (EARLIER, {"top_k": 5, "thinking": THINKS}, "`top_k` must be unset"),
        (EARLIER, {"temperature": 1, "thinking": THINKS}, None),
    ],
)
async def test_sampling_parameters_depend_on_the_model(
    model: str, sampled: dict[str, Any], said: str | None
) -> None:
    sim = Simulator(text("Hi."))
    async with connected(sim, "process", "sync") as client:

        def ask() -> Any:
            return client.messages.create(
                model=model, max_tokens=2048, messages=ASKED, extra_body=sampled
            )

        if said is None:
            assert ask().content[0].text == "Hi."
        else:
            with pytest.raises(anthropic.BadRequestError, match=said):
                ask()
