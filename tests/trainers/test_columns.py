"""What `--for` refuses, since a trainer would train on something else than the conversations of the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ..conftest import from_lines, run_here, write_rows
from . import cases

CHAT = cases.CHAT[0]
PAIR = cases.PREFERENCE[0]
CALL = [cases.answer("", tool_calls=[cases.call("weather", {"city": "Rome", "days": None})])]
RENAME = "--rename {0}=source_{0} keeps it, --drop {0} leaves it behind"


def run(folder: Path, row: dict[str, Any], *flags: str) -> Any:
    """The rows of the output, or the lines of the error."""
    write_rows(folder / "in.jsonl", [row])
    done = run_here("convert", "in.jsonl", "-q", *flags, cwd=folder)
    return from_lines(done.stdout) if done.returncode == 0 else done.stderr.decode().splitlines()[:2]


@pytest.mark.parametrize(
    ("trainer", "name"),
    [
        ("trl-sft", "prompt"), ("trl-sft", "input_ids"), ("trl-sft", "labels"), ("trl-grpo", "image"),
        ("mlx-lm", "completion"), ("ms-swift", "system_prompt"), ("axolotl", "input_ids"), ("unsloth", "input_ids"),
    ],
)  # fmt: skip
def test_a_column_that_a_trainer_would_train_on_is_not_kept_under_its_name(
    trainer: str, name: str, tmp_path: Path
) -> None:
    row = {**CHAT, name: "x"}
    kept = ("--dialect", "messages", "--for", trainer, "--keep", name)
    assert run(tmp_path, row, *kept) == [
        f"error: {trainer} would train on the column `{name}` too", f"hint: {RENAME.format(name)}",
    ]  # fmt: skip
    (made,) = run(tmp_path, row, *kept, "--rename", f"{name}=source_{name}")
    assert made[f"source_{name}"] == "x" and name not in made
    renamed = run(tmp_path, {**CHAT, "id": "x"}, "--for", trainer, "--keep", "id", "--rename", f"id={name}")
    assert renamed == [f"error: {trainer} would train on the column `{name}` too", "hint: choose another name"]
    run(tmp_path, row, "--dialect", "messages", "--keep", name, "-o", "out")
    found = run_here("loader", "out", "--for", trainer, cwd=tmp_path).stderr.decode()
    assert found.startswith(f"error: `out` does not fit {trainer}" if trainer != "trl-grpo" else "error: `out` ")


def test_axolotl_gets_pairs_as_text_alone(tmp_path: Path) -> None:
    needed = "error: in.jsonl: `--for axolotl` needs a template: the trainer reads preference data as text alone"
    assert run(tmp_path, PAIR, "--for", "axolotl") == [needed, "hint: -t MODEL, or -t chatml"]
    (made,) = run(tmp_path, PAIR, "--for", "axolotl", "-t", "chatml")
    assert (made["chosen"], made["rejected"]) == ("Fine, thanks.<|im_end|>", "No.<|im_end|>")
    assert run_here("convert", "in.jsonl", "--to", "preference", "-o", "out", cwd=tmp_path).returncode == 0
    found = run_here("loader", "out", "--for", "axolotl", cwd=tmp_path).stderr.decode()
    assert found.startswith("error: `out` does not fit axolotl: it looks for each answer in a rendered text, and ")


def test_axolotl_gets_arguments_as_text_since_it_leaves_out_nulls_of_objects(tmp_path: Path) -> None:
    (made,) = run(tmp_path, {"messages": [cases.user("Rome?"), *CALL], "tools": [cases.WEATHER]}, "--for", "axolotl")
    text = made["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(text) == {"city": "Rome", "days": None}


SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [*CHAT["messages"], cases.user("And you?")]
RESULT = [cases.user("Rome?"), *CALL, {"role": "tool", "tool_call_id": "call00001", "content": "sun"}]
ANSWERED = {"prompt": TURNS[:1], "completion": [TURNS[1], *TURNS]}
ENDS = "the last role is `user` (message 2, line 1)", "--transform trailing_user=drop"


@pytest.mark.parametrize(
    ("trainer", "row", "problem", "hint"),
    [
        ("nemo-rl", cases.CALLS[0], "`tool` follows `tool` (message 3, line 1)", "--transform parallel_calls=split"),
        ("nemo-rl", {"messages": TURNS}, *ENDS),
        *[(name, {"messages": [*TURNS[::2], TURNS[1]]}, "`user` follows `user` (message 1, line 1)",
           """--transform merge='"\\n\\n"'""") for name in ("nemo-rl", "ms-swift")],
        ("openrlhf", {"messages": TURNS}, *ENDS),
        ("mlx-lm", {"messages": TURNS[:1]}, "the last role is `user` (message 0, line 1)",
         "--fail-on msg.ends_user --on-error skip"),
        *[(name, {"messages": TURNS[1:] + TURNS[1:2]}, "no turn before an answer (message 0, line 1)",
           "--transform leading_assistant=drop; --on-error skip drops such rows")
          for name in ("verl -o out", "open-instruct", "openrlhf", "mlx-lm")],
        *[(f"unsloth{flag}", {"messages": [cases.user(question), cases.answer(" \nFine.")]}, "the answer begins with a "
           "line break, and the trainer may leave it out (message 1, line 1)",
           "-t MODEL --to tokens --tokenizer MODEL writes labels")
          for flag, question in (("", "Hi"), ("", [cases.text("Hi")]), (" -t chatml", "Hi"))],
        *[(name, row, "`completion`: the trainer would train on this turn too (message 1, line 1)",
           "--to messages trains on the answers alone, where the trainer reads it; --on-error skip drops such rows")
          for row, names in ((ANSWERED, ("trl-sft", "unsloth", "openrlhf")),
                             ({**ANSWERED, "label": True}, ("trl-kto", "axolotl"))) for name in names],
        *[(name, {"prompt": TURNS[:1], "chosen": [*TURNS[1:], TURNS[1]], "rejected": TURNS[1:2]},
           "`chosen`: the trainer would train on this turn too (message 1, line 1)",
           "--on-error skip drops such rows; --to preference without --for writes them")
          for name in ("trl-dpo", "trl-kto", "openrlhf", "axolotl -t chatml")],
        *[(name, {"messages": [SYSTEM, SYSTEM, *CHAT["messages"]]}, "`system` follows `system` (message 1, line 1)",
           """--transform merge='"\\n\\n"'""") for name in ("llama-factory --to messages", "torchtune", "ms-swift")],
        *[(name, {"prompt": TURNS[:2], "completion": TURNS[1:2], "label": True},
           "`completion`: `assistant` follows `assistant` (message 0, line 1)", "--fail-on msg.order --on-error skip")
          for name in ("llama-factory", "ms-swift")],
        ("llama-factory", {"prompt": TURNS[:1], "completion": [cases.answer("")], "label": True},
         "`completion`: the content is empty (message 0, line 1)", "--fail-on msg.empty --on-error skip"),
        ("ms-swift", {**PAIR, "rejected": PAIR["chosen"]}, "the chosen and the rejected answer are the same (line 1)",
         "--fail-on pair.same --on-error skip"),
        ("llama-factory", {**PAIR, "chosen": CALL}, "`chosen`: the trainer does not read calls and results "
         "(message 0, line 1)", "--for trl-dpo writes them"),
        ("llama-factory", {**PAIR, "prompt": RESULT}, "`prompt`: the trainer does not read calls and results "
         "(message 1, line 1)", "--for trl-dpo writes them"),
        ("llama-factory", {**PAIR, "prompt": TURNS[1:]}, "`prompt`: the first role is `assistant` (message 0, line 1)",
         "--transform leading_assistant=drop"),
        ("ms-swift", {**PAIR, "prompt": RESULT}, "an answer of the pair does not follow a user turn (line 1)",
         "--to preference-conversations writes whole conversations, --on-error skip drops such rows"),
    ],
)  # fmt: skip
def test_a_row_that_a_trainer_would_change_is_refused(
    trainer: str, row: dict[str, Any], problem: str, hint: str, tmp_path: Path
) -> None:
    assert run(tmp_path, row, "--for", *trainer.split()) == [f"error: in.jsonl row 0: {problem}", f"hint: {hint}"]


@pytest.mark.parametrize("trainer", ["trl-sft", "unsloth", "open-instruct"])
def test_a_split_hides_no_weight_from_a_trainer_of_all_answers(trainer: str, tmp_path: Path) -> None:
    ignored = "`weight` is 0, and the trainer trains the turn in full (message 1, line 1)"
    found = run(tmp_path, cases.WEIGHTS[0], "--for", trainer, "--transform", "split_turns=true")
    assert found[1:] == [f"error: in.jsonl row 0: {ignored}"]
    one = {"messages": cases.WEIGHTS[0]["messages"]}
    assert run(tmp_path, one, "--for", "mlx-lm") == [one]


def test_a_completion_of_several_answers_is_a_row_for_each(tmp_path: Path) -> None:
    first, asked, last = TURNS[1], TURNS[2], cases.answer("Good.", weight=1)
    row = {"prompt": TURNS[:1], "completion": [cases.answer("No.", weight=0), asked, first, asked, last, asked]}
    turns = [*TURNS[:1], *row["completion"]]
    assert run(tmp_path, row, "--for", "mlx-lm") == [{"messages": turns[:4]}, {"messages": turns[:6]}]
    before = [run(tmp_path, {"messages": turns[:end]}, "-t", "chatml", "--generation-prompt") for end in (3, 5)]
    for flags, names in {"litgpt": ("instruction", "output"), "openrlhf": ("prompt", "completion")}.items():
        made = run(tmp_path, row, "--for", flags, "-t", "chatml")
        assert [row[names[0]] for row in made] == [text["text"] for (text,) in before]
        assert [row[names[1]].split("<", 1)[0] for row in made] == [first["content"], last["content"]]


@pytest.mark.parametrize("trainer", ["ms-swift", "llama-factory", "torchtune"])
def test_trainers_without_developers_get_system_turns(trainer: str, tmp_path: Path) -> None:
    (made,) = run(tmp_path, {"messages": [{"role": "developer", "content": "B"}, *CHAT["messages"]]}, "--for", trainer)
    assert [*made.values()][0][0] in ({"role": "system", "content": "B"}, {"from": "system", "value": "B"})


def test_verl_gets_the_bytes_of_images_whose_paths_it_does_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    row = {"messages": [cases.user("<image>?"), cases.answer("Red.")], "images": ["a.png"]}
    assert run(tmp_path, row, "--for", "verl", "-o", "out.parquet") == []
    (made,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert made["images"] == [{"bytes": b"\x89PNG", "path": "a.png"}]


@pytest.mark.parametrize(
    ("trainer", "row", "column", "remedy"),
    [
        ("trl-grpo", cases.PROBLEMS[0], "tools", ": give the template with -t, to write text"),
        ("trl-grpo", cases.PROBLEMS[0], "chat_template_kwargs", ": give the template with -t, to write text"),
        ("open-instruct", PAIR, "tools", ""), ("openai", CHAT, "chat_template_kwargs", ""),
        ("trl-sft", CHAT, "documents", ": give the template with -t, to write text"),
        ("trl-dpo", PAIR, "documents", ""), ("openai", CHAT, "documents", ""),
    ],
)  # fmt: skip
def test_what_a_trainer_does_not_give_the_template_is_refused(
    trainer: str, row: dict[str, Any], column: str, remedy: str, tmp_path: Path
) -> None:
    value: Any = {"tools": [cases.WEATHER], "documents": [{"title": "A", "text": "B"}]}.get(column, {"date": "1 Jan"})
    unread = f"it has the column `{column}`, which the trainer does not read{remedy}"
    assert run(tmp_path, {**row, column: value}, "--for", trainer) == [
        f"error: the output would not fit {trainer}: {unread}", f"hint: --drop {column} leaves it behind",
    ]  # fmt: skip
