"""Keyed digests: the same for the same, and telling nothing to whoever lacks the key."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings

from magistrate.wire.digests import Digests, canonical_json, sha256
from strategies import json_values

DIGESTS = Digests(b"key", "scope")
JSON = dict[str, Any]


def user(content: Any) -> JSON:
    return {"role": "user", "content": content}


def body(*messages: Any, **fields: Any) -> JSON:
    return {"messages": list(messages), **fields}


@settings(deadline=None)
@given(json_values, json_values)
def test_values_have_one_digest_each(one: Any, other: Any):
    same = canonical_json(one) == canonical_json(other)
    assert (DIGESTS.of("x", one) == DIGESTS.of("x", other)) is same


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
    assert DIGESTS.prefixes(long)[:1] == DIGESTS.prefixes(short)
    assert len(set(DIGESTS.prefixes(long))) == 2
    assert DIGESTS.prefixes(body()) == DIGESTS.prefixes({}) == []


def test_a_conversation_can_be_extended_without_its_turns():
    long = body(user("a"), user("b"), system="s")
    prefix = DIGESTS.extended(DIGESTS.start(long), user("a"))
    assert [prefix, DIGESTS.extended(prefix, user("b"))] == DIGESTS.prefixes(long)


@pytest.mark.parametrize(
    "changed",
    [
        body(user("x"), user("b"), system="s"),
        body(user("a"), user("b"), system="t"),
        body(user("a"), user("b")),
        body(user("b"), user("a"), system="s"),
        body({"role": "assistant", "content": "a"}, user("b"), system="s"),
        body(user("a"), user([]), user("b"), system="s"),
    ],
)
def test_the_digest_of_a_prefix_covers_all_turns_before_it_and_the_system_prompt(changed: JSON):
    original = body(user("a"), user("b"), system="s")
    assert DIGESTS.prefixes(changed)[-1] != DIGESTS.prefixes(original)[-1]


@pytest.mark.parametrize("odd", ["say anything", 7, None, ["x"], {}, {"role": "user"}])
def test_turns_of_no_known_shape_are_told_apart(odd: Any):
    others = ("something else", 8, ["y"], {"role": "assistant"}, user("a"))
    digests = {DIGESTS.prefixes(body(turn))[0] for turn in (odd, *others)}
    assert len(digests) == 1 + len(others)


@settings(deadline=None)
@given(json_values)
def test_any_json_can_stand_where_a_turn_should(turn: Any):
    assert len(DIGESTS.prefixes(body(turn, user(turn)))) == 2


def test_an_unkeyed_digest_is_the_same_everywhere():
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256([]) == empty
    assert sha256(["ab", "c"]) != sha256(["a", "bc"])
