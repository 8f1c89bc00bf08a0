"""`magistrate coverage`: nothing of the SDK is missing from it, and nothing in it is made up."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
import typing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic._resource import SyncAPIResource
from anthropic.types import ContentBlock, ContentBlockParam, RawContentBlockDelta
from anthropic.types.beta import BetaContentBlock, BetaContentBlockParam, BetaRawContentBlockDelta
from typer.testing import CliRunner, Result

from edges import asking, both, edge
from magistrate import ModerationError
from magistrate.cli import app
from magistrate.cli.coverage import coverage
from magistrate.coverage.sdk_source import Call, calls, installed
from magistrate.coverage.surfaces import Kind, Surface, kinds, surfaces
from magistrate.testing import Simulator, raw_blocks, text
from magistrate.wire.routes import route

SDK = installed()
KINDS = kinds(SDK)


@cache
def sdk_calls() -> list[Call]:
    return calls(SDK)


@cache
def sdk_surfaces() -> list[Surface]:
    """A second's work, which is for those who need it and not for every collection."""
    return surfaces(SDK)


# --- calls: what the SDK sends when it runs -------------------------------------------------------

# Arguments for which a text will not do.
ARGUMENTS: dict[str, Any] = {
    "archive": b"x",
    "file": ("a.txt", b"x"),
    "files": [("a.txt", b"x")],
    "max_tokens": 9,
    "messages": [],
    "requests": [],
}
# Methods that send nothing by themselves when they are called.
SILENT = {
    ("beta.messages", "thread"),
    ("beta.messages", "tool_runner"),
    ("beta.webhooks", "parse_unverified"),
    ("beta.webhooks", "unwrap"),
}


class Sent(Exception):
    """A request got as far as the transport, where this ends it."""


