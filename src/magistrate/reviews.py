"""The review queue as applications meet it: the store and its errors. It lives in `storage`."""

from magistrate.storage.review_items import (
    HeldItem,
    Review,
    ReviewError,
    ReviewNotFound,
    ReviewRefused,
)
from magistrate.storage.reviews import ReviewStore

__all__ = ["HeldItem", "Review", "ReviewError", "ReviewNotFound", "ReviewRefused", "ReviewStore"]
