"""`magistrate reviews`: what a reviewer sees, what is done, and exit codes to trust."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from magistrate.cli.reviews import app
from magistrate.reviews import HeldItem, Review, ReviewStore
from magistrate.settings import Settings

CONFIG = """\
version: 1
app: {name: acme, audience: consumer, interface: chatbot, high_risk: [healthcare, legal]}
disclosure: {chat: "I am a machine."}
review:
  store: "sqlite:///reviews.db"
  reviewers:
    - {name: dr.lee, qualified_in: [healthcare]}
    - {name: kim, qualified_in: [legal]}
"""
REQUEST = {
    "model": "claude-sonnet-5",
    "system": "You work for Acme.",
    "messages": [
        {"role": "user", "content": "Which dose?"},
        {"role": "assistant", "content": [{"type": "tool_use", "name": "lookup", "input": {}}]},
        {"role": "user", "content": [{"type": "text", "text": "For my \u202echild\x1b[2J"}]},
    ],
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "Two tablets."},
        {"type": "tool_use", "id": "t", "name": "order", "input": {}},
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
DECISION = {
    "id": "dec_1",
    "policy": "anthropic-usage-policy@2024-06-06",
    "findings": [
        {"clause": "misinformation.medical", "grade": "likely", "severity": "low", "path": "/c/1"}
    ],
}


@pytest.fixture(autouse=True)
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and an empty review store, where the commands are run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAGISTRATE_CONFIG", raising=False)
    (tmp_path / "magistrate.yaml").write_text(CONFIG)
    opened().close()
    return tmp_path


def opened() -> ReviewStore:
    settings = Settings.load("magistrate.yaml")
    assert settings.review is not None
    return ReviewStore(settings.review, app="acme")


def hold(*domains: str, **changed: Any) -> str:
    parts: dict[str, Any] = {"request": REQUEST, "message": MESSAGE, "decision": DECISION}
    with closing(opened()) as store:
        return store.hold(
            HeldItem(app="acme", domains=domains or ("healthcare",), **{**parts, **changed})
        )


def stored(review_id: str) -> Review:
    with closing(opened()) as store:
        return store.get(review_id)


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_list_shows_what_waits_oldest_first() -> None:
    first, second, decided = hold(), hold("healthcare", "legal"), hold()
    run("approve", decided, "--reviewer", "dr.lee")
    result = run("list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [first, second]
    assert "pending" in lines[0]
    assert lines[1].endswith("healthcare, legal")


@pytest.mark.parametrize(
    ("status", "count"), [("pending", 1), ("approved", 1), ("rejected", 1), ("all", 3)]
)
def test_list_filters_by_status(status: str, count: int) -> None:
    hold()
    run("approve", hold(), "--reviewer", "dr.lee")
    run("reject", hold(), "--reviewer", "dr.lee")
    found = json.loads(run("list", "--status", status, "--json").stdout)
    assert len(found) == count
    assert status == "all" or {entry["status"] for entry in found} == {status}


def test_an_empty_list_says_where_it_looked(deployment: Path) -> None:
    result = run("list")
    assert (result.exit_code, result.stdout) == (
        0,
        f"No pending reviews in {deployment}/reviews.db\n",
    )
    assert json.loads(run("list", "--json").stdout) == []


def damage(deployment: Path, review_id: str, change: str) -> None:
    with closing(sqlite3.connect(deployment / "reviews.db")) as raw:
        raw.execute(f"UPDATE reviews SET {change} WHERE id = ?", (review_id,))
        raw.commit()


def test_a_damaged_record_is_named_next_to_the_others(deployment: Path) -> None:
    kept, lost = hold(), hold()
    damage(deployment, lost, "message = substr(message, 3)")
    for status in ("pending", "all"):
        result = run("list", "--status", status)
        assert result.exit_code == 3
        first, second = result.stdout.splitlines()
        assert first.startswith(f"{kept}  pending")
        assert second == f"{lost}  damaged   its message cannot be read"
        assert result.stderr.startswith(f"{deployment}/reviews.db: damaged records: {lost}. ")
    result = run("list", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, [entry["status"] for entry in found]) == (3, ["pending", "damaged"])
    assert found[1] == {"id": lost, "column": "message", "status": "damaged"}
    assert run("list", "--status", "approved").exit_code == 0


@pytest.mark.parametrize(
    "command",
    [("show",), ("approve", "--reviewer", "dr.lee"), ("reject", "--reviewer", "dr.lee")],
    ids=lambda command: command[0],
)
def test_a_damaged_record_can_be_neither_shown_nor_decided(
    deployment: Path, command: tuple[str, ...]
) -> None:
    review_id = hold()
    damage(deployment, review_id, "domains = x'00'")
    verb, *options = command
    result = run(verb, review_id, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"{deployment}/reviews.db: the record of {review_id} is damaged (domains)\n"
    )


def test_purge_deletes_by_the_clock_only_if_told_and_never_a_damaged_record(
    deployment: Path,
) -> None:
    year = 365 * 24 * 3600 * 1_000_000
    old, lost = hold(), hold()
    damage(deployment, old, f"created_at = created_at - {year}, expires_at = expires_at - {year}")
    damage(deployment, lost, f"created_at = created_at - {year}, expires_at = 'x'")
    assert run("list", "--status", "rejected").stdout.startswith("No rejected reviews")
    assert "1 more are past their retention by this machine's clock" in run("list").stdout
    assert run("purge").stdout == "0 deleted\n"
    assert json.loads(run("purge", "--trust-clock", "--json").stdout) == {"deleted": 1}
    assert run("purge", "--trust-clock").stdout == "0 deleted\n"
    assert f"{lost}  damaged" in run("list").stdout


def test_the_list_carries_no_content() -> None:
    hold()
    for arguments in (("list",), ("list", "--json")):
        assert "tablets" not in run(*arguments).stdout


def test_show_gives_question_answer_reason_and_who_may_decide() -> None:
    result = run("show", hold())
    assert result.exit_code == 0
    for expected in (
        "may be decided by dr.lee",
        "needs a reviewer qualified in healthcare",
        "misinformation.medical likely low /c/1",
        "decision dec_1 under anthropic-usage-policy@2024-06-06",
        "You work for Acme.",
        "Which dose?",
        "assistant tool_use",
        "Two tablets.",
        '"name": "order"',
    ):
        assert expected in result.stdout


def test_show_says_when_nobody_may_decide() -> None:
    assert "no listed reviewer" in run("show", hold("healthcare", "legal")).stdout


def test_show_gives_the_released_text_beside_the_held_one(deployment: Path) -> None:
    (deployment / "new.txt").write_text("Ask your pharmacist.")
    review_id = hold()
    run("approve", review_id, "--reviewer", "dr.lee", "--text", "new.txt", "--note", "too exact")
    shown = run("show", review_id).stdout
    assert "Two tablets." in shown
    assert "Ask your pharmacist." in shown
    assert "by dr.lee: too exact" in shown


HIDDEN = {
    "bidi override": ("\u202e", "<U+202E>"),
    "zero width": ("\u200b", "<U+200B>"),
    "escape": ("\x1b", "<U+001B>"),
    "carriage return": ("a\rb", "a<U+000D>b"),
    "backspace": ("\b", "<U+0008>"),
    "c1 control": ("\x9b", "<U+009B>"),
    "nul": ("\0", "<U+0000>"),
    "delete": ("\x7f", "<U+007F>"),
    "tag": ("\U000e0041", "<U+E0041>"),
    "variation selector": ("\U000e0100", "<U+E0100>"),
    "filler": ("\u3164", "<U+3164>"),
    "line separator": ("\u2028", "<U+2028>"),
    "lone surrogate": ("\ud800", "<U+D800>"),
}


@pytest.mark.parametrize(("raw", "visible"), HIDDEN.values(), ids=HIDDEN.keys())
def test_hidden_characters_are_made_visible_everywhere(raw: str, visible: str) -> None:
    hostile = f"x{raw}y"
    review_id = hold(
        "healthcare",
        hostile,
        request={
            "system": [{"type": "text", "text": hostile}],
            "messages": [
                {"role": hostile, "content": hostile},
                {"role": "user", "content": [{"type": hostile, "deep": [hostile]}, hostile]},
            ],
        },
        message={"content": [{"type": "text", "text": hostile}]},
        decision={"id": hostile, "findings": [{"clause": hostile, "evidence": hostile}]},
    )
    shown = run("show", review_id).stdout
    assert raw not in shown
    assert visible in shown
    assert raw not in run("show", review_id, "--json").stdout
    assert raw not in run("list").stdout


def test_markup_is_shown_as_it_was_written() -> None:
    markup = "[bold]loud[/bold] [link=https://example.com]x[/link] :warning: [/]"
    review_id = hold(message={"content": [{"type": "text", "text": markup}]})
    shown = run("show", review_id).stdout
    assert markup in " ".join(shown.split())


def test_content_cannot_pass_for_a_line_of_the_command() -> None:
    forged = "Answer as held\n\nmay be decided by mallory" + " " * 60 + "Question " * 40
    review_id = hold(request={"messages": [{"role": "user", "content": forged}]})
    shown = run("show", review_id).stdout.splitlines()
    assert [line for line in shown if line.startswith("may be decided")] == [
        "may be decided by dr.lee"
    ]
    assert sum(line.startswith("Answer as held") for line in shown) == 1
    assert sum(line.startswith("Question") for line in shown) == 1


@pytest.mark.parametrize(
    "request_body",
    [
        {},
        {"messages": None},
        {"messages": "text"},
        {"messages": ["text", 7, {"role": None, "content": {"type": "text"}}]},
        {"system": 7, "messages": [{"content": [None, 7, [], {"type": 3}]}]},
    ],
)
def test_show_survives_requests_of_any_shape(request_body: dict[str, Any]) -> None:
    review_id = hold(request=request_body, message={"content": None}, decision={"findings": 7})
    assert run("show", review_id).exit_code == 0


def test_show_json_is_exact_and_whole() -> None:
    review_id = hold()
    shown = json.loads(run("show", review_id, "--json").stdout)
    assert shown["request"] == REQUEST
    assert shown["message"] == shown["original"] == MESSAGE
    assert shown["decision"] == {**DECISION, "review_id": review_id}
    assert (shown["id"], shown["status"], shown["may_decide"]) == (review_id, "pending", ["dr.lee"])


def test_approve_releases_the_answer() -> None:
    review_id = hold()
    result = run("approve", review_id, "--reviewer", "dr.lee", "--note", "fine")
    assert (result.exit_code, result.stdout) == (0, f"{review_id}  approved by dr.lee\n")
    review = stored(review_id)
    assert (review.released, review.note) == (MESSAGE, "fine")


def test_reject_releases_nothing() -> None:
    review_id = hold()
    result = run("reject", review_id, "--reviewer", "dr.lee", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["status"] == "rejected"
    assert stored(review_id).released is None


@pytest.mark.parametrize(
    ("source", "content"),
    [
        ("new.txt", "Ask \u00e4 pharmacist.\nTwice.\n".encode()),
        ("new.txt", b"\xef\xbb\xbfAsk \xc3\xa4 pharmacist.\nTwice."),
        ("-", "Ask \u00e4 pharmacist.\nTwice.\n".encode()),
    ],
    ids=["file", "byte order mark", "stdin"],
)
def test_an_edited_text_replaces_the_whole_answer(
    deployment: Path, source: str, content: bytes
) -> None:
    (deployment / "new.txt").write_bytes(content)
    review_id = hold()
    result = run("approve", review_id, "--reviewer", "dr.lee", "--text", source, stdin=content)
    assert result.exit_code == 0
    review = stored(review_id)
    assert review.released == {
        **MESSAGE,
        "content": [{"type": "text", "text": "Ask \u00e4 pharmacist.\nTwice."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
    }
    assert review.original == MESSAGE


def test_an_edited_text_must_keep_the_disclosure_the_answer_carries(deployment: Path) -> None:
    disclosure = "I am a machine. AI helped to prepare this answer."
    held = {**MESSAGE, "content": [{"type": "text", "text": f"{disclosure}\n\nTwo tablets."}]}
    review_id = hold(message=held)
    command = ("approve", review_id, "--reviewer", "dr.lee", "--text", "-")
    refused = run(*command, stdin="Ask your pharmacist.")
    assert (refused.exit_code, stored(review_id).status) == (1, "pending")
    assert refused.stderr == f"the new text leaves out the disclosure: {disclosure}\n"
    assert run(*command, stdin=f"{disclosure} Ask your pharmacist.").exit_code == 0


@pytest.mark.parametrize(
    ("source", "said"),
    [("gone.txt", "No such file"), ("bad.txt", "is not UTF-8"), ("blank.txt", "is empty")],
)
def test_a_text_that_cannot_be_used_changes_nothing(
    deployment: Path, source: str, said: str
) -> None:
    (deployment / "bad.txt").write_bytes(b"\xff\xfe")
    (deployment / "blank.txt").write_text(" \n\n")
    review_id = hold()
    result = run("approve", review_id, "--reviewer", "dr.lee", "--text", source)
    assert result.exit_code == 2
    assert said in result.stderr
    assert stored(review_id).status == "pending"


@pytest.mark.parametrize(
    ("reviewer", "said"),
    [
        ("kim", "'kim' is not qualified in healthcare; may decide: dr.lee\n"),
        ("mallory", "'mallory' is not listed as a reviewer; listed: dr.lee, kim\n"),
    ],
)
@pytest.mark.parametrize("command", ["approve", "reject"])
def test_the_wrong_reviewer_is_refused(command: str, reviewer: str, said: str) -> None:
    review_id = hold()
    result = run(command, review_id, "--reviewer", reviewer, "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", said)
    assert stored(review_id).status == "pending"


def test_a_second_decision_is_refused() -> None:
    review_id = hold()
    run("approve", review_id, "--reviewer", "dr.lee")
    result = run("reject", review_id, "--reviewer", "dr.lee")
    assert result.exit_code == 1
    assert result.stderr.startswith("already approved by 'dr.lee' at ")


@pytest.mark.parametrize(
    "command",
    [("show",), ("approve", "--reviewer", "dr.lee"), ("reject", "--reviewer", "dr.lee")],
    ids=lambda command: command[0],
)
def test_an_unknown_review_is_refused(command: tuple[str, ...]) -> None:
    verb, *options = command
    result = run(verb, "rev_unknown", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "no review with this id exists\n"


Broken = Callable[[Path], object]
UNUSABLE: dict[str, tuple[Broken, str]] = {
    "no review section": (
        lambda here: (here / "magistrate.yaml").write_text("version: 1\n"),
        "has no `review:`",
    ),
    "no configuration": (
        lambda here: (here / "magistrate.yaml").unlink(),
        "no magistrate.yaml was found",
    ),
    "wrong configuration": (
        lambda here: (here / "magistrate.yaml").write_text("verzion: 1\n"),
        "magistrate.yaml:1:1",
    ),
    "missing store": (
        lambda here: (here / "reviews.db").unlink(),
        "reviews.db: no review store exists here",
    ),
    "corrupt store": (
        lambda here: (here / "reviews.db").write_text("text " * 1000),
        "reviews.db: is not a database",
    ),
}


@pytest.mark.parametrize(("broken", "said"), UNUSABLE.values(), ids=UNUSABLE.keys())
@pytest.mark.parametrize("verb", ["list", "show"])
def test_what_cannot_be_used_is_said_in_words(
    deployment: Path, verb: str, broken: Broken, said: str
) -> None:
    broken(deployment)
    before = sorted(deployment.iterdir())
    result = run(*([verb] if verb == "list" else [verb, "rev_x"]))
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert sorted(deployment.iterdir()) == before


def test_the_configuration_can_be_named(deployment: Path) -> None:
    review_id = hold()
    (deployment / "magistrate.yaml").rename(deployment / "acme.yaml")
    assert review_id in run("list", "--config", "acme.yaml").stdout
    assert run("list", "--config", "gone.yaml").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--status", "odd"),
        ("approve", "rev_x"),
        ("show",),
        ("unknown",),
    ],
)
def test_wrong_usage_exits_with_two(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_help_says_that_a_name_is_taken_at_its_word(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert "operating system" in " ".join(run(verb, "--help").stdout.split())


def test_a_terminal_that_cannot_print_a_character_still_shows_the_review() -> None:
    review_id = hold(message={"content": [{"type": "text", "text": "\u4f60\u597d"}]})
    code = f"from magistrate.cli.reviews import app; app(['show', '{review_id}'])"
    shown = in_a_process(code, PYTHONIOENCODING="ascii")
    assert shown.returncode == 0, shown.stderr
    assert "\\u4f60\\u597d" in shown.stdout


def test_the_command_needs_no_sdk() -> None:
    code = "import sys, magistrate.cli.reviews; print('anthropic' in sys.modules)"
    assert in_a_process(code).stdout.strip() == "False"


def in_a_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
