"""Every field of the SDK's types, of another type too, and fields of no known name.

Each has a mark. A mark is in something that a judge is given, or its place is named as uninspected,
or it is on the list below, with a reason. What is judged is also inside the digest by which an
allowed conversation is recognised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import anthropic
import pytest
from anthropic.types import beta
from anthropic.types import message_create_params as stable_params
from anthropic.types.beta import message_create_params as beta_params

from magistrate.core.effects import StartJudging, Write
from magistrate.core.events import Head
from magistrate.settings import Settings
from magistrate.verdicts import Verdict
from magistrate.wire.content import read_answer, read_request, setup_of
from magistrate.wire.digests import Digests
from magistrate.wire.messages import turns
from magistrate.wire.parts import Extracted
from magistrate.wire.sse import event
from play import JUDGE, World, play
from sdk_types import SLOT, Marks, Path, changed, named, places
from sdk_types import filled as fill

JSON = dict[str, Any]
SLOW = pytest.mark.slow
filled = cache(fill)  # takes long, and nobody changes what it gives
DIGESTS = Digests(b"key", "scope")

REQUESTS: dict[str, Any] = {
    "messages": stable_params.MessageCreateParamsNonStreaming,
    "beta messages": beta_params.MessageCreateParamsNonStreaming,
}
ANSWERS: dict[str, Any] = {"message": anthropic.types.Message, "beta message": beta.BetaMessage}

# Places whose strings are not judged, whatever they say, and why. A full match of the path.
NEVER_READ = {
    r"metadata\.user_id": "the application's id of a user: no model reads it",
    r"mcp_servers\[\d+\]\.authorization_token": "a credential: no judge may see it",
    r"error\.message": "the provider's own words; the SDK raises them",
}
# Places whose strings are not judged if they are one word, as the API states: ids, names from a
# list, seals. With a space in it, a string there is judged like any other.
ONE_WORD = {
    r"(.*\.)?(id|container|tool_id|file_id|skill_id)": "ids pair things at the provider",
    r"model|usage\.iterations\[\d+\]\.model": "the name of a model",
    r"(.*\.)?(type|role|version|expires_at)": "a word from the API's list, a version, a date",
    r"(.*\.)?transformations\.oversized_image": "what the API does with a large image",
    r"(.*\.)?signature": "a seal that only the provider can make and read",
    r"(.*\.)?cache_control\.\w+": "where the provider caches",
    r"betas\[\d+\]": "names of the API's own versions",
    r"inference_geo|service_tier|speed|billing_policy\.\w+": "how the request is served",
    r"user_profile_id|workspace_id|(thread|diagnostics)\.previous_message_id": "ids there",
    r"(stop_details\.)?fallback_credit_token": "a token of the provider's",
    r"thinking\.(\w+\.)?\w+|output_config\.effort": "settings of the model",
    r"stop_reason|stop_details\.category": "a word from the API's list",
    r"stop_details\.recommended_model": "the name of a model",
    r"diagnostics\.cache_miss_reason\.type": "a word from the API's list",
    r"input_transformations\[\d+\]\.(path|reason)": "which block was dropped, and why",
    r"usage\.(inference_geo|service_tier|speed)": "how the request was served",
}


def excused(path: str, *, words: bool) -> bool:
    rows = NEVER_READ if words else {**NEVER_READ, **ONE_WORD}
    return any(re.fullmatch(row, path) for row in rows)


def given(*found: Extracted) -> str:
    """All that a judge is given of what was read."""
    return json.dumps(
        [[part.text, part.labels, part.attachment] for place in found for part in place.parts],
        ensure_ascii=False,
    )


def named_unread(*found: Extracted) -> list[str]:
    return [item.path.removeprefix("response.") for place in found for item in place.uninspected]


def lost(marks: Marks, text: str, unread: list[str], *, words: bool) -> list[str]:
    """The places whose mark no judge is given, that are not named, and that are on no list."""
    judged = set(marks.found_in(text))
    return [
        path
        for mark, path in marks.at.items()
        if mark not in judged
        and not any(path.startswith(place) or place.startswith(path) for place in unread)
        and not excused(path, words=words)
    ]


def requests() -> Iterator[Any]:
    for name, kind in REQUESTS.items():
        for number, body in enumerate(filled(kind)):
            # One conversation with every turn and block, whichever alternative it came from.
            yield pytest.param(body, id=f"{name} {number}")


def answers() -> Iterator[Any]:
    for name, kind in ANSWERS.items():
        for number, message in enumerate(filled(kind)):
            yield pytest.param(message, id=f"{name} {number}")


def read_whole(body: JSON) -> tuple[str, list[str]]:
    content = read_request(body)
    found = (content.setup, *content.turns)
    return given(*found), named_unread(*found)


def read_reply(message: JSON) -> tuple[str, list[str]]:
    found = read_answer(message)
    return given(found), named_unread(found)


def test_the_oracle_reaches_the_api():
    """It fills what is known to exist; so a change of the SDK cannot empty it in silence."""
    paths = {
        re.sub(r"\[\d+\]", "[]", named(at))
        for kind in REQUESTS.values()
        for body in filled(kind)
        for at, _ in places(body)
    }
    assert {
        "messages[].content[].text",
        "messages[].content[].source.data",
        "messages[].content[].content[].citations[].cited_text",
        "tools[].description",
        "mcp_servers[].authorization_token",
        "output_config.format.schema",
        "system[].text",
        "stop_sequences[]",
    } <= paths
    kinds = {
        block["type"]
        for kind in ANSWERS.values()
        for message in filled(kind)
        for block in message["content"]
    }
    assert len(kinds) > 10


@pytest.mark.parametrize("words", [True, False], ids=["sentences", "words"])
@pytest.mark.parametrize("body", [*requests()])
def test_every_string_of_a_request_is_judged_or_named(body: JSON, words: bool):
    marks = Marks(words=words)
    text, unread = read_whole(marks.in_slots(body))
    assert lost(marks, text, unread, words=words) == []


@pytest.mark.parametrize("words", [True, False], ids=["sentences", "words"])
@pytest.mark.parametrize("message", [*answers()])
def test_every_string_of_an_answer_is_judged_or_named(message: JSON, words: bool):
    marks = Marks(words=words)
    text, unread = read_reply(marks.in_slots(message))
    assert lost(marks, text, unread, words=words) == []


@pytest.mark.parametrize("words", [True, False], ids=["sentences", "words"])
@pytest.mark.parametrize("body", [*requests()])
def test_a_new_field_anywhere_in_a_request_is_judged_or_named(body: JSON, words: bool):
    marks = Marks(words=words)
    text, unread = read_whole(marks.in_new_fields(body))
    assert lost(marks, text, unread, words=words) == []


@pytest.mark.parametrize("words", [True, False], ids=["sentences", "words"])
@pytest.mark.parametrize("message", [*answers()])
def test_a_new_field_anywhere_in_an_answer_is_judged_or_named(message: JSON, words: bool):
    marks = Marks(words=words)
    text, unread = read_reply(marks.in_new_fields(message))
    assert lost(marks, text, unread, words=words) == []


def of_other_types(value: Any, mark: str) -> list[Any]:
    """Values of other types than this one's, each with the mark."""
    if isinstance(value, str):
        return [{"say": mark}, [mark], [{"say": mark}]]
    if isinstance(value, dict):
        return [mark, [mark], [{"say": mark}]]
    if isinstance(value, list):
        return [mark, {"say": mark}]
    return [mark, {"say": mark}, [mark]]


