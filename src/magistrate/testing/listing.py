"""Lists of the API, a page at a time. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from magistrate.testing.replies import JSON, ErrorReply, error

LIMIT, MOST = 20, 1000


def page(items: Sequence[JSON], query: Mapping[str, Sequence[str]]) -> JSON | ErrorReply:
    """Return the page of `items` that a query asks for, or the API's error.

    `after_id` is the last id of the page before, `before_id` the first id of the page after, and
    `limit` the most items of a page: 20, or from 1 to 1000.
    """
    limit, ids = _last(query, "limit"), [str(item["id"]) for item in items]
    if limit is not None and not (limit.isdecimal() and 1 <= int(limit) <= MOST):
        return error(400, message=f"limit: Input should be an integer from 1 to {MOST}")
    size = LIMIT if limit is None else int(limit)
    after, before = _last(query, "after_id"), _last(query, "before_id")
    if after is not None and before is not None:
        return error(400, message="Only one of after_id and before_id may be given")
    for name, cursor in (("after_id", after), ("before_id", before)):
        if cursor is not None and cursor not in ids:
            return error(400, message=f"{name}: no item has the id {cursor}")
    if before is not None:
        end = ids.index(before)
        start = max(0, end - size)
        more = start > 0
    else:
        start = 0 if after is None else ids.index(after) + 1
        end = min(len(items), start + size)
        more = end < len(items)
    return {
        "data": list(items[start:end]),
        "has_more": more,
        "first_id": ids[start] if start < end else None,
        "last_id": ids[end - 1] if start < end else None,
    }


def _last(query: Mapping[str, Sequence[str]], name: str) -> str | None:
    return query[name][-1] if query.get(name) else None
