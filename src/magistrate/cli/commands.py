"""The commands: one file a group; this one only lists them.

A command's file is imported when it is called, and imports in the command's body what `--help` can
do without: the SDK, the judges, the store.
"""

from __future__ import annotations

import sys
from typing import Annotated, ClassVar

import typer

from magistrate._version import __version__
from magistrate.cli.lazy import LazyGroup, Source
from magistrate.cli.printing import UNUSABLE, console, text
from magistrate.cli.stdio import replace_outputs


class Commands(LazyGroup):
    """All commands and groups of `magistrate`."""

    sources: ClassVar[dict[str, Source]] = {
        "demo": Source(
            "magistrate.cli.demo",
            "demo",
            "Watch requests and streams be judged, and come back allowed, disclosed, held or "
            "blocked.",
        ),
        "check": Source(
            "magistrate.cli.check",
            "check",
            "Judge one text or request under the configuration, without asking for an answer to "
            "it.",
        ),
        "validate": Source(
            "magistrate.cli.validate",
            "validate",
            "Check a configuration and say in plain words what it will do.",
        ),
        "explain": Source(
            "magistrate.cli.explain",
            "explain",
            "Explain a rule of the policy, and what the configuration makes of it.",
        ),
        "coverage": Source(
            "magistrate.cli.coverage",
            "coverage",
            "Show which calls and which content of the installed SDK are judged.",
        ),
        "eval": Source(
            "magistrate.cli.evals",
            "app",
            "Measure a judge, a policy and settings on labelled cases.",
        ),
        "serve": Source(
            "magistrate.cli.serve",
            "serve",
            "Serve the Messages API, moderated, to any client in any language.",
        ),
        "gateway": Source("magistrate.cli.gateway", "app", "Manage a gateway."),
        "hooks": Source("magistrate.cli.hooks", "app", "Try a server of inference hooks."),
        "db": Source(
            "magistrate.cli.db",
            "app",
            "Make, change or remove the tables of a review queue in PostgreSQL.",
        ),
        "reviews": Source(
            "magistrate.cli.reviews", "app", "List held answers, read them, release or reject them."
        ),
    }


app = typer.Typer(
    name="magistrate",
    cls=Commands,
    help="LLM-judge moderation for the Claude API.",
    epilog="Exit codes of all commands: 2 also where a file cannot be read or written; 130 after "
    "Ctrl-C; 141 where the reader of the output is gone.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold what people wrote
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"magistrate {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def run() -> None:
    """Run the command that was typed; what a file, disk, terminal or pipe refuses ends in words.

    Exits with 2 if the system refused something, and with 141 if the reader of the output is gone.
    """
    replace_outputs()
    try:
        try:
            app()
        finally:
            print(end="", flush=True)  # a full disk may show only now
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        words = text(f"{where}{error.strerror or error}")
        console(stderr=True).print(words, soft_wrap=True)
        sys.exit(UNUSABLE)
