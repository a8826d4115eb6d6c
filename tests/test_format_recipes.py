"""Recipes of file formats, such as exports of chats and logs of agents: each command of a recipe, on a miniature.

Miniatures are in `tests/recipes/formats/NAME/`, under the names that the commands have; `expected.golden` has what each
command writes (`CHATFMT_UPDATE_GOLDENS=1` rewrites it).
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from chatfmt import recipe as recipes

from .conftest import ROOT, from_lines, run_cli, succeed

FOLDER = Path(__file__).parent / "recipes" / "formats"
GOLDEN = FOLDER / "expected.golden"
NAMES = [name for name in recipes.names() if recipes.reads_files(name)]
COMMANDS = [command for name in NAMES for command in recipes.load(name).values["about"]["commands"]]


def test_each_recipe_has_a_miniature_and_is_well_formed() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(NAMES)
    assert len(NAMES) >= 7
    for name in NAMES:
        keys = list(yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8")))
        assert keys == [key for key in recipes.KEYS if key in keys]
        about = recipes.build([recipes.load(name)])[0].about
        assert about is not None and about.summary.endswith(".") and about.splits == ("train",)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_reads_the_miniature(command: str, tmp_path: Path) -> None:
    program, verb, name, *arguments = shlex.split(command)
    assert (program, verb) == ("chatfmt", "convert")
    if arguments[0].endswith(".zip"):
        with ZipFile(tmp_path / "export.zip", "w") as archive:
            for path in sorted((FOLDER / name / "export").rglob("*.*")):
                archive.write(path, path.relative_to(FOLDER / name / "export"))
        arguments[0] = str(tmp_path / "export.zip")
    sources = [] if not arguments[0].startswith("-") else sorted((FOLDER / name).iterdir())
    out = arguments.index("-o")
    del arguments[out : out + 2]
    done = succeed(run_cli("convert", name, *sources, *arguments, "--executor", "serial", cwd=FOLDER / name))
    found = {"rows": from_lines(done.stdout), "said": done.stderr.decode().splitlines()}
    assert found["rows"]
    if os.environ.get("CHATFMT_UPDATE_GOLDENS"):
        known = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.is_file() else {}
        made = {each: found if each == command else known.get(each) for each in COMMANDS}
        GOLDEN.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    assert json.loads(GOLDEN.read_text(encoding="utf-8"))[command] == found
