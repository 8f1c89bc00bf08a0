"""Prints what the clients said."""

from __future__ import annotations

import pytest
import transcript


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if len(found := transcript.lines()) > 1:
        terminalreporter.section("what each client said")
        for line in found:
            terminalreporter.write_line(line)
