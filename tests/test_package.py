"""The package as users install it: recipes and templates in the wheel, found in a checkout and in both installs."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import chatfmt

from .conftest import ROOT, run_cli

RECIPES = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))
TEMPLATES = sorted(path.name for path in (ROOT / "chatfmt" / "templates").glob("*.jinja"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    if not request.config.getoption("--full"):
        pytest.skip("building a wheel takes as long as two hundred tests: --full")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        pytest.skip(f"no wheel can be built here: {run.stderr.strip().splitlines()[-1]}")
    return next(folder.glob("chatfmt-*.whl"))


def test_the_wheel_holds_recipes_templates_and_types(wheel):
    assert RECIPES and TEMPLATES
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"chatfmt/configs/{name}" for name in RECIPES} <= names
    assert {f"chatfmt/templates/{name}" for name in TEMPLATES} <= names
    assert "chatfmt/py.typed" in names and not any(name.startswith("tests/") for name in names)


def test_a_normal_install_finds_its_recipes(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import sys; sys.path[:0] = ['site']\nfrom chatfmt import recipe as r\nprint(r.configs(), len(r.names()))"
    run = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.stderr == ""
    place, count = run.stdout.split()
    assert place.endswith("site/chatfmt/configs") and int(count) == len(RECIPES)


def test_a_checkout_and_an_editable_install_find_them(tmp_path):
    for folder in (ROOT, tmp_path):
        found = json.loads(run_cli("recipes", "list", "--json", cwd=folder).stdout)
        assert sorted(f"{row['name']}.yaml" for row in found) == RECIPES


def test_completion_shows_the_public_names():
    code = "import chatfmt; print([name for name in dir(chatfmt) if not name.startswith('_')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == f"{[name for name in sorted(chatfmt.__all__) if not name.startswith('_')]}\n"
