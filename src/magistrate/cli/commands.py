"""The commands: one file a group; this one only puts them together.

Nothing here imports the SDK: a command that needs it does so when it runs.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from magistrate._version import __version__
from magistrate.cli import evals, reviews
from magistrate.cli.check import check
from magistrate.cli.coverage import coverage
from magistrate.cli.demo import demo
from magistrate.cli.explain import explain
from magistrate.cli.printing import UNUSABLE, console, text
from magistrate.cli.streams import replace_outputs
from magistrate.cli.validate import validate

app = typer.Typer(
    name="magistrate",
    help="LLM-judge moderation for the Claude API.",
    epilog="Exit codes of all commands: 2 also where a file cannot be read or written; 130 after "
    "Ctrl-C; 141 where nobody reads the output any more.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold what people wrote
)
app.command()(demo)
app.command()(check)
app.command()(validate)
app.command()(explain)
app.command()(coverage)
app.add_typer(evals.app, name="eval")
app.add_typer(reviews.app, name="reviews")


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

    Exits with 2 if the system refused something, and with 141 if nobody reads the output any more.
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