# The fast run puts one of these values into each place, in turn; the slow run puts all.
EACH_OR_ALL = pytest.mark.parametrize(
    "every",
    [pytest.param(False, id="one type each"), pytest.param(True, id="all types", marks=SLOW)],
)


def some_of_other_types(old: Any, mark: str, number: int, *, every: bool) -> list[Any]:
    values = of_other_types(old, mark)
    return values if every else [values[number % len(values)]]


def one_of_each_place(value: JSON) -> list[Path]:
    """The places of an object, one for each path apart from its numbers and kinds of objects."""
    chosen: dict[tuple[str, ...], Path] = {}

    def visit(item: Any, at: Path, key: tuple[str, ...]) -> None:
        if at and key in chosen:
            return
        chosen[key] = at
        if isinstance(item, dict):
            kind = str(item.get("type"))
            for name, inner in item.items():
                visit(inner, (*at, name), (*key, kind, name))
        elif isinstance(item, list):
            for index, inner in enumerate(item):
                kind = str(inner.get("type")) if isinstance(inner, dict) else ""
                visit(inner, (*at, index), (*key, kind))

    visit(value, (), ())
    return [at for at in chosen.values() if at]


def alone(value: Any, at: Path) -> tuple[Any, Path, Any]:
    """The object with nothing beside the place in any list on the way, its place there, and what
    stands there."""
    if not at:
        return value, (), value
    step = at[0]
    inner, rest, old = alone(value[step], at[1:])
    if isinstance(step, int):
        return [inner], (0, *rest), old
    return {**value, step: inner}, (step, *rest), old


def put(value: Any, at: Path, new: Any) -> Any:
    if not at:
        return new
    inner = put(value[at[0]], at[1:], new)
    if isinstance(value, list):
        return [*value[: at[0]], inner, *value[at[0] + 1 :]]
    return {**value, at[0]: inner}


def small(body: JSON, at: Path) -> JSON:
    """The request with little besides the field that the place is in."""
    rest: JSON = {"messages": [{"role": "user", "content": "hi"}]}
    return {**rest, at[0]: body[at[0]]}


@EACH_OR_ALL
@pytest.mark.parametrize("body", [*requests()])
def test_a_value_of_another_type_in_a_request_is_judged_or_named_and_digested(
    body: JSON, every: bool
):
    filled_in = Marks(words=False).in_slots(body)
    wrong: list[str] = []
    for number, place in enumerate(one_of_each_place(filled_in)):
        base, at, old = alone(small(filled_in, place), place)
        before = digest_of(base)
        marks = Marks(words=True)
        for new in some_of_other_types(old, mark := marks.new(at), number, every=every):
            odd = put(base, at, new)
            text, unread = read_whole(odd)
            gone = lost(marks, text, unread, words=True)
            wrong += [f"{path} = {new!r}" for path in gone]
            if mark in text and digest_of(odd) == before:
                wrong.append(f"{named(at)} = {new!r} is outside the digest")
    assert not wrong, "\n".join(wrong)