def resources(owner: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every resource of a client, by the name under which it hangs there."""
    for attribute in dir(type(owner)):
        found = inspect.getattr_static(type(owner), attribute)
        if attribute[0] != "_" and (isinstance(found, property) or hasattr(found, "func")):
            value = getattr(owner, attribute)
            if isinstance(value, SyncAPIResource):
                path = f"{name}.{attribute}".lstrip(".")
                yield path, value
                yield from resources(value, path)


def sent_by(method: Any, seen: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """What a method sends, given some text for every argument it needs."""
    parameters = inspect.signature(method).parameters
    given = {
        name: ARGUMENTS.get(name, "id_1")
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty or name in ("max_tokens", "messages")
    }
    if "messages" in given:
        given["model"] = "m"
    seen.clear()
    try:
        value = method(**given)
        if not seen and hasattr(value, "__enter__"):
            value.__enter__()
    except Exception as error:
        causes = [error, error.__cause__]
        assert any(isinstance(cause, Sent) for cause in causes) or not seen, (method, error)
    return set(seen)


@pytest.fixture(scope="module")
def sent() -> dict[tuple[str, str], set[tuple[str, str]]]:
    """What every method of the installed SDK really sends, by resource and name."""
    seen: list[tuple[str, str]] = []

    def note(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.method.lower(), request.url.path))
        if seen[-1] == ("get", "/v1/messages/batches/id_1"):
            address = "https://api.anthropic.com/v1/messages/batches/id_1/results"
            return httpx2.Response(200, json={"id": "id_1", "results_url": address})
        raise Sent

    http = httpx2.Client(transport=httpx2.MockTransport(note))
    with anthropic.Anthropic(api_key="k", max_retries=0, http_client=http) as client:
        return {
            (name, method): sent_by(getattr(resource, method), seen)
            for name, resource in resources(client)
            for method, found in inspect.getmembers(type(resource), inspect.isfunction)
            if method[0] != "_"
        }


def test_every_request_that_a_method_of_the_sdk_sends_is_in_the_table(
    sent: dict[tuple[str, str], set[tuple[str, str]]],
) -> None:
    """By calling every method of every resource, and looking at what arrives."""
    listed: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for call in sdk_calls():
        if call.verb:
            listed.setdefault((call.resource, call.method), set()).add((call.verb, call.example))
    everything = set[tuple[str, str]]().union(*listed.values())
    assert len(sent) > 300
    for method, requests in sent.items():
        assert requests <= everything, method
        assert listed.get(method, set()) <= requests, method
        assert requests or method in SILENT, f"{method} could not be called"


def test_every_method_of_every_resource_is_named(
    sent: dict[tuple[str, str], set[tuple[str, str]]],
) -> None:
    named = {(call.resource, call.method) for call in sdk_calls()}
    assert set(sent) <= named
    helpers = {helper for surface in sdk_surfaces() for helper in surface.helpers}
    assert {"thread", "tool_runner"} <= helpers


def test_async_methods_send_what_their_twins_send(tmp_path: Path) -> None:
    """The table has one line for both, so they must not differ."""
    root = SDK / "resources"
    for file in root.rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        for kind in ("sync", "async"):
            classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
            tree.body = [c for c in classes if c.name.startswith("Async") == (kind == "async")]
            copy = tmp_path / kind / "resources" / file.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(ast.unparse(tree), "utf-8")
            tree.body = list(classes)

    def sending(sdk: Path) -> list[Call]:
        return [call for call in calls(sdk) if call.verb]

    assert sending(tmp_path / "sync") == sending(tmp_path / "async") == sending(SDK)


def treatments() -> dict[tuple[str, str], str]:
    return {
        (item.call.resource.removeprefix("beta."), item.call.method): item.treatment
        for surface in sdk_surfaces()
        for item in surface.calls
    }


@pytest.mark.parametrize(
    ("resource", "method", "expected"),
    [
        ("messages", "create", "inspected"),
        ("messages", "parse", "inspected"),
        ("messages", "stream", "inspected"),
        ("messages", "count_tokens", "free"),
        ("messages.batches", "create", "inspected"),
        ("messages.batches", "results", "inspected"),
        ("messages.batches", "list", "free"),
        ("files", "upload", "uninspected"),
        ("files", "download", "passes"),
        ("sessions.events", "send", "refused"),
        ("sessions.events", "stream", "refused"),
        ("agents", "create", "refused"),
        ("deployments", "create", "refused"),
        ("dreams", "create", "refused"),
        ("environments", "create", "refused"),
        ("memory_stores.memories", "create", "refused"),
        ("memory_stores.memories", "retrieve", "refused"),
        ("skills", "create", "refused"),
        ("models", "list", "free"),
        ("organization.workspaces", "create", "free"),
    ],
)
def test_what_becomes_of_the_surfaces_that_can_carry_content(
    resource: str, method: str, expected: str
) -> None:
    assert treatments()[resource, method] == expected


@both
def test_the_table_says_what_the_clients_do(
    flavour: str, sent: dict[tuple[str, str], set[tuple[str, str]]]
) -> None:
    """Every request of the table goes through a moderated client: what it says is what happens."""
    arrived: list[str] = []

    def note(request: httpx2.Request) -> httpx2.Response:
        arrived.append(request.url.path)
        return httpx2.Response(418, json={})

    transport = httpx2.MockTransport(note)
    http: Any = (
        httpx2.Client(transport=transport)
        if flavour == "sync"
        else httpx2.AsyncClient(transport=transport)
    )
    with edge(flavour, Simulator(), http_client=http) as at:
        for surface in sdk_surfaces():
            for item in surface.calls:
                arrived.clear()
                ask = getattr(at.client, item.call.verb)
                stops = item.treatment in ("refused", "uninspected")
                kind: type[Exception] = ModerationError if stops else anthropic.AnthropicError
                body = {} if item.call.verb == "get" else {"body": {}}
                with pytest.raises(kind):
                    at.run(ask(item.call.example, cast_to=httpx2.Response, **body))
                if stops:
                    assert arrived == []
                elif item.treatment in ("free", "passes"):
                    assert arrived == [item.call.example]


# --- calls: what is not there yet -----------------------------------------------------------------

NEW_RESOURCE = """
class Oracles(SyncAPIResource):
    def consult(self, oracle_id):
        return self._post(path_template("/v1/oracles/{oracle_id}/consult", oracle_id=oracle_id))

    def hear(self, oracle_id):
        return self._get(f"/v1/oracles/{oracle_id}/words", cast_to=BinaryAPIResponse)

    def follow(self, oracle):
        return self._post(oracle.address, body={})

    def late(self):
        return partial(self._client.put, "/v1/oracles")

    def twice(self):
        return self.consult("a"), self.consult("b")


class AsyncOracles(AsyncAPIResource):
    async def only_async(self):
        return await self._patch(path="/v1/oracles/now")
"""


def made_up(at: Path, source: str) -> Surface:
    (at / "resources" / "beta").mkdir(parents=True)
    (at / "resources" / "beta" / "oracles.py").write_text(source)
    (found,) = surfaces(at)
    return found


def test_a_resource_that_nobody_has_heard_of_shows_as_uninspected(tmp_path: Path) -> None:
    found = made_up(tmp_path, NEW_RESOURCE)
    assert (found.names, found.treatment) == (("beta.oracles",), "uninspected")
    assert found.helpers == ("twice",)
    assert [(c.call.method, c.call.verb, c.call.path, c.treatment) for c in found.calls] == [
        ("consult", "post", "/v1/oracles/{oracle_id}/consult", "uninspected"),
        ("follow", "post", "/v1/oracles/{id}/follow", "uninspected"),
        ("hear", "get", "/v1/oracles/{id}/words", "passes"),
        ("late", "put", "/v1/oracles", "uninspected"),
        ("only_async", "patch", "/v1/oracles/now", "uninspected"),
    ]
    (computed,) = [c.call.computed for c in found.calls if c.call.computed]
    assert computed == "oracle.address"


def test_a_new_method_on_a_known_path_is_treated_as_the_path_is(tmp_path: Path) -> None:
    source = NEW_RESOURCE.replace("/v1/oracles/{oracle_id}/consult", "/v1/messages")
    found = made_up(tmp_path, source)
    assert {c.call.method: c.treatment for c in found.calls}["consult"] == "inspected"
    assert found.treatment == "partly"


def test_every_answer_of_the_routes_has_a_treatment_and_a_sentence() -> None:
    for surface in sdk_surfaces():
        for item in surface.calls:
            routed = route(item.call.verb, item.call.example)
            if routed == "surface":
                assert item.treatment == "refused"
                assert "`on_uninspected.surfaces." in item.why
            elif routed == "uninspected":
                assert item.treatment == "uninspected"
            elif routed == "free":
                assert item.treatment in ("free", "passes")
            else:
                assert item.treatment == "inspected"
            assert item.why.endswith(".")


# --- content --------------------------------------------------------------------------------------


def literals(union: Any) -> set[str]:
    """The names of the types in one of the SDK's unions, as the SDK itself has them."""
    if typing.get_origin(union) is typing.Annotated:
        return literals(typing.get_args(union)[0])
    if members := [each for each in typing.get_args(union) if isinstance(each, type)]:
        nested = [each for each in typing.get_args(union) if not isinstance(each, type)]
        return set[str]().union(*map(literals, [*members, *nested]))
    if not isinstance(union, type):
        return set[str]().union(*map(literals, typing.get_args(union)))
    if issubclass(union, anthropic.BaseModel):
        hint: Any = union.model_fields["type"].annotation
    else:
        hint = typing.get_type_hints(union)["type"]
    return {value for value in typing.get_args(hint) if isinstance(value, str)}


UNIONS = {
    "ContentBlock": (ContentBlock, "answer"),
    "ContentBlockParam": (ContentBlockParam, "request"),
    "BetaContentBlock": (BetaContentBlock, "answer"),
    "BetaContentBlockParam": (BetaContentBlockParam, "request"),
    "RawContentBlockDelta": (RawContentBlockDelta, "stream"),
    "BetaRawContentBlockDelta": (BetaRawContentBlockDelta, "stream"),
}


@pytest.mark.parametrize("name", UNIONS)
def test_every_type_of_the_sdks_unions_is_in_the_table(name: str) -> None:
    union, place = UNIONS[name]
    found = literals(union)
    assert found
    assert found <= {kind.type for kind in KINDS if kind.place == place}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.place}-{kind.type}")
