"""`magistrate db`: the tables of a review queue in PostgreSQL."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from magistrate.cli.printing import UNUSABLE, console, pairs, refuse, text
from magistrate.settings import Settings, SettingsError

if TYPE_CHECKING:
    from sqlalchemy import Connection

app = typer.Typer(
    help="Make, change or remove the tables of a review queue in PostgreSQL.", no_args_is_help=True
)

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The magistrate.yaml whose `review.store` is meant."),
]
BEHIND = 1


@app.callback()
def _db() -> None:
    pass


@app.command()
def status(config: Config = None) -> None:
    """Say which version the tables have.

    Exit codes: 0 the version of this magistrate; 1 another, or no tables; 2 out of reach.
    """
    from magistrate.storage.migrations import HEAD, version_of

    with _connected(config) as (place, connection):
        found = version_of(connection)
    pairs(console(), [("Store", place), ("Tables", found or "none"), ("Needed", HEAD)])
    if found != HEAD:
        raise typer.Exit(BEHIND)


@app.command()
def upgrade(config: Config = None) -> None:
    """Bring the tables to the version of this magistrate; make them where there are none.

    Exit codes: 0 done; 2 out of reach. What fails changes nothing.
    """
    from magistrate.storage.migrations import HEAD, migrate

    with _connected(config) as (place, connection):
        migrate(connection, HEAD)
    pairs(console(), [("Store", place), ("Tables", HEAD)])


@app.command()
def remove(
    config: Config = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete every review of every app.")] = False,
) -> None:
    """Remove the tables, with every held answer of every app in them.

    Exit codes: 0 done; 2 out of reach, or without --yes.
    """
    from magistrate.storage.migrations import BASE, migrate

    if not yes:
        _stop("this deletes every review of every app in this database: add --yes")
    with _connected(config) as (place, connection):
        migrate(connection, BASE)
    pairs(console(), [("Store", place), ("Tables", "none")])


@contextmanager
def _connected(config: Path | None) -> Generator[tuple[str, Connection], None, None]:
    """Open a transaction on the store that the settings name; it commits at its end."""
    from magistrate.storage.review_items import ReviewError

    try:
        settings = Settings.load(config)
        store = settings.review.store if settings.review is not None else ""
        if not store.startswith("postgresql://"):
            _stop("`review.store` is no PostgreSQL address; a file needs no command")
        from magistrate.storage.postgres import locked

        with locked(store) as (place, connection):
            yield place, connection
    except SettingsError as error:
        refuse(error, False)
    except ModuleNotFoundError as error:
        _stop(f"{error.name} is not installed: pip install 'magistrate[postgres]'")
    except ReviewError as error:
        _stop(str(error))


def _stop(message: str) -> NoReturn:
    console(stderr=True).print(text(message), soft_wrap=True)
    raise typer.Exit(UNUSABLE)
