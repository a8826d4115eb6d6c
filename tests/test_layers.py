"""The import contract: a module may import only from the layers below its own; siblings are strangers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "chatfmt"
LAYERS = [
    {"child_process", "errors", "lazy", "plain_yaml", "visible_text"},
    {
        "arrow_values", "hub_models", "schema", "scratch_folder", "stores", "validation", "whole_files",
    },
    {"escaped_texts", "json_columns", "trainers"},
    {"turn_columns", "features", "recipe", "manifest"},
    {"rendering", "field_path"},
    {
        "sources", "dialects", "mapping", "media", "transforms", "checks", "views", "render", "tokens", "writers",
        "executors",
    },
    {"pipeline"},
    {"cli", "testing"},
    {"__init__"},
    {"__main__"},
]  # fmt: skip
INNER = {
    "cli": [
        {"terminal", "values", "completion", "schedulers"},
        {"options", "summary", "workers"},
        {"command_class", "dry_run", "settings"},
        {"requests"},
        {"commands"},
        {"app"},
        {"__init__"},
    ],
    "render": [
        {"types"},
        {"jinja", "options"},
        {"template"},
        {"jinja_renderer", "single", "trace"},
        {"sandbox", "masks"},
        {"tagging"},
        {"safety", "inspection", "engine", "ending", "start"},
        {"__init__"},
    ],
    "sources": [
        {"model", "encodings"},
        {"bytes", "json"},
        {"formats"},
        {"discovery", "read"},
        {"sample"},
        {"splitting", "stream"},
        {"__init__"},
    ],
    "views": [
        {"batch"},
        {"boundary", "whole", "forms"},
        {"split"},
        {"pairs", "rlvr"},
        {"__init__"},
    ],
    "dialects": [
        {"kit"},
        {"dialect"},
        {"chat"},
        {"tool_use"},
        {"instruction"},
        {"preference"},
        {"detection"},
        {"__init__"},
    ],
    "pipeline": [
        {"ledger", "plugins"},
        {"conversion", "schedule", "hub_upload"},
        {"grouping"},
        {"planning"},
        {"reorder"},
        {"running"},
        {"plan_file", "converter", "inspection"},
        {"job_array"},
        {"__init__"},
    ],
    "writers": [
        {"durable", "json_lines"},
        {"stream", "encoders", "hub_metadata"},
        {"parquet", "parts", "file_names"},
        {"shard", "dataset_card"},
        {"staging"},
        {"folder"},
        {"single_file", "store_folder"},
        {"__init__"},
    ],
    "executors": [
        {"base", "position", "messages", "watchdog", "versions", "worker_died"},
        {"worker_main"},
        {"fork_server"},
        {"worker_handle"},
        {"workers"},
        {"pool"},
        {"local", "ray"},
        {"__init__"},
    ],
}
"""The layers inside each large package, lowest first: modules and packages directly below it."""
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
DATA = {"templates", "guides", "configs", "__pycache__"}
HEAVY = {"datasets", "huggingface_hub", "tokenizers", "ray", "pandas", "transformers"}
PURE = {"field_path", "dialects", "mapping", "media", "transforms", "checks", "views", "turn_columns"}
MODULES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield every import from chatfmt in the file, at any depth, as a path below the package.

    `from ..render import options` is `("render", "options")`; a name that is not a module stands for the package that
    provides it: `from ..render import compile` is `("render", "__init__")`. The version number is not counted.
    """
    here = path.relative_to(PACKAGE).parts
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*here[: len(here) - node.level], *(node.module or "").split("."))
            folder = tuple(filter(None, base))
            for name in (name.name for name in node.names if name.name != "__version__"):
                yield (*folder, name if is_module(*folder, name) else "__init__")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not any(name.split(".")[0] == "chatfmt" for name in names), f"{path}: import relatively"


def is_module(*parts: str) -> bool:
    path = PACKAGE.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").is_file()


