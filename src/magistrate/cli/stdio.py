"""Where the command line's words go: terminals of any encoding, full disks, pipes that close.

Standard output and standard error are replaced once, for the whole process, so that no command
has to think of them.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")

BROKEN_PIPE = 141  # 128 + SIGPIPE: what a shell reports of any program whose reader went away


class Output(io.TextIOWrapper):
    """A standard stream that shows `?` for what it cannot encode.

    `SystemExit(141)` when its reader is gone: neither typer nor rich, which both make 1 of
    a broken pipe, sees the error. Any other `OSError` carries `called` as its `filename`.
    """

    def __init__(self, stream: io.TextIOWrapper[Any], called: str) -> None:
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors="replace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._called = called

    def write(self, text: str, /) -> int:
        # Libraries write nothing to see what a stream is, and take no offence at any error.
        return 0 if text == "" else self._try(lambda: super(Output, self).write(text))

    def flush(self) -> None:
        self._try(super().flush)

    def _try(self, write: Callable[[], T]) -> T:
        try:
            return write()
        except OSError as error:
            # What is still in the buffer would fail again when the interpreter ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if isinstance(error, BrokenPipeError):
                raise SystemExit(BROKEN_PIPE) from None
            error.filename = self._called
            raise


def replace_outputs() -> None:
    """Replace both standard streams by an `Output`. A closed one discards what is written."""
    for name, called in (("stdout", "standard output"), ("stderr", "standard error")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, Output(cast("io.TextIOWrapper[Any]", stream), called))
