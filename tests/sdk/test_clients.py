"""The drop-in clients: the SDK's clients in everything but what they send unjudged.

Where the SDK decides by itself (credentials, copies), a plain client and ours are asked the same,
and must send the same.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.lib.credentials import AccessToken

import magistrate
import processes
from edges import CLAUSE, FLAVOURS, asking, both, edge
from magistrate import Moderation, Settings, SettingsError
from magistrate.testing import (
    JudgeScript,
    ScriptedJudge,
    Simulator,
    error,
    finds,
    text,
    when_judging,
)
from pairs import pairs

PAIRS = {
    "sync": (anthropic.Anthropic, magistrate.Anthropic),
    "async": (anthropic.AsyncAnthropic, magistrate.AsyncAnthropic),
}
CONFIG: dict[str, Any] = {"version": 1}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, no configuration: neither of the SDK nor of ours."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "MAGISTRATE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def ours(flavour: str, **options: Any) -> Any:
    return PAIRS[flavour][1](**{"moderation": CONFIG, **options})


def closed(flavour: str, client: Any) -> None:
    """Close a client of either kind."""
    if flavour == "sync":
        client.close()
    else:
        asyncio.run(client.close())
    if hasattr(client, "moderation"):
        client.moderation.close()


# --- what they are --------------------------------------------------------------------------------


@both
def test_it_is_a_client_of_the_sdks_own_kind(flavour: str) -> None:
    plain, drop_in = PAIRS[flavour]
    client = ours(flavour, api_key="k")
    assert isinstance(client, plain)
    assert type(client) is drop_in
    assert type(client).__name__ == plain.__name__
    assert isinstance(client.with_options(timeout=1), drop_in)
    assert isinstance(client.messages, type(plain(api_key="k").messages))
    assert isinstance(client.moderation, Moderation)
    assert client.middleware == (client.moderation,)


@both
def test_it_takes_every_parameter_that_the_sdks_client_takes(flavour: str) -> None:
    plain, drop_in = PAIRS[flavour]
    parameters = set(inspect.signature(plain.__init__).parameters) - {"self"}
    http_client = httpx2.Client() if flavour == "sync" else httpx2.AsyncClient()
    given: dict[str, Any] = {
        "api_key": "k",
        "auth_token": None,
        "credentials": None,
        "config": None,
        "profile": None,
        "webhook_key": "w",
        "base_url": "https://gateway.example/x",
        "timeout": 7.0,
        "max_retries": 5,
        "default_headers": {"x-a": "1"},
        "default_query": {"q": "2"},
        "open_telemetry": False,
        "http_client": http_client,
        "middleware": [_Nothing()],
        "_strict_response_validation": True,
        "_token_cache": None,
    }
    assert set(given) == parameters, "a new parameter of the SDK: check that it works"
    client = drop_in(moderation=CONFIG, **given)
    assert client.api_key == "k"
    assert client.webhook_key == "w"
    assert str(client.base_url) == "https://gateway.example/x/"
    assert client.timeout == 7.0
    assert client.max_retries == 5
    assert client.default_headers["x-a"] == "1"
    assert client.default_query == {"q": "2"}
    assert client._client is http_client
    assert len(client.middleware) == 2
    assert client._strict_response_validation is True
    assert parameters <= set(inspect.signature(drop_in.__init__).parameters) | {"moderation"}
    closed(flavour, client)


class _Nothing(anthropic.Middleware):
    def handle(self, request: Any, call_next: Any) -> Any:
        return call_next(request)

    async def handle_async(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


@both
def test_a_wrong_parameter_is_the_sdks_type_error(flavour: str) -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        ours(flavour, api_key="k", no_such_option=1)
    with pytest.raises(ValueError, match="at most one"):
        ours(flavour, api_key="k", auth_token="t")
    with pytest.raises(TypeError):
        PAIRS[flavour][1]("k", moderation=CONFIG)


@both
def test_ours_is_outermost_unless_it_was_placed(flavour: str) -> None:
    other = _Nothing()
    client = ours(flavour, api_key="k", middleware=[other])
    assert client.middleware == (client.moderation, other)
    placed = Moderation(CONFIG)
    client = PAIRS[flavour][1](api_key="k", middleware=[other, placed])
    assert client.moderation is placed
    assert client.middleware == (other, placed)
    client = PAIRS[flavour][1](
        api_key="k", middleware=(item for item in [other]), moderation=placed
    )
    assert client.middleware == (placed, other)


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": lambda client: client.copy(),
    "with_options": lambda client: client.with_options(timeout=3),
    "no middleware": lambda client: client.with_options(middleware=[]),
    "middleware None": lambda client: client.with_options(middleware=None),
    "other middleware": lambda client: client.with_options(middleware=[_Nothing()]),
    "more middleware": lambda client: client.with_middleware(_Nothing()),
    "a copy of a copy": lambda client: client.copy(middleware=[]).copy().with_options(timeout=1),
    "another key": lambda client: client.with_options(api_key="other"),
    "another host": lambda client: client.with_options(base_url="https://other.example"),
    "headers": lambda client: client.with_options(default_headers={"x-b": "1"}),
    "no headers": lambda client: client.with_options(set_default_headers={}),
    "a query": lambda client: client.with_options(set_default_query={"a": "b"}),
    "no retries": lambda client: client.with_options(max_retries=0),
    "no tracing": lambda client: client.with_options(open_telemetry=False),
}


@both
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_keeps_the_same_moderation_first(way: str, flavour: str) -> None:
    client = ours(flavour, api_key="k")
    copied = COPIES[way](client)
    assert type(copied) is type(client)
    assert copied.moderation is client.moderation
    assert copied.middleware[0] is client.moderation
    assert [isinstance(item, Moderation) for item in copied.middleware].count(True) == 1


@both
def test_another_http_client_is_used_and_judged(flavour: str) -> None:
    sim = Simulator(text("hello"), judge=JudgeScript(when_judging("bad", finds(CLAUSE))))
    with edge(flavour, Simulator(), settings={"input_check": "before"}) as at:
        other = sim.http_client() if flavour == "sync" else sim.async_http_client()
        client = at.client.with_options(http_client=other, middleware=[])
        assert at.run(client.messages.create(**asking("hi"))).content[0].text == "hello"
        assert at.run(client.messages.create(**asking("bad"))).stop_reason == "refusal"
        at.run(client.close())
    assert len(sim.api_requests) == 1


@both
def test_context_managers_close_the_connection(flavour: str) -> None:
    client = ours(flavour, api_key="k")
    if flavour == "sync":
        with client as entered:
            assert entered is client
    else:

        async def use() -> None:
            async with client as entered:
                assert entered is client

        asyncio.run(use())
    assert client.is_closed()


class Ours(magistrate.Anthropic):
    """What an application may make of the client."""

    def __init__(self, *, tenant: str = "nobody", **options: Any) -> None:
        self.tenant = tenant
        super().__init__(**options)

    @property
    def default_headers(self) -> Any:
        return {**super().default_headers, "x-tenant": self.tenant}


class AsyncOurs(magistrate.AsyncAnthropic):
    def __init__(self, *, tenant: str = "nobody", **options: Any) -> None:
        self.tenant = tenant
        super().__init__(**options)

    @property
    def default_headers(self) -> Any:
        return {**super().default_headers, "x-tenant": self.tenant}


@both
def test_an_applications_own_subclass_is_moderated_too(flavour: str) -> None:
    kind = Ours if flavour == "sync" else AsyncOurs
    sim = Simulator(text("hello"), judge=JudgeScript(when_judging("bad", finds(CLAUSE))))
    http_client = sim.http_client() if flavour == "sync" else sim.async_http_client()
    with edge(flavour, sim, settings={"input_check": "before"}) as at:
        client: Any = kind(
            tenant="acme", api_key="k", moderation=at.moderation, http_client=http_client
        )
        assert at.run(client.messages.create(**asking("hi"))).content[0].text == "hello"
        assert sim.api_requests[0].headers["x-tenant"] == "acme"
        copied = client.with_options(timeout=3, middleware=[])
        assert type(copied) is kind
        assert at.run(copied.messages.create(**asking("bad"))).stop_reason == "refusal"
        at.run(client.close())


# --- credentials: as with the SDK's own client ----------------------------------------------------


def _profile(at: Path, name: str, **extra: Any) -> None:
    """A profile in the form of the SDK's own files, with a token that is good for ever."""
    for kind in ("configs", "credentials"):
        (at / kind).mkdir(parents=True, exist_ok=True)
    config = {"version": "1.0", "authentication": {"type": "user_oauth"}, **extra}
    token = {"version": "1.0", "type": "oauth_token", "access_token": f"token-of-{name}"}
    (at / "configs" / f"{name}.json").write_text(json.dumps(config))
    secret = at / "credentials" / f"{name}.json"
    secret.write_text(json.dumps(token))
    secret.chmod(0o600)
    (at / "configs" / f"{name}.json").chmod(0o644)


