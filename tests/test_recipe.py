"""Recipes: layers that add up with the origin of each value, and every problem at once with its place."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

import chatfmt
from chatfmt.errors import RecipeError, UnknownName, UsageError
from chatfmt.recipe import DEFAULT_DATE, Layer, Recipe, build, load, names, parse_size

from .conftest import ROOT, run_cli

EVERYDAY = ROOT / "tests" / "data" / "everyday.jsonl"


def test_layers_add_up_and_the_last_wins():
    recipe, _, origins = build(
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
    recipe, _, _ = build([load(str(tmp_path / "r.yaml"))])
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
    with pytest.raises(FrozenInstanceError):
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
        ("limit: -1", "`-1` is not at least 0 @ limit", None),
        ("shard_size: 5XB", "`5XB` is not a whole number @ shard_size", None),
        ("format: csv", "`csv` is not 'jsonl' or 'parquet' @ format", None),
        ("max_bad: few", "`few` is not a number of rows or a share such as 5% @ max_bad", None),
        ("workers: 0", "`0` is not at least 1 @ workers", None),
        ("workrs: 2\nlimit: -1\nresume: maybe",
         "`-1` is not at least 0 @ limit; unknown key @ workrs; "
         "`maybe` is not true or false @ resume",
         "did you mean `workers`?"),
    ],
)  # fmt: skip
def test_a_problem_names_what_was_said(line, problem, hint, tmp_path):
    (tmp_path / "r.yaml").write_text(f"source: in.jsonl\n{line}\n")
    run = run_cli("convert", "r.yaml", cwd=tmp_path)
    expected = [f"error: {problem}"] + ([f"hint: {hint}"] if hint else [])
    assert (run.returncode, run.stderr.decode().splitlines()) == (2, expected)


def run_recipe(folder: Path, text: str, *flags: str) -> tuple[int, str, list[str]]:
    (folder / "r.yaml").write_text(f"source: {EVERYDAY}\n{text}\n")
    run = run_cli(*(flags or ("convert", "r.yaml")), cwd=folder)
    return run.returncode, run.stdout.decode(), run.stderr.decode().splitlines()


def test_a_recipe_says_how_to_run_and_a_flag_wins(tmp_path):
    text = "limit: 2\nout: made.jsonl\nworkers: 1\nexecutor: serial\noverwrite: true"
    assert run_recipe(tmp_path, text) == (0, "", ["wrote 2 rows to `made.jsonl`, 810 B"])
    assert run_recipe(tmp_path, text + "\nquiet: true") == (0, "", [])
    code, out, said = run_recipe(tmp_path, text, "convert", "r.yaml", "--no-overwrite")
    assert (code, out, said[0]) == (5, "", "error: `made.jsonl` exists already")
    code, out, said = run_recipe(tmp_path, text + "\nquiet: true\njson: true", "convert", "r.yaml", "-o", "-")
    assert (code, out) == (0, (tmp_path / "made.jsonl").read_text())
    assert json.loads(said[0])["rows"] == 2
    code, out, said = run_recipe(tmp_path, text + "\ndry_run: true\njson: true", "convert", "r.yaml", "-o", "x.jsonl")
    plan = json.loads(out)
    assert (code, said, plan["recipe"]["out"], plan["recipe"]["workers"]) == (0, [], "x.jsonl", 1)
    assert (plan["origins"]["out"], plan["origins"]["workers"], plan["origins"]["json"]) == ("flag", *["recipe r"] * 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.jsonl", "r.yaml"]


def test_a_recipe_says_what_becomes_of_bad_rows(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}\n[]\n')
    text = "source: in.jsonl\non_error: skip\nmax_bad: 1\nrejects: bad.jsonl\nout: made.jsonl\n"
    (tmp_path / "r.yaml").write_text(text)
    run = run_cli("convert", "r.yaml", cwd=tmp_path)
    assert run.returncode == 0
    assert [json.loads(line)["code"] for line in (tmp_path / "bad.jsonl").open()] == ["json.not_object"]


def test_how_a_recipe_runs_is_no_part_of_what_it_makes(tmp_path):
    assert run_recipe(tmp_path, "out: made\nworkers: 1\nexecutor: serial\nquiet: true")[0] == 0
    manifest = json.loads((tmp_path / "made" / ".chatfmt" / "manifest.json").read_text())
    assert not {"out", "workers", "executor", "quiet"} & set(manifest["recipe"])
    again = run_recipe(tmp_path, "out: made\nworkers: 2\nresume: true")
    assert again == (0, "", ["`made` was complete already: 12 rows"])


def test_plan_and_check_honour_what_they_have_of_it(tmp_path):
    code, out, _ = run_recipe(tmp_path, "out: made\nworkers: 1\njson: true", "plan", "r.yaml")
    assert (code, json.loads(out)["plan"]) == (0, "made/.chatfmt/plan.json")
    code, out, _ = run_recipe(tmp_path, "out: made\nrejects: x\njson: true", "check", "r.yaml")
    assert (code, json.loads(out)) == (0, {"schema": 1, "rows": 12, "counts": {}, "problems": []})


@pytest.mark.parametrize(
    ("values", "problem", "hint"),
    [
        ({"source": "a", "tempate": "chatml"}, "unknown key @ tempate", "did you mean `template`?"),
        ({"limit": -1}, "missing key @ source; `-1` is not at least 0 @ limit", ""),
        ({"source": "a", "workers": 2}, "unknown key @ workers",
         "`workers` says how to run, which is said to `chatfmt.convert` or on the command line"),
    ],
)  # fmt: skip
def test_a_recipe_in_python_is_refused_as_a_file_is(values, problem, hint):
    with pytest.raises(RecipeError) as caught:
        Recipe(**values)
    assert (str(caught.value), caught.value.hint) == (problem, hint)


@pytest.mark.parametrize("call", ["convert", "Converter"])
def test_what_is_no_recipe(call):
    with pytest.raises(UsageError) as caught:
        getattr(chatfmt, call)("a.jsonl")
    assert str(caught.value) == f"`chatfmt.{call}` takes a `Recipe`, not a `str`"
    assert caught.value.hint == f'chatfmt.{call}(chatfmt.Recipe(source="a.jsonl", template="chatml"))'


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"source": []}, "`[]` is not a mapping of keys to values @ source.0"),
        ({"source": ["a", 5]}, "`5` is not a mapping of keys to values @ source.1"),
        ({"source": {"source": "a", "weight": 0, "spilt": "x"}},
         "`0` is not greater than 0 @ source.0.weight; unknown key @ source.0.spilt"),
        ({"source": "a", "map": {"user": 5}}, "`5` is not a text @ map.user"),
        ({"source": "a", "map": {5: "user"}}, "the key `5` is not a text @ map"),
        ({"source": "a", "map": "user"}, "`user` is not a mapping of keys to values @ map"),
        ({"source": "a", "keep": ["id", None]}, "`None` is not a text @ keep.1"),
        ({"source": "a", "date": "today"}, "`today` is not a day such as `2024-07-26` @ date"),
        ({"source": "a", "fraction": 1.5}, "`1.5` is not at most 1 @ fraction"),
        ({"source": "a", "continue_final": 3}, "`3` is not true or false or a text @ continue_final"),
        ({"source": "a", "template": None, "split": 2024}, "`2024` is not a text @ split"),
        ({"source": "a", "seed": None}, "`None` is not a whole number @ seed"),
        ({"source": "a", "about": {"title": "A"}}, "missing key @ about.licence"),
    ],
)  # fmt: skip
def test_every_kind_of_problem_is_told_in_words(values, problem):
    with pytest.raises(RecipeError) as caught:
        Recipe(**values)
    assert str(caught.value) == problem


def test_its_json_is_json_whatever_it_holds():
    recipe = Recipe(source=Path("a.jsonl"), template=Path("t.jinja"), var={"x": [float("nan"), {1: (2,)}], "y": None})
    assert (recipe.source[0].source, recipe.template) == ("a.jsonl", "t.jinja")
    assert recipe.plain()["var"] == {"x": [None, {"1": [2]}], "y": None}
    with pytest.raises(UsageError) as caught:
        Recipe(source="a", var={"x": object()}).plain()
    assert (caught.value.message, caught.value.hint) == (
        "a recipe cannot hold `object`",
        "give it text, numbers, lists or mappings",
    )


def test_one_value_may_be_said_in_several_ways():
    recipe = Recipe(source=("a",), header="no", dedup="TRUE", limit="5", fraction="0.5", max_bad=3, keep=["a", "b"])
    assert (recipe.header, recipe.dedup, recipe.limit, recipe.fraction) == (False, True, 5, 0.5)
    assert (recipe.max_bad, recipe.keep) == ("3", ("a", "b"))
    assert Recipe(**vars(recipe)) == recipe
    assert Recipe(**json.loads(json.dumps(recipe.plain()))) == recipe
