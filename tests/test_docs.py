"""README and guides are correct: their examples are run, facts are those of the code, what is generated is current.

`python -m tests.test_docs` writes the output of the checked examples and the generated guides.
"""

from __future__ import annotations

import ast
import doctest
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

import pytest

import chatfmt

from .conftest import ROOT, run_cli
from .generated_guides import GENERATED

README = ROOT / "README.md"
GUIDES = ROOT / "chatfmt" / "guides"
DOCUMENTS = [README, *sorted(GUIDES.glob("*.md"))]
WALK = re.compile(r"^ *([\w/]+\.py): ([\w.]+(?:, [\w.]+)*)", re.MULTILINE)
BLOCK = re.compile(r"<!-- checked -->\n```console\n(.*?)```", re.DOTALL)
TRAINERS = re.compile(r"<!-- trainers -->\n(.*?)<!-- end -->", re.DOTALL)
SPEED = re.compile(r"<!-- speed -->\n(.*?)<!-- end -->", re.DOTALL)


def blocks(text: str) -> list[str]:
    return BLOCK.findall(text)


def commands(block: str) -> list[str]:
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


EXAMPLES = [(path, block) for path in DOCUMENTS for block in blocks(path.read_text(encoding="utf-8"))]


def replay(block: str, folder: Path) -> str:
    """The block with each command followed by what it prints now, stderr after stdout."""
    shown = []
    for command in commands(block):
        lines = [line.rstrip() for line in printed(command, folder).splitlines()]
        shown += [f"$ {command}", *lines]
    return "\n".join(shown) + "\n"


def printed(command: str, folder: Path) -> str:
    """What a command prints; one of chatfmt alone needs no shell."""
    plain = {"NO_COLOR": "1"}
    if command.startswith("chatfmt ") and not re.search(r"[|<>&$;~*]", command):
        run = run_cli(*shlex.split(command)[1:], cwd=folder, env=plain)
        return (run.stdout + run.stderr).decode()
    scripts = sysconfig.get_path("scripts")
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", **plain}
    shell = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert "command not found" not in shell.stderr, shell.stderr
    return shell.stdout + shell.stderr


def checkout(folder: Path) -> Path:
    shutil.copytree(ROOT / "tests" / "data", folder / "tests" / "data")
    return folder


@pytest.mark.parametrize("path, block", EXAMPLES, ids=[f"{path.stem}{n}" for n, (path, _) in enumerate(EXAMPLES)])
def test_examples_print_what_is_shown(path, block, tmp_path):
    assert commands(block)
    assert replay(block, checkout(tmp_path)) == block


def test_there_are_examples():
    counts = Counter(path for path, _ in EXAMPLES)
    assert counts[README] >= 4 and len(counts) >= 9


@pytest.mark.parametrize("name", GENERATED)
def test_what_is_generated_is_current(name):
    assert (GUIDES / name).read_text(encoding="utf-8") == GENERATED[name]()


def test_the_examples_of_the_python_guide_run(tmp_path, monkeypatch):
    text = (GUIDES / "python.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    monkeypatch.chdir(checkout(tmp_path))
    exec("\n".join(code), {})


def test_a_typed_client_runs(tmp_path):
    from .typed_client import main

    assert main(str(ROOT / "tests" / "data" / "everyday.jsonl"), tmp_path) == {"train": 3}


def test_examples_of_the_public_names_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for name in chatfmt.__all__:
        for example in finder.find(getattr(chatfmt, name), name, globs={"chatfmt": chatfmt}):
            runner.run(example)
    assert runner.failures == 0 < runner.tries


def test_every_guide_is_named_in_another_or_in_the_readme():
    texts = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
    named = re.findall(r"chatfmt guide ([a-z-]+)|guides/([a-z-]+)\.md", "\n".join(texts.values()))
    assert {first or second for first, second in named} >= {path.stem for path in DOCUMENTS[1:]}


def test_the_map_names_every_module_and_package():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Map")[2].split("```")[1]
    modules = {path.name for path in (ROOT / "chatfmt").glob("[a-z]*.py")}
    packages = {f"{path.parent.name}/" for path in (ROOT / "chatfmt").rglob("[a-z]*/__init__.py")}
    assert len(modules) > 20 and len(packages) > 30
    assert {name for name in modules | packages if not re.search(rf"\b{name}", text)} == set()


def test_the_table_of_speed_is_that_of_the_results():
    from .bench.convert import table

    (shown,) = SPEED.findall((GUIDES / "speed.md").read_text(encoding="utf-8"))
    results = json.loads((ROOT / "tests" / "bench" / "results.json").read_text())
    assert len(results) > 5
    assert shown == table(results)


def test_the_table_of_trainers_is_that_of_the_verdicts():
    from .trainers.table import load_table

    (shown,) = TRAINERS.findall((GUIDES / "trainers.md").read_text(encoding="utf-8"))
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

    readme = (GUIDES / "errors.md").read_text(encoding="utf-8")
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
    from .bench.convert import table
    from .trainers.table import load_table

    for name, generate in GENERATED.items():
        (GUIDES / name).write_text(generate(), encoding="utf-8")
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for block in blocks(text):
            with tempfile.TemporaryDirectory() as folder:
                text = text.replace(block, replay(block, checkout(Path(folder))))
        found = table(json.loads((ROOT / "tests" / "bench" / "results.json").read_text()))
        text = SPEED.sub(lambda match: f"<!-- speed -->\n{found}<!-- end -->", text)
        text = TRAINERS.sub(lambda match: f"<!-- trainers -->\n{load_table()}<!-- end -->", text)
        path.write_text(text, encoding="utf-8")


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


if __name__ == "__main__":
    sys.exit(main())
