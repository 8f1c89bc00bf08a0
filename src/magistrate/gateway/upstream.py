"""The API behind the gateway: one pool of connections, for requests and for judges."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from magistrate.gateway.http import Headers

CONNECT_S = 10.0
# A judge's thinking and a long prompt can keep a stream silent for minutes; the SDK waits as long.
IDLE_S = 600.0
# The largest response that is read as a whole.
MOST_BYTES = 64 * 1024 * 1024
# What this process can decode. Content is judged decoded.
_DECODED = {"gzip", "deflate", "identity"} | {
    name for name, module in (("br", "brotli"), ("zstd", "backports.zstd")) if find_spec(module)
}
FAILURES = (aiohttp.ClientError, TimeoutError, OSError)


class Upstream:
    """A connection pool to the API at a base URL. Open it in the event loop that uses it."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")
        self._proxy = _proxy_of(base)
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool."""
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=IDLE_S),
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.close()

    async def send(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes,
        *,
        offered: str | None = None,
        timeout_s: float | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request and return its response, with the body unread.

        `target`: path and query, sent as they are. `offered`: the content encodings that the
        caller accepts; upstream may use those that can be decoded here. Raises one of `FAILURES`.
        """
        assert self._http is not None, "the pool is not open"
        sent = CIMultiDict(headers)
        sent["accept-encoding"] = _encodings(offered)
        more: dict[str, Any] = {}
        if timeout_s is not None:
            more["timeout"] = aiohttp.ClientTimeout(total=timeout_s)
        return await self._http.request(
            method,
            URL(self._base + target, encoded=True),
            headers=sent,
            data=body or None,
            allow_redirects=False,
            proxy=self._proxy,
            skip_auto_headers=("user-agent", "accept", "content-type"),
            **more,
        )


def _proxy_of(base: str) -> str | None:
    """Return the proxy that the environment names for upstream.

    aiohttp's own reading of the environment would send credentials of ~/.netrc too.
    """
    at = urlsplit(base)
    return None if proxy_bypass(at.hostname or "") else getproxies().get(at.scheme)


def _encodings(offered: str | None) -> str:
    """Return those of the offered encodings that can be decoded here, in their order."""
    names = [re.split(r"[;\s]", item.strip(), maxsplit=1)[0] for item in (offered or "").split(",")]
    known = [name for name in map(str.lower, names) if name in _DECODED]
    return ", ".join(known) or "identity"


async def pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, decoded."""
    async for data in response.content.iter_any():
        yield data


async def whole(response: aiohttp.ClientResponse, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the decoded body. Raises `aiohttp.ClientPayloadError` if it is larger than that."""
    found = bytearray()
    async for data in response.content.iter_any():
        found += data
        if len(found) > most_bytes:
            response.close()
            raise aiohttp.ClientPayloadError(f"a body of more than {most_bytes:,} bytes")
    response.release()
    return bytes(found)


def is_timeout(error: BaseException) -> bool:
    """Return whether upstream took too long, rather than breaking."""
    return isinstance(error, TimeoutError | asyncio.TimeoutError)
