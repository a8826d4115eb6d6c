"""Recipes: layers with the origin of each value, and all problems in one error."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

import chatfmt
from chatfmt.errors import RecipeError, UnknownName, UsageError
from chatfmt.recipe import DEFAULT_DATE, Layer, Recipe, build, load, names, parse_size

from .conftest import EVERYDAY, run_cli, succeed, write_rows


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


def test_the_last_trainer_that_is_named_sets_what_it_needs():
    first, last = Layer("recipe x", {"source": "a", "trainer": "openrlhf"}), Layer("flag", {"trainer": "trl-sft"})
    _, _, origins = build([first, last])
    assert origins == {"source": "recipe x", "trainer": "flag", "transforms": "set by --for trl-sft"}
    assert build([first])[2].keys() - origins.keys() == {"keep"}


def test_every_problem_is_reported_with_its_key():
    with pytest.raises(RecipeError) as caught:
        build(
            [Layer("x", {"engine": "fast", "limit": -1, "tempate": "chatml", "source": [{"source": "a", "weight": 0}]})]
        )
    assert str(caught.value).split("; ") == [
        "x: `source.0.weight` must be more than 0, not `0`",
        "`limit` must be 0 or more, not `-1`",
        "`engine` must be auto, trace or jinja, not `fast`",
        "unknown key `tempate`",
    ]
    assert caught.value.hint == "did you mean `template`?"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("source: a\nsource: b\n", "key `source` appears twice"),
        ("source: [a\n", "is not valid YAML at line 2"),
        ("- a\n", "is not a recipe"),
        ("source: a\nweight: 2\n", "`weight` is a key of a source"),
        ("source: !!python/object/apply:os.system [ls]\n", "is not valid YAML"),
    ],
)
def test_files_that_are_not_recipes(tmp_path: Path, text, problem):
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
    with pytest.raises(RecipeError, match="`generation_prompt` and `continue_final` cannot be combined"):
        build([Layer("x", {"source": "a", "generation_prompt": True, "continue_final": True})])
    with pytest.raises(RecipeError, match="`rows_per_shard` and `shard_size` cannot be combined"):
        build([Layer("x", {"source": "a", "rows_per_shard": 5, "shard_size": "1MB"})])


def test_the_recipes_of_configs_are_found():
    assert {"gsm8k", "smoltalk"} <= set(names())
    with pytest.raises(UnknownName):
        load("gsm9k")


def test_a_recipe_file_does_the_same_as_flags(tmp_path):
    rows = [{"question": "q", "answer": "1+1=<<1+1=2>>2\n#### 2"}]
    write_rows(tmp_path / "in.jsonl", rows)
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
        ("limit: -1", "`limit` must be 0 or more, not `-1`", None),
        ("shard_size: 5XB", "`shard_size` must be a size such as 500MB or 64MiB, not `5XB`", None),
        ("format: csv", "`format` must be jsonl or parquet, not `csv`", None),
        ("max_bad: few", "`max_bad` must be a number of rows or a percentage up to 100%, not `few`", None),
        ("max_bad: 101%", "`max_bad` must be a number of rows or a percentage up to 100%, not `101%`", None),
        ("workers: 0", "`workers` must be 1 or more, not `0`", None),
        ("workrs: 2\nlimit: -1\nresume: maybe",
         "`limit` must be 0 or more, not `-1`; unknown key `workrs`; "
         "`resume` must be true or false, not `maybe`",
         "did you mean `workers`?"),
    ],
)  # fmt: skip
def test_a_problem_names_the_key_and_the_value(line, problem, hint, tmp_path):
    (tmp_path / "r.yaml").write_text(f"source: in.jsonl\n{line}\n")
    run = run_cli("convert", "r.yaml", cwd=tmp_path)
    expected = [f"error: recipe r.yaml: {problem}"] + ([f"hint: {hint}"] if hint else [])
    assert (run.returncode, run.stderr.decode().splitlines()) == (2, expected)


def run_recipe(folder: Path, text: str, *flags: str) -> tuple[int, str, list[str]]:
    (folder / "r.yaml").write_text(f"source: {EVERYDAY}\n{text}\n")
    run = run_cli(*(flags or ("convert", "r.yaml")), cwd=folder)
    return run.returncode, run.stdout.decode(), run.stderr.decode().splitlines()


def test_a_recipe_holds_run_keys_and_flags_override_them(tmp_path):
    text = "limit: 2\nout: made.jsonl\nworkers: 1\nexecutor: serial\noverwrite: true"
    summary = ["wrote 2 rows to `made.jsonl`, 810 B", "left behind: topic (text); --keep all carries it"]
    assert run_recipe(tmp_path, text) == (0, "", summary)
    assert run_recipe(tmp_path, text + "\nquiet: true") == (0, "", [])
    code, out, said = run_recipe(tmp_path, text, "convert", "r.yaml", "--no-overwrite")
    assert (code, out, said[0]) == (5, "", "error: `made.jsonl` already exists")
    code, out, said = run_recipe(tmp_path, text + "\nquiet: true\njson: true", "convert", "r.yaml", "-o", "-")
    assert (code, out) == (0, (tmp_path / "made.jsonl").read_text())
    assert json.loads(said[0])["rows"] == 2
    code, out, said = run_recipe(tmp_path, text + "\ndry_run: true\njson: true", "convert", "r.yaml", "-o", "x.jsonl")
    plan = json.loads(out)
    assert (code, said, plan["recipe"]["out"], plan["recipe"]["workers"]) == (0, [], "x.jsonl", 1)
    assert (plan["origins"]["out"], plan["origins"]["workers"], plan["origins"]["json"]) == (
        "flag",
        *["recipe r.yaml"] * 2,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.jsonl", "r.yaml"]


def test_a_recipe_sets_what_happens_to_bad_rows(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}\n[]\n')
    text = "source: in.jsonl\non_error: skip\nmax_bad: 1\nrejects: bad.jsonl\nout: made.jsonl\n"
    (tmp_path / "r.yaml").write_text(text)
    succeed(run_cli("convert", "r.yaml", cwd=tmp_path))
    assert [json.loads(line)["code"] for line in (tmp_path / "bad.jsonl").open()] == ["json.not_object"]


def test_run_keys_are_not_in_the_manifest_and_do_not_prevent_a_resume(tmp_path):
    assert run_recipe(tmp_path, "out: made\nworkers: 1\nexecutor: serial\nquiet: true")[0] == 0
    manifest = json.loads((tmp_path / "made" / ".chatfmt" / "manifest.json").read_text())
    assert not {"out", "workers", "executor", "quiet"} & set(manifest["recipe"])
    again = run_recipe(tmp_path, "out: made\nworkers: 2\nresume: true")
    assert again == (0, "", ["`made` is already complete: 12 rows"])


def test_plan_and_check_use_the_run_keys_they_know(tmp_path):
    code, out, _ = run_recipe(tmp_path, "out: made\nworkers: 1\njson: true", "plan", "r.yaml")
    assert (code, json.loads(out)["plan"]) == (0, "made/.chatfmt/plan.json")
    code, out, _ = run_recipe(tmp_path, "out: made\nrejects: x\njson: true", "check", "r.yaml")
    assert (code, json.loads(out)) == (0, {
        "schema": 1, "rows": 12, "counts": {}, "problems": [],
        "left_columns": ["topic (text)"], "left_keys": [], "left_out": [],
    })  # fmt: skip


@pytest.mark.parametrize(
    ("values", "problem", "hint"),
    [
        ({"source": "a", "tempate": "chatml"}, "unknown key `tempate`", "did you mean `template`?"),
        ({"limit": -1}, "missing key `source`; `limit` must be 0 or more, not `-1`", ""),
        ({"source": "a", "workers": 2}, "unknown key `workers`",
         "pass `workers` to `chatfmt.convert`, or on the command line"),
        ({"source": {"source": "a", "spilt": "x"}}, "unknown key `source.0.spilt`", "did you mean `split`?"),
        ({"source": "a", "map": ["user"]}, "`map` must be a mapping, not `['user']`",
         "map: {user: question, assistant: answer}"),
    ],
)  # fmt: skip
def test_a_recipe_in_python_is_refused_as_a_file_is(values, problem, hint):
    with pytest.raises(RecipeError) as caught:
        Recipe(**values)
    assert (str(caught.value), caught.value.hint) == (problem, hint)


@pytest.mark.parametrize("call", ["convert", "Converter"])
def test_calls_without_a_recipe(call):
    with pytest.raises(UsageError) as caught:
        getattr(chatfmt, call)("a.jsonl")
    assert str(caught.value) == f"`chatfmt.{call}` needs a `Recipe`, not a `str`"
    assert caught.value.hint == f'chatfmt.{call}(chatfmt.Recipe(source="a.jsonl", template="chatml"))'


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"source": []}, "`source.0` must be a mapping, not `[]`"),
        ({"source": ["a", 5]}, "`source.1` must be a mapping, not `5`"),
        ({"source": {"source": "a", "weight": 0, "spilt": "x"}},
         "`source.0.weight` must be more than 0, not `0`; unknown key `source.0.spilt`"),
        ({"source": "a", "map": {"user": 5}}, "`map.user` must be a string, not `5`"),
        ({"source": "a", "map": {5: "user"}}, "`map` has the key `5`, which is not a string"),
        ({"source": "a", "map": "user"}, "`map` must be a mapping, not `user`"),
        ({"source": "a", "keep": ["id", None]}, "`keep.1` must be a string, not `None`"),
        ({"source": "a", "date": "today"}, "`date` must be a date such as 2024-07-26, not `today`"),
        ({"source": "a", "fraction": 1.5}, "`fraction` must be at most 1, not `1.5`"),
        ({"source": "a", "continue_final": 3}, "`continue_final` must be true or false or a string, not `3`"),
        ({"source": "a", "template": None, "split": 2024}, "`split` must be a string, not `2024`"),
        ({"source": "a", "seed": None}, "`seed` must be a whole number, not `None`"),
        ({"source": "a", "about": {"title": "A"}}, "missing key `about.licence`"),
    ],
)  # fmt: skip
def test_every_problem_says_what_the_value_must_be(values, problem):
    with pytest.raises(RecipeError) as caught:
        Recipe(**values)
    assert str(caught.value) == problem


def test_members_of_a_string_enum_are_strings():
    names = StrEnum("names", {"PROMPT": "prompt", "QUESTION": "q"})
    recipe = Recipe(source="a", map={names.PROMPT: names.QUESTION}, var={names.PROMPT: 1})
    assert (recipe.map, recipe.var) == ({"prompt": "q"}, {"prompt": 1})


def test_plain_values_are_valid_json():
    recipe = Recipe(source=Path("a.jsonl"), template=Path("t.jinja"), var={"x": [float("nan"), {1: (2,)}], "y": None})
    assert (recipe.source[0].source, recipe.template) == ("a.jsonl", "t.jinja")
    assert recipe.plain()["var"] == {"x": [None, {"1": [2]}], "y": None}
    with pytest.raises(UsageError) as caught:
        Recipe(source="a", var={"x": object()}).plain()
    assert (caught.value.message, caught.value.hint) == (
        "a recipe cannot hold `object`",
        "use strings, numbers, lists or mappings",
    )


def test_short_forms_and_text_forms_of_values():
    recipe = Recipe(source=("a",), header="no", dedup="TRUE", limit="5", fraction="0.5", max_bad=3, keep=["a", "b"])
    assert (recipe.header, recipe.dedup, recipe.limit, recipe.fraction) == (False, True, 5, 0.5)
    assert (recipe.max_bad, recipe.keep) == ("3", ("a", "b"))
    assert Recipe(**vars(recipe)) == recipe
    assert Recipe(**json.loads(json.dumps(recipe.plain()))) == recipe


def test_a_problem_of_a_flag_names_the_flag():
    with pytest.raises(RecipeError) as caught:
        build([Layer("recipe r", {"source": "a", "limit": -1}), Layer("flag", {"on_error": "ignore"})])
    problems = "recipe r: `limit` must be 0 or more, not `-1`; `--on-error` must be stop or skip, not `ignore`"
    assert str(caught.value) == problems


@pytest.mark.parametrize(
    ("layers", "keep", "drop"),
    [
        ([{"keep": ["a"], "drop": ["b"]}, {"drop": ["c"]}], ("a",), ("b", "c")),
        ([{"keep": "a"}, {"keep": ["a", "b"]}, {"keep": "c"}], ("a", "b", "c"), ()),
        ([{"keep": ["a", "x"], "drop": ["b", "y"]}, {"keep": ["b"], "drop": ["a"]}], ("x", "b"), ("y", "a")),
        ([{"keep": ["a"]}, {"drop": ["a"]}, {"keep": ["a"]}], ("a",), ()),
        ([{"drop": ["messages.lang", "b"]}, {"keep": ["messages.lang"]}], (), ("b",)),
        ([{"keep": "all"}, {"drop": ["a"]}], ("all",), ("a",)),
    ],
)
def test_lists_of_columns_add_up_and_a_later_layer_takes_back(
    layers: list[dict[str, Any]], keep: tuple[str, ...], drop: tuple[str, ...]
) -> None:
    made, _, _ = build([Layer("argument", {"source": "x"}), *(Layer("flag", layer) for layer in layers)])
    assert (made.keep, made.drop) == (keep, drop)


def test_findings_that_a_recipe_refuses_stay_refused_with_a_flag() -> None:
    layers = [Layer("recipe a", {"source": "x", "fail_on": ["msg.order"]}), Layer("flag", {"fail_on": ["msg.role"]})]
    assert build(layers)[0].fail_on == ("msg.order", "msg.role")


def test_a_key_of_turns_that_a_recipe_drops_is_written_again(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "Hi.", "lang": "en"}
    write_rows(tmp_path / "in.jsonl", [{"messages": [turn], "id": 7}])
    (tmp_path / "r.yaml").write_text("source: in.jsonl\ndrop: [id, messages.lang]\n")
    run = run_cli("convert", "r.yaml", "--keep", "messages.lang", "--keep", "id", cwd=tmp_path)
    assert json.loads(run.stdout) == {"messages": [turn], "id": 7}
    assert json.loads(run_cli("convert", "r.yaml", cwd=tmp_path).stdout) == {
        "messages": [{"role": "user", "content": "Hi."}]
    }
