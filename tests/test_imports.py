"""What `import magistrate` costs, and what it offers."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import magistrate

PUBLIC = [
    "Anthropic",
    "AnthropicAWS",
    "AnthropicBedrock",
    "AnthropicBedrockMantle",
    "AnthropicFoundry",
    "AnthropicGoogleCloud",
    "AnthropicVertex",
    "AsyncAnthropic",
    "AsyncAnthropicAWS",
    "AsyncAnthropicBedrock",
    "AsyncAnthropicBedrockMantle",
    "AsyncAnthropicFoundry",
    "AsyncAnthropicGoogleCloud",
    "AsyncAnthropicVertex",
    "Blocked",
    "Decision",
    "Finding",
    "HeldForReview",
    "Judge",
    "Moderation",
    "ModerationError",
    "ModerationUnavailable",
    "Policy",
    "Settings",
    "SettingsError",
    "Verdict",
    "__version__",
]
HEAVY = ("anthropic", "sqlalchemy", "rich", "typer", "openai", "httpx2", "jinja2")


def python(script: str) -> None:
    """Run a script in an interpreter of its own; it must end well, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_these() -> None:
    assert magistrate.__all__ == PUBLIC


def test_every_public_name_is_there_and_is_what_it_says() -> None:
    for name in PUBLIC:
        value = getattr(magistrate, name)
        if name != "__version__":
            assert value.__name__ == name


def test_dir_shows_the_public_names() -> None:
    assert set(PUBLIC) <= set(dir(magistrate))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'AnthropicClient'"):
        _ = magistrate.AnthropicClient
    with pytest.raises(ImportError):
        exec("from magistrate import NoSuchName")


def test_importing_the_package_imports_nothing_heavy() -> None:
    python(f"""
        import sys
        import magistrate
        dir(magistrate)
        magistrate.__version__
        found = set({HEAVY!r}) & set(sys.modules)
        assert not found, found
        assert not hasattr(magistrate, "NoSuchName")
        assert "anthropic" not in sys.modules
    """)


NEEDS_NO_CLIENT = [
    "from magistrate import Settings; Settings.load({'version': 1})",
    "from magistrate import Settings, SettingsError, Policy, Decision, Finding, Verdict",
    "import magistrate.testing",
    "from magistrate.testing import ScriptedJudge, Simulator; Simulator()",
]


def test_what_needs_no_client_does_not_import_the_sdk() -> None:
    """It takes seconds: configuration and tests of it must not wait for it."""
    python(f"""
        import sys
        for statement in {NEEDS_NO_CLIENT!r}:
            exec(statement)
            assert "anthropic" not in sys.modules, statement
    """)


def test_a_name_that_needs_the_sdk_brings_it() -> None:
    """And a star import brings all names, each where the SDK's own error handling expects it, but
    no extra of any platform, of which the twins need none before they ask.
    """
    python("""
        import sys
        import magistrate
        assert "anthropic" not in sys.modules
        value = magistrate.ModerationError
        assert "anthropic" in sys.modules
        from magistrate import *
        import anthropic
        assert value is ModerationError
        assert issubclass(Anthropic, anthropic.Anthropic)
        assert issubclass(AsyncAnthropic, anthropic.AsyncAnthropic)
        assert issubclass(Moderation, anthropic.Middleware)
        for error in (Blocked, HeldForReview, ModerationUnavailable):
            assert issubclass(error, ModerationError)
        assert issubclass(ModerationError, anthropic.AnthropicError)
        assert not issubclass(ModerationError, anthropic.APIError)
        assert not issubclass(ModerationError, anthropic.RetryableError)
        assert issubclass(SettingsError, ValueError)
        assert not issubclass(SettingsError, anthropic.AnthropicError)
        judge = {"version": 1, "judge": {"model": "m"}}
        AnthropicVertex(project_id="p", region="r", access_token="t", moderation=judge)
        AsyncAnthropicFoundry(resource="r", api_key="k", moderation=judge)
        AnthropicBedrock(aws_region="r", api_key="k", moderation=judge)
        found = {"boto3", "botocore", "google.auth", "azure"} & set(sys.modules)
        assert not found, found
    """)


# --- the command line -----------------------------------------------------------------------------

