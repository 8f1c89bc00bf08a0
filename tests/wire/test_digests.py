"""Keyed digests: the same for the same, and telling nothing to whoever lacks the key."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.wire.content import setup_of
from magistrate.wire.digests import Digests, GrowingDigest, canonical_json, fingerprint, sha256
from strategies import json_values

DIGESTS = Digests(b"key", "scope")
JSON = dict[str, Any]


def user(content: Any) -> JSON:
    return {"role": "user", "content": content}


def body(*messages: Any, **fields: Any) -> JSON:
    return {"messages": list(messages), **fields}


def prefixes(request: JSON) -> list[str]:
    """The digests up to each turn, of a request read as the flow reads it."""
    return DIGESTS.chain(setup_of(request), request.get("messages", []))[1:]


@settings(deadline=None)
@given(json_values, json_values)
def test_values_have_one_digest_each(one: Any, other: Any):
    same = canonical_json(one) == canonical_json(other)
    assert (DIGESTS.of("x", one) == DIGESTS.of("x", other)) is same


# What encoders of JSON have confused, or written each in its own way.
EDGES: tuple[Any, ...] = (
    *(None, "null", True, False, 0, 1, 0.0, -0.0, 1.0, "1"),
    *(float("nan"), float("inf"), -float("inf"), "NaN"),
    *(2**53, float(2**53), 2**63, -(2**63), 2**64 - 1, 2**64, float(2**64), -(2**63) - 1, 10**30),
    *(1e16, 10**16, 1e-7, 1e22, 1e300, 5e-324, 0.1, 0.1 + 0.2),
    *(
        "",
        "\ud800",
        "\\ud800",
        "\udc00",
        "\ud83d\ude00",
        "😀",
        "\x00",
        "\x7f",
        "\u2028",
        "é",
        "e\u0301",
    ),
    *([], {}, [None], [[]], {"": None}, {"null": 0}),
)
_edges = st.sampled_from(EDGES)
_keys = st.sampled_from(("", "a", "b", "é", "\uffff", "😀", "\ud800", "null"))
edge_values = st.recursive(
    _edges,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=6,
)


def identity(value: Any) -> Any:
    """What a JSON value is, told by Python's own types: the oracle for its bytes."""
    match value:
        case dict():
            return "object", frozenset((key, identity(item)) for key, item in value.items())
        case list():
            return "array", tuple(map(identity, value))
        case float():
            return "float", repr(value)
        case _:
            return type(value), value


def shuffled(value: Any, random: Any) -> Any:
    """The same value with the keys of its objects in another order."""
    match value:
        case dict():
            items = [(key, shuffled(item, random)) for key, item in value.items()]
            random.shuffle(items)
            return dict(items)
        case list():
            return [shuffled(item, random) for item in value]
        case _:
            return value


@settings(deadline=None, max_examples=400)
@given(edge_values, edge_values, st.randoms(use_true_random=False))
def test_different_values_have_different_digests_and_equal_ones_the_same(
    one: Any, other: Any, random: Any
):
    same = identity(one) == identity(other)
    assert (DIGESTS.of("x", one) == DIGESTS.of("x", other)) is same
    assert DIGESTS.of("x", one) == DIGESTS.of("x", shuffled(one, random))


def test_no_two_values_at_the_edge_of_json_have_a_digest_in_common():
    assert len({DIGESTS.of("x", value) for value in EDGES}) == len(EDGES)
    assert len({DIGESTS.of("x", [value]) for value in EDGES}) == len(EDGES)
    assert len({DIGESTS.of("x", {"a": value}) for value in EDGES}) == len(EDGES)


class Item:
    """Something with a JSON form, which counts how often it is asked for it."""

    def __init__(self, value: Any) -> None:
        self.value, self.asked = value, 0

    def as_json(self) -> Any:
        self.asked += 1
        return self.value


@settings(deadline=None)
@given(st.data())
def test_a_digest_that_grows_is_the_one_that_is_made_at_once(data: st.DataObject):
    """Whatever was asked before: longer, shorter, other items, another part likely to last."""
    pool = [Item(value) for value in data.draw(st.lists(json_values, min_size=1, max_size=5))]
    growing = GrowingDigest(DIGESTS, "x")
    for _ in range(data.draw(st.integers(1, 5))):
        items = tuple(data.draw(st.lists(st.sampled_from(pool), max_size=6)))
        about = data.draw(json_values)
        found = growing.of(items, data.draw(st.integers(0, len(items))), about)
        assert found == GrowingDigest(DIGESTS, "x").of(items, 0, about)


def test_everything_about_a_sequence_counts_in_its_digest():
    def of(*values: Any, about: Any = None, purpose: str = "x") -> str:
        return GrowingDigest(DIGESTS, purpose).of(tuple(map(Item, values)), 0, about)

    digests = [
        *(of(), of(1), of(1, 2), of(2, 1), of([1, 2]), of(1, 2, about=3), of(1, 2, 3)),
        *(of([0, None]), of(about=[0, None]), of(1, 2, purpose="y")),
    ]
    assert len(set(digests)) == len(digests)


