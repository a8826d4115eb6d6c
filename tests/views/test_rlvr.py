"""Prompts with their ground truth, in the forms of open-instruct, verl and NeMo RL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ..conftest import run_here

ASKED = [{"role": "user", "content": "2 + 2?"}]
GSM8K = {"question": "2 + 2?", "answer": "Two and two.\n#### 4"}
PROMPT = {"prompt": ASKED, "answer": "4"}
NEMO = ("--for", "nemo-rl", "--to", "rlvr-text")


def written(folder: Path, row: dict[str, Any], *flags: str) -> Any:
    """The row of the output, or the error."""
    (folder / "in.jsonl").write_text(json.dumps(row) + "\n")
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


def test_verl_gets_the_ground_truth_as_a_struct(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(GSM8K) + "\n")
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
        error + "hint: --map \"dataset={{ 'gsm8k' }}\" --keep dataset\n"
    )
    assert written(tmp_path, {"prompt": ASKED}, "--for", "nemo-rl") == (
        "error: in.jsonl: the rows have no ground truth\n"
        "hint: --keep COLUMN, for a column named ground_truth, final_answer, answer, solution, label or target\n"
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
