"""Prompts with their ground truth, in the forms of open-instruct, verl and NeMo RL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ..conftest import run_here, write_rows

ASKED = [{"role": "user", "content": "2 + 2?"}]
GSM8K = {"question": "2 + 2?", "answer": "Two and two.\n#### 4"}
PROMPT = {"prompt": ASKED, "answer": "4"}
NEMO = ("--for", "nemo-rl", "--to", "rlvr-text")


def written(folder: Path, row: dict[str, Any], *flags: str) -> Any:
    """The row of the output, or the error."""
    write_rows(folder / "in.jsonl", [row])
    run = run_here("convert", "in.jsonl", *flags, "-q", cwd=folder)
    return json.loads(run.stdout) if run.returncode == 0 else run.stderr.decode()


@pytest.mark.parametrize(
    ("row", "flags", "truth"),
    [
        (GSM8K, ["--transform", "final_answer=column"], "4"),
        (GSM8K, [], GSM8K["answer"]),
        (PROMPT, [], "4"),
        ({**PROMPT, "ground_truth": "four"}, [], "four"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "4"}]}, [], "4"),
    ],
)
def test_the_ground_truth_is_a_column_or_the_answer(
    row: dict[str, Any], flags: list[str], truth: str, tmp_path: Path
) -> None:
    found = written(tmp_path, row, "--for", "nemo-rl", "--to", "rlvr-text", *flags)
    assert (found["input"], found["output"]) == ("2 + 2?", truth)
    named = {**row, "dataset": "gsm8k", "data_source": "openai/gsm8k"}
    found = written(tmp_path, named, "--for", "open-instruct", "--to", "rlvr", "--format", "jsonl", *flags)
    assert (found["messages"], found["ground_truth"], found["dataset"]) == (ASKED, truth, "gsm8k")


@pytest.mark.parametrize("view", ["rlvr", "rlvr-prompt", "rlvr-text"])
def test_a_template_renders_no_prompt_that_its_trainer_renders(view: str, tmp_path: Path) -> None:
    row = {**GSM8K, "dataset": "gsm8k", "data_source": "openai/gsm8k"}
    plain, rendered = (written(tmp_path, row, "--to", view, *flags) for flags in ([], ["-t", "chatml"]))
    assert plain == rendered and plain.get("input", "2 + 2?") == "2 + 2?"


def test_verl_gets_the_ground_truth_as_a_struct(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [GSM8K])
    run = run_here(
        "convert", "in.jsonl", "--for", "verl", "--to", "rlvr-prompt", "--transform", "final_answer=column",
        "--map", "data_source={{ 'openai/gsm8k' }}", "-o", "out", "-q", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr.decode()
    (row,) = pq.read_table(next((tmp_path / "out" / "data").glob("*.parquet"))).to_pylist()
    assert {name: row[name] for name in ("prompt", "data_source", "reward_model")} == {
        "prompt": ASKED, "data_source": "openai/gsm8k", "reward_model": {"style": "rule", "ground_truth": "4"},
    }  # fmt: skip


def test_what_is_missing_is_said_with_what_to_type(tmp_path: Path) -> None:
    error = "error: in.jsonl: the rows have no `dataset`, by which the trainer finds the reward\n"
    assert written(tmp_path, GSM8K, "--for", "open-instruct", "--to", "rlvr") == (
        error + "hint: --map \"dataset={{ 'NAME' }}\" --keep dataset\n"
    )
    assert written(tmp_path, {"prompt": ASKED}, "--for", "nemo-rl") == (
        "error: in.jsonl: the rows have no ground truth\n"
        "hint: --keep COLUMN, for a column named ground_truth, final_answer, answer, solution, label or target; "
        "--map ground_truth=PATH --keep ground_truth reads one inside another column\n"
    )
    system = [{"role": "system", "content": "Be brief."}, *ASKED]
    assert written(tmp_path, {**PROMPT, "prompt": system}, *NEMO) == (
        "error: in.jsonl row 0: the prompt is more than one question (line 1)\n"
        "hint: --transform system_turns=fold moves system text into it, --on-error skip drops such rows\n"
    )
    folded = written(tmp_path, {**PROMPT, "prompt": system}, *NEMO, "--transform", "system_turns=fold")
    assert folded["input"] == "Be brief.\n\n2 + 2?"
    assert written(tmp_path, {**PROMPT, "answer": None, "ground_truth": ""}, *NEMO) == (
        "error: in.jsonl row 0: the row has no ground truth (line 1)\nhint: --on-error skip drops such rows\n"
    )


TURNS = [*ASKED, {"role": "assistant", "content": "long"}]
KTO = {"messages": TURNS, "label": True}


@pytest.mark.parametrize(
    ("row", "flags", "truth"),
    [
        ({"question": "2 + 2?", "answer": "long", "ground_truth": "4"}, [], "4"),
        ({"question": "2 + 2?", "solution": "long", "answer": "4"}, ["--map", "assistant=solution"], "4"),
        ({"question": "2 + 2?", "answer": "long", "solution": "4"}, ["--map", "assistant=answer"], "long"),
        ({"question": "2 + 2?", "solution": "long", "answer": "4", "ground_truth": "5"}, ["--keep", "answer"], "4"),
        ({"question": "2 + 2?", "answer": "4", "ground_truth": "5"}, ["--drop", "ground_truth"], "4"),
        ({"messages": TURNS, "ground_truth": "4"}, [], "4"),
        ({"messages": TURNS, "ground_truth": ["4", "four"]}, [], '["4","four"]'),
        ({"messages": TURNS, "ground_truth": False}, [], "false"),
        ({"messages": TURNS, "ground_truth": "4", "label": True}, [], "4"),
        ({**GSM8K, "final_answer": "5"}, ["--drop", "final_answer", "--transform", "final_answer=column"], "4"),
        ({"prompt": ASKED, "label": "4"}, ["--keep", "label"], "4"),
    ],
)
def test_a_column_of_ground_truth_goes_before_the_answer(
    row: dict[str, Any], flags: list[str], truth: str, tmp_path: Path
) -> None:
    found = written(tmp_path, row, "--to", "rlvr-text", *flags)
    assert (found["input"], found["output"]) == ("2 + 2?", truth)
    found = written(tmp_path, {**row, "dataset": "math"}, "--to", "rlvr", *flags)
    assert (found["messages"], found["ground_truth"], found["dataset"]) == (ASKED, truth, "math")


def test_the_column_that_names_the_reward_is_read_without_a_flag(tmp_path: Path) -> None:
    assert written(tmp_path, {**GSM8K, "data_source": "math", "id": 1}, "--to", "rlvr-prompt") == {
        "prompt": ASKED, "data_source": "math", "reward_model": {"style": "rule", "ground_truth": GSM8K["answer"]},
    }  # fmt: skip
    assert written(tmp_path, GSM8K, "--to", "rlvr-prompt") == (
        "error: in.jsonl: the rows have no `data_source`, by which the trainer finds the reward\n"
        "hint: --map \"data_source={{ 'NAME' }}\" --keep data_source\n"
    )


@pytest.mark.parametrize("row", [KTO, {"prompt": "2 + 2?", "completion": "5", "label": 0}])
@pytest.mark.parametrize("flags", [[], ["--keep", "label"]])
@pytest.mark.parametrize("view", ["rlvr", "rlvr-prompt", "rlvr-text"])
def test_whether_an_answer_is_good_is_no_ground_truth(
    row: dict[str, Any], flags: list[str], view: str, tmp_path: Path
) -> None:
    assert written(tmp_path, {**row, "dataset": "a", "data_source": "a"}, "--to", view, *flags) == (
        "error: in.jsonl: the rows have no ground truth: `label` says whether an answer is good\n"
        "hint: --map ground_truth=COLUMN --keep ground_truth names a column that has it\n"
    )
    mapped = ["--map", "ground_truth=right", "--keep", "ground_truth"]
    found = written(tmp_path, {**row, "right": "4"}, "--to", "rlvr-text", *mapped)
    assert (found["input"], found["output"]) == ("2 + 2?", "4")


def test_a_filter_may_read_the_ground_truth(tmp_path: Path) -> None:
    row = {"question": "2 + 2?", "answer": "long", "ground_truth": "4"}
    found = written(tmp_path, row, "--where", "ground_truth == '4'", "--to", "rlvr-text")
    assert (found["output"], found["ground_truth"]) == ("4", "4")


@pytest.mark.parametrize("flags", [("--to", "rlvr-text"), NEMO])
def test_a_ground_truth_after_the_sample_is_an_error_of_its_row(flags: tuple[str, ...], tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "answer": f"a{n}"} | ({"ground_truth": "4"} if n > 2500 else {}) for n in range(2600)]
    write_rows(tmp_path / "in.jsonl", rows)
    run = run_here("convert", "in.jsonl", *flags, "-o", "out.jsonl", cwd=tmp_path)
    assert run.stderr.decode() == (
        "error: in.jsonl row 2501: `ground_truth`, which is empty in the sample, would be the ground truth of later "
        "rows alone (line 2502)\n"
        "hint: --keep ground_truth --where 'ground_truth is defined' keeps rows that have it; "
        "--drop ground_truth leaves it behind\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    asked = ["--keep", "ground_truth", "--where", "ground_truth is defined"]
    run = run_here("convert", "in.jsonl", *flags, *asked, "-o", "out.jsonl", cwd=tmp_path)
    found = [json.loads(line)["output"] for line in (tmp_path / "out.jsonl").open()]
    assert (run.returncode, found) == (0, ["4"] * 99)
    run = run_here("convert", "in.jsonl", *flags, "--drop", "ground_truth", "-q", cwd=tmp_path)
    assert (run.returncode, run.stdout.count(b"\n")) == (0, 2600)
