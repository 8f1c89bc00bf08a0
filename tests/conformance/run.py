"""The SDK's own test suite, once with its clients and once with ours: what differs, and why.

    python tests/conformance/run.py [--part quick|all] [--keep DIR]

Takes the source distribution of exactly the installed SDK version from PyPI, into a cache outside
the repository, with an environment of its own for the suite's dependencies. Exits with 1 on a
difference that `exceptions.toml` does not explain, and on an explanation whose difference no longer
occurs. Knows nothing of moderation: what is substituted, and how, is `plugin`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# What a client does: be built, send, stream, sign in, be copied, run tools, speak to platforms.
QUICK = (
    "tests/test_client.py",
    "tests/test_middleware.py",
    "tests/test_response.py",
    "tests/test_streaming.py",
    "tests/lib/streaming",
    "tests/lib/test_client_copy.py",
    "tests/lib/test_credentials.py",
    "tests/lib/test_scoped_client.py",
    "tests/lib/tools/test_runners.py",
    "tests/lib/tools/test_runner_eager_tools.py",
    "tests/lib/tools/test_runner_eager_toolsets.py",
    "tests/lib/threads",
    "tests/lib/test_aws.py",
    "tests/lib/test_azure.py",
    "tests/lib/test_bedrock.py",
    "tests/lib/test_bedrock_mantle.py",
    "tests/lib/test_google_cloud.py",
    "tests/lib/test_vertex.py",
)
# `api_resources` wants a mock server, which the source distribution does not bring.
PARTS = {"quick": QUICK, "all": ("tests", "--ignore=tests/api_resources")}

EXTRAS = "aiohttp,aws,google-cloud,mcp,webhooks"
ENVIRONMENT = "environment"  # the group whose tests fail with the SDK's own clients too
TIME_LIMIT_S = 3600
TEST_TIME_LIMIT_S = 90  # a test may wait for ever for a request that is refused

# What the caller's own settings and test run must not tell the suite.
_FOREIGN = ("ANTHROPIC_", "AWS_", "COV", "MAGISTRATE_", "PYTEST_", "PYTHON", "VIRTUAL_ENV")
_KEPT = {"PYTEST_XDIST_AUTO_NUM_WORKERS"}

Outcomes = Mapping[str, str]  # test id -> passed, failed, error or skipped


# --- what differs, and whether it may -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `exceptions.toml`: tests, by id or glob, and why they differ."""

    group: str
    reason: str
    tests: tuple[str, ...]


@dataclass(slots=True)
class Report:
    """Two runs, set against the rules."""

    explained: dict[str, Rule] = field(default_factory=dict[str, Rule])
    unexplained: list[str] = field(default_factory=list[str])
    outdated: list[str] = field(default_factory=list[str])


def rules(path: Path = HERE / "exceptions.toml") -> list[Rule]:
    """The exceptions. Raises KeyError for an entry that lacks a reason."""
    entries: list[dict[str, Any]] = tomllib.loads(path.read_text())["rule"]
    return [Rule(e["group"], e["reason"], tuple(e["tests"])) for e in entries]


def names(pattern: str, test: str) -> bool:
    """Whether a test id or glob means this test. Brackets hold parameters, not characters."""
    return fnmatchcase(test, pattern.replace("[", "[[]"))


def differing(plain: Outcomes, ours: Outcomes) -> list[str]:
    """The tests that do not pass, or are not skipped, in both runs alike."""
    fine = ({"passed"}, {"skipped"})
    return [t for t in sorted({*plain, *ours}) if {plain.get(t, ""), ours.get(t, "")} not in fine]


def compare(plain: Outcomes, ours: Outcomes, known: Iterable[Rule], *, whole: bool) -> Report:
    """Hold every difference against the rules, and every rule against the differences.

    `whole`: these are all the tests there are, so that a rule without a test is outdated too.
    """
    report, known = Report(), list(known)
    for test in differing(plain, ours):
        before, after = plain.get(test, "missing"), ours.get(test, "missing")
        in_both = before == after
        for rule in known:
            fits = (rule.group == ENVIRONMENT) == in_both
            if fits and any(names(pattern, test) for pattern in rule.tests):
                report.explained[test] = rule
                break
        else:
            report.unexplained.append(f"{test}: plain {before}, ours {after}")
    for rule in known:
        if rule.group == ENVIRONMENT:
            continue  # it may be a better one than where the rules were written
        for pattern in rule.tests:
            tests = [test for test in {*plain, *ours} if names(pattern, test)]
            if not any(report.explained.get(test) is rule for test in tests) and (tests or whole):
                report.outdated.append(f"{pattern} ({rule.group})")
    return report


# --- the suite ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Suite:
    """The unpacked source distribution, and the Python that runs its tests."""

    source: Path
    python: Path


def prepare(version: str) -> Suite:
    """The suite of this SDK version, from the cache or from PyPI."""
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    suites = (HERE / "requirements.txt").read_text()
    about = [sys.version, str(ROOT), EXTRAS, suites, *ours]
    key = hashlib.sha256("\0".join(about).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "magistrate-conformance" / f"{version}-{key}"
    suite = Suite(home / f"anthropic-{version}", home / "venv" / "bin" / "python")
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "ready").exists():
            print(f"preparing the suite of anthropic {version} in {home}", flush=True)
            venv.create(home / "venv", clear=True, with_pip=True)
            _unpack(suite, version)
            _install(suite, version)
            (home / "ready").touch()
    return suite