COMMANDS = [
    "demo",
    "check",
    "validate",
    "explain",
    "coverage",
    "eval run",
    "eval report",
    "eval compare",
    "eval tune",
    "eval import",
    "eval export",
    "eval check",
    "reviews list",
    "reviews show",
    "reviews approve",
    "reviews reject",
]
# Of ours: what a command works with. Of others: what takes long to import.
WORKS = ("magistrate.settings", "magistrate.judging", "magistrate.text.reading", "magistrate.evals")
SLOW = ("anthropic", "httpx2", "sqlalchemy", "jinja2", "numpy", "scipy", "sklearn", "altair")


def brings(*commands: str, nothing_of: tuple[str, ...]) -> None:
    """Run commands one after the other in one process; what none of them may import."""
    python(f"""
        import sys
        from typer.testing import CliRunner
        from magistrate.cli import app

        for words in {commands!r}:
            done = CliRunner().invoke(app, words.split())
            assert done.exit_code == 0, done.output
            found = [name for name in {nothing_of!r} if name in sys.modules]
            assert not found, (words, found)
    """)


def test_a_list_of_commands_imports_none_of_them() -> None:
    lists = ("--help", "--version", "eval --help", "reviews --help")
    brings(*lists, nothing_of=(*SLOW, *WORKS, "ruamel"))


def test_the_help_of_a_command_imports_nothing_slow() -> None:
    brings(*(f"{command} --help" for command in COMMANDS), nothing_of=SLOW)


def test_commands_about_the_configuration_import_nothing_that_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAGISTRATE_CONFIG", raising=False)
    theirs = ("asyncio", "structlog", "tenacity")
    brings("validate", "explain", "explain healthcare", nothing_of=(*SLOW, *WORKS[1:], *theirs))


# --- without the extra `cli` ----------------------------------------------------------------------

# Every module but those of the command line, and those that need a framework.
PACKAGE = Path(magistrate.__file__).parent
LIBRARY = [
    ".".join(("magistrate", *file.relative_to(PACKAGE).with_suffix("").parts))
    for file in sorted(PACKAGE.rglob("*.py"))
    if not {"cli", "integrations"} & {*file.relative_to(PACKAGE).parts}
    and not file.stem.startswith("__")
]


def python_without(names: tuple[str, ...], script: str) -> None:
    """Run a script in an interpreter of its own that lacks some packages."""
    python(
        f"""
        import sys

        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {names!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Missing())
        """
        + textwrap.indent(textwrap.dedent(script), " " * 8)
    )


@pytest.mark.parametrize("name", ["rich", "typer"])
def test_the_command_says_which_extra_it_needs(name: str) -> None:
    python_without(
        (name,),
        f"""
        import contextlib, io
        from magistrate.cli import main

        sys.argv = ["magistrate", "--help"]
        with contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                main()
            except SystemExit as ended:
                assert ended.code == 2
        line = "the command line needs {name}: pip install 'magistrate[cli]'"
        assert said.getvalue().splitlines() == [line], said.getvalue()
        """,
    )


def test_another_module_that_is_missing_is_not_called_an_extra() -> None:
    python_without(
        ("ruamel",),
        """
        from magistrate.cli import main

        sys.argv = ["magistrate", "explain"]
        try:
            main()
        except ModuleNotFoundError as error:
            assert error.name.startswith("ruamel"), error
        else:
            raise AssertionError
        """,
    )


def test_calls_are_moderated_without_the_extra_of_the_command_line() -> None:
    python_without(
        ("rich", "typer"),
        f"""
        from magistrate import Anthropic, Settings
        from magistrate.testing import JudgeScript, Simulator, finds, text, when_judging

        for module in {LIBRARY!r}:
            __import__(module)
        judge = JudgeScript(when_judging("five-star", finds("fraud_abuse.fake_reviews")))
        api = Simulator(text("Hello."), judge=judge)
        client = Anthropic(api_key="t", http_client=api.http_client(), moderation=Settings())
        for words, action in (("Hello!", "allow"), ("Write a five-star review.", "block")):
            asked = [dict(role="user", content=words)]
            got = client.messages.create(model="claude-sonnet-5-5", max_tokens=9, messages=asked)
            assert got.moderation["action"] == action, got
        client.moderation.close()
        """,
    )
