"""`--for TRAINER` writes what a trainer reads, and `chatfmt loader` prints what loads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatfmt.cli import main
from chatfmt.errors import UnknownName
from chatfmt.recipe import Recipe
from chatfmt.trainers import TRAINERS, Trainer
from chatfmt.views import VIEWS

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
CHAT = {"messages": [USER, ASSISTANT]}
PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command in a folder with the file `in.jsonl`: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, rows: Any = (CHAT,)) -> tuple[int, str, str]:
        Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        code = main([*arguments, *(["--executor", "serial"] if arguments[0] == "convert" else [])])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def origins(run: Run, *flags: str) -> dict[str, tuple[Any, str]]:
    """Return the keys of the plan that something set, with value and origin."""
    code, out, _ = run("convert", "in.jsonl", *flags, "--dry-run")
    assert code == 0
    rows = [line.split("  ") for line in out.splitlines() if line.startswith(" ")]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return {row[0]: (json.loads(row[1]), row[2]) for row in cells if len(row) == 3 and row[0] not in ("key", "source")}


def test_every_entry_names_views_that_exist_and_its_source() -> None:
    assert TRAINERS
    for trainer in TRAINERS.values():
        assert set(trainer.readable) <= set(VIEWS) and trainer.readable
        assert trainer.source and trainer.summary


def test_the_plan_shows_what_the_trainer_sets_and_flags_win(run: Run) -> None:
    shown = origins(run, "--for", "trl-sft")
    assert shown["to"] == ("messages", "set by --for trl-sft")
    assert shown["transforms"] == ({"arguments": "object"}, "set by --for trl-sft")
    assert shown["for"] == ("trl-sft", "flag")
    assert "bos" not in shown
    shown = origins(run, "--for", "trl-sft", "-t", "llama-3")
    assert shown["to"] == ("text", "set by --for trl-sft") and shown["bos"] == ("strip", "set by --for trl-sft")
    shown = origins(run, "--for", "trl-sft", "-t", "llama-3", "--bos", "keep", "--to", "prompt-completion")
    assert shown["to"] == ("prompt-completion", "flag") and shown["bos"] == ("keep", "flag")


def test_a_recipe_file_names_a_trainer(run: Run) -> None:
    Path("r.yaml").write_text("source: in.jsonl\ntemplate: llama-3\nfor: trl-sft\nbos: keep\n")
    code, out, err = run("convert", "r.yaml", "-q")
    text = (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
    )
    assert (code, json.loads(out), err) == (0, {"text": text}, "")


def test_python_takes_the_settings_too() -> None:
    assert Recipe(source="x", trainer="trl-sft", template="llama-3").bos == "strip"
    assert Recipe(source="x", trainer="trl-sft", template="llama-3", bos="keep").bos == "keep"
    with pytest.raises(UnknownName, match="unknown trainer `trl`"):
        Recipe(source="x", trainer="trl")


def test_an_unknown_trainer_is_corrected(run: Run) -> None:
    assert run("convert", "in.jsonl", "--for", "trl-stf") == (
        2, "", "error: unknown trainer `trl-stf`\nhint: did you mean `trl-sft`?\n",
    )  # fmt: skip


def test_a_view_that_the_trainer_does_not_read_is_refused(run: Run) -> None:
    assert run("convert", "in.jsonl", "--for", "trl-sft", "--to", "segments", "-t", "chatml") == (
        2, "",
        "error: in.jsonl: `--for trl-sft` does not read `--to segments`, "
        "only `messages`, `prompt-completion`, `text` or `tokens`\nhint: leave out --to\n",
    )  # fmt: skip


def test_a_dummy_needs_only_its_entry(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    dummy = Trainer(
        summary="a dummy", source="none", views={"preference": "preference"}, settings={"shuffle": True},
        loader=lambda output: f"{output.model} {output.path} {output.splits} {output.columns} {output.max_steps}\n",
    )  # fmt: skip
    monkeypatch.setitem(TRAINERS, "dummy", dummy)
    assert "dummy." in " ".join(run("convert", "--help")[1].split())
    assert run("convert", "in.jsonl", "--for", "dummy", "-o", "out")[2] == (
        "error: in.jsonl: `--for dummy` needs data of type preference, and these rows are of type language-modeling\n"
        "hint: `--for trl-sft` or `--for trl-grpo` takes them\n"
    )
    assert run("convert", "in.jsonl", "--for", "dummy", "-o", "out", "-q", rows=[PAIR])[0] == 0
    printed = "m out {'train': 'data/train-*.parquet'} ('prompt', 'chosen', 'rejected') 7\n"
    assert run("loader", "out", "--model", "m", "--max-steps", "7") == (0, printed, "")
    assert run("loader", "out", "--for", "trl-sft") == (
        2, "",
        "error: `out` does not fit trl-sft: it holds the view `preference`, and the trainer reads `messages`, "
        "`prompt-completion`, `text` or `tokens`\n"
        "hint: chatfmt convert in.jsonl --for trl-sft -o out --overwrite\n",
    )  # fmt: skip


def test_the_loader_needs_a_trainer_and_a_finished_conversion(run: Run) -> None:
    assert run("convert", "in.jsonl", "-o", "out", "-q")[0] == 0
    assert run("loader", "out") == (2, "", "error: `out` was not made for a trainer\nhint: --for trl-sft\n")
    assert run("loader", "out", "--for", "trl-stf")[2].splitlines()[1] == "hint: did you mean `trl-sft`?"
    assert run("loader", "out", "--for", "trl-sft", "--max-steps", "0")[0] == 2
    assert run("loader", "in.jsonl", "--for", "trl-sft")[0] == 3
