"""The review queue as applications meet it: the store and its errors. It lives in `storage`."""

from magistrate.storage.review_items import (
    DamagedReview,
    HeldItem,
    Review,
    ReviewDamaged,
    ReviewError,
    ReviewNotFound,
    ReviewRefused,
    Reviews,
)
from magistrate.storage.reviews import ReviewStore

__all__ = [
    "DamagedReview",
    "HeldItem",
    "Review",
    "ReviewDamaged",
    "ReviewError",
    "ReviewNotFound",
    "ReviewRefused",
    "ReviewStore",
    "Reviews",
]
