"""Recipes: layers that add up with the origin of each value, and every problem at once with its place."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from chatfmt.errors import RecipeError, UnknownName
from chatfmt.recipe import DEFAULT_DATE, Layer, Recipe, build, load, names, parse_size

from .conftest import run_cli


def test_layers_add_up_and_the_last_wins():
    recipe, origins = build(
        [
            Layer("recipe x", {"source": "a", "map": {"user": "q"}, "template": "chatml", "var": {"a": 1}}),
            Layer("flag", {"map": {"assistant": "r"}, "template": "qwen3", "var": {"a": 2}}),
        ]
    )
    assert (recipe.map, recipe.template, recipe.var) == ({"user": "q", "assistant": "r"}, "qwen3", {"a": 2})
    assert origins == {"source": "recipe x", "map": "flag", "template": "flag", "var": "flag"}
    assert recipe.date == DEFAULT_DATE


def test_every_problem_is_told_with_its_place():
    with pytest.raises(RecipeError) as caught:
        build(
            [Layer("x", {"engine": "fast", "limit": -1, "tempate": "chatml", "source": [{"source": "a", "weight": 0}]})]
        )
    problems = str(caught.value).split("; ")
    assert [problem.split(" @ ")[1] for problem in problems] == ["source.0.weight", "limit", "engine", "tempate"]
    assert caught.value.hint == "did you mean `template`?"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("source: a\nsource: b\n", "key `source` appears twice"),
        ("source: [a\n", "is not valid YAML at line 2"),
        ("- a\n", "is not a recipe"),
        ("source: !!python/object/apply:os.system [ls]\n", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, text, problem):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=problem):
        build([load(str(tmp_path / "r.yaml"))])


def test_yes_and_no_are_words(tmp_path):
    (tmp_path / "r.yaml").write_text("source: no\nmap: {user: yes, assistant: off}\nheader: false\n")
    recipe, _ = build([load(str(tmp_path / "r.yaml"))])
    assert (recipe.source[0].source, recipe.map, recipe.header) == ("no", {"user": "yes", "assistant": "off"}, False)


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 500_000_000), ("128MiB", 128 << 20), ("1.5 kb", 1500), ("7", 7), ("x", "x"), (3, 3)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


def test_recipes_are_frozen_plain_data():
    recipe = Recipe(source=["a", {"source": "b", "split": "test"}], shard_size="1MB", keep="id")
    assert [(spec.source, spec.split) for spec in recipe.source] == [("a", None), ("b", "test")]
    assert (recipe.shard_size, recipe.keep) == (1_000_000, ("id",))
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    with pytest.raises(ValueError, match="frozen"):
        recipe.template = "x"


def test_options_that_exclude_each_other():
    with pytest.raises(RecipeError, match="`generation_prompt` and `continue_final` exclude each other"):
        build([Layer("x", {"source": "a", "generation_prompt": True, "continue_final": True})])
    with pytest.raises(RecipeError, match="`rows_per_shard` and `shard_size` exclude each other"):
        build([Layer("x", {"source": "a", "rows_per_shard": 5, "shard_size": "1MB"})])


def test_the_recipes_of_configs_are_found():
    assert {"gsm8k", "smoltalk"} <= set(names())
    with pytest.raises(UnknownName):
        load("gsm9k")


def test_a_recipe_says_what_the_flags_say(tmp_path):
    rows = [{"question": "q", "answer": "1+1=<<1+1=2>>2\n#### 2"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["source: in.jsonl", "system: Be brief", "calculator: remove", "final_answer: remove"]
    (tmp_path / "r.yaml").write_text("\n".join([*lines, "transforms: {trailing_user: drop}"]))
    flags = ["--system", "Be brief", "--calculator", "remove", "--final-answer", "remove"]
    written = run_cli("convert", "r.yaml", cwd=tmp_path)
    typed = run_cli("convert", "in.jsonl", *flags, "--transform", "trailing_user=drop", cwd=tmp_path)
    assert (written.returncode, written.stdout, written.stderr) == (0, typed.stdout, typed.stderr)
    assert b"Be brief" in typed.stdout and b"<<" not in typed.stdout


@pytest.mark.parametrize(
    ("line", "problem", "hint"),
    [
        ("limit: -1", "`-1` is not greater than or equal to 0 @ limit", None),
        ("shard_size: 5XB", "`5XB` is not a whole number @ shard_size", None),
        ("format: csv", "`csv` is not 'jsonl' or 'parquet' @ format", None),
        ("max_bad: few", "`few` is not a number of rows or a share such as 5% @ max_bad", None),
        ("workers: 2", "unknown key @ workers",
         "--workers is said on the command line: it changes nothing of what a recipe makes"),
    ],
)  # fmt: skip
def test_a_problem_names_what_was_said(line, problem, hint, tmp_path):
    (tmp_path / "r.yaml").write_text(f"source: in.jsonl\n{line}\n")
    run = run_cli("convert", "r.yaml", cwd=tmp_path)
    expected = [f"error: {problem}"] + ([f"hint: {hint}"] if hint else [])
    assert (run.returncode, run.stderr.decode().splitlines()) == (2, expected)
