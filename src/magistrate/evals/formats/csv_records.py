"""Where the rows of a CSV file begin and end. Knows nothing of what is in them.

A quotation mark opens a value only where the value begins. Within it marks are doubled; after the
one that closes it comes a delimiter or the end of the row. A mark that breaks this rule, or is
never closed, spoils its own row and no other: reading goes on at the next line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import IO, Literal

_PIECE = 1 << 20  # bytes of a line that is too long, held at a time
_QUOTE = ord('"')
NEVER_CLOSED = "a quotation mark is never closed"

# Where in a row one is: at the start of a value, in a plain or a quoted one, after a mark in a
# quoted one that may close it, after the mark that did, or beyond a mark that is wrong.
_State = Literal["start", "plain", "quoted", "mark", "closed", "wrong"]
Record = tuple[int, bytes | None, str | None]  # line; bytes, None: too many; what is wrong with it


def csv_records(stream: IO[bytes], delimiter: bytes, most: int) -> Iterator[Record]:
    """Yield each row: the line it begins on, its bytes unless they are more than `most`, its fault.

    `delimiter` is one byte. The stream must be able to go back.
    """
    source = _Source(stream)
    while first := source.read():
        line, state = source.line, _after(first, "start", delimiter)
        pieces, size, second = [first], len(first), source.at
        lines = 1 if first.endswith(b"\n") else 0
        last = first
        # To the end of the line; of a quoted value, to the end of the line it is closed on.
        while not last.endswith(b"\n") or state == "quoted":
            last = source.read()
            if not last:
                break
            size += len(last)
            state = _after(last, state, delimiter)
            if size <= most:
                pieces.append(last)
            else:
                pieces.clear()
            if not lines:
                second = source.at
            lines += last.endswith(b"\n")
        if size > most:
            pieces.clear()
        wrong = NEVER_CLOSED if state == "quoted" else None
        if state == "wrong":
            wrong = "is not CSV: ',' expected after '\"'".replace(",", delimiter.decode(), 1)
        if wrong is not None and source.at != second:
            if lines > 1:
                wrong += f"; read as if it were, up to line {line + lines - 1}, it is one row"
            source.back(second, line + 1, pieces)
        else:
            source.line = line + max(lines, 1)
        yield line, b"".join(pieces) if pieces and wrong is None else None, wrong


class _Source:
    """Pieces of lines, of which some may be read again. `line` is that of the next row."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._again: deque[bytes] = deque()
        self.line = 1
        self.at = 0  # bytes read

    def read(self) -> bytes:
        piece = self._again.popleft() if self._again else self._stream.readline(_PIECE)
        self.at += len(piece)
        return piece

    def back(self, to: int, line: int, pieces: list[bytes]) -> None:
        """Go back to byte `to`, where `line` begins; by the last pieces that were read, if held."""
        keep: list[bytes] = []
        at = self.at
        for piece in reversed(pieces):
            if at == to:
                break
            keep.append(piece)
            at -= len(piece)
        if at == to and keep:
            self._again.extendleft(keep)
        else:
            self._again.clear()
            self._stream.seek(to)
        self.at, self.line = to, line


def _after(piece: bytes, state: _State, delimiter: bytes) -> _State:
    """Return where one is after a piece of a line."""
    at, end, separator = 0, len(piece), delimiter[0]
    while at < end and state != "wrong":
        match state:
            case "quoted":
                found = piece.find(b'"', at)
                at, state = (end, "quoted") if found < 0 else (found + 1, "mark")
            case "mark":
                state = "quoted" if piece[at] == _QUOTE else "closed"
                at += state == "quoted"
            case "closed":
                if piece[at] not in (separator, *b"\r\n"):
                    return "wrong"
                state = "start" if piece[at] == separator else "closed"
                at += 1
            case "start":
                state = "quoted" if piece[at] == _QUOTE else "plain"
                at += state == "quoted"
            case "plain":
                found = piece.find(delimiter, at)
                at, state = (end, "plain") if found < 0 else (found + 1, "start")
    return state
