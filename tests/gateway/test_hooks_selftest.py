"""`magistrate hooks selftest` against a running gateway and other servers; the page about hooks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from command_line import run
from edges import CLAUSE
from gateways import stub
from hook_calls import KEY, VARIABLES, hook, signature
from magistrate.gateway.loader import load
from magistrate.gateway.schema import HooksSettings
from magistrate.testing import (
    JudgeScript,
    Simulator,
    error,
    fails_with,
    finds,
    text,
    when_judging,
)

BAD = "the bad words"


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def simulator(*rules: Any) -> Simulator:
    found = rules or (when_judging(BAD, finds(CLAUSE)),)
    return Simulator(text("never asked"), judge=JudgeScript(*found))


SAMPLES = {
    "clean prompt": ("allow", "allow"),
    "unsigned": ("401", "401"),
    "old timestamp": ("401", "401"),
    "wrong signature": ("401", "401"),
    "unknown frame": ("allow", "allow"),
    "config-test": ("a verdict", "allow"),
    "tool call": ("allow", "allow"),
}
_LINE = re.compile(r"(ok|FAIL) +(.+?) +expected (.+?) +got (.+?) +(\d+) ms")


def selftest(url: str, *words: str, secret: str | None = VARIABLES["HOOK_SECRET"]) -> Any:
    variables = {"MAGISTRATE_HOOKS_SECRET": secret} if secret is not None else {}
    return run("hooks", "selftest", url, *words, variables=variables)


def lines(printed: str) -> dict[str, tuple[str, str, str]]:
    """What was printed of each sample: whether it was as expected, what was, and what came."""
    *found, _ = printed.splitlines()
    matches = [_LINE.fullmatch(line) for line in found]
    assert all(matches), printed
    return {match[2]: (match[1], match[3], match[4]) for match in matches if match}


def test_the_self_test_says_of_every_sample_what_came(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        ended = selftest(f"{at.gateway.url}/hooks/inference")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert lines(ended.stdout) == {name: ("ok", *each) for name, each in SAMPLES.items()}
        assert ended.stdout.splitlines()[-1] == "7 of 7 as expected."
        assert [d.action for d in at.decisions] == ["allow"] * 3
        again = selftest(f"{at.gateway.url}/hooks/inference/app")
        assert again.returncode == 0
        assert len(set(at.judged)) == len(at.judged), "each run asks anew"


def test_the_self_test_fails_with_another_secret(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        ended = selftest(at.gateway.url + at.path, secret=VARIABLES["HOOK_SECRET_OLD"])
        assert ended.returncode == 1
        found = lines(ended.stdout)
        assert found["clean prompt"] == ("FAIL", "allow", "401")
        assert found["old timestamp"] == ("ok", "401", "401")
        assert ended.stdout.splitlines()[-1] == "3 of 7 as expected."


def test_the_self_test_notices_a_server_that_takes_unsigned_frames(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path, allow_unsigned=True) as at:
        ended = selftest(at.gateway.url + at.path)
        assert ended.returncode == 1
        assert lines(ended.stdout)["unsigned"] == ("FAIL", "401", "allow")
        assert selftest(at.gateway.url + at.path, "--allow-unsigned").returncode == 0


def test_the_self_test_notices_a_judge_that_is_down(tmp_path: Path) -> None:
    with hook(simulator(when_judging("", fails_with(error(401)))), tmp_path) as at:
        found = lines(selftest(at.gateway.url + at.path).stdout)
        assert found["clean prompt"] == ("FAIL", "allow", "deny")
        assert found["config-test"] == ("ok", "a verdict", "deny"), "any verdict satisfies a probe"


@pytest.mark.parametrize(
    ("answer", "status", "headers", "got"),
    [
        (b"{}", 200, {}, "no verdict"),
        (b"<html>", 200, {}, "no verdict"),
        (b'{"action": "warn"}', 200, {}, "no verdict"),
        (b'{"action": "deny", "reference_id": "two words"}', 200, {}, "no verdict"),
        (b'{"action": "allow"}', 500, {}, "500"),
        (b"", 302, {"location": "/other"}, "302"),
        (b'{"action": "allow", "x": "%s"}' % (b"x" * 70_000), 200, {}, "a body that is too large"),
    ],
    ids=range(7),
)
def test_the_self_test_knows_a_verdict_when_it_sees_one(
    answer: bytes, status: int, headers: dict[str, str], got: str
) -> None:
    with stub(answer, status=status, **headers) as (url, kept):
        ended = selftest(url)
        assert ended.returncode == 1
        assert lines(ended.stdout)["clean prompt"] == ("FAIL", "allow", got)
        for raw in kept:
            sent = {name.lower(): value for name, value in raw.headers}
            assert sent["user-agent"] == "anthropic-dlp/1"
            assert sent["accept-encoding"] == "identity"
            if "webhook-id" in sent:
                assert sent["webhook-id"] == json.loads(raw.body)["request_id"]
        good = {name.lower(): value for name, value in kept[0].headers}
        at = good["webhook-timestamp"]
        assert good["webhook-signature"] == signature(good["webhook-id"], at, kept[0].body, KEY)


@pytest.mark.parametrize(
    ("url", "secret", "message"),
    [
        ("http://127.0.0.1:9", VARIABLES["HOOK_SECRET"], "no server at http://127.0.0.1:9"),
        ("http://127.0.0.1:9", None, "MAGISTRATE_HOOKS_SECRET is not set"),
        ("http://127.0.0.1:9", "hunter2", "MAGISTRATE_HOOKS_SECRET: not a secret"),
        ("127.0.0.1:9", VARIABLES["HOOK_SECRET"], "not an address"),
        ("ftp://127.0.0.1", VARIABLES["HOOK_SECRET"], "not an address"),
    ],
)
def test_the_self_test_says_why_it_cannot_begin(url: str, secret: str | None, message: str) -> None:
    ended = selftest(url, secret=secret)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stdout == ""
    assert "hunter2" not in ended.stderr


def test_the_self_test_takes_the_secret_from_the_variable_it_is_told() -> None:
    ended = run("hooks", "selftest", "http://127.0.0.1:9", "--secret-env", "OTHER", variables={})
    assert "OTHER is not set" in ended.stderr


def test_the_self_test_needs_nothing_of_the_server() -> None:
    code = (
        "import sys\n"
        "for name in ('aiohttp', 'starlette', 'uvicorn', 'httptools'): sys.modules[name] = None\n"
        "from magistrate.cli.hooks import selftest\n"
        "sys.argv = ['magistrate', 'hooks', 'selftest', 'http://127.0.0.1:9']\n"
        "from magistrate.cli import main\n"
        "main()\n"
    )
    variables = {**os.environ, "MAGISTRATE_HOOKS_SECRET": VARIABLES["HOOK_SECRET"]}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=variables
    )
    assert "no server at" in ran.stderr
    assert ran.returncode == 2


# --- the page -------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"


def test_the_documented_settings_are_valid(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    (tmp_path / "gateway.yaml").write_text(code, "utf-8")
    (tmp_path / "claude-ai.yaml").write_text("version: 1\n", "utf-8")
    (app,) = load(tmp_path / "gateway.yaml", environ={}).gateway.apps
    assert app.hooks is not None
    assert set(re.findall(r"(\w+):", code.partition("hooks:")[2])) == set(
        HooksSettings.model_fields
    )


def test_the_documented_self_test_prints_what_it_says() -> None:
    (said,) = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    assert lines(said) == {name: ("ok", *each) for name, each in SAMPLES.items()}


def test_the_page_is_short() -> None:
    assert len(PAGE.read_text("utf-8").splitlines()) <= 80
