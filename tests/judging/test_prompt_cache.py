"""The simulated prompt cache, case by case from the documented rules, and in a simulation."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from hypothesis import given
from hypothesis import strategies as st

from magistrate import Moderation
from magistrate.testing import Simulator, delayed, error, text
from magistrate.testing.events import count_tokens
from magistrate.testing.prompt_cache import PromptCache, complaint

JSON = dict[str, Any]
HAIKU = "claude-haiku-5-5"  # caches from 512 tokens on
OLD = "claude-haiku-4-5"  # from 4,096


def block(name: str, tokens: int = 10, *, mark: bool | str = False, kind: str = "text") -> JSON:
    """A block of exactly so many tokens as the simulator counts: its type's letters count too."""
    made: JSON = {"type": kind, "text": name.ljust(4 * tokens - len(kind), ".")}
    if mark:
        made["cache_control"] = {"type": "ephemeral"}
        if isinstance(mark, str):
            made["cache_control"]["ttl"] = mark
    return made


def run(count: int, *, first: int = 1, mark: int | None = None) -> list[JSON]:
    """Numbered blocks of ten tokens, the one with the number `mark` marked."""
    return [block(f"{n}", mark=n == mark) for n in range(first, first + count)]


def body(
    content: list[JSON] | str = "hi",
    *,
    system: list[JSON] | None = None,
    model: str = HAIKU,
    **more: Any,
) -> JSON:
    """A request of one user turn. Its role is one token, and so is the end that rounding makes."""
    turns = [{"role": "user", "content": content}]
    whole: JSON = {"model": model, "max_tokens": 9, "messages": turns, **more}
    return whole | ({"system": system} if system is not None else {})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(cache: PromptCache, request: JSON) -> tuple[int, int, int]:
    """What the counters say: input, written, read; its response begins at once."""
    found = cache.lookup(request)
    cache.begin(found)
    return counters(found.usage)


def counters(usage: JSON) -> tuple[int, int, int]:
    return (
        usage["input_tokens"],
        usage["cache_creation_input_tokens"],
        usage["cache_read_input_tokens"],
    )


RULES = block("rules", 600, mark=True)
OTHER_RULES = block("other rules", 600, mark=True)
PLAIN_RULES = block("rules", 600)
ASKED = [block("question", 50)]  # with its role, and the one that rounding adds: 52

