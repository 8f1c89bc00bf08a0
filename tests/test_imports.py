"""What `import magistrate` costs, and what it offers."""

from __future__ import annotations

import subprocess
import sys
import textwrap

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


@pytest.mark.parametrize(
    "statement",
    [
        "from magistrate import Settings; Settings.load({'version': 1})",
        "from magistrate import Settings, SettingsError, Policy, Decision, Finding, Verdict",
        "import magistrate.testing",
        "from magistrate.testing import ScriptedJudge, Simulator; Simulator()",
    ],
)
def test_what_needs_no_client_does_not_import_the_sdk(statement: str) -> None:
    """It takes seconds: configuration and tests of it must not wait for it."""
    python(f"""
        import sys
        {statement}
        assert "anthropic" not in sys.modules
    """)


def test_a_name_that_needs_the_sdk_brings_it() -> None:
    """And a star import brings all names, each where the SDK's own error handling expects it."""
    python("""
        import sys
        import magistrate
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
    """)