def test_what_lasts_is_hashed_once():
    growing, items = GrowingDigest(DIGESTS, "x"), [Item(n) for n in range(9)]
    for count in range(1, 9):
        growing.of(tuple(items[: count + 1]), count, None)
    assert [item.asked for item in items] == [1, *[2] * 7, 1]  # first as the last, then as lasting


@pytest.mark.parametrize(
    "other",
    [
        Digests(b"another key", "scope").of("x", "hi"),
        Digests(b"key", "another scope").of("x", "hi"),
        DIGESTS.of("y", "hi"),
        DIGESTS.of("x", "hi", None),
        DIGESTS.of("x", "h", "i"),
        DIGESTS.of("x", ["hi"]),
        DIGESTS.of("x"),
        hashlib.sha256(b"hi").hexdigest(),
        sha256(["hi"]),
    ],
)
def test_key_scope_purpose_and_boundaries_all_count(other: str):
    assert DIGESTS.of("x", "hi") != other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", 1),
        (1, True),
        (0, False),
        (None, "null"),
        ({}, []),
        ("\ud800", "\\ud800"),
        ("\x00", "\\u0000"),
        ("e\u0301", "é"),
        (["a", "b"], ["ab"]),
        ({"a": "b"}, ["a", "b"]),
    ],
)
def test_values_that_look_alike_are_told_apart(one: Any, other: Any):
    assert DIGESTS.of("x", one) != DIGESTS.of("x", other)


def test_values_side_by_side_are_not_one_value():
    assert DIGESTS.of("x", 1, 2) != DIGESTS.of("x", 12)
    assert DIGESTS.of("x", -1) != DIGESTS.of("x", "-", 1)


def test_the_order_of_keys_does_not_count():
    assert DIGESTS.of("x", {"a": 1, "b": 2}) == DIGESTS.of("x", {"b": 2, "a": 1})


def test_a_digest_is_hexadecimal_and_holds_nothing_of_the_text():
    found = DIGESTS.of("x", "a secret")
    assert len(bytes.fromhex(found)) == 32


def test_there_is_one_digest_for_each_prefix_of_a_conversation():
    short, long = body(user("a")), body(user("a"), user("b"))
    assert prefixes(long)[:1] == prefixes(short)
    assert len(set(prefixes(long))) == 2
    assert prefixes(body()) == prefixes({}) == []


def test_a_conversation_can_be_extended_without_its_turns():
    long = body(user("a"), user("b"), system="s")
    prefix = DIGESTS.extended(DIGESTS.chain(setup_of(long), [])[0], user("a"))
    assert [prefix, DIGESTS.extended(prefix, user("b"))] == prefixes(long)


@pytest.mark.parametrize(
    "changed",
    [
        body(user("x"), user("b"), system="s"),
        body(user("a"), user("b"), system="t"),
        body(user("a"), user("b")),
        body(user("b"), user("a"), system="s"),
        body({"role": "assistant", "content": "a"}, user("b"), system="s"),
        body(user("a"), user([]), user("b"), system="s"),
        body(user("a"), user("b"), system="s", tools=[{"name": "t"}]),
        body(user("a"), user("b"), system="s", stop_sequences=["x"]),
        body({**user("a"), "note": "x"}, user("b"), system="s"),
        body(user([{"type": "text", "text": "a", "cache_control": "x"}]), user("b"), system="s"),
    ],
)
def test_the_digest_of_a_prefix_covers_all_turns_before_it_and_the_system_prompt(changed: JSON):
    original = body(user("a"), user("b"), system="s")
    assert prefixes(changed)[-1] != prefixes(original)[-1]


@pytest.mark.parametrize("odd", ["say anything", 7, None, ["x"], {}, {"role": "user"}])
def test_turns_of_no_known_shape_are_told_apart(odd: Any):
    others = ("something else", 8, ["y"], {"role": "assistant"}, user("a"))
    digests = {prefixes(body(turn))[0] for turn in (odd, *others)}
    assert len(digests) == 1 + len(others)


@settings(deadline=None)
@given(json_values)
def test_any_json_can_stand_where_a_turn_should(turn: Any):
    assert len(prefixes(body(turn, user(turn)))) == 2


def test_an_unkeyed_digest_is_the_same_everywhere():
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256([]) == empty
    assert sha256(["ab", "c"]) != sha256(["a", "bc"])


def test_the_digest_of_a_value_that_is_no_secret_never_changes():
    """It stands in results that were recorded long ago."""
    value = {"b": [1.0, 1e-7, 1e16, None, True], "a": "é\ud800"}
    written = b'{"a":"\xc3\xa9\xed\xa0\x80","b":[1.0,1e-07,1e+16,null,true]}'
    assert canonical_json(value) == written
    assert fingerprint(value) == hashlib.sha256(written).hexdigest()
    assert sha256([value]) == hashlib.sha256(len(written).to_bytes(8, "big") + written).hexdigest()