def test_no_content_is_dropped_without_a_word(kind: Kind) -> None:
    """It is shown to a judge or named as unreadable, every field of it but signatures and ids."""
    assert set(kind.unread) <= {"signature", "caller.tool_id"}
    if kind.type != "signature_delta":  # the provider's own seal on thinking: nobody's words
        assert kind.judged_as or kind.uninspected


def test_what_becomes_of_blocks_and_deltas() -> None:
    found = {(kind.place, kind.type): kind for kind in KINDS}
    assert found["request", "text"].judged_as == ("text", "third-party")
    assert found["request", "tool_use"].judged_as == ("tool call",)
    assert found["request", "image"].judged_as == ("attachment",)
    assert found["request", "image"].uninspected == ("file", "media")
    assert found["request", "redacted_thinking"].uninspected == ("encrypted",)
    assert found["request", "container_upload"].uninspected == ("file",)
    assert found["answer", "web_search_tool_result"].judged_as == ("third-party",)
    assert found["result", "tool_reference"].judged_as == ("third-party",)
    assert found["stream", "text_delta"].judged_as == ("text",)
    assert found["stream", "input_json_delta"].judged_as == ("tool call",)
    assert found["stream", "compaction_delta"].uninspected == ("encrypted",)


TYPES = {
    "content_block_param.py": "ContentBlockParam",
    "content_block.py": "ContentBlock",
    "beta/beta_content_block_param.py": "BetaContentBlockParam",
    "beta/beta_content_block.py": "BetaContentBlock",
    "tool_result_block_param.py": "ToolResultBlockParam",
    "beta/beta_tool_result_block_param.py": "BetaToolResultBlockParam",
    "raw_content_block_delta.py": "RawContentBlockDelta",
    "beta/beta_raw_content_block_delta.py": "BetaRawContentBlockDelta",
}
NEW_TYPES = """
class Hologram(TypedDict, total=False):
    type: Required[Literal["hologram"]]
    words: Required[str]


class Aside(Text):
    remark: Optional[str] = None


class Text(TypedDict, total=False):
    type: Required[Literal["text"]]
    text: Required[str]


class SmellDelta(BaseModel):
    type: Literal["smell_delta"]
    smell: "str"


{name}: TypeAlias = {union}
"""