def provider(*, force_refresh: bool = False) -> AccessToken:
    return AccessToken(token="provided", expires_at=None)


HOME = {"ANTHROPIC_CONFIG_DIR": "anthropic"}
SOURCES: dict[str, tuple[Mapping[str, str], dict[str, Any]]] = {
    "a key": ({}, {"api_key": "k"}),
    "a token": ({}, {"auth_token": "t"}),
    "a provider": ({}, {"credentials": provider}),
    "a config": (
        HOME,
        {
            "config": {
                "authentication": {
                    "type": "user_oauth",
                    "credentials_path": "anthropic/credentials/work.json",
                },
                "workspace_id": "wrkspc_7",
            }
        },
    ),
    "a profile": (HOME, {"profile": "work"}),
    "a profile and a host": (HOME, {"profile": "work", "base_url": "https://mine.example"}),
    "a key in the environment": ({"ANTHROPIC_API_KEY": "from-env"}, {}),
    "a token in the environment": ({"ANTHROPIC_AUTH_TOKEN": "from-env"}, {}),
    "a profile in the environment": ({**HOME, "ANTHROPIC_PROFILE": "work"}, {}),
    "the default profile": (HOME, {}),
    "a host in the environment": (
        {**HOME, "ANTHROPIC_BASE_URL": "https://env.example"},
        {"profile": "work"},
    ),
    "a key beside a profile": ({**HOME, "ANTHROPIC_API_KEY": "from-env"}, {}),
    "nothing": ({}, {}),
    "a profile that is not there": ({**HOME, "ANTHROPIC_PROFILE": "absent"}, {}),
    "two at once": ({}, {"api_key": "k", "profile": "work"}),
}
CHANGES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda client: client,
    "copy": lambda client: client.copy(),
    "copy of a copy": lambda client: client.copy().copy(timeout=2),
    "timeout": lambda client: client.with_options(timeout=3),
    "middleware": lambda client: client.with_options(middleware=[_Nothing()]),
    "more middleware": lambda client: client.with_middleware(_Nothing()),
    "another key": lambda client: client.with_options(api_key="other"),
    "an empty key": lambda client: client.with_options(api_key=""),
    "another token": lambda client: client.with_options(auth_token="other"),
    "another provider": lambda client: client.with_options(credentials=provider),
    "no provider": lambda client: client.with_options(credentials=None),
    "another profile": lambda client: client.with_options(profile="home"),
    "another host": lambda client: client.with_options(base_url="https://other.example"),
    "a host, then a copy": lambda client: client.with_options(base_url="https://o.example").copy(),
    "a key, then a copy": lambda client: client.with_options(api_key="other").copy(),
    "a profile, then a copy": lambda client: client.with_options(profile="home").copy(),
    "headers": lambda client: client.with_options(default_headers={"x-b": "1"}),
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def sent(flavour: str, kind: Any, options: dict[str, Any], change: Callable[[Any], Any]) -> Any:
    """What arrives of one request: host, path and the headers that say who asks; or the error."""
    arrived: list[Any] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        names = ("authorization", "x-api-key", "anthropic-beta", "anthropic-workspace-id", "x-b")
        told = {name: request.headers.get(name) for name in names}
        arrived.append((request.url.host, request.url.path, told))
        return httpx2.Response(200, json=MESSAGE)

    transport = httpx2.MockTransport(handle)
    clients: list[Any] = []
    try:
        if flavour == "sync":
            http = httpx2.Client(transport=transport)
            clients = [kind(http_client=http, **options)]
            change(clients[0]).messages.create(**asking("hi"))
        else:

            async def ask() -> None:
                http = httpx2.AsyncClient(transport=transport)
                clients.append(kind(http_client=http, **options))
                await change(clients[0]).messages.create(**asking("hi"))

            asyncio.run(ask())
    except Exception as error:
        return (type(error), str(error))
    return arrived


