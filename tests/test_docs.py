"""What the documentation says is true: examples run, links lead somewhere, keys exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import magistrate
from magistrate.judging.base import JudgeInfo
from magistrate.settings import JudgeSettings, Settings, SettingsError
from magistrate.testing import JudgeScript, Simulator, finds, text, when_judging
from magistrate.verdicts import DECISION_ACTIONS

ROOT = Path(__file__).parent.parent
MOST_WORDS = 800
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / name / "README.md" for name in ("evals", "benchmarks")),
        *(ROOT / "docs").glob("*.md"),
    ]
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page that are in one language."""
    return [code for name, code in _BLOCK.findall(page.read_text("utf-8")) if name == language]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as links call them."""
    headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def test_the_readme_is_short() -> None:
    prose = _BLOCK.sub("", (ROOT / "README.md").read_text("utf-8"))
    assert len(prose.split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", page.read_text("utf-8")))
    for link in links:
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name})" in readme


def test_the_readme_names_every_action() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE) == list(DECISION_ACTIONS)


def test_the_example_of_the_readme_prints_what_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    judge = JudgeScript(when_judging("five-star", finds("fraud_abuse.fake_reviews")))
    client = magistrate.Anthropic(
        api_key="test",
        http_client=Simulator(text("Hello."), judge=judge).http_client(),
        moderation={"version": 1},
    )
    monkeypatch.setattr(magistrate, "Anthropic", lambda: client)
    exec(code, {})
    said = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    for line, printed in zip(said, capsys.readouterr().out.splitlines(), strict=True):
        parts = line.split("...")
        assert re.fullmatch(".*".join(map(re.escape, parts)), printed), (line, printed)
    client.moderation.close()


@pytest.mark.parametrize("name", ["README.md", "docs/configuration.md"])
def test_a_documented_mistake_is_reported_as_documented(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = blocks(ROOT / name, "yaml")[0]
    (said,) = [each for each in blocks(ROOT / name, "text") if "chatbott" in each]
    (tmp_path / "magistrate.yaml").write_text(re.sub("chatbot", "chatbott", code, count=1), "utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as raised:
        Settings.load()
    assert str(raised.value.problems[0]) == said.strip()


@pytest.mark.parametrize("name", ["README.md", "docs/configuration.md"])
def test_documented_configurations_are_valid(name: str, tmp_path: Path) -> None:
    found = blocks(ROOT / name, "yaml")
    assert found
    for code in found:
        (tmp_path / "magistrate.yaml").write_text(code, "utf-8")
        found_settings = Settings.load(tmp_path / "magistrate.yaml", environ={"DATA_DIR": "/data"})
        assert found_settings.app is not None


def test_the_documented_judge_settings_are_valid_and_complete(tmp_path: Path) -> None:
    (code,) = blocks(ROOT / "docs" / "judging.md", "yaml")
    (tmp_path / "magistrate.yaml").write_text(f"version: 1\n{code}", "utf-8")
    Settings.load(tmp_path / "magistrate.yaml")
    assert set(re.findall(r"^  (\w+):", code, re.MULTILINE)) == set(JudgeSettings.model_fields)


def test_the_documentation_names_every_key_of_the_settings() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    table = page[page.index("## All keys") : page.index("## The app")]
    keys = set(Settings.model_fields) - {"version"}
    assert [key for key in sorted(keys) if not re.search(rf"`{key}[`.]", table)] == []


def test_the_documented_judge_of_your_own_blocks_what_it_finds() -> None:
    (code,) = [each for each in blocks(ROOT / "docs" / "using.md", "python") if "WordJudge" in each]
    names: dict[str, Any] = {}
    exec(code, names)
    own = names["own"]
    assert own.moderation.judge.info(own.moderation.settings) == JudgeInfo("words-1")
    asked = [{"role": "user", "content": "BUY NOW, all of you."}]
    api = Simulator(text("Hello."))
    client = names["Anthropic"](
        api_key="test", http_client=api.http_client(), moderation=own.moderation
    )
    message = client.messages.create(model="m", max_tokens=9, messages=asked)
    assert message.moderation["action"] == "block"
    client.moderation.close()


def test_the_documented_simulator_is_one() -> None:
    page = (ROOT / "docs" / "using.md").read_text("utf-8")
    section = page[page.index("## Test your own code") : page.index("## Bring your own judge")]
    codes = [code for name, code in _BLOCK.findall(section) if name == "python"]
    assert len(codes) == 2
    names: dict[str, Any] = {}
    for code in codes:
        exec(code, names)
    names["client"].moderation.close()
