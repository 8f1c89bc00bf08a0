"""Open the database that a review store's address names."""

from __future__ import annotations

from magistrate.storage.review_items import ReviewError
from magistrate.storage.review_schema import ReviewDatabase
from magistrate.storage.sqlite import ReviewFile


def open_database(store: str, create: bool, busy_timeout_s: float) -> ReviewDatabase:
    """Return the database at `sqlite:///PATH` or `postgresql://...`.

    `create`: make its tables where there are none. Raises `ReviewError` if it cannot be used.
    """
    if not store.startswith("postgresql://"):
        return ReviewFile(store, create=create, busy_timeout_s=busy_timeout_s)
    try:
        from magistrate.storage.postgres import ReviewServer
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: pip install 'magistrate[postgres]'"
        raise ReviewError(message) from None
    return ReviewServer(store, create=create)