@pairs(flavour=FLAVOURS, change=CHANGES, source=SOURCES)
def test_credentials_are_found_and_kept_as_by_the_sdk(
    source: str, change: str, flavour: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environ, options = SOURCES[source]
    home = tmp_path / "anthropic"
    _profile(home, "work", workspace_id="wrkspc_1", base_url="https://work.example")
    _profile(home, "home")
    _profile(home, "default", workspace_id="wrkspc_2")
    for name, value in environ.items():
        monkeypatch.setenv(name, str(home) if name == "ANTHROPIC_CONFIG_DIR" else value)
    plain, drop_in = PAIRS[flavour]
    moderation = Moderation(CONFIG, judge=ScriptedJudge())
    expected = sent(flavour, plain, options, CHANGES[change])
    got = sent(flavour, drop_in, {"moderation": moderation, **options}, CHANGES[change])
    moderation.close()
    assert got == expected


@both
def test_a_token_that_expired_is_fetched_again_as_by_the_sdk(flavour: str) -> None:
    """A 401 invalidates the cached token once; a copy shares the cache, and moderation too."""
    issued: list[str] = []

    def issue(*, force_refresh: bool = False) -> AccessToken:
        issued.append(f"token-{len(issued)}")
        return AccessToken(token=issued[-1], expires_at=None)

    sim = Simulator([error(401), text("hello"), text("hello")])
    options: dict[str, Any] = {"api_key": None, "credentials": issue, "max_retries": 2}
    with edge(flavour, sim, **options) as at:
        message = at.run(at.client.messages.create(**asking("hi")))
        assert message.content[0].text == "hello"
        copied = at.client.with_options(timeout=5)
        assert at.run(copied.messages.create(**asking("hi"))).content[0].text == "hello"
    used = [request.headers["authorization"] for request in sim.api_requests]
    assert used == ["Bearer token-0", "Bearer token-1", "Bearer token-1"]
    assert issued == ["token-0", "token-1"]
    judges = {request.headers["authorization"] for request in sim.judge_requests}
    assert judges <= {"Bearer token-0", "Bearer token-1"}, "the judge asks with the same account"


# --- where the configuration comes from -----------------------------------------------------------

STRICT = "version: 1\non_block: raise\n"


@both
def test_moderation_may_be_given_in_every_form(flavour: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(STRICT)
    shared = Moderation(path)
    forms: list[Any] = [
        path,
        str(path),
        "mine.yaml",
        {"version": 1, "on_block": "raise"},
        Settings.load(path),
        shared,
    ]
    for form in forms:
        client = ours(flavour, api_key="k", moderation=form)
        assert client.moderation.settings.on_block == "raise"
    assert client.moderation is shared


@both
def test_a_file_is_found_by_convention(
    flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = PAIRS[flavour][1]
    (tmp_path / "magistrate.yaml").write_text(STRICT)
    client = kind(api_key="k")
    assert client.moderation.settings.on_block == "raise"
    assert client.moderation.settings.source == "magistrate.yaml"
    (tmp_path / "other.yaml").write_text("version: 1\non_hold: raise\n")
    monkeypatch.setenv("MAGISTRATE_CONFIG", "other.yaml")
    settings = kind(api_key="k").moderation.settings
    assert (settings.on_block, settings.on_hold) == ("refuse", "raise")
    assert ours(flavour, api_key="k").moderation.settings.on_hold == "notice", "given goes first"


@both
@pytest.mark.parametrize(
    "bad",
    [
        {"version": 1, "on_block": "rais"},
        {"version": 2},
        {"version": 1, "novel": True},
        {"version": 1, "policy": "no-such-policy@2020-01-01"},
        "absent.yaml",
    ],
)
def test_a_bad_configuration_is_a_settings_error(bad: Any, flavour: str) -> None:
    """Before anything is sent, and not an error of the SDK's."""
    with pytest.raises(SettingsError) as caught:
        ours(flavour, api_key="k", moderation=bad)
    assert isinstance(caught.value, ValueError)
    assert not isinstance(caught.value, anthropic.AnthropicError)
    assert str(caught.value)


@both
def test_a_file_that_the_environment_names_must_be_there(
    flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGISTRATE_CONFIG", "absent.yaml")
    with pytest.raises(SettingsError, match=r"absent\.yaml"):
        PAIRS[flavour][1](api_key="k")


def test_without_a_file_there_is_one_warning_and_never_two(tmp_path: Path) -> None:
    script = """
        import logging
        seen = []

        class Seen(logging.Handler):
            def emit(self, record):
                seen.append((record.levelname, record.getMessage()))

        logging.getLogger("magistrate").addHandler(Seen())
        from magistrate import Anthropic, AsyncAnthropic, Moderation
        Anthropic(api_key="k").with_options(timeout=1).copy()
        AsyncAnthropic(api_key="k")
        Moderation()
        Anthropic(api_key="k", moderation={"version": 1})
        (level, said), = seen
        assert level == "WARNING", level
        assert "no configuration found" in said, said
    """
    done = processes.run(script, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@both
def test_a_given_configuration_warns_of_nothing(
    flavour: str, caplog: pytest.LogCaptureFixture
) -> None:
    ours(flavour, api_key="k")
    assert caplog.records == []


@both
def test_the_clients_record_answers_for_a_decision(flavour: str) -> None:
    with edge(flavour, Simulator(text("hello"))) as at:
        got = at.ask("create", asking("hi"))
        assert got.moderation is not None
        decision = at.client.with_options(timeout=1).moderation.decision(got.moderation["id"])
        assert decision.public == got.moderation
        with pytest.raises(KeyError):
            at.moderation.decision("dec_unknown")
