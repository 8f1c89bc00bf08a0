"""The command line. One file a command group; this one only puts them together.

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
from magistrate.cli.validate import validate

app = typer.Typer(
    name="magistrate",
    help="LLM-judge moderation for the Claude API.",
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


def main() -> None:
    """The console script. Ctrl-C and a closed pipe end it without a traceback."""
    try:
        app()
    except BrokenPipeError:
        # Whoever read our output has enough of it, as `| head` does.
        sys.stderr.close()
        sys.exit(141)
