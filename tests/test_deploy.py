"""The files of `deploy/` say what the commands take, and what they mount is valid."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import command_line
from magistrate.gateway.loader import load

DEPLOY = Path(__file__).parents[1] / "deploy"
ENVIRONMENT = {
    "REDIS_URL": "redis://redis:6379/0",
    "POSTGRES_URL": "postgresql://magistrate:x@postgres/magistrate",
    "ANTHROPIC_API_KEY": "k",
    "MAGISTRATE_KEY": "k",
    "POSTGRES_PASSWORD": "x",
}


def documents(name: str) -> list[Any]:
    return list(YAML(typ="safe").load_all((DEPLOY / name).read_text("utf-8")))


def dockerfile() -> dict[str, list[str]]:
    """The instructions of the Dockerfile, by name."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(rest.strip())
    return found


def commands() -> dict[str, list[str]]:
    """Every command that starts a gateway, as words."""
    (written,) = dockerfile()["CMD"]
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.read(DEPLOY / "magistrate.service")
    deployment, _ = documents("kubernetes.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {
        "Dockerfile": YAML(typ="safe").load(written),
        "magistrate.service": shlex.split(unit["Service"]["ExecStart"]),
        "kubernetes.yaml": container["args"],
    }


@pytest.mark.parametrize("name", ["Dockerfile", "magistrate.service", "kubernetes.yaml"])
def test_what_is_started_is_a_command_with_options_that_exist(name: str) -> None:
    program, *words = commands()[name]
    assert program.rpartition("/")[2] == "magistrate"
    assert words[0] == "serve"
    assert words[1].endswith("gateway.yaml")
    # Its own help takes every option, before anything is served.
    done = command_line.run(*words, "--help")
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in done.stdout


def test_the_mounted_files_are_valid(tmp_path: Path) -> None:
    served = load(str(DEPLOY / "gateway.yaml"), environ=ENVIRONMENT)
    (settings,) = served.apps.values()
    assert settings.state == ENVIRONMENT["REDIS_URL"]
    assert settings.review is not None
    assert settings.review.store == ENVIRONMENT["POSTGRES_URL"]


def test_compose_mounts_what_is_there_and_sets_what_the_files_need() -> None:
    (compose,) = documents("compose.yaml")
    gateways = [each for name, each in compose["services"].items() if name.startswith("gateway")]
    assert len(gateways) == 2
    for each in gateways:
        for volume in each["volumes"]:
            here, there, mode = volume.split(":")
            assert (DEPLOY / here).is_file()
            assert there.startswith("/etc/magistrate/")
            assert mode == "ro"
        text = "".join((DEPLOY / name).read_text("utf-8") for name in ("app.yaml", "gateway.yaml"))
        assert set(re.findall(r"\$\{([A-Z_]+)\}", text)) <= set(each["environment"])
        assert set(each["depends_on"]) <= set(compose["services"])
        assert (DEPLOY / each["build"]["dockerfile"].removeprefix("deploy/")).is_file()
    assert "noeviction" in compose["services"]["redis"]["command"]


def test_the_image_installs_extras_that_exist() -> None:
    import tomllib

    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text("utf-8"))
    extras = set(project["project"]["optional-dependencies"])
    (run,) = dockerfile()["RUN"]
    named = re.search(r"/src\[([a-z,]+)\]", run)
    assert named is not None
    assert {"cli", "gateway", "redis", "postgres"} == set(named[1].split(",")) <= extras
    assert dockerfile()["USER"] == ["magistrate"]
