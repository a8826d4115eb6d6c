"""`train_detail` counts characters of the content in the source: a row whose content changes is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ...conftest import run_here

CALCULATED = "5 + 5 = <<5+5=10>>10 apples"
REASONED = "<think>w</think>abc and more"
MARKED = "<|im_end|> abcdef"
PARTS = [{"begin_offset": 0, "end_offset": 3, "train": True}]
ERROR = (
    "error: in.jsonl row 0: `train_detail` counts the characters of the content in the source, which the conversion "
    "changes (message 1, line 1)\n"
    "hint: leave out the option that changes it, or the key, as with --drop messages.train_detail, to train it all\n"
)


def write(folder: Path, content: str, *, as_text: bool = False) -> None:
    turns = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": content, "train_detail": PARTS},
    ]
    (folder / "in.jsonl").write_text(json.dumps({"messages": json.dumps(turns) if as_text else turns}) + "\n")


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
    write(tmp_path, content, as_text=as_text)
    run = run_here("convert", "in.jsonl", *flags.split(), *change.split(), "--format", "jsonl", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode()) == (4, ERROR)
    dropped = ["--drop", "messages.train_detail"]
    for remedy in ([*flags.split()], [*flags.split(), *change.split(), *dropped]):
        run = run_here("convert", "in.jsonl", *remedy, "--format", "jsonl", cwd=tmp_path)
        assert run.returncode == 0, run.stderr.decode()
        assert run.stdout.count(b"\n") == 1


def test_options_that_change_other_turns_pass(tmp_path: Path) -> None:
    write(tmp_path, "plain")
    run = run_here("convert", "in.jsonl", "--calculator", "remove", "--system", "Be brief.", cwd=tmp_path)
    assert json.loads(run.stdout)["messages"][2] == {"role": "assistant", "content": "plain", "train_detail": PARTS}