def digest_of(body: JSON) -> tuple[str, int]:
    chain = DIGESTS.chain(setup_of(body), turns(body))
    return chain[-1], len(chain)


@EACH_OR_ALL
@pytest.mark.parametrize("message", [*answers()])
def test_a_value_of_another_type_in_an_answer_is_judged_or_named(message: JSON, every: bool):
    filled_in = Marks(words=False).in_slots(message)
    wrong: list[str] = []
    for number, place in enumerate(one_of_each_place(filled_in)):
        if place == ("content",):
            continue  # without an array of blocks it is no answer, and an upstream error
        base, at, old = alone(filled_in, place)
        marks = Marks(words=True)
        for new in some_of_other_types(old, marks.new(at), number, every=every):
            text, unread = read_reply(put(base, at, new))
            wrong += [f"{path} = {new!r}" for path in lost(marks, text, unread, words=True)]
    assert not wrong, "\n".join(wrong)


# --- the same as a stream -------------------------------------------------------------------------

EVENTS = [
    pytest.param(item, id=f"{item['type']} {name} {number}")
    for name, kind in (
        ("beta", beta.BetaRawMessageStreamEvent),
        ("", anthropic.types.RawMessageStreamEvent),
    )
    for number, item in enumerate(filled(kind))
]
WARN = {
    reason: "warn"
    for reason in ("file", "media", "encrypted", "thread", "unknown_block", "unknown_event")
} | {"remote_tools": "warn", "unknown_field": "warn"}
WARNING = Settings.load({"version": 1, "on_uninspected": WARN})


def around(item: JSON) -> list[JSON]:
    """A stream in which an event of any type can stand."""
    begin: JSON = {"type": "message_start", "message": {"id": "m", "content": [], "usage": {}}}
    text: JSON = {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "text", "text": ""},
    }
    words: JSON = {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "text_delta", "text": "and so on " * 40},
    }
    end: JSON = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}
    stop: JSON = {"type": "content_block_stop", "index": 1}
    return [begin, text, words, item, words, stop, end, {"type": "message_stop"}]


def check_stream(item: JSON, marks: Marks, *, words: bool) -> list[str]:
    """The places in an event whose mark reached the caller before a judge was given it."""
    events = [event(each) for each in around(item)]
    world = World(
        lambda subject: Verdict(JUDGE),
        head=Head(ok=True, sse=True),
        chunks=[each.raw for each in events],
    )
    body: JSON = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    played = play(body, world, WARNING, stream=True)
    seen, wrong, delivered = "", [], ""
    noted = [each.path for each in played.exchange.output.uninspected]
    for effect in played.effects:
        if isinstance(effect, StartJudging):
            seen += json.dumps(
                [[part.text, part.labels] for part in effect.subject.parts], ensure_ascii=False
            )
        if isinstance(effect, Write):
            text = effect.data.decode()
            delivered += text
            for mark, path in marks.at.items():
                inner = re.sub(r"^(message|delta|content_block)\.", "", path)
                if (
                    mark in text
                    and mark not in seen.replace('\\"', '"')
                    and not noted
                    and not excused(inner, words=words)
                ):
                    wrong.append(path)
    return wrong


@pytest.mark.parametrize("words", [True, False], ids=["sentences", "words"])
@pytest.mark.parametrize("item", EVENTS)
def test_every_string_of_an_event_is_judged_or_named(item: JSON, words: bool):
    marks = Marks(words=words)
    assert check_stream(marks.in_slots(item), marks, words=words) == []


@pytest.mark.parametrize("item", EVENTS)
def test_a_new_field_anywhere_in_an_event_is_judged_or_named(item: JSON):
    marks = Marks(words=False)
    assert check_stream(marks.in_new_fields(item), marks, words=False) == []


# The alternatives of a message without its content differ little: all are tried in the slow run.
ODD_EVENTS = [
    pytest.param(
        *row.values,
        id=row.id,
        marks=SLOW
        if str(row.id).startswith("message_start") and not str(row.id).endswith(" 0")
        else (),
    )
    for row in EVENTS
]


@EACH_OR_ALL
@pytest.mark.parametrize("item", ODD_EVENTS)
def test_a_value_of_another_type_in_an_event_is_judged_or_named(item: JSON, every: bool):
    filled_in = changed(item, lambda _, each: "word" if each == SLOT else each)
    wrong: list[str] = []
    for number, place in enumerate(one_of_each_place(filled_in)):
        base, at, old = alone(filled_in, place)
        marks = Marks(words=True)
        for new in some_of_other_types(old, marks.new(at), number, every=every):
            odd = put(base, at, new)
            wrong += [f"{path} = {new!r}" for path in check_stream(odd, marks, words=True)]
    assert not wrong, "\n".join(wrong)