# What was asked before, what is asked now, and what it costs: input, written, read.
CASES: dict[str, tuple[list[JSON], JSON, tuple[int, int, int]]] = {
    "no breakpoint": ([], body(ASKED, system=[PLAIN_RULES]), (652, 0, 0)),
    "miss: it is written": ([], body(ASKED, system=[RULES]), (52, 600, 0)),
    "hit": (
        [body(ASKED, system=[RULES])],
        body([block("another", 70)], system=[RULES]),
        (72, 0, 600),
    ),
    "no breakpoint, so nothing is read": (
        [body(ASKED, system=[RULES])],
        body(ASKED, system=[PLAIN_RULES]),
        (652, 0, 0),
    ),
    "the question is read too, once it was marked": (
        [body([block("question", 50, mark=True)], system=[RULES])],
        body([block("question", 50), block("more", 30, mark=True)], system=[RULES]),
        (1, 30, 651),
    ),
    "partly: the system is the same, the question not": (
        [body([block("question", 50, mark=True)], system=[RULES])],
        body([block("another", 70, mark=True)], system=[RULES]),
        (1, 71, 600),
    ),
    "a changed early block loses all behind it": (
        [body([block("question", 50, mark=True)], system=[RULES])],
        body([block("question", 50, mark=True)], system=[OTHER_RULES]),
        (1, 651, 0),
    ),
    "a changed tool loses all behind it": (
        [body(ASKED, system=[RULES], tools=[{"name": "a" * 40}])],
        body(ASKED, system=[RULES], tools=[{"name": "b" * 40}]),
        (52, 610, 0),
    ),
    "a tool has an entry of its own": (
        [body(ASKED, tools=[{"name": "a" * 4000, "cache_control": {"type": "ephemeral"}}])],
        body(
            ASKED,
            system=[RULES],
            tools=[{"name": "a" * 4000, "cache_control": {"type": "ephemeral"}}],
        ),
        (52, 600, 1000),
    ),
    "below the minimum": ([], body(ASKED, system=[block("short", 511, mark=True)]), (563, 0, 0)),
    "at the minimum": ([], body(ASKED, system=[block("short", 512, mark=True)]), (52, 512, 0)),
    "the minimum is the prefix's, not the block's": (
        [],
        body([block("question", 50, mark=True)], system=[block("short", 500, mark=True)]),
        (1, 551, 0),
    ),
    "an older model has a larger minimum": (
        [],
        body(ASKED, system=[RULES], model=OLD),
        (652, 0, 0),
    ),
    "another model has a cache of its own": (
        [body(ASKED, system=[RULES])],
        body(ASKED, system=[RULES], model="claude-haiku-5-5-20261002"),
        (52, 600, 0),
    ),
    # The documentation's own example of the lookback: 10, then 15, then 35 blocks.
    "lookback: five blocks further": (
        [body(run(10, mark=10), system=[PLAIN_RULES])],
        body(run(15, mark=15), system=[PLAIN_RULES]),
        (1, 50, 701),
    ),
    "lookback: twenty blocks further": (
        [body(run(15, mark=15), system=[PLAIN_RULES])],
        body(run(35, mark=35), system=[PLAIN_RULES]),
        (1, 951, 0),
    ),
    "lookback: nineteen blocks further": (
        [body(run(15, mark=15), system=[PLAIN_RULES])],
        body(run(34, mark=34), system=[PLAIN_RULES]),
        (1, 190, 751),
    ),
    "lookback: a second breakpoint on the old place finds it": (
        [body(run(15, mark=15), system=[PLAIN_RULES])],
        body([*run(15, mark=15), *run(20, first=16, mark=35)], system=[PLAIN_RULES]),
        (1, 200, 751),
    ),
    "lookback: further, but the system's own breakpoint is found": (
        [body(run(15, mark=15), system=[RULES])],
        body(run(35, mark=35), system=[RULES]),
        (1, 351, 600),
    ),
    "what is only stable was never written": (
        [body([*run(5), block("at 9:01", mark=True)], system=[PLAIN_RULES])],
        body([*run(5), block("at 9:02", mark=True)], system=[PLAIN_RULES]),
        (1, 661, 0),
    ),
    "a run of tool results is one position": (
        [body([block("start", mark=True)], system=[PLAIN_RULES])],
        body(
            [
                block("start"),
                *[block(f"{n}", kind="tool_result") for n in range(30)],
                block("end", mark=True),
            ],
            system=[PLAIN_RULES],
        ),
        (1, 310, 611),
    ),
    "four breakpoints": (
        [],
        body([block(f"{n}", 100, mark=True) for n in range(3)], system=[RULES]),
        (1, 901, 0),
    ),
    "four breakpoints, read where the first difference is not yet": (
        [body([block(f"{n}", 100, mark=True) for n in range(3)], system=[RULES])],
        body([block(f"{n}", 100, mark=True) for n in (0, 1, 9)], system=[RULES]),
        (1, 100, 801),
    ),
    "the breakpoint of the request itself": (
        [],
        body(ASKED, system=[PLAIN_RULES], cache_control={"type": "ephemeral"}),
        (1, 651, 0),
    ),
    "the format of the answer is the system's": (
        [body(ASKED, system=[RULES], output_config={"format": {"type": "json_schema"}})],
        body(ASKED, system=[RULES], output_config={"format": {"type": "text"}}),
        (52, 600, 0),
    ),
    "effort is the messages'": (
        [body([block("question", 50, mark=True)], system=[RULES], output_config={"effort": "low"})],
        body([block("question", 50, mark=True)], system=[RULES], output_config={"effort": "high"}),
        (1, 51, 600),
    ),
    "the choice of tools is the messages'": (
        [body([block("question", 50, mark=True)], system=[RULES], tool_choice={"type": "auto"})],
        body([block("question", 50, mark=True)], system=[RULES], tool_choice={"type": "none"}),
        (1, 51, 600),
    ),
    "an image anywhere is the messages'": (
        [body([block("question", 50, mark=True)], system=[RULES])],
        body(
            [block("question", 50, mark=True), {"type": "image"}],
            system=[RULES],
        ),
        (2, 51, 600),
    ),
    "max_tokens and stream change nothing": (
        [body(ASKED, system=[RULES])],
        body(ASKED, system=[RULES], stream=True) | {"max_tokens": 5},
        (52, 0, 600),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_documented_rule(name: str) -> None:
    before, now, expected = CASES[name]
    cache = PromptCache(Clock())
    for request in before:
        ask(cache, request)
    assert ask(cache, now) == expected


def test_an_entry_can_be_read_once_the_response_that_writes_it_has_begun() -> None:
    clock = Clock()
    cache = PromptCache(clock)
    first = cache.lookup(body(ASKED, system=[RULES]))
    cache.begin(first, after_s=2)
    clock.now += 1.9
    assert ask(cache, body(ASKED, system=[RULES])) == (52, 600, 0), "all at once pay alike"
    clock.now += 0.1
    assert ask(cache, body(ASKED, system=[RULES])) == (52, 0, 600)


def test_a_request_whose_response_never_begins_writes_nothing() -> None:
    cache = PromptCache(Clock())
    cache.lookup(body(ASKED, system=[RULES]))
    assert ask(cache, body(ASKED, system=[RULES])) == (52, 600, 0)


@pytest.mark.parametrize(("mark", "lifetime"), [(True, 300), ("5m", 300), ("1h", 3600)])
def test_an_entry_lives_from_the_start_of_the_last_request_that_used_it(
    mark: bool | str, lifetime: int
) -> None:
    clock = Clock()
    cache = PromptCache(clock)
    request = body(ASKED, system=[block("rules", 600, mark=mark)])
    first = cache.lookup(request)
    clock.now += 100  # so long it takes until its response begins
    cache.begin(first)
    clock.now += lifetime - 101
    assert ask(cache, request) == (52, 0, 600), "a read renews it"
    clock.now += lifetime - 1
    assert ask(cache, request) == (52, 0, 600)
    clock.now += lifetime
    assert ask(cache, request) == (52, 600, 0)


def test_reading_a_longer_prefix_renews_the_marked_one_inside_it() -> None:
    clock = Clock()
    cache = PromptCache(clock)
    question = body([block("question", 50, mark=True)], system=[RULES])
    for _ in range(3):
        ask(cache, question)
        clock.now += 200
    assert ask(cache, body([block("another", 70)], system=[RULES])) == (72, 0, 600)


def test_writes_are_counted_by_lifetime() -> None:
    request = body([block("question", 50, mark=True)], system=[block("rules", 600, mark="1h")])
    usage = PromptCache().lookup(request).usage
    assert usage["cache_creation"] == {
        "ephemeral_5m_input_tokens": 51,
        "ephemeral_1h_input_tokens": 600,
    }


@pytest.mark.parametrize(
    ("request_body", "says"),
    [
        (body(run(4)), None),
        (body([block(f"{n}", mark=True) for n in range(4)]), None),
        (body([block(f"{n}", mark=True) for n in range(5)]), "maximum of 4"),
        (body([block(f"{n}", mark=True) for n in range(4)], system=[RULES]), "Found 5"),
        (
            body([block(f"{n}", mark=True) for n in range(4)], cache_control={"type": "ephemeral"}),
            "Found 5",
        ),
        (body([block("a", mark="1h"), block("b", mark="5m")]), None),
        (body([block("a", mark="5m"), block("b", mark="1h")]), "ttl='1h'"),
        (body([block("a", mark="2h")]), "'5m' or '1h'"),
        (body([block("hm", mark=True, kind="thinking")]), "thinking"),
    ],
)
def test_what_the_api_refuses(request_body: JSON, says: str | None) -> None:
    said = complaint(request_body)
    assert said is None if says is None else says in str(said)


@given(
    sizes=st.lists(st.integers(2, 400), min_size=1, max_size=40),
    marks=st.sets(st.integers(0, 39), max_size=4),
    kept=st.integers(0, 40),
)
def test_the_counters_add_up_to_the_whole(sizes: list[int], marks: set[int], kept: int) -> None:
    def made(tail: str) -> JSON:
        return body(
            [
                block(f"{n}{tail if n >= kept else ''}", 10 + size, mark=n in marks)
                for n, size in enumerate(sizes)
            ]
        )

    cache = PromptCache(Clock())
    ask(cache, made("a"))
    now = made("b")
    parts = ask(cache, now)
    assert sum(parts) == count_tokens([now["messages"]]) and min(parts) >= 0
    shared = count_tokens([{"role": "user", "content": now["messages"][0]["content"][:kept]}])
    assert parts[2] < shared, "nothing is read that differs"
    assert ask(cache, now)[1] == 0, "nothing is written twice"


# --- in a simulation ------------------------------------------------------------------------------


def client(sim: Simulator) -> Anthropic:
    return Anthropic(api_key="k", http_client=sim.http_client(), max_retries=0)


CALL: Any = {
    "model": HAIKU,
    "max_tokens": 9,
    "system": [RULES],
    "messages": [{"role": "user", "content": ASKED}],
}


def test_a_simulation_reports_the_counters_in_both_forms() -> None:
    sim = Simulator(default=text("Yes."), cache=True)
    with client(sim) as asking:
        first = asking.messages.create(**CALL).usage
        with asking.messages.stream(**CALL) as stream:
            second = stream.get_final_message().usage
    assert (first.cache_creation_input_tokens, first.cache_read_input_tokens) == (600, 0)
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, 600)
    assert first.input_tokens == second.input_tokens == 52


def test_without_a_cache_all_is_input() -> None:
    sim = Simulator(default=text("Yes."))
    with client(sim) as asking:
        usages = [asking.messages.create(**CALL).usage for _ in range(2)]
    assert [(u.input_tokens, u.cache_read_input_tokens) for u in usages] == [(652, 0), (652, 0)]


def test_an_error_writes_nothing_and_a_late_answer_writes_late() -> None:
    clock = Clock()
    sim = Simulator(
        [error(529), delayed(text("Late."), 0.01), text("Soon."), text("After.")],
        cache=PromptCache(clock),
    )
    with client(sim) as asking:
        with pytest.raises(anthropic.APIStatusError):
            asking.messages.create(**CALL)
        reads: list[int | None] = []
        for _ in range(3):
            reads.append(asking.messages.create(**CALL).usage.cache_read_input_tokens)
            clock.now += 0.006
    assert reads == [0, 0, 600]


def test_more_than_four_breakpoints_are_refused_with_and_without_a_cache() -> None:
    marked = [block(f"{n}", mark=True) for n in range(5)]
    for cache in (True, False):
        refused = pytest.raises(anthropic.BadRequestError, match="maximum of 4 blocks")
        with client(Simulator(text("Yes."), cache=cache)) as asking, refused:
            asking.messages.create(**(CALL | {"messages": [{"role": "user", "content": marked}]}))


def test_judges_pay_for_their_rubric_once_where_simulations_share_a_cache() -> None:
    cache = PromptCache()
    spent: list[tuple[int, int]] = []
    for _ in range(2):
        sim = Simulator(text("Yes."), cache=cache)
        moderation = Moderation({"version": 1})
        with Anthropic(
            api_key="k", http_client=sim.http_client(), middleware=[moderation]
        ) as asking:
            asking.messages.create(
                model=HAIKU, max_tokens=9, messages=[{"role": "user", "content": "Hello."}]
            )
        spent.append((moderation.usage.cache_write_tokens, moderation.usage.cache_read_tokens))
        moderation.close()
    (written, read), (written_again, read_again) = spent
    # The screen is one text for both stages: the output's reads what the input's has written.
    assert 3000 < read < read_again
    assert written - written_again == read_again - read
