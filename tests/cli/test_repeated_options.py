"""Options that are given more than once: all conditions hold, and no value replaces another in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..conftest import from_lines, run_cli, write_rows

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    rows = [{"messages": TURNS, "lang": lang, "n": n} for lang, n in (("en", 1), ("de", 2), ("en", 2))]
    return write_rows(path, rows)


def test_rows_that_meet_every_condition_are_kept(source: Path) -> None:
    run = run_cli("convert", source, "--where", "lang == 'en' or n == 5", "--where", "n > 1", "--keep", "all", "-q")
    assert [(row["lang"], row["n"]) for row in from_lines(run.stdout)] == [("en", 2)]


def test_a_condition_that_no_row_meets_is_noted(source: Path) -> None:
    run = run_cli("convert", source, "--where", "n > 99")
    rows = len(source.read_bytes().splitlines())
    noted = (
        f"note: no row meets the condition `--where n > 99`\nwrote 0 rows to stdout, 0 B\nfiltered out: {rows} rows\n"
    )
    assert (run.returncode, run.stdout, run.stderr.decode()) == (0, b"", noted)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("{{ n > 1 }}", "`--where '{{ n > 1 }}'` has braces\nhint: write an expression: `score > 3`\n"),
        ("n > 1) or (n < 2", "the expression `n > 1) or (n < 2` does not parse: "
                             "unexpected ')'\nhint: write it as inside the braces of a Jinja template: "
                             "`score > 3 and row['my column'] == 'en'`\n"),
        ("lang = 'en'", "the expression `lang = 'en'` does not parse at character 5: something follows the expression\n"
                        "hint: `==` compares: `lang == 'en'`\n"),
        ("len(lang) > 1", "`(len(lang) > 1) and (lang == 'en')`: Jinja has no function `len`\n"
                          "hint: a filter may do it: `lang|length`\n"),
        ("lenght(lang) > 1", "`(lenght(lang) > 1) and (lang == 'en')`: Jinja has no function `lenght`\n"
                             "hint: a filter may do it: `lang|length`\n"),
        ("lang|lenght > 1", "the expression `lang|lenght > 1` does not parse at character 15: "
                            "No filter named 'lenght'.\nhint: did you mean `length`?\n"),
    ],
)  # fmt: skip
def test_each_condition_is_an_expression_by_itself(condition: str, message: str, source: Path) -> None:
    run = run_cli("convert", source, "--where", condition, "--where", "lang == 'en'")
    assert (run.returncode, run.stdout, run.stderr.decode()) == (2, b"", f"error: {source}: {message}")


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ((), [("en", 2)]),
        (("--where", "n < 9"), [("en", 2)]),
        (("--where", "", "--where", "n == 2"), [("de", 2), ("en", 2)]),
        (("--where", "n == 2", "--where", ""), [("en", 1), ("de", 2), ("en", 2)]),
    ],
)
def test_conditions_of_a_recipe_hold_with_those_of_flags(
    flags: tuple[str, ...], kept: list[tuple[str, int]], source: Path
) -> None:
    """A list in a recipe, one condition in the environment; an empty one takes back those before it."""
    recipe = source.with_name("recipe.yaml")
    recipe.write_text(f"source: {source}\nkeep: all\nwhere:\n- lang == 'en' or n == 5\n- n != 7\n")
    run = run_cli("convert", recipe, *flags, "-q", env={"CHATFMT_WHERE": "n > 1"})
    assert [(row["lang"], row["n"]) for row in from_lines(run.stdout)] == kept


def test_an_empty_value_takes_back_those_before_it(source: Path) -> None:
    run = run_cli("convert", source, "--where", "n > 9", "--where", "", "--where", "n > 1", "-q")
    assert len(run.stdout.splitlines()) == 2
    run = run_cli("convert", source, "--keep", "", "--keep", "n", "-q", env={"CHATFMT_KEEP": "lang"})
    assert {*json.loads(run.stdout.splitlines()[0])} == {"messages", "n"}


@pytest.mark.parametrize("flags", [("--limit", "1", "--limit", "2"), ("--dedup-by", "n", "--dedup-by", "lang")])
def test_an_option_with_one_value_is_given_once(flags: tuple[str, ...], source: Path) -> None:
    run = run_cli("convert", source, *flags)
    message = f"error: `{flags[0]}` was given 2 times\nhint: it takes one value\n"
    assert (run.returncode, run.stdout, run.stderr.decode()) == (2, b"", message)


def test_of_flags_the_last_counts(source: Path) -> None:
    run = run_cli("convert", source, "--dedup", "--no-dedup", "-q")
    assert len(run.stdout.splitlines()) == 3


def test_no_row_is_added_to_a_test_split_that_exists(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_bytes(source.read_bytes())
    run = run_cli("convert", folder, "--split", "all", "--test-fraction", "0.5", "-o", tmp_path / "out")
    message = (
        "error: `--test-fraction` would add rows to the split `test`, which the source has already\n"
        "hint: leave it out, or take the rows from one split: --split train\n"
    )
    assert (run.returncode, run.stderr.decode()) == (2, message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both", "in.jsonl"]
    assert (
        run_cli("convert", folder, "--split", "train", "--test-fraction", "0.5", "-o", tmp_path / "out").returncode == 0
    )
