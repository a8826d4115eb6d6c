"""What a conversation says of its training: weights are numbers beside the spans, parts are of content as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from chatfmt.cli import main

from ...conftest import read_rows, run_here, succeed, write_rows

PLAIN = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def chat(*weights: Any) -> list[dict[str, Any]]:
    """A question and an answer for each weight."""
    answers = [{} if weight is None else {"weight": weight} for weight in weights]
    return [turn for number, weight in enumerate(answers)
            for turn in (PLAIN[0], {"role": "assistant", "content": f"answer {number}", **weight})]  # fmt: skip


def write(*chats: list[dict[str, Any]]) -> None:
    write_rows(Path("in.jsonl"), [{"messages": turns} for turns in chats])


def converted(*flags: str) -> list[dict[str, Any]]:
    assert main(["convert", "in.jsonl", "-t", "chatml", "-o", "out.jsonl", "--overwrite", "-q", *flags]) == 0
    return read_rows(Path("out.jsonl"))


def trained(row: dict[str, Any]) -> dict[str, float]:
    """The trained texts with their weights."""
    texts = [row["text"][start:end] for start, end in row["assistant_spans"]]
    return dict(zip(texts, row["span_weights"], strict=True))


def test_each_span_has_the_weight_of_its_message():
    write(chat(0.5, None, 0), chat(2, 1, False, 0.25), chat(None))
    rows = converted("--mask")
    assert [*rows[0]] == ["text", "assistant_spans", "span_weights"]
    assert list(map(trained, rows)) == [
        {"answer 0<|im_end|>": 0.5, "answer 1<|im_end|>": 1.0},
        {"answer 0<|im_end|>": 2.0, "answer 1<|im_end|>": 1.0, "answer 3<|im_end|>": 0.25},
        {"answer 0<|im_end|>": 1.0},
    ]
    write(chat(0.5, 2))
    assert list(map(trained, converted("--mask", "--mask-last"))) == [{"answer 1<|im_end|>": 2.0}]


def test_without_such_weights_there_is_no_such_column():
    write(chat(1, 0), chat(True))
    assert [[*row] for row in converted("--mask")] == [["text", "assistant_spans"]] * 2
    write(chat(0.5))
    assert [[*row] for row in converted()] == [["text"]]


def test_a_dataset_has_them_too(capsys: pytest.CaptureFixture[str]):
    write(chat(0.5, 1), chat(1))
    assert main(["convert", "in.jsonl", "-t", "chatml", "--mask", "-o", "out", "-q"]) == 0
    found = load_dataset("out", split="train")
    assert found["span_weights"][:] == [[0.5, 1.0], [1.0]]


def test_spans_that_are_not_one_for_each_message_have_one_weight_or_the_row_is_refused(
    capsys: pytest.CaptureFixture[str],
):
    both = [*PLAIN[:1], {"role": "assistant", "content": "ab cd", "weight": 0.5, "train_detail": [
        {"begin_offset": 0, "end_offset": 0, "train": True}, {"begin_offset": 3, "end_offset": 3, "train": True},
    ]}]  # fmt: skip
    write(both)
    (row,) = converted("--mask", "--no-mask-stop-token")
    assert row["span_weights"] == [0.5] * len(row["assistant_spans"]) and len(row["assistant_spans"]) == 2
    write(chat(1), [*both, *chat(1)])
    assert main(["convert", "in.jsonl", "-t", "chatml", "--mask", "--no-mask-stop-token", "-o", "out.jsonl",
                 "--overwrite"]) == 4  # fmt: skip
    assert capsys.readouterr().err == (
        "error: in.jsonl row 1: the trained text is in 3 spans, and 2 messages with different weights are trained "
        "(line 2)\nhint: give the messages of the row one weight, or --on-error skip\n"
    )


CALCULATED = "5 + 5 = <<5+5=10>>10 apples"
REASONED = "<think>w</think>abc and more"
MARKED = "<|im_end|> abcdef"
DETAIL = [{"begin_offset": 0, "end_offset": 3, "train": True}]
CHANGED = (
    "error: in.jsonl row 0: `train_detail` counts the characters of the content in the source, which the conversion "
    "changes (message 1, line 1)\n"
    "hint: leave out the option that changes it, or the key, as with --drop messages.train_detail, to train it all\n"
)


def write_answer(folder: Path, content: str, *, as_text: bool = False) -> None:
    turns = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": content, "train_detail": DETAIL},
    ]
    write_rows(folder / "in.jsonl", [{"messages": json.dumps(turns) if as_text else turns}])


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("content", "flags", "change"),
    [
        (CALCULATED, "-t chatml --to segments", "--calculator remove"),
        (CALCULATED, "--for axolotl", "--calculator remove"),
        (MARKED, "-t chatml --to segments", "--control-tokens escape"),
        (REASONED, "--for axolotl", "--dialect reasoning-tags"),
    ],
)
def test_parts_of_content_that_changes_are_refused(
    content: str, flags: str, change: str, as_text: bool, tmp_path: Path
) -> None:
    write_answer(tmp_path, content, as_text=as_text)
    run = run_here("convert", "in.jsonl", *flags.split(), *change.split(), "--format", "jsonl", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode()) == (4, CHANGED)
    dropped = ["--drop", "messages.train_detail"]
    for remedy in ([*flags.split()], [*flags.split(), *change.split(), *dropped]):
        run = succeed(run_here("convert", "in.jsonl", *remedy, "--format", "jsonl", cwd=tmp_path))
        assert run.stdout.count(b"\n") == 1


def test_options_that_change_other_turns_pass(tmp_path: Path) -> None:
    write_answer(tmp_path, "plain")
    run = run_here("convert", "in.jsonl", "--calculator", "remove", "--system", "Be brief.", cwd=tmp_path)
    assert json.loads(run.stdout)["messages"][2] == {"role": "assistant", "content": "plain", "train_detail": DETAIL}
