"""The README is correct: its examples are run, its commands are those of CI, its facts those of the code.

`python -m tests.test_docs` writes the output of the checked examples into the README.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from .conftest import ROOT

README = ROOT / "README.md"
WALK = re.compile(r"^ *([\w/]+\.py): ([\w.]+(?:, [\w.]+)*)", re.MULTILINE)
BLOCK = re.compile(r"<!-- checked -->\n```console\n(.*?)```", re.DOTALL)
TRAINERS = re.compile(r"<!-- trainers -->\n(.*?)<!-- end -->", re.DOTALL)
SPEED = re.compile(r"<!-- speed -->\n(.*?)<!-- end -->", re.DOTALL)


def blocks(text: str) -> list[str]:
    return BLOCK.findall(text)


def commands(block: str) -> list[str]:
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def replay(block: str, folder: Path) -> str:
    """The block with each command followed by what it prints now, stderr after stdout."""
    scripts = sysconfig.get_path("scripts")
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    shown = []
    for command in commands(block):
        run = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
        lines = [line.rstrip() for line in (run.stdout + run.stderr).splitlines()]
        shown += [f"$ {command}", *lines]
    return "\n".join(shown) + "\n"


def checkout(folder: Path) -> Path:
    shutil.copytree(ROOT / "tests" / "data", folder / "tests" / "data")
    return folder


@pytest.mark.parametrize("number", range(len(blocks(README.read_text(encoding="utf-8")))))
def test_examples_print_what_the_readme_shows(number, tmp_path):
    block = blocks(README.read_text(encoding="utf-8"))[number]
    assert commands(block)
    assert replay(block, checkout(tmp_path)) == block


def test_there_are_examples():
    assert len(blocks(README.read_text(encoding="utf-8"))) >= 6


def test_the_table_of_speed_is_that_of_the_results():
    from .bench.convert import load, table

    (shown,) = SPEED.findall(README.read_text(encoding="utf-8"))
    results = load(ROOT / "tests" / "bench" / "results.json")
    assert len(results) > 5
    assert shown == table(results)


def test_the_table_of_trainers_is_that_of_the_verdicts():
    from .trainers.table import load_table

    (shown,) = TRAINERS.findall(README.read_text(encoding="utf-8"))
    assert shown == load_table()


def test_ci_runs_the_readmes_test_command():
    assert "<!-- tests -->" in README.read_text(encoding="utf-8")
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_dependency_is_explained():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {re.split(r"[<>=]", requirement)[0] for requirement in project["dependencies"]}
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(named) > 5
    assert [name for name in sorted(named) if f"`{name}`" not in contributing] == []


def test_exit_codes_are_those_of_the_errors():
    from chatfmt import errors

    readme = README.read_text(encoding="utf-8")
    kinds = (errors.DataProblem, errors.UsageError, errors.InputError, errors.RowError, errors.OutputError)
    for kind in (*kinds, errors.TemplateError):
        assert f"| {kind.exit_code} |" in readme


def test_no_host_names_and_no_machine_paths():
    wrong = []
    files = [
        path for path in ROOT.rglob("*") if path.suffix in {".py", ".md", ".toml", ".yaml", ".jinja"} and path.is_file()
    ]
    files = [path for path in files if not {".venv", ".git", "build"} & set(path.relative_to(ROOT).parts)]
    assert len(files) > 100
    for path in files:
        text = path.read_text(encoding="utf-8")
        if (
            re.search(r"pypi\.org|registry\.npm|files\.pythonhosted|/work/(main|shared|venv)", text)
            and path.name != "test_docs.py"
        ):
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def main() -> None:
    from .bench.convert import load, table

    text = README.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = checkout(Path(name))
        for block in blocks(text):
            text = text.replace(block, replay(block, folder))
    found = table(load(ROOT / "tests" / "bench" / "results.json"))
    text = SPEED.sub(lambda match: f"<!-- speed -->\n{found}<!-- end -->", text)
    from .trainers.table import load_table

    text = TRAINERS.sub(lambda match: f"<!-- trainers -->\n{load_table()}<!-- end -->", text)
    README.write_text(text, encoding="utf-8")


def definitions(path: Path) -> set[str]:
    """The functions, classes and methods that a module defines, as `function` and `Class.method`."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    kinds = (ast.FunctionDef, ast.ClassDef)
    methods = {
        f"{top.name}.{node.name}"
        for top in body
        if isinstance(top, ast.ClassDef)
        for node in top.body
        if isinstance(node, kinds)
    }
    return {node.name for node in body if isinstance(node, kinds)} | methods


def test_the_walks_in_contributing_name_functions_that_exist():
    found = WALK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    named = [(path, name) for path, names in found for name in names.split(", ")]
    assert len(named) > 35
    assert [(path, name) for path, name in named if name not in definitions(ROOT / "chatfmt" / path)] == []


def test_the_map_in_contributing_names_every_package():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Map")[1].split("## ")[0]
    packages = {path.parent.name for path in (ROOT / "chatfmt").glob("*/**/__init__.py")}
    assert len(packages) > 30
    assert {name for name in packages if f"{name}/" not in text} == set()


if __name__ == "__main__":
    sys.exit(main())
