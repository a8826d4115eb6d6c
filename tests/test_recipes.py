"""Every recipe of `configs/` is sound, and reads a miniature of its data set to the very output beside it.

A miniature lies in `tests/recipes/`: `NAME.jsonl` or `NAME.json` where the Hub holds JSON, `NAME.parquet.jsonl` (rows
that are written to Parquet here) or `NAME.py` (a `TABLE` with its own types) where it holds Parquet. Its columns and
nesting are those of the data set, its text is our own. `NAME.expected.jsonl` is what comes out, whole.
"""

from __future__ import annotations

import io
import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml

import chatfmt
from chatfmt import recipe as recipes
from chatfmt.cli import options
from chatfmt.cli.app import app

from .conftest import ROOT, run_cli
from .stand_in_hub import StandInHub

FOLDER = Path(__file__).parent / "recipes"
SUFFIXES = (".parquet.jsonl", ".jsonl", ".json", ".py")
NAMES = recipes.names()
ON_THE_HUB = ("name", "split", "revision", "data_dir", "data_files")
COMMANDS = [(name, command) for name in NAMES for command in recipes.load(name).values["about"]["commands"]]


def fixtures() -> dict[str, Path]:
    """The miniatures by the name of their recipe."""
    found = {}
    for path in FOLDER.iterdir():
        suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)
        if suffix and not path.name.endswith(".expected.jsonl"):
            found[path.name.removesuffix(suffix)] = path
    return found


FIXTURES = fixtures()


def write_source(name: str, folder: Path) -> Path:
    """The miniature as a file of the format that the Hub holds."""
    path = FIXTURES[name]
    if path.name.endswith(".parquet.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return write_parquet(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    if path.suffix == ".py":
        return write_parquet(runpy.run_path(str(path))["TABLE"], folder / f"{name}.parquet")
    return path


def write_parquet(table: pa.Table, path: Path) -> Path:
    """The file that holds the table."""
    pq.write_table(table, path)
    return path


def built(name: str, source: Path, flags: dict[str, Any] | None = None) -> chatfmt.Recipe:
    """The recipe with what `flags` add, reading `source` in place of its data set."""
    made, _ = recipes.build([recipes.load(name), recipes.Layer("flag", flags or {})])
    fields = made.model_dump(exclude={"about", *ON_THE_HUB})
    return chatfmt.Recipe.model_validate({**fields, "source": str(source)})


def converted(recipe: chatfmt.Recipe, out: Path) -> str:
    """What the recipe writes, as JSON Lines."""
    chatfmt.convert(recipe, out, executor="serial")
    return out.read_text(encoding="utf-8")


def flags_of(command: str) -> dict[str, Any]:
    """The options of a `chatfmt convert …` command, as the command line reads them; a flag it does not know fails."""
    program, verb, *arguments = shlex.split(command)
    assert (program, verb) == ("chatfmt", "convert")
    convert = typer.main.get_command(app).commands["convert"]  # type: ignore[attr-defined]
    with convert.make_context("convert", arguments) as context:
        return {key: value for key, value in context.params.items() if value not in (None, [], ())}


def test_recipes_are_all_found() -> None:
    files = sorted((ROOT / "configs").iterdir())
    assert [path.suffix for path in files] == [".yaml"] * len(files)
    assert len(files) >= 85
    assert [path.stem for path in files] == sorted(NAMES)


def test_each_recipe_has_a_miniature_and_what_comes_of_it() -> None:
    assert set(FIXTURES) == set(NAMES)
    assert {path.name.removesuffix(".expected.jsonl") for path in FOLDER.glob("*.expected.jsonl")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_its_data_set_is(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name)
    recipe, _ = recipes.build([recipes.load(name)])
    about = recipe.about
    assert about is not None
    for text in (about.title, about.licence, about.summary, about.verified):
        assert text
        assert text == text.strip()
    assert about.summary.endswith(".")
    assert about.splits
    assert len(set(about.splits)) == len(about.splits)
    assert 1 <= len(about.commands) <= 4
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", spec.source) for spec in recipe.source)
    assert recipe.name is None or about.subsets[0] == "all" or recipe.name in about.subsets


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_asks_for_a_split_where_there_is_no_train(name: str) -> None:
    recipe, _ = recipes.build([recipes.load(name)])
    assert recipe.about is not None
    assert recipe.split == "all" or (recipe.split or "train") in recipe.about.splits


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_written_in_one_order_without_defaults(name: str) -> None:
    text = (ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    assert list(values)[:2] == ["about", "source"]
    assert max(map(len, text.splitlines())) <= 130
    assert text.endswith("\n") and not text.endswith("\n\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_reads_its_miniature(name: str, tmp_path: Path) -> None:
    expected = (FOLDER / f"{name}.expected.jsonl").read_text(encoding="utf-8")
    assert expected.count("\n") >= 1
    assert converted(built(name, write_source(name, tmp_path)), tmp_path / "out.jsonl") == expected


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(COMMANDS)])
def test_a_command_converts_the_miniature(name: str, command: str, tmp_path: Path) -> None:
    given = flags_of(command)
    assert given.pop("source") == [name]
    assert given.pop("out")
    values = options.to_values({key: value for key, value in given.items() if key not in ON_THE_HUB})
    text = converted(built(name, write_source(name, tmp_path), values), tmp_path / "out.jsonl")
    assert text.count("\n") >= 1
