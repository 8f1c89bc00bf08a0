"""Cuts a byte stream into lines, as the SDK does for a batch's results. Pure."""

from __future__ import annotations

import re

# A CR at the end may be half of a CRLF.
_END = re.compile(rb"\r\n|\n|\r(?!\n|\Z)")


class LineDecoder:
    """Cuts at LF, CRLF and CR, independent of where chunks end. Empty lines are left out."""

    def __init__(self) -> None:
        # Joined only where a line may end, so that feeding takes linear time.
        self._held: list[bytes] = []
        self.size = 0  # bytes of the line that has not ended yet

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes."""
        pending = bool(self._held) and self._held[-1].endswith(b"\r")
        self._held.append(chunk)
        self.size += len(chunk)
        if not (pending or b"\n" in chunk or b"\r" in chunk):
            return []
        *lines, rest = _END.split(b"".join(self._held))
        self._held, self.size = [rest], len(rest)
        return [line for line in lines if line.strip()]

    def flush(self) -> list[bytes]:
        """Return the last line, if it has no end."""
        rest, self._held, self.size = b"".join(self._held), [], 0
        return [rest] if rest.strip() else []