def test_a_type_that_nobody_has_heard_of_shows_as_uninspected(tmp_path: Path) -> None:
    (tmp_path / "types" / "beta").mkdir(parents=True)
    for file, name in TYPES.items():
        union = "SmellDelta" if "Delta" in name else "Union[Hologram, Aside]"
        (tmp_path / "types" / file).write_text(NEW_TYPES.format(name=name, union=union))
    unknown = ((), ("unknown_block",), ())
    found = {
        (kind.place, kind.type): (kind.judged_as, kind.uninspected, kind.unread)
        for kind in kinds(tmp_path)
    }
    assert found["request", "hologram"] == unknown
    assert found["answer", "hologram"] == unknown
    assert found["stream", "smell_delta"] == unknown
    assert found["request", "text"] == (("text",), (), ()), "a new field of an old type is judged"


def test_an_sdk_laid_out_differently_is_an_error_not_an_empty_table(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no ContentBlockParam in types/"):
        kinds(tmp_path)


# --- the command ----------------------------------------------------------------------------------


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["coverage", *arguments], env={"COLUMNS": "80"})


def test_it_prints_for_people_in_80_columns() -> None:
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 80
    assert "…" not in result.stdout, "nothing is cut off"
    said = " ".join(result.stdout.split())
    for words in (
        "messages, beta.messages: inspected",
        "inspected create, parse, stream POST /v1/messages ",
        "batches.results GET /v1/messages/batches/{id}/results",
        "beta.sessions: refused",
        "magistrate does not moderate agent sessions yet: the call raises ModerationError, "
        "unless `on_uninspected.surfaces.sessions` lets it pass unjudged.",
        "files, beta.files: uninspected",
        "models, beta.models: 2 calls",
        "text_editor_code_execution_tool_result third-party -",
        "redacted_thinking - encrypted",
        "these fields are not read: caller.tool_id, signature.",
    ):
        assert words in said


