"""Call a judge model through a plain SDK client, and convert the result of any such call.

For commands that have no moderated client: `magistrate check` and the eval suites. Each call is one
HTTP attempt; the judge does the retries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magistrate.judging.base import AskModel, AskModelAsync, ModelReply, named
from magistrate.wire.messages import JSON, is_object, parsed

if TYPE_CHECKING:
    import anthropic

NO_CREDENTIALS = (
    "no credentials for the Claude API: set ANTHROPIC_API_KEY. `magistrate demo` needs none, and "
    "neither does the local judge: `judge: {backend: local}` in magistrate.yaml."
)


def no_model(body: JSON, timeout_s: float) -> ModelReply:
    """Fail if called: for judges that call no model."""
    raise AssertionError("this judge asks nobody")


async def no_model_async(body: JSON, timeout_s: float) -> ModelReply:
    """The asynchronous version of `no_model`."""
    return no_model(body, timeout_s)


def has_credentials(client: anthropic.Anthropic | anthropic.AsyncAnthropic) -> bool:
    """Return whether a client found a key, a token or a profile."""
    return not (client.api_key is None and client.auth_token is None and client.credentials is None)


def asking(client: anthropic.Anthropic) -> AskModel:
    """Return a function that calls a model through a synchronous client."""
    import httpx2

    def ask(body: JSON, timeout_s: float) -> ModelReply:
        try:
            options: Any = {"timeout": timeout_s}
            raw = client.post("/v1/messages", body=body, cast_to=httpx2.Response, options=options)
        except Exception as error:
            return failed(error)
        return replied(raw)

    return ask


def asking_async(client: anthropic.AsyncAnthropic) -> AskModelAsync:
    """Return a function that calls a model through an asynchronous client."""
    import httpx2

    async def ask(body: JSON, timeout_s: float) -> ModelReply:
        try:
            options: Any = {"timeout": timeout_s}
            raw = await client.post(
                "/v1/messages", body=body, cast_to=httpx2.Response, options=options
            )
        except Exception as error:
            return failed(error)
        return replied(raw)

    return ask


# A reply is a few hundred tokens of JSON. A longer one, in bytes, is no reply and is not parsed.
MAX_REPLY = 1024 * 1024


def replied(raw: Any) -> ModelReply:
    """Convert a response that was read completely; without a body if that is no JSON or huge."""
    return reply_of(raw.status_code, raw.content, dict(raw.headers))


def reply_of(status: int, data: bytes, headers: dict[str, str]) -> ModelReply:
    """Return a model's reply, without a body if that is no JSON object, or huge."""
    try:
        body = parsed(data) if len(data) <= MAX_REPLY else None
    except ValueError:
        body = None
    return ModelReply(status, body if is_object(body) else None, headers)


def failed(error: Exception) -> ModelReply:
    """Convert an error of the SDK or its HTTP client. Re-raise one that is not a network error."""
    import anthropic
    import httpx2

    match error:
        case anthropic.APITimeoutError() | httpx2.TimeoutException():
            return ModelReply(0, failure="timeout")
        case anthropic.APIStatusError():
            found = error.body if is_object(error.body) else None
            return ModelReply(error.status_code, found, dict(error.response.headers))
        case anthropic.APIConnectionError() | httpx2.HTTPError():
            return ModelReply(0, failure="error", detail=named(error))
        case _:
            raise error
