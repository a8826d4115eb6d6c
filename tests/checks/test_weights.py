"""`msg.weight`: a weight that spans cannot hold, or that a trainer does not read, is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatfmt.cli import main

TURNS = [
    {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0.5},
    {"role": "user", "content": "q", "weight": 0}, {"role": "assistant", "content": "a", "weight": 1},
    {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "loss": 0.25},
    {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "train": True},
]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ("-t chatml --mask", 0, "warnings: msg.weight 1"),
        ("-t chatml --to segments", 0, "warnings: msg.weight 1"),
        ("-t chatml", 0, "wrote 1 row"),
        ("--to messages", 0, "wrote 1 row"),
        ("-t chatml --mask --fail-on msg.weight", 4,
         "error: in.jsonl row 0: `weight` is 0.5, and the turn is trained in full (message 1)\n"
         "hint: --mask, --to segments and --to tokens know weights of 0 and 1"),
        ("--for trl-sft", 0, "warnings: msg.weight 1"),
        ("--for openai", 0, "wrote 1 row"),
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
    Path("in.jsonl").write_text(json.dumps({"messages": TURNS}) + "\n")
    assert main(["convert", "in.jsonl", *flags.split(), "--executor", "serial"]) == code
    shown = capsys.readouterr().err
    assert said in shown and ("msg.weight" in shown) is ("msg.weight" in said)
