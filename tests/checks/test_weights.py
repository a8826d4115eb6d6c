"""Weights that spans cannot hold are named, those that a trainer would ignore are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatfmt.cli import main

from ..conftest import run_cli, write_rows

TURNS = [
    {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0.5},
    {"role": "user", "content": "q", "weight": 0}, {"role": "assistant", "content": "a", "weight": 1},
    {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "loss": 0.25},
    {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "train": True},
]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ("-t chatml --mask", 0, "wrote 1 row"),
        ("-t chatml --to segments", 0, "warnings: msg.weight 1"),
        ("-t chatml", 0, "wrote 1 row"),
        ("--to messages", 0, "wrote 1 row"),
        ("-t chatml --to segments --fail-on msg.weight", 4,
         "error: in.jsonl row 0: `weight` is 0.5, and the turn is trained in full (message 1, line 1)\n"
         "hint: --to text --mask writes `span_weights` if one of the first 1,000 rows has such a weight"),
    ],
)  # fmt: skip
def test_a_fraction_that_spans_cannot_say_is_named(
    flags: str,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("in.jsonl"), [{"messages": TURNS}])
    assert main(["convert", "in.jsonl", *flags.split(), "--executor", "serial"]) == code
    shown = capsys.readouterr().err
    assert said in shown and ("msg.weight" in shown) is ("msg.weight" in said)


def chat(*weights: Any, key: str = "weight") -> list[dict[str, Any]]:
    """A question and an answer for each weight."""
    return [
        turn
        for number, weight in enumerate(weights)
        for turn in (
            {"role": "user", "content": f"q{number}"},
            {"role": "assistant", "content": f"a{number}", **({} if weight is None else {key: weight})},
        )
    ]


def for_trainer(folder: Path, turns: list[dict[str, Any]], flags: str) -> str:
    """What `--for` makes of a conversation: the rows, or the error."""
    write_rows(folder / "in.jsonl", [{"messages": turns}])
    run = run_cli("convert", "in.jsonl", "--format", "jsonl", "-q", "--for", *flags.split(), cwd=folder)
    return (run.stderr or run.stdout).decode()


HINT = (
    "hint: -t MODEL --to tokens --tokenizer MODEL writes labels for trl-sft and axolotl; "
    "--for ms-swift and --for axolotl write weights\n"
)
SKIP = "hint: --on-error skip drops such rows\n"


@pytest.mark.parametrize(
    "flags",
    [
        "trl-sft", "trl-sft -t chatml", "axolotl --to sharegpt", "llama-factory",
        "llama-factory --to messages", "torchtune", "unsloth", "open-instruct", "nemo-rl", "openrlhf",
        "mlx-lm -t chatml",
    ],
)  # fmt: skip
def test_an_answer_that_would_be_trained_all_the_same_is_refused(flags: str, tmp_path: Path) -> None:
    name = "train" if "axolotl" in flags else "weight"
    value = "false" if "axolotl" in flags else "0"
    error = f"error: in.jsonl row 0: `{name}` is {value}, and the trainer trains the turn in full (message 1, line 1)\n"
    assert for_trainer(tmp_path, chat(0, 1), flags) == error + HINT


@pytest.mark.parametrize(
    ("trainer", "key", "off", "on"),
    [("axolotl", "train", False, True), ("ms-swift", "loss", False, True), ("openai", "weight", 0, 1)],
)
@pytest.mark.parametrize("own", ["weight", "train", "loss_weight"])
def test_a_trainer_that_reads_weights_gets_them_under_its_key(
    trainer: str, key: str, off: Any, on: Any, own: str, tmp_path: Path
) -> None:
    row = json.loads(for_trainer(tmp_path, chat(0, None, 1, key=own), trainer))
    assert row == {"messages": chat(off, None, on, key=key)}


@pytest.mark.parametrize("trainer", ["axolotl", "ms-swift", "openai"])
def test_a_fraction_is_refused_where_weights_are_0_or_1(trainer: str, tmp_path: Path) -> None:
    error = "error: in.jsonl row 0: `weight` is 0.5, and the trainer trains the turn in full (message 1, line 1)\n"
    hint = "hint: trainers read 0 and 1 only; --on-error skip drops such rows\n"
    assert for_trainer(tmp_path, chat(0.5, 1), trainer) == error + hint


def test_where_the_last_answer_alone_is_trained_there_is_a_row_for_each_that_is(tmp_path: Path) -> None:
    turns = chat(0, 1, None, 0)
    for trainer, column in (("mlx-lm", "messages"), ("litgpt -t chatml", "output"), ("openrlhf -t chatml", "prompt")):
        rows = for_trainer(tmp_path, turns, trainer).splitlines()
        assert [json.loads(row)[column] is not None for row in rows] == [True, True]
    rows = for_trainer(tmp_path, turns, "mlx-lm").splitlines()
    assert [json.loads(row)["messages"] for row in rows] == [turns[:4], turns[:6]]
    assert for_trainer(tmp_path, chat(0, 0), "mlx-lm") == (
        "error: in.jsonl row 0: no answer of the row is trained (line 1)\nhint: --on-error skip drops such rows\n"
    )


def test_the_weight_of_the_answer_alone_counts_where_a_row_has_one(tmp_path: Path) -> None:
    assert json.loads(for_trainer(tmp_path, chat(0, 1), "trl-sft --to prompt-completion"))["completion"]
    error = "error: in.jsonl row 0: `weight` is 0, and the trainer trains the turn in full (message 3, line 1)\n"
    assert for_trainer(tmp_path, chat(1, 0), "trl-sft --to prompt-completion") == error + SKIP


@pytest.mark.parametrize("given", [{"weight": 0}, {"train_detail": [{"begin_offset": 0, "end_offset": 0}]}])
def test_a_loader_names_weights_that_the_trainer_does_not_read(given: dict[str, Any], tmp_path: Path) -> None:
    turns = chat(1, 1)
    turns[1] = {**chat(None, None)[1], **given}
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    assert run_cli("convert", "in.jsonl", "-o", "out", "-q", cwd=tmp_path).returncode == 0
    run = run_cli("loader", "out", "--for", "trl-sft", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode()) == (
        2,
        "error: `out` does not fit trl-sft: answers have weights that the trainer does not read, and it trains them in "
        "full\n"
        "hint: chatfmt convert in.jsonl --for trl-sft -o out --overwrite\n",
    )
    assert run_cli("convert", "in.jsonl", "--for", "axolotl", "-o", "out", "--overwrite", cwd=tmp_path).returncode == 0
    assert b"\n  message_field_training: train\n" in run_cli("loader", "out", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "flags",
    ["trl-sft", "openai", "ms-swift", "unsloth", "torchtune", "open-instruct", "nemo-rl", "openrlhf", "mlx-lm", "verl"],
)
def test_parts_pass_for_the_one_trainer_that_reads_them(flags: str, tmp_path: Path) -> None:
    turns = chat(None, None)
    turns[1]["train_detail"] = [{"begin_offset": 0, "end_offset": 0, "train": False}]
    assert json.loads(for_trainer(tmp_path, turns, "axolotl")) == {"messages": turns}
    error = "error: in.jsonl row 0: `train_detail` names the parts to train, and the trainer trains the turn in full"
    assert for_trainer(tmp_path, turns, flags).startswith(f"{error} (message 1, line 1)\nhint: ")


@pytest.mark.parametrize("trainer", ["trl-sft", "openai", "axolotl", "ms-swift"])
def test_a_loss_mask_is_a_key_that_no_trainer_reads(trainer: str, tmp_path: Path) -> None:
    assert for_trainer(tmp_path, chat(0, 1, key="loss_mask"), trainer) == (
        "error: in.jsonl row 0: `loss_mask` is 0, and the trainer trains the turn in full (message 1, line 1)\n"
        "hint: under the key `weight` it is read; --drop, as of messages.loss_mask, trains such turns in full\n"
    )
    turns = chat(1, None, key="loss_mask")
    assert json.loads(for_trainer(tmp_path, turns, trainer)) == {"messages": turns}
    row = json.loads(for_trainer(tmp_path, chat(0, 1, key="loss_mask"), f"{trainer} --drop messages.loss_mask"))
    assert row == {"messages": chat(None, None)}


@pytest.mark.parametrize(
    ("trainer", "shown"), [("axolotl -t chatml", "`weight` is 0"), ("ms-swift", "`loss` is false")]
)
def test_no_hint_names_a_trainer_that_reads_weights_of_pairs(trainer: str, shown: str, tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "x", "weight": 0}
    pair = {"prompt": chat(1)[:1], "chosen": [answer], "rejected": [{"role": "assistant", "content": "y"}]}
    write_rows(tmp_path / "in.jsonl", [pair])
    run = run_cli("convert", "in.jsonl", "--for", *trainer.split(), cwd=tmp_path)
    assert run.stderr.decode() == (
        f"error: in.jsonl row 0: `chosen`: {shown}, and the trainer trains the turn in full (message 0, line 1)\n{SKIP}"
    )