def test_it_prints_everything_for_programs() -> None:
    result = run("--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["sdk"] == anthropic.__version__
    assert sum(len(surface["calls"]) for surface in found["surfaces"]) > 200
    assert len(found["content"]) == len(KINDS)
    (messages,) = [each for each in found["surfaces"] if "messages" in each["names"]]
    assert messages["treatment"] == "inspected"
    assert {
        "resource": "messages",
        "method": "create",
        "http": "POST",
        "path": "/v1/messages",
        "treatment": "inspected",
        "why": "The request is judged, and its answer is judged before it is delivered.",
    } in messages["calls"]


@pytest.mark.parametrize("error", [ModuleNotFoundError("no SDK"), LookupError("no union")])
def test_without_an_sdk_that_it_can_read_it_exits_2(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Path:
        raise error

    monkeypatch.setattr(sys.modules[coverage.__module__], "installed", missing)
    result = run()
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (2, "", str(error))
    result = run("--json")
    assert (result.exit_code, json.loads(result.stdout)) == (
        2,
        {"ok": False, "problem": str(error)},
    )


def test_it_reads_the_sdk_without_importing_it() -> None:
    code = (
        "import sys, magistrate.cli as cli\n"
        "try: cli.app(['coverage'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('anthropic', 'httpx2')]"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")


# --- the counter of a running process -------------------------------------------------------------


@both
def test_what_could_not_be_read_is_counted_by_reason(flavour: str) -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    answers = [text("fine"), raw_blocks([{"type": "redacted_thinking", "data": "x"}])]
    passing = {"on_uninspected": {"media": "warn", "encrypted": "warn", "endpoint": "warn"}}
    with edge(flavour, Simulator(answers), settings=passing) as at:
        assert at.moderation.uninspected == {}
        at.ask("create", {**asking("hi"), "messages": [{"role": "user", "content": [image] * 2}]})
        at.ask("create", asking("hi"))
        for _ in range(3):
            with pytest.raises(anthropic.NotFoundError):
                at.run(at.client.post("/v1/novel", body={}, cast_to=httpx2.Response))
        counted = at.moderation.uninspected
        assert counted == {"media": 2, "encrypted": 1, "endpoint": 3}
        counted["media"] = 99
        assert at.moderation.uninspected["media"] == 2, "a copy, for the caller to keep"


@both
def test_what_was_blocked_for_it_is_counted_too(flavour: str) -> None:
    file = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
    call = {**asking("hi"), "messages": [{"role": "user", "content": [file]}]}
    with edge(flavour, Simulator(text("no"))) as at:
        assert at.ask("create", call).body["stop_reason"] == "refusal"
        with pytest.raises(ModerationError):
            at.run(at.client.post("/v1/novel", body={}, cast_to=httpx2.Response))
        assert at.moderation.uninspected == {"file": 1, "endpoint": 1}


def test_many_threads_count_every_item() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    call = {**asking("hi"), "messages": [{"role": "user", "content": [image]}]}
    with (
        edge("sync", Simulator(text("no"))) as at,
        ThreadPoolExecutor(16) as pool,
    ):
        list(pool.map(lambda _: at.client.messages.create(**call), range(64)))
        assert at.moderation.uninspected["media"] == 64
