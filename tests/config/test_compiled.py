"""The built-in policy as JSON: the same policy as its YAML, or not used."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import magistrate
from magistrate.config.compiled import compile_yaml, read_compiled
from magistrate.config.diagnostics import SettingsError
from magistrate.config.yaml_document import read
from magistrate.policy import DEFAULT_POLICY, builtin_policy, load_policy

POLICY = (
    Path(magistrate.__file__).parent
    / "policy"
    / "builtin"
    / f"{DEFAULT_POLICY.replace('@', '-')}.yaml"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the built-in policy, with the JSON that a build makes of it."""
    file = Path(shutil.copy(POLICY, tmp_path_factory.mktemp("made")))
    compile_yaml(file)
    return file


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The same for one test, which may change it."""
    shutil.copy(made.with_suffix(".json"), tmp_path)
    return Path(shutil.copy(made, tmp_path))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small file with its JSON: what is done with the JSON does not depend on the content."""
    file = tmp_path / "small.yaml"
    file.write_text("id: a\nsections: [{id: b}]\n", "utf-8")
    compile_yaml(file)
    return file


def test_the_built_in_policy_is_read_by_its_json_and_is_the_same(copy: Path) -> None:
    script = f"""
        from pathlib import Path
        from magistrate.config import compiled
        from magistrate.policy import loader as policy

        def refuse(file):
            raise AssertionError(f"{{file}} was parsed")

        (Path({str(copy.parent)!r}) / "policy").mkdir()
        (Path({str(copy.parent)!r}) / "policy" / "builtin").symlink_to({str(copy.parent)!r})
        policy.files = lambda package: Path({str(copy.parent)!r})
        compiled.read = refuse
        assert policy.builtin_policy().hash == {builtin_policy().hash!r}
    """
    ran = [sys.executable, "-c", textwrap.dedent(script)]
    subprocess.run(ran, check=True, timeout=60)


def test_the_json_holds_what_the_yaml_holds(copy: Path) -> None:
    compiled = read_compiled(copy)
    assert (compiled.data, compiled.marks) == (read(POLICY).data, {})


def test_the_json_of_another_content_is_not_used(copy: Path) -> None:
    copy.write_text(copy.read_text().replace("restated", "told anew"))
    assert read_compiled(copy).data["title"] == "Anthropic usage policy, told anew"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "null", '{"made_of_sha256": 1}', "\ufffd", None], ids=repr
)
def test_a_json_that_is_broken_or_missing_is_not_used(small: Path, content: str | None) -> None:
    made = small.with_suffix(".json")
    made.unlink() if content is None else made.write_text(content, "utf-8")
    assert read_compiled(small) == read(small)


def test_json_without_the_data_is_not_used(small: Path) -> None:
    made = small.with_suffix(".json")
    made.write_text(json.dumps({"made_of_sha256": json.loads(made.read_text())["made_of_sha256"]}))
    assert read_compiled(small) == read(small)


def test_a_file_with_a_mistake_is_not_compiled(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("id: a\nid: b\n")
    with pytest.raises(SettingsError, match="duplicate key 'id'"):
        compile_yaml(tmp_path / "p.yaml")
    assert not (tmp_path / "p.json").exists()


def test_a_policy_of_ones_own_is_always_read_from_its_yaml(copy: Path) -> None:
    """Its problems have positions, and there is one file to look at."""
    broken = copy.read_text().replace("version:", "verzion:", 1)
    copy.write_text(broken)
    compile_yaml(copy)
    with pytest.raises(SettingsError) as raised:
        load_policy(str(copy))
    assert all(problem.line for problem in raised.value.problems)
