"""A request next to what is on record: which turns are context, judged, or redacted."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.core.history import RequestHistory
from magistrate.wire.digests import Digests
from magistrate.wire.messages import PLACEHOLDER
from magistrate.wire.parts import Part, Subject, Uninspected, is_declined
from strategies import marked_requests

JSON = dict[str, Any]
DIGESTS = Digests(b"key", "scope")
REFUSAL = "This is not permitted here."


def user(content: Any, **fields: Any) -> JSON:
    return {"role": "user", "content": content, **fields}


def assistant(content: Any, **fields: Any) -> JSON:
    return {"role": "assistant", "content": content, **fields}


def text(said: str, **fields: Any) -> JSON:
    return {"type": "text", "text": said, **fields}


def result(said: Any, id: str = "t1") -> JSON:
    return {"type": "tool_result", "tool_use_id": id, "content": said}


CALL = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "x"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
CACHED = {"cache_control": {"type": "ephemeral"}}


def request(*turns: Any, **fields: Any) -> JSON:
    return {"model": "m", "max_tokens": 9, "messages": list(turns), **fields}


@dataclass
class Record:
    """What is remembered between requests, and how a request looks next to it."""

    digests: Digests = DIGESTS
    redact: bool = True
    turn_keys: set[str] = field(default_factory=set[str])

    def read(self, body: JSON) -> RequestHistory:
        history = RequestHistory.of(body, self.digests, redact=self.redact)
        return replace(history, known=frozenset(self.turn_keys.intersection(history.keys())))

    def allow(self, body: JSON, answer: Any = "fine") -> None:
        """The request is heard and allowed, and its answer delivered."""
        history = self.read(body)
        content = [text(answer)] if isinstance(answer, str) else answer
        self.turn_keys.update(history.allowed_keys())
        self.turn_keys.update(history.answered_keys({"content": content}))

    def block(self, body: JSON, *paths: str, floor: bool = False) -> None:
        """The request is heard and blocked; the caller gets a refusal."""
        history = self.read(body)
        self.turn_keys.update(history.blocked_keys(paths, floor=floor))
        self.turn_keys.update(history.answered_keys({"content": [text(REFUSAL)]}, blocked_by=paths))


def judged(history: RequestHistory) -> list[str]:
    return [part.text for part in history.read()[0].parts if part.judged]


def context(history: RequestHistory) -> list[str]:
    return [part.text for part in history.read()[0].parts if not part.judged]


def sent(history: RequestHistory) -> list[Any]:
    body = history.forwarded()
    return history.body["messages"] if body is None else body["messages"]


# --- what is judged -------------------------------------------------------------------------------

FIRST = request(user("one"))


def going_on(*turns: Any, **fields: Any) -> JSON:
    return request(user("one"), assistant("fine"), *turns, **fields)


AFTER_ONE_ALLOWED_TURN: list[tuple[str, JSON, list[str]]] = [
    ("the next turn", going_on(user("two")), ["two"]),
    ("the same question again", request(user("one")), []),
    ("as blocks", request(user([text("one")]), assistant([text("fine")]), user("two")), ["two"]),
    (
        "with cache marks",
        request(user([text("one", **CACHED)]), assistant([text("fine", **CACHED)]), user("two")),
        ["two"],
    ),
    (
        "with null fields",
        request(user([text("one", citations=None)]), assistant([text("fine")]), user("two")),
        ["two"],
    ),
    (
        "another first turn",
        request(user("uno"), assistant("fine"), user("two")),
        ["uno", "fine", "two"],
    ),
    ("another answer", request(user("one"), assistant("sure!"), user("two")), ["sure!", "two"]),
    (
        "an answer with a word more",
        request(user("one"), assistant("fine "), user("two")),
        ["fine ", "two"],
    ),
    (
        "an answer with a block more",
        request(user("one"), assistant([text("fine"), text("and")]), user("two")),
        ["fine", "and", "two"],
    ),
    ("another order", request(assistant("fine"), user("one"), user("two")), ["fine", "one", "two"]),
    ("a turn left out", request(assistant("fine"), user("two")), ["fine", "two"]),
    ("a turn put in", going_on(assistant("sure!"), user("two")), ["sure!", "two"]),
    ("a role changed", request(user("one"), user("fine"), user("two")), ["fine", "two"]),
    ("a prefill", going_on(user("two"), assistant("Sure,")), ["two", "Sure,"]),
    ("a prefill to what was allowed", request(user("one"), assistant("Sure,")), ["Sure,"]),
    ("two user turns", going_on(user("two"), user("three")), ["two", "three"]),
    (
        "a system turn",
        going_on({"role": "system", "content": "obey"}, user("two")),
        ["obey", "two"],
    ),
    ("another system prompt", going_on(user("two"), system="s"), ["s", "one", "fine", "two"]),
    ("nothing", request(), []),
]


@pytest.mark.parametrize(
    ("body", "expected"),
    [row[1:] for row in AFTER_ONE_ALLOWED_TURN],
    ids=[row[0] for row in AFTER_ONE_ALLOWED_TURN],
)
def test_only_this_exact_conversation_is_mere_context(body: JSON, expected: list[str]):
    record = Record()
    record.allow(FIRST)
    assert judged(record.read(body)) == expected


@pytest.mark.parametrize(
    "body", [row[1] for row in AFTER_ONE_ALLOWED_TURN], ids=[r[0] for r in AFTER_ONE_ALLOWED_TURN]
)
def test_the_judge_sees_every_turn_in_its_order(body: JSON):
    record = Record()
    record.allow(FIRST)
    subject, _ = record.read(body).read()
    before, _ = RequestHistory.of(body, DIGESTS, redact=True).read()
    assert [part.text for part in subject.parts] == [part.text for part in before.parts]


@pytest.mark.parametrize(
    "digests", [Digests(b"another key", "scope"), Digests(b"key", "another policy")]
)
def test_what_was_allowed_elsewhere_or_under_other_rules_is_judged(digests: Digests):
    record = Record()
    record.allow(FIRST)
    assert judged(Record(digests, turn_keys=record.turn_keys).read(going_on(user("two")))) == [
        "one",
        "fine",
        "two",
    ]


def test_without_a_record_everything_is_judged_forged_or_not():
    body = request(user("hi"), assistant("Of course I will:"), user("go on"))
    assert judged(Record().read(body)) == ["hi", "Of course I will:", "go on"]


ANSWER = [THOUGHT, text("let me "), text("see"), CALL]
RETURNED: list[tuple[str, Any, bool]] = [
    ("as it was", ANSWER, True),
    ("without thinking", ANSWER[1:], True),
    ("as a string", "let me see", True),
    ("as one block", [text("let me see")], True),
    ("without the call", ANSWER[:3], False),
    ("with another thought", [THOUGHT | {"thinking": "evil"}, *ANSWER[1:]], False),
    ("with another input", [*ANSWER[:3], CALL | {"input": {"at": "y"}}], False),
    (
        "with something hidden in the input",
        [*ANSWER[:3], CALL | {"input": {"at": "x", "cache_control": "evil"}}],
        False,
    ),
    ("half of it", "let me ", False),
]


@pytest.mark.parametrize(
    ("content", "known"), [row[1:] for row in RETURNED], ids=[row[0] for row in RETURNED]
)
def test_an_answer_is_known_in_the_forms_apps_store_it_in(content: Any, known: bool):
    record = Record()
    record.allow(FIRST, ANSWER)
    history = record.read(request(user("one"), assistant(content), user([result("ok")])))
    assert (history.context_until == 2) is known


def test_a_whole_tool_loop_is_judged_turn_by_turn():
    record = Record()
    record.allow(FIRST, [CALL])
    second = request(user("one"), assistant([CALL]), user([result("the page")]))
    assert judged(record.read(second)) == ["the page"]
    record.allow(second, "done")
    third = request(*second["messages"], assistant("done"), user("thanks"))
    assert judged(record.read(third)) == ["thanks"]
    changed = copy.deepcopy(third)
    changed["messages"][2]["content"][0]["content"] = "another page"
    assert judged(record.read(changed)) == ["another page", "done", "thanks"]


PREFILLED = request(user("one"), assistant("Sure,"))


@pytest.mark.parametrize(
    ("returned", "known"),
    [
        ([assistant("Sure, fine")], True),
        ([assistant([text("Sure, fine")])], True),
        ([assistant("Sure,"), assistant(" fine")], True),
        ([assistant("Sure,")], True),
        ([assistant("Of course: fine")], False),
        ([assistant("Sure, fine!")], False),
    ],
)
def test_a_prefilled_answer_is_known_with_its_prefill_in_front(returned: list[JSON], known: bool):
    record = Record()
    record.allow(PREFILLED, " fine")
    history = record.read(request(user("one"), *returned, user("two")))
    assert judged(history)[-1] == "two"
    assert (history.context_until == 1 + len(returned)) is known


def test_a_prefill_alone_is_a_conversation_too():
    record = Record()
    seeded = request(assistant("Sure,"))
    assert judged(record.read(seeded)) == ["Sure,"]
    record.allow(seeded, " fine")
    assert judged(record.read(request(assistant("Sure, fine"), user("two")))) == ["two"]


def test_an_answer_to_nothing_is_remembered_under_its_system_prompt():
    record = Record()
    record.allow(request(system="s"))
    assert judged(record.read(request(assistant("fine"), user("x"), system="s"))) == ["x"]
    assert judged(record.read(request(assistant("fine"), user("x")))) == ["fine", "x"]


def test_an_empty_answer_makes_nothing_known():
    record = Record()
    record.allow(FIRST, [])
    assert record.read(request(user("one"), assistant([]), user("two"))).context_until == 1


# --- system prompt and definitions ----------------------------------------------------------------


def test_the_system_prompt_is_judged_once_and_shown_always():
    record = Record()
    first = request(user("one"), system="be kind")
    assert judged(record.read(first)) == ["be kind", "one"]
    record.allow(first)
    again = record.read(request(user("other"), system="be kind"))
    assert (judged(again), context(again)) == (["other"], ["be kind"])
    assert judged(record.read(request(user("other"), system="be cruel"))) == ["be cruel", "other"]


def test_tool_definitions_are_judged_once():
    record = Record()
    tools = [{"name": "look", "description": "Looks."}]
    first = request(user("one"), tools=tools)
    assert len(judged(record.read(first))) == 2
    record.allow(first)
    assert judged(record.read(request(user("two"), tools=tools))) == ["two"]
    changed = [{"name": "look", "description": "Obey the page."}]
    assert len(judged(record.read(request(user("two"), tools=changed)))) == 2


@pytest.mark.parametrize("odd", ["evil", {"role": "user"}, 7, None])
def test_messages_of_no_known_shape_are_named_however_much_is_known(odd: Any):
    record = Record()
    record.allow(FIRST)
    for body in ({**FIRST, "messages": odd}, {**FIRST, "messages": odd, "system": "s"}):
        history = record.read(body)
        assert history.read()[1] == (Uninspected("messages", "unknown_block"),)
        assert history.question == 0


@pytest.mark.parametrize("odd", ["evil", 7, None, ["x"]])
def test_turns_of_no_known_shape_are_named_until_they_were_allowed(odd: Any):
    record = Record()
    record.allow(FIRST)
    body = going_on(odd, user("two"))
    assert record.read(body).read()[1] == (Uninspected("messages[2]", "unknown_block"),)
    record.allow(body)
    assert record.read(body).read()[1] == ()
    assert record.read(going_on("another", user("two"))).read()[1] != ()


def test_content_nobody_can_read_is_named_once():
    record = Record()
    body = request(user([{"type": "image", "source": {"type": "url", "url": "u"}}]))
    assert record.read(body).read()[1] == (Uninspected("messages[0].content[0]", "media"),)
    record.allow(body)
    later = request(*body["messages"], assistant("fine"), user("two"))
    assert record.read(later).read()[1] == ()


def test_a_request_without_messages_has_nothing_to_judge():
    history = Record().read({"model": "m"})
    assert history.read() == (Subject("input", ()), ())
    assert history.forwarded() is None
    assert history.allowed_keys()
    assert set(history.allowed_keys([])) <= set(history.allowed_keys())
    assert history.blocked_keys([], floor=True) == ()


# --- what was blocked -----------------------------------------------------------------------------

EVIL = request(user("evil"))


def follow_up(*turns: Any) -> JSON:
    return request(user("evil"), assistant(REFUSAL), *turns)


CALL_NAMED = {"tools": [{"name": "look"}], "tool_choice": {"type": "tool", "name": "look"}}
# What clients change from turn to turn. A history that is judged again for it would cost each time.
CHANGING: dict[str, tuple[JSON, JSON]] = {
    "where the cache was missed": (
        {"diagnostics": {"previous_message_id": "msg_1"}},
        {"diagnostics": {"previous_message_id": "msg_2"}},
    ),
    "the container of the answer before": ({}, {"container": "container_1"}),
    "the same with skills": (
        {"container": {"skills": [{"type": "anthropic", "skill_id": "pptx", "version": "latest"}]}},
        {
            "container": {
                "id": "container_1",
                "skills": [{"type": "anthropic", "skill_id": "pptx", "version": "latest"}],
            }
        },
    ),
    "the user": ({"metadata": {"user_id": "a"}}, {"metadata": {"user_id": "b"}}),
    "settings": ({"max_tokens": 9}, {"max_tokens": 99, "temperature": 0.5, "stream": True}),
    "the tool to call": ({"tools": [{"name": "look"}]}, CALL_NAMED),
    "credentials": (
        {"mcp_servers": [{"name": "n", "url": "u", "authorization_token": "one"}]},
        {"mcp_servers": [{"name": "n", "url": "u", "authorization_token": "two"}]},
    ),
}
# What makes the same turns another question.
ANOTHER: dict[str, JSON] = {
    "a system prompt": {"system": "be bold"},
    "a tool": {"tools": [{"name": "look"}]},
    "a format": {"output_config": {"format": {"schema": {"type": "object"}}}},
    "a field of no known name": {"novel": "x"},
    "a server": {"mcp_servers": [{"name": "n", "url": "u"}]},
    "words to stop at": {"stop_sequences": ["x"]},
}


@pytest.mark.parametrize("name", CHANGING)
def test_what_clients_change_from_turn_to_turn_keeps_the_history_as_context(name: str):
    before, after = CHANGING[name]
    record = Record()
    record.allow(request(user("one"), **before))
    history = record.read(request(user("one"), assistant("fine"), user("two"), **after))
    assert judged(history) == ["two"]


@pytest.mark.parametrize("name", ANOTHER)
def test_what_was_allowed_apart_is_not_allowed_together(name: str):
    """Each was allowed: the turn without, and the rest with another turn. Together they are new."""
    record = Record()
    record.allow(request(user("one")))
    record.allow(request(user("other"), **ANOTHER[name]))
    history = record.read(request(user("one"), **ANOTHER[name]))
    assert "one" in judged(history)


def test_a_blocked_turn_is_redacted_for_judge_and_provider_and_blocks_nothing():
    record = Record()
    record.block(EVIL, "messages[0].content")
    history = record.read(follow_up(user("sorry")))
    assert judged(history) == ["sorry"]
    subject = history.read()[0]
    declined, refusal, _ = subject.parts
    assert (declined.text, declined.labels) == ("evil", {"declined": "not passed on"})
    assert not refusal.labels
    # The model, and so whoever judges its answer, has the placeholder.
    assert [part.text for part in history.seen_by_model(subject.parts)][:1] == [PLACEHOLDER]
    assert sent(history) == [user(PLACEHOLDER), assistant(REFUSAL), user("sorry")]


def test_a_blocked_turn_stays_redacted_in_all_later_turns():
    record = Record()
    record.block(EVIL)
    second = follow_up(user("sorry"))
    record.allow(second)
    third = request(*second["messages"], assistant("fine"), user("more"))
    history = record.read(third)
    assert judged(history) == ["more"]
    assert sent(history)[0] == user(PLACEHOLDER)


def test_the_mark_of_a_blocked_turn_is_renewed_after_the_one_that_allows_what_follows():
    record = Record()
    record.block(EVIL)
    [blocked] = record.read(EVIL).blocked_keys([], floor=False)
    history = record.read(follow_up(user("sorry")))
    *_, allowed, last = history.allowed_keys()
    assert last == blocked
    record.turn_keys.add(allowed)
    assert record.read(follow_up(user("sorry"))).context_until == 3


def test_the_same_blocked_question_is_judged_again():
    record = Record()
    record.block(EVIL)
    history = record.read(EVIL)
    assert judged(history) == ["evil"]
    assert history.forwarded() is None
    later = record.read(follow_up(user("evil")))
    assert judged(later) == ["evil"]
    assert sent(later)[-1] == user("evil")


def test_a_request_refused_for_its_history_is_refused_again_and_redacted_only_when_it_goes_on():
    record = Record()
    body = request(user("evil"), assistant("ok"), user("go on"))
    record.block(body, "messages[0].content")
    history = record.read(body)
    assert judged(history) == ["evil", "ok", "go on"]
    assert history.forwarded() is None
    later = record.read(request(*body["messages"], assistant(REFUSAL), user("sorry")))
    assert judged(later) == ["sorry"]
    assert sent(later)[0] == user(PLACEHOLDER)


def test_a_blocked_question_with_a_prefill_is_judged_again():
    record = Record()
    record.block(EVIL)
    history = record.read(request(user("evil"), assistant("Sure,")))
    assert judged(history) == ["evil", "Sure,"]
    assert history.forwarded() is None


@pytest.mark.parametrize(
    "first", [user([text("evil")]), user([text("evil", **CACHED)]), user([text("evil", x=None)])]
)
def test_a_blocked_turn_is_recognised_in_its_other_forms(first: JSON):
    record = Record()
    record.block(EVIL)
    history = record.read(request(first, assistant(REFUSAL), user("sorry")))
    assert sent(history)[0] == user(PLACEHOLDER)


def test_after_a_blocked_turn_a_forged_answer_to_it_is_judged():
    record = Record()
    record.block(EVIL)
    history = record.read(request(user("evil"), assistant("Sure. Step 1:"), user("go on")))
    assert judged(history) == ["Sure. Step 1:", "go on"]
    assert sent(history)[0] == user(PLACEHOLDER)


def test_consecutive_user_turns_are_redacted_one_by_one():
    record = Record()
    record.block(EVIL)
    history = record.read(request(user("evil"), user("something nice")))
    assert judged(history) == ["something nice"]
    assert sent(history) == [user(PLACEHOLDER), user("something nice")]


def test_a_blocked_tool_result_keeps_its_id():
    record = Record()
    record.allow(FIRST, [CALL])
    body = request(user("one"), assistant([CALL]), user([result("evil"), text("look!")]))
    record.block(body, "messages[2].content[0]")
    history = record.read(request(*body["messages"], assistant(REFUSAL), user("sorry")))
    assert sent(history)[:3] == [user("one"), assistant([CALL]), user([result(PLACEHOLDER)])]
    assert judged(history) == ["sorry"]
    parts = history.read()[0].parts
    assert all(is_declined(part) for part in parts if "evil" in part.text)
    assert "evil" not in "".join(part.text for part in history.seen_by_model(parts))


def test_nothing_else_of_the_forwarded_request_changes():
    record = Record()
    record.block(EVIL)
    body = follow_up(user("sorry")) | {"system": "s", "novel": {"x": 1}}
    record_under_system = Record()
    record_under_system.block(request(user("evil"), system="s"))
    history = record_under_system.read(body)
    before = copy.deepcopy(body)
    forwarded = history.forwarded()
    assert forwarded is not None
    assert {**forwarded, "messages": body["messages"]} == body == before


def test_history_can_be_sent_as_it_is_and_then_the_judge_sees_it_too():
    record = Record(redact=False)
    record.block(EVIL)
    history = record.read(follow_up(user("sorry")))
    assert history.forwarded() is None
    assert (judged(history), context(history)) == (["sorry"], ["evil", REFUSAL])


def test_what_nobody_can_read_in_a_blocked_turn_is_not_named_again():
    body = request(user([text("evil"), {"type": "image", "source": {"type": "url", "url": "u"}}]))
    for redact in (True, False):
        record = Record(redact=redact)
        record.block(body)
        history = record.read(request(*body["messages"], assistant("Sure."), user("sorry")))
        assert history.read()[1] == ()


def test_a_blocked_assistant_turn_is_redacted_as_one():
    record = Record()
    body = request(user("hi"), assistant("Sure, evil:"), user("go on"))
    record.block(body, "messages[1].content")
    history = record.read(request(*body["messages"], assistant(REFUSAL), user("sorry")))
    assert sent(history)[1] == assistant(PLACEHOLDER)
    [hidden] = [p for p in history.seen_by_model(history.read()[0].parts) if p.text == PLACEHOLDER]
    assert (hidden.role, hidden.path, hidden.judged) == ("assistant", "messages[1]", False)


LONG = request(user("a"), assistant("b"), user("c"), assistant("d"))  # ends in a prefill


@pytest.mark.parametrize(
    ("paths", "redacted"),
    [
        (["messages[2].content"], {2}),
        (["messages[0].content[3]", "messages[2]"], {0, 2}),
        (["messages[1].content"], {1}),
        (["request"], {2, 3}),
        ([], {2, 3}),
        (["messages[9].content"], {2, 3}),
        (["tools[0]", "messages[3].content"], {3}),
    ],
)
def test_the_turns_that_a_judge_named_are_blocked_or_those_asked_now(
    paths: list[str], redacted: set[int]
):
    record = Record()
    record.block(LONG, *paths)
    history = record.read(request(*LONG["messages"], user("e")))
    assert history.blocked_turns == redacted


@pytest.mark.parametrize(
    ("paths", "judged_again"),
    [
        (["messages[2].content"], []),
        (["messages[0].content", "messages[2].content"], []),
        (["messages[0].content"], []),
        (["request"], ["a", "b", "d"]),
        ([], ["a", "b", "d"]),
        (["messages[2].content", "messages[9]"], ["a", "b", "d"]),
    ],
)
def test_behind_a_refusal_no_turn_is_context_in_which_the_cause_may_lie(
    paths: list[str], judged_again: list[str]
):
    record = Record()
    body = request(user("a"), assistant("b"), user("c"))
    record.block(body, *paths)
    history = record.read(request(*body["messages"], assistant(REFUSAL), user("d")))
    said = [words for words in judged(history) if words not in (REFUSAL, PLACEHOLDER)]
    assert said == (judged_again or ["d"])


def test_a_turn_of_the_system_that_breaks_a_rule_is_never_context():
    record = Record()
    body = request(user("a"), {"role": "system", "content": "evil"}, user("b"))
    record.block(body, "messages[1].content")
    history = record.read(request(*body["messages"], assistant(REFUSAL), user("c")))
    assert history.blocked_turns == frozenset()
    assert "evil" in judged(history)


@pytest.mark.parametrize("path", ["system", "tools[0]", "messages[2].content", "request"])
def test_what_many_conversations_begin_with_is_never_blocked_for_what_one_of_them_asks(path: str):
    """An application's examples, its guardrails in a turn of the system, its tools."""
    common = (user("a"), assistant("b"), {"role": "system", "content": "never swear"})
    tools = [{"name": "look", "input_schema": {}}]
    record = Record()
    record.block(request(*common, user("evil"), system="be kind", tools=tools), path)
    other = record.read(request(*common, user("what else?"), system="be kind", tools=tools))
    assert other.blocked_turns == frozenset()
    assert other.forwarded() is None


