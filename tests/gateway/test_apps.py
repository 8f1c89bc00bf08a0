"""Several apps behind one gateway: whose request it is, and what one app sees of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edges import CLAUSE, asking
from gateways import served
from magistrate.config.diagnostics import SettingsError
from magistrate.core.refusals import HEADER
from magistrate.gateway.keys import key_hash, new_key
from magistrate.gateway.loader import load
from magistrate.testing import JudgeScript, Simulator, finds, text, when_judging

SHOP, CLINIC = new_key(), new_key()
BAD = "the bad words"
VERSION = {"anthropic-version": "2023-06-01"}


def app(name: str, *keys: str, config: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "keys": [key_hash(key) for key in keys]}
    return found | ({"config": config} if config else {})


APPS = {
    "upstream_key_env": "TEST_UPSTREAM_KEY",
    "apps": [app("shop", SHOP, config="shop.yaml"), app("clinic", CLINIC)],
}
FILES = {"shop.yaml": {"texts": {"block": "Not in this shop."}, "input_check": "before"}}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_UPSTREAM_KEY", "the-real-key")


def presented(key: str, form: str = "x-api-key") -> dict[str, str]:
    return VERSION | ({form: key} if form == "x-api-key" else {form: f"Bearer {key}"})


@pytest.mark.parametrize("form", ["x-api-key", "authorization"])
def test_a_key_chooses_the_app_and_upstream_sees_only_its_own(form: str, tmp_path: Path) -> None:
    sim = Simulator(text("ok"), judge=JudgeScript(when_judging(BAD, finds(CLAUSE))))
    with served(sim, tmp_path, gateway=APPS, files=FILES) as gateway, gateway.http() as http:
        said = http.post("/v1/messages", json=asking(BAD), headers=presented(SHOP, form)).json()
        assert said["content"][0]["text"] == "Not in this shop."
        said = http.post("/v1/messages", json=asking("hi"), headers=presented(CLINIC, form)).json()
        assert said["content"][0]["text"] == "ok"
        assert [d.action for d in gateway.decisions("shop")] == ["block"]
        assert [d.action for d in gateway.decisions("clinic")] == ["allow"]
        assert len(sim.requests) >= 3
        for request in sim.requests:
            assert request.headers["x-api-key"] == "the-real-key"
            assert "authorization" not in request.headers
            assert SHOP not in str(dict(request.headers))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": "the-real-key"},
        {"x-api-key": ""},
        {"x-api-key": new_key()},
        {"x-api-key": key_hash(SHOP)},
        {"authorization": f"Basic {SHOP}"},
        {"authorization": SHOP},
        {"x-api-key": "no", "authorization": f"Bearer {SHOP}"},
        {"magistrate-app": "shop"},
    ],
    ids=range(9),
)
def test_without_a_key_of_the_gateway_nothing_is_served(
    headers: dict[str, str], tmp_path: Path
) -> None:
    sim = Simulator(text("ok"))
    with served(sim, tmp_path, gateway=APPS, files=FILES) as gateway, gateway.http() as http:
        for method, path in (
            ("POST", "/v1/messages"),
            ("POST", "/v1/messages/count_tokens"),
            ("GET", "/v1/models"),
            ("GET", "/magistrate/decisions/dec_1"),
            ("GET", "/magistrate/reviews/rev_1"),
            ("POST", "/magistrate/check"),
        ):
            answer = http.request(method, path, headers=headers, content=b'{"text": "a"}')
            assert answer.status_code == 401, path
            assert answer.json()["error"]["type"] == "authentication_error"
        for path in ("/", "/healthz", "/readyz"):
            assert http.get(path).status_code == 200
        assert sim.requests == []


def test_one_app_never_reads_what_is_anothers(tmp_path: Path) -> None:
    sim = Simulator(text(f"here: {BAD}"), judge=JudgeScript(when_judging(BAD, finds(CLAUSE))))
    review = {
        "actions": {"privacy_identity": {"output": "hold"}},
        "review": {
            "store": f"sqlite:///{tmp_path}/reviews.db",
            "reviewers": [{"name": "ada", "qualified_in": ["privacy_identity"]}],
        },
    }
    files = {
        "shop.yaml": {
            **review,
            "app": {"name": "shop", "audience": "consumer", "interface": "api"},
        },
        "clinic.yaml": {
            **review,
            "app": {"name": "clinic", "audience": "consumer", "interface": "api"},
        },
    }
    apps = {
        **APPS,
        "apps": [
            app("shop", SHOP, config="shop.yaml"),
            app("clinic", CLINIC, config="clinic.yaml"),
        ],
    }
    with served(sim, tmp_path, gateway=apps, files=files) as gateway, gateway.http() as http:
        answer = http.post("/v1/messages", json=asking("hi"), headers=presented(SHOP))
        seen = json.loads(answer.headers[HEADER])
        pages = (
            f"/magistrate/decisions/{seen['id']}",
            f"/magistrate/reviews/{seen['review_id']}",
        )
        for page in pages:
            assert http.get(page, headers=presented(SHOP)).status_code == 200
            assert http.get(page, headers=presented(CLINIC)).status_code == 404
            assert http.get(page).status_code == 401


def test_apps_without_keys_are_chosen_by_a_header(tmp_path: Path) -> None:
    apps = {"apps": [{"name": "shop", "config": "shop.yaml"}, {"name": "clinic"}]}
    sim = Simulator(text("ok"))
    files = {"shop.yaml": {"judge": {"backend": "local"}}}
    with served(sim, tmp_path, gateway=apps, files=files) as gateway, gateway.http() as http:
        own = VERSION | {"x-api-key": "callers"}
        for name in (None, "other", "Shop"):
            chosen = own | ({"magistrate-app": name} if name else {})
            answer = http.post("/v1/messages", json=asking("hi"), headers=chosen)
            assert answer.status_code == 400
            assert "shop, clinic" in answer.json()["error"]["message"]
        for name in ("shop", "clinic"):
            chosen = own | {"magistrate-app": name}
            assert http.post("/v1/messages", json=asking("hi"), headers=chosen).status_code == 200
            assert len(gateway.decisions(name)) == 1
        assert all("magistrate-app" not in r.headers for r in sim.requests)


# --- the file -------------------------------------------------------------------------------------

HASH = key_hash(SHOP)
WRONG: dict[str, tuple[Any, str]] = {
    "no apps": ({"apps": []}, "name at least one app"),
    "two of one name": ({"apps": [app("a"), app("a")]}, "two apps are called 'a'"),
    "one key for two": ({"apps": [app("a", SHOP), app("b", SHOP)]}, "a key belongs to one app"),
    "some without keys": ({"apps": [app("a", SHOP), app("b")]}, "some have none"),
    "a key in clear": ({"apps": [{"name": "a", "keys": [SHOP]}]}, "gateway key new"),
    "a name for a path": ({"apps": [{"name": "../a"}]}, "letters, digits"),
    "an address without http": ({"upstream": "api.anthropic.com", "apps": [app("a")]}, "https://"),
    "a query": ({"upstream": "https://x.test/?a=1", "apps": [app("a")]}, "without query"),
    "credentials in it": ({"upstream": "https://u:p@x.test", "apps": [app("a")]}, "credentials"),
    "an unknown key": ({"upstraem": "https://x.test", "apps": [app("a")]}, "upstream"),
    "no such file": ({"apps": [{"name": "a", "config": "no.yaml"}]}, "no.yaml"),
    "a number": ({"apps": 7}, "7"),
    "nothing": (None, "gateway"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    said, expected = WRONG[name]
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps({"gateway": said}, indent=1))
    with pytest.raises(SettingsError, match=expected) as caught:
        load(str(file))
    assert str(file) in str(caught.value)
    assert SHOP not in str(caught.value), "a key in clear is not printed"


def test_a_wrong_app_is_reported_with_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text('{"version": 1, "on_blok": "refuse"}')
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps({"gateway": {"apps": [{"name": "a", "config": "shop.yaml"}]}}))
    with pytest.raises(SettingsError, match=r"shop.yaml:1:\d+: .*on_block"):
        load(str(file))


def test_variables_are_expanded_and_a_missing_upstream_key_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gateway.yaml"
    said = {"upstream": "${UPSTREAM:-https://one.test}", "apps": [app("a", SHOP)]}
    file.write_text(json.dumps({"gateway": said}))
    assert load(str(file)).gateway.upstream == "https://one.test"
    assert load(str(file), environ={"UPSTREAM": "http://b"}).gateway.upstream == "http://b"
    assert load(str(file), upstream="http://c/").gateway.upstream == "http://c"
    with pytest.raises(SettingsError, match="--upstream"):
        load(str(file), upstream="c")
    from magistrate.gateway.apps import Apps

    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(SettingsError, match="ANTHROPIC_API_KEY is not set"):
        Apps(load(str(file)), {})
