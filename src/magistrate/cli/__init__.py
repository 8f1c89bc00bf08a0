"""The command line. `commands` puts it together, and takes a moment to load.

Nothing here imports the SDK: a command that needs it does so when it runs.
"""

from __future__ import annotations

import sys

_EXTRA = ("rich", "typer")  # what the extra `cli` brings


def main() -> None:
    """The console script. Ctrl-C ends it with 130 at any moment, while it loads too.

    Exits with 2 where the extra `cli` is not installed.
    """
    try:
        from magistrate.cli.commands import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        print(
            f"the command line needs {error.name}: pip install 'magistrate[cli]'", file=sys.stderr
        )
        sys.exit(2)


def __getattr__(name: str) -> object:
    if name == "app":
        from magistrate.cli.commands import app

        return app
    raise AttributeError(f"module 'magistrate.cli' has no attribute {name!r}")
