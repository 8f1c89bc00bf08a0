"""Lines of a batch's results, as the SDK cuts them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
from anthropic._decoders.jsonl import JSONLDecoder
from hypothesis import given
from hypothesis import strategies as st

from magistrate.wire.lines import LineDecoder
from strategies import cuts


def fed(chunks: list[bytes]) -> list[bytes]:
    decoder = LineDecoder()
    return [line for chunk in chunks for line in decoder.feed(chunk)] + decoder.flush()


def as_the_sdk_reads(data: bytes) -> list[object]:
    chunks: Iterator[bytes] = iter([data])
    response = httpx2.Response(200)
    return list(JSONLDecoder(raw_iterator=chunks, line_type=object, http_response=response))


@given(
    st.lists(st.integers(0, 99), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.booleans(),
    st.data(),
)
def test_lines_are_the_sdks_wherever_chunks_end(
    values: list[int], end: bytes, last: bool, data: st.DataObject
) -> None:
    whole = end.join(json.dumps({"n": value}).encode() for value in values)
    whole += end * (last and bool(values))
    found = fed(data.draw(cuts(whole)))
    assert [json.loads(line) for line in found] == as_the_sdk_reads(whole)


def test_a_line_without_an_end_is_kept_without_being_joined_again_and_again() -> None:
    """Feeding joins nothing before a line can end; its size is known all the same."""
    decoder = LineDecoder()
    for _ in range(1_000):
        assert decoder.feed(b"x" * 64) == []
    assert decoder.size == 64_000
    assert len(decoder._held) == 1_000
    assert decoder.feed(b"y\nz") == [b"x" * 64_000 + b"y"]
    assert decoder.size == 1
