"""The command line. `commands` puts it together, and takes a moment to load.

Nothing here imports the SDK: a command that needs it does so when it runs.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The console script. Ctrl-C ends it with 130 at any moment, while it loads too."""
    try:
        from magistrate.cli.commands import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


def __getattr__(name: str) -> object:
    if name == "app":
        from magistrate.cli.commands import app

        return app
    raise AttributeError(f"module 'magistrate.cli' has no attribute {name!r}")