def unit(path: Path, folder: Path = PACKAGE) -> str:
    return path.relative_to(folder).parts[0].removesuffix(".py")


def units(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir() if path.name not in DATA and path.suffix in ("", ".py")}


@pytest.mark.parametrize("package", ["", *INNER])
def test_imports_point_down(package: str) -> None:
    folder, layers = PACKAGE / package, INNER.get(package, LAYERS)
    level = {name: number for number, layer in enumerate(layers) for name in layer}
    depth = len(folder.relative_to(PACKAGE).parts)
    assert units(folder) == set(level)
    found = [
        (path, unit(path, folder), target[depth])
        for path in folder.rglob("*.py")
        for target in imports(path)
        if len(target) > depth and target[:depth] == folder.relative_to(PACKAGE).parts
    ]
    assert len(found) >= len(level) - 1
    wrong = [
        f"{path.relative_to(PACKAGE)} -> {name}"
        for path, own, name in found
        if name != own and name in level and level[name] >= level[own]
    ]
    assert wrong == []


def test_heavy_packages_are_imported_inside_functions_only():
    wrong = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in MODULES
        for node in tree(path).body
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
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert wrong == []


def test_pure_stages_touch_no_files():
    assert set(LEVEL) >= PURE
    forbidden = {"open", "Path", "socket", "subprocess", "urllib", "os"}
    wrong = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in MODULES
        if unit(path) in PURE
        for node in ast.walk(tree(path))
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
    [["--help"], ["--version"], ["convert", "--help-all"], ["recipes", "list"], ["templates", "list"]],
)
def test_light_commands_import_nothing_heavy(arguments):
    found = imported_by(*arguments)
    assert found & (NEVER | {"pyarrow", "numpy", "jinja2", "chatfmt.executors.pool"}) == set()
    assert ("chatfmt.executors" in found) == (arguments == ["convert", "--help-all"])  # it lists the registry


@pytest.mark.parametrize("registry", ["dialects", "transforms", "checks"])
def test_lists_of_registries_import_nothing_that_is_not_needed(registry):
    assert imported_by(registry) & NEVER == set()


def test_json_lines_are_converted_without_what_other_formats_need(tmp_path):
    source = tmp_path / "x.jsonl"
    turns = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    source.write_text(f'{{"messages": {turns}}}\n' * 10)
    never = NEVER | {"pyarrow.parquet", "pyarrow.fs", "numpy.ma", "ssl", "yaml"}
    assert imported_by("convert", str(source), "-t", "chatml", "-q", "--limit", "5") & never == set()
    found = imported_by("convert", str(source), "-t", "chatml", "-q", "--executor", "serial")
    assert {"pyarrow", "jinja2", "chatfmt.render.trace.renderer"} <= found
    assert found & never == set()


@pytest.mark.parametrize("name", ["render", "pipeline"])
def test_every_name_of_a_lazy_package_has_a_home(name):
    package = import_module(f"chatfmt.{name}")

    assert package.__all__
    assert all(getattr(package, one) is not None for one in package.__all__)


def test_a_worker_imports_no_recipe_and_no_command_line():
    code = (
        "import sys; from chatfmt.executors.worker_main import without_pandas; without_pandas();"
        "import chatfmt.pipeline.conversion.task; print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    never = NEVER | {"chatfmt.validation", "typer", "chatfmt.recipe", "chatfmt.pipeline.planning.plan", "numpy.ma"}
    assert set(run.stdout.split()) & never == set()


def test_functions_and_modules_are_short():
    functions = [
        (f"{path.relative_to(PACKAGE)}: {node.name}", node.end_lineno - node.lineno + 1)
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    modules = [(str(path.relative_to(PACKAGE)), len(path.read_text(encoding="utf-8").splitlines())) for path in MODULES]
    assert len(functions) > 2000 and len(modules) > 300
    assert [(name, lines) for name, lines in functions if lines > 40] == []
    assert [(name, lines) for name, lines in modules if lines > 500] == []