def _unpack(suite: Suite, version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        only = ["--no-deps", "--no-binary", "anthropic", f"anthropic=={version}"]
        subprocess.run(
            [suite.python, "-m", "pip", "download", "-q", "-d", folder, *only], check=True
        )
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(suite.source.parent, filter="data")


def _install(suite: Suite, version: str) -> None:
    what = [f"anthropic[{EXTRAS}]=={version}", "-r", HERE / "requirements.txt", "-e", ROOT]
    pip = [suite.python, "-m", "pip", "install", "-q", *what]
    uv = [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else [shutil.which("uv")]
    if uv[0] is not None:
        to = ["pip", "install", "-q", "--python", suite.python]
        if subprocess.run([*uv, *to, *what]).returncode == 0:
            return
    subprocess.run(pip, check=True)


def play(suite: Suite, targets: Sequence[str], folder: Path, *, ours: bool) -> dict[str, str]:
    """Run these tests. Raises SystemExit if there is no telling how they ended."""
    folder.mkdir(parents=True, exist_ok=True)
    junit, log = folder / "junit.xml", folder / "output.txt"
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.startswith(_FOREIGN)
    }
    command = [suite.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command.append(f"--timeout={TEST_TIME_LIMIT_S}")
    # This family of the format names the file that a test is in.
    command += [f"--junitxml={junit}", "-o", "junit_family=xunit1"]
    if ours:
        command += ["-p", "plugin"]
        environment["PYTHONPATH"] = str(HERE)
    with log.open("w") as output:
        ended = subprocess.run(
            [*command, *targets],
            cwd=suite.source,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=TIME_LIMIT_S,
        )
    if ended.returncode not in (0, 1) or not junit.exists():
        sys.exit(f"{log.read_text()[-5000:]}\npytest ended with {ended.returncode}")
    return outcomes(junit)


def outcomes(junit: Path) -> dict[str, str]:
    """How each test ended. One that passed and then broke in its teardown counts as broken."""
    found: dict[str, str] = {}
    for case in ET.parse(junit).iter("testcase"):
        file = case.get("file") or ""
        inner = (case.get("classname") or "").removeprefix(
            file.removesuffix(".py").replace("/", ".")
        )
        test = "::".join([file, *filter(None, inner.split(".")), case.get("name") or ""])
        ends = [kind for kind in ("error", "failure", "skipped") if case.find(kind) is not None]
        end = {"failure": "failed"}.get(ends[0], ends[0]) if ends else "passed"
        found[test] = end if found.get(test, "passed") == "passed" else found[test]
    return found


# --- one run --------------------------------------------------------------------------------------


@contextlib.contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """Where the runs leave their reports: for good, or while they are needed."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="conformance-") as made:
            yield Path(made)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare, run twice, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", choices=sorted(PARTS), default="quick")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep reports and output here")
    chosen = parser.parse_args(arguments)
    version = importlib.metadata.version("anthropic")
    suite = prepare(version)
    print(f"anthropic {version}, Python {sys.version.split()[0]}, part {chosen.part}")
    print(f"{'':8}{'passed':>8}{'failed':>8}{'errors':>8}{'skipped':>8}{'time':>8}", flush=True)
    known, runs = rules(), list[dict[str, str]]()
    with kept(chosen.keep) as folder:
        for name in ("plain", "ours"):
            began = time.monotonic()
            run = play(suite, PARTS[chosen.part], folder / name, ours=name == "ours")
            ends = Counter(run.values())
            counts = "".join(f"{ends[e]:>8}" for e in ("passed", "failed", "error", "skipped"))
            print(f"{name:8}{counts}{time.monotonic() - began:>6.0f} s", flush=True)
            runs.append(run)
        plain, ours = runs
        report = compare(plain, ours, known, whole=chosen.part == "all")
        if report.unexplained:
            # A test that waits on a clock may fail on a busy machine. Alone, it has to make up
            # its mind.
            again = [line.partition(": plain ")[0] for line in report.unexplained][:100]
            print(f"running {len(again)} unexplained tests again, one by one", flush=True)
            for name, run in zip(("plain", "ours"), runs, strict=True):
                alone = [*(test for test in again if test in run), "-n", "0"]
                run |= play(suite, alone, folder / f"{name}-again", ours=name == "ours")
            report = compare(plain, ours, known, whole=chosen.part == "all")
    show(report, known)
    return 1 if report.unexplained or report.outdated else 0


def show(report: Report, known: Iterable[Rule]) -> None:
    """Every difference under its explanation, then whatever is wrong."""
    for rule in known:
        tests = [test for test, why in report.explained.items() if why is rule]
        if tests:
            print(f"\n{len(tests)} explained, {rule.group}: {rule.reason}")
            print(*(f"  {test}" for test in tests), sep="\n")
    for title, lines in (
        ("not explained", report.unexplained),
        ("explained, but no longer so: take it out of exceptions.toml", report.outdated),
    ):
        if lines:
            print(f"\n{len(lines)} {title}")
            print(*(f"  {line}" for line in lines), sep="\n")
    groups = Counter(rule.group for rule in report.explained.values())
    print(
        "\nexplained:", ", ".join(f"{count} {group}" for group, count in groups.items()) or "none"
    )
    if not report.unexplained and not report.outdated:
        print("nothing unexplained")


if __name__ == "__main__":
    sys.exit(main())
