"""The review queue as applications meet it: the store and its errors. It lives in `storage`."""

from magistrate.storage.reviews import (
    HeldItem,
    Review,
    ReviewError,
    ReviewRefused,
    ReviewStore,
)

__all__ = ["HeldItem", "Review", "ReviewError", "ReviewRefused", "ReviewStore"]