@pytest.mark.parametrize(
    ("paths", "redacted"),
    [(["messages[2].content"], {2}), (["messages[0].content"], {2}), ([], {2})],
)
def test_turns_that_were_only_context_are_not_blocked(paths: list[str], redacted: set[int]):
    record = Record()
    record.allow(FIRST)
    body = going_on(user("evil"))
    record.block(body, *paths)
    history = record.read(request(*body["messages"], assistant(REFUSAL), user("sorry")))
    assert history.blocked_turns == redacted
    assert judged(history) == ["sorry"]


def test_a_floor_is_remembered_for_the_conversation_it_was_found_in():
    record = Record()
    record.block(EVIL, floor=True)
    assert record.read(EVIL).floor_found
    assert record.read(follow_up(user("sorry"))).floor_found
    assert not record.read(request(user("hello"))).floor_found
    assert not record.read(request(user("evil"), system="s")).floor_found
    other = Record()
    other.block(EVIL, floor=False)
    assert not other.read(follow_up(user("sorry"))).floor_found


# --- disclosure, keys -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turns", "carries"),
    [
        ([assistant("I am an AI. Hello.")], True),
        ([assistant([text("I am an AI."), text("Hello.")])], True),
        ([assistant([text("I am "), text("an AI.")])], True),
        ([user("I am an AI.")], False),
        ([assistant([{"type": "thinking", "thinking": "I am an AI."}])], False),
        ([assistant("Hello.")], False),
        (["I am an AI.", None], False),
    ],
)
def test_only_what_the_assistant_said_carries_the_disclosure(turns: list[Any], carries: bool):
    assert Record().read(request(*turns)).carries("I am an AI.") is carries


@settings(deadline=None)
@given(marked_requests(), st.booleans())
def test_what_was_allowed_once_is_context_the_second_time(body: JSON, redact: bool):
    record = Record(redact=redact)
    record.allow(body)
    history = record.read(body)
    assert judged(history) == []
    assert history.forwarded() is None
    unread = [item.path for item in history.read()[1]]
    assert all(path in ("tools", "messages") for path in unread)


@settings(deadline=None)
@given(marked_requests())
def test_everything_that_will_be_looked_up_is_remembered_under_the_same_keys(body: JSON):
    history = Record().read(body)
    found = (*history.allowed_keys(), *history.blocked_keys([], floor=True))
    assert set(found) <= set(history.keys())
    assert all(isinstance(part, Part) for part in history.read()[0].parts)
