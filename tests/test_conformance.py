"""The SDK's own tests pass on our clients as on its own; see `conformance/README.md`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conformance import run
from conformance.run import ENVIRONMENT, Rule, compare

SCRIPT = Path(run.__file__)
MIDDLEWARE = Rule("middleware tuple", "has one more", ("tests/a.py::test_tuple", "tests/b.py::*"))
PLACE = Rule(ENVIRONMENT, "no such folder", ("tests/c.py::test_folder[*",))
RULES = [MIDDLEWARE, PLACE]

PASSING = {
    "tests/a.py::test_tuple": "passed",
    "tests/b.py::test_length": "passed",
    "tests/b.py::test_other": "passed",
    "tests/c.py::test_folder[x]": "failed",
    "tests/d.py::test_more": "skipped",
}
EXPLAINED = PASSING | {"tests/a.py::test_tuple": "failed", "tests/b.py::test_length": "error"}


def conform(part: str) -> None:
    """Run the script as anybody would; it must find nothing that is not explained."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "--part", part], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.conformance
def test_the_sdks_tests_of_its_clients_pass_on_ours() -> None:
    conform("quick")


@pytest.mark.conformance
def test_all_of_the_sdks_tests_pass_on_our_clients() -> None:
    conform("all")


def test_every_exception_has_a_reason_and_names_tests() -> None:
    rules = run.rules()
    assert rules
    for rule in rules:
        assert rule.group and rule.reason and rule.tests, rule
        assert all(name.startswith("tests/") for name in rule.tests), rule
    named = [name for rule in rules for name in rule.tests]
    assert len(named) == len(set(named))


def test_fewer_than_thirty_tests_cannot_apply_to_a_client_that_moderates() -> None:
    assert sum(len(rule.tests) for rule in run.rules() if rule.group != ENVIRONMENT) < 30


@pytest.mark.parametrize(
    ("ours", "unexplained", "outdated"),
    [
        (EXPLAINED, [], []),
        (PASSING, [], ["tests/a.py::test_tuple", "tests/b.py::*"]),
        (EXPLAINED | {"tests/d.py::test_more": "passed"}, ["tests/d.py::test_more"], []),
        (EXPLAINED | {"tests/d.py::test_more": "failed"}, ["tests/d.py::test_more"], []),
        (EXPLAINED | {"tests/d.py::test_new": "passed"}, ["tests/d.py::test_new"], []),
        # What fails in one run only is no matter of the environment, and the reverse.
        (
            EXPLAINED | {"tests/c.py::test_folder[x]": "passed"},
            ["tests/c.py::test_folder[x]"],
            [],
        ),
    ],
)
def test_what_differs_must_be_explained_and_what_is_explained_must_differ(
    ours: dict[str, str], unexplained: list[str], outdated: list[str]
) -> None:
    report = compare(PASSING, ours, RULES, whole=True)
    assert [line.partition(": ")[0] for line in report.unexplained] == unexplained
    assert [line.partition(" (")[0] for line in report.outdated] == outdated


def test_what_fails_with_either_client_is_explained_only_by_the_environment() -> None:
    broken = PASSING | {"tests/a.py::test_tuple": "failed"}
    report = compare(broken, broken, [MIDDLEWARE, PLACE], whole=False)
    assert report.unexplained == ["tests/a.py::test_tuple: plain failed, ours failed"]
    assert report.explained == {"tests/c.py::test_folder[x]": PLACE}


def test_a_part_of_the_suite_says_nothing_of_rules_about_the_rest() -> None:
    some = {"tests/d.py::test_more": "passed"}
    assert compare(some, some, RULES, whole=False).outdated == []
    assert len(compare(some, some, RULES, whole=True).outdated) == 2


def test_a_test_that_breaks_in_its_teardown_has_not_passed(tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    junit.write_text(
        """<testsuites><testsuite>
        <testcase file="tests/a.py" classname="tests.a.TestA" name="test_1[x.y]"/>
        <testcase file="tests/a.py" classname="tests.a" name="test_2"><skipped/></testcase>
        <testcase file="tests/a.py" classname="tests.a" name="test_3"/>
        <testcase file="tests/a.py" classname="tests.a" name="test_3"><error/></testcase>
        <testcase file="tests/a.py" classname="tests.a" name="test_4"><failure/></testcase>
        <testcase file="tests/a.py" classname="tests.a" name="test_4"><error/></testcase>
        </testsuite></testsuites>"""
    )
    assert run.outcomes(junit) == {
        "tests/a.py::TestA::test_1[x.y]": "passed",
        "tests/a.py::test_2": "skipped",
        "tests/a.py::test_3": "error",
        "tests/a.py::test_4": "failed",
    }
