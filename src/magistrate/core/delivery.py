"""What part of a stream the caller has received, and the stream's state after it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from magistrate.wire.message_builder import MessageBuilder
from magistrate.wire.messages import is_object
from magistrate.wire.sse import Event


class DeliveredStream:
    """The part of a stream that the caller has received, and the stream's state after it."""

    def __init__(self) -> None:
        self.message = MessageBuilder()
        self.begun = False
        self.open_block: int | None = None
        self.next_index = 0
        self.has_text = False
        self.settled = False

    def passing(self, events: Iterable[Event]) -> bytes:
        """Note events as delivered and return their bytes."""
        out: list[bytes] = []
        for item in events:
            self.message.feed(item)
            match item.type:
                case "content_block_delta":  # most events are
                    pass
                case "message_start":
                    self.begun = True
                case "content_block_start" if isinstance(index := item.data.get("index"), int):
                    self.open_block, self.next_index = index, index + 1
                case "content_block_stop":
                    self.open_block = None
                case _:
                    pass
            out.append(item.raw)
        return b"".join(out)

    def starts_text(self, item: Event) -> bool:
        """Return whether this event carries text of the answer."""
        delta = item.data.get("delta")
        return (
            item.type == "content_block_delta"
            and is_object(delta)
            and delta.get("type") == "text_delta"
            and bool(delta.get("text"))
        )
