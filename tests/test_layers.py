"""The import contract: a module may import only from the layers below its own; siblings are strangers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "chatfmt"
LAYERS = [
    {"errors"},
    {"schema", "checked"},
    {"recipe", "manifest", "paths"},
    {"sources", "dialects", "mapping", "transforms", "checks", "views", "render", "tokens", "writers", "executors"},
    {"pipeline"},
    {"cli"},
    {"__init__", "__main__"},
]
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
DATA = {"templates", "configs", "__pycache__"}
HEAVY = {"datasets", "huggingface_hub", "tokenizers", "ray", "pandas", "transformers"}
PURE = {"paths", "dialects", "mapping", "transforms", "checks", "views"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_units(path: Path) -> Iterator[str]:
    """Top-level units of chatfmt that the file imports, at any nesting depth."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            yield from [node.module.split(".")[0]] if node.module else [name.name for name in node.names]
        elif isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not any(name.split(".")[0] == "chatfmt" for name in names), f"{path}: import relatively"


def test_every_unit_has_a_layer():
    units = {path.stem if path.suffix else path.name for path in PACKAGE.iterdir() if path.name not in DATA}
    assert units - {"py"} == set(LEVEL)


def test_imports_point_down():
    assert len(MODULES) > 20
    wrong = [
        f"{path.relative_to(PACKAGE)} -> {name}"
        for path in MODULES
        for name in imported_units(path)
        if name != unit(path) and LEVEL.get(name, 0) >= LEVEL[unit(path)] and name in LEVEL
    ]
    assert wrong == []


def test_heavy_packages_are_imported_inside_functions_only():
    wrong = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in MODULES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0)
        for name in ([n.name for n in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if name.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_only_the_command_line_prints():
    wrong = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in MODULES
        if unit(path) not in {"cli", "__main__"}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert wrong == []


def test_pure_stages_touch_no_files():
    forbidden = {"open", "Path", "socket", "subprocess", "urllib", "os"}
    wrong = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in MODULES
        if unit(path) in PURE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [node.id]
            if isinstance(node, ast.Name)
            else []
        )
        if name in forbidden
    ]
    assert wrong == []


def imported_by(*arguments: str) -> set[str]:
    """The modules that a process has imported when the command has ended."""
    code = (
        "import atexit, sys\n"
        f"sys.argv = ['chatfmt', *{list(arguments)!r}]\n"
        "from chatfmt.__main__ import main\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "main()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stderr.splitlines()[-1].split())


NEVER = {"datasets", "pandas", "pydantic", "huggingface_hub", "transformers", "ray", "tokenizers", "pyarrow.dataset"}
"""No command without a Hub data set, a tokenizer or a cluster needs these."""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["convert", "--help"], ["recipes", "list"], ["templates", "list"]],
)
def test_light_commands_import_nothing_heavy(arguments):
    found = imported_by(*arguments)
    assert found & (NEVER | {"pyarrow", "numpy", "jinja2", "chatfmt.executors"}) == set()


def test_json_lines_are_converted_without_what_other_formats_need(tmp_path):
    source = tmp_path / "x.jsonl"
    turns = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    source.write_text(f'{{"messages": {turns}}}\n' * 10)
    never = NEVER | {"pyarrow.parquet", "pyarrow.fs", "numpy.ma", "ssl", "yaml"}
    assert imported_by("convert", str(source), "-t", "chatml", "-q", "--limit", "5") & never == set()
    found = imported_by("convert", str(source), "-t", "chatml", "-q", "--executor", "serial")
    assert {"pyarrow", "jinja2", "chatfmt.render.replay"} <= found
    assert found & never == set()


@pytest.mark.parametrize("name", ["render", "pipeline"])
def test_every_name_of_a_lazy_package_has_a_home(name):
    package = import_module(f"chatfmt.{name}")

    assert set(package.__all__) == set(package._HOME)
    assert all(getattr(package, one) is not None for one in package.__all__)


def test_a_worker_imports_no_recipe_and_no_command_line():
    code = (
        "import sys; from chatfmt.schema import without_pandas; without_pandas();"
        "import chatfmt.pipeline.tasks; print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    never = NEVER | {"chatfmt.checked", "typer", "chatfmt.recipe", "chatfmt.pipeline.planning", "numpy.ma"}
    assert set(run.stdout.split()) & never == set()
