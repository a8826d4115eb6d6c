"""`--for TRAINER` writes what a trainer reads, and `chatfmt loader` prints what loads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from chatfmt.cli import main
from chatfmt.errors import UnknownName
from chatfmt.recipe import Recipe
from chatfmt.trainers import TRAINERS, Output, Trainer
from chatfmt.trainers.trainer import UNRENDERED
from chatfmt.views import VIEWS

from ..conftest import run_cli, write_rows

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
CHAT = {"messages": [USER, ASSISTANT]}
PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command in a folder with the file `in.jsonl`: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, rows: Any = (CHAT,)) -> tuple[int, str, str]:
        write_rows(Path("in.jsonl"), rows)
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
    assert TRAINERS and set(UNRENDERED) <= set(VIEWS)
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


def test_the_plan_as_json_has_the_same_keys(run: Run) -> None:
    found = json.loads(run("convert", "in.jsonl", "--for", "trl-sft", "--dry-run", "--json")[1])
    assert (found["recipe"]["for"], found["recipe"]["to"], found["view"]) == ("trl-sft", "messages", "messages")
    by = "set by --for trl-sft"
    others = {"source": "argument", "for": "flag", "dry_run": "flag", "json": "flag", "executor": "flag"}
    assert found["origins"] == {**others, "transforms": by, "to": by}


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
    tokens = Recipe(source="x", trainer="trl-sft", template="llama-3", to="tokens")
    assert (tokens.bos, tokens.end) == ("keep", "eos")
    with pytest.raises(UnknownName, match="unknown trainer `trl`"):
        Recipe(source="x", trainer="trl")


def test_an_unknown_trainer_is_corrected(run: Run) -> None:
    assert run("convert", "in.jsonl", "--for", "trl-stf") == (
        2, "", "error: unknown trainer `trl-stf`\nhint: did you mean `trl-sft`?\n",
    )  # fmt: skip


def test_a_name_that_begins_several_trainers_or_resembles_none_lists_them(run: Run) -> None:
    assert run("convert", "in.jsonl", "--for", "trl")[2] == (
        "error: unknown trainer `trl`\nhint: one of: trl-dpo, trl-grpo, trl-kto, trl-prm, trl-reward, trl-sft\n"
    )
    assert run("convert", "in.jsonl", "--for", "nope")[2] == (
        f"error: unknown trainer `nope`\nhint: one of: {', '.join(sorted(TRAINERS))}\n"
    )


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
        "hint: `--for trl-sft`, `--for trl-grpo` or `--for unsloth` takes them\n"
    )
    assert run("convert", "in.jsonl", "--for", "dummy", "-o", "out", "-q", rows=[PAIR])[0] == 0
    printed = "m out {'train': 'data/train-*.parquet'} ('prompt', 'chosen', 'rejected') 7\n"
    assert run("loader", "out", "--model", "m", "--max-steps", "7") == (0, printed, "")
    assert run("loader", "out", "--for", "trl-sft") == (
        2, "",
        "error: `out` does not fit trl-sft, which needs data of type language-modeling, prompt-completion or text: "
        "it was made from preference\n"
        "hint: `chatfmt loader out` reads it with --for trl-dpo, trl-kto, trl-reward or openrlhf\n",
    )  # fmt: skip


def test_the_loader_needs_a_trainer_and_a_finished_conversion(run: Run) -> None:
    assert run("convert", "in.jsonl", "-o", "out", "-q")[0] == 0
    hint = "hint: --for trl-sft, unsloth, axolotl or llama-factory\n"
    assert run("loader", "out") == (2, "", f"error: `out` was not made for a trainer\n{hint}")
    assert run("loader", "out", "--for", "trl-stf")[2].splitlines()[1] == "hint: did you mean `trl-sft`?"
    assert run("loader", "out", "--for", "trl-sft", "--max-steps", "0")[0] == 2
    error = "error: missing: there is no such folder\nhint: name a folder that chatfmt wrote\n"
    assert run("loader", "missing", "--for", "trl-sft") == (3, "", error)
    error = "error: `in.jsonl` is a file; only folders have a manifest\nhint: convert with -o FOLDER/\n"
    assert run("loader", "in.jsonl", "--for", "trl-sft") == (2, "", error)


def test_a_mask_that_the_trainer_does_not_read_is_noted(run: Run) -> None:
    flags = ("convert", "in.jsonl", "-t", "chatml", "--mask", "-o", "out.jsonl", "--overwrite")
    note = "note: the trainer trl-sft does not read `assistant_spans`: `--to tokens --tokenizer MODEL` writes what it "
    assert run(*flags, "--for", "trl-sft")[2].splitlines()[0] == note + "can train on"
    assert run(*flags)[2].splitlines()[0].startswith("wrote 1 row to `out.jsonl`")


def test_text_with_a_bos_or_an_end_that_the_trainer_doubles_does_not_fit(run: Run) -> None:
    assert run("convert", "in.jsonl", "-t", "llama-3", "-o", "out", "-q", "--system", "S")[0] == 0
    assert run("loader", "out", "--for", "trl-sft") == (
        2, "",
        "error: `out` does not fit trl-sft: its text begins with `<|begin_of_text|>`, which the trainer's tokenizer "
        "adds again\n"
        "hint: chatfmt convert in.jsonl --transform system=S -t llama-3 --for trl-sft -o out --overwrite\n",
    )  # fmt: skip
    assert run("convert", "in.jsonl", "-t", "chatml", "-o", "out", "-q", "--overwrite")[0] == 0
    _, _, err = run("loader", "out", "--for", "trl-sft")
    assert "its text ends with a line break after the stop token, so that the trainer appends another\n" in err
    assert run("loader", "out", "--for", "unsloth")[0] == 0
    hint = err.splitlines()[1].removeprefix("hint: chatfmt ").split()
    assert run(*hint, "-q")[0] == 0 and run("loader", "out")[0] == 0


def test_the_hint_of_the_loader_keeps_the_mask(run: Run) -> None:
    assert run("convert", "in.jsonl", "-t", "chatml", "--mask", "-o", "out", "-q")[0] == 0
    assert run("loader", "out", "--for", "trl-sft")[2].splitlines()[1] == (
        "hint: chatfmt convert in.jsonl -t chatml --to tokens --tokenizer MODEL --for trl-sft -o out --overwrite"
    )


@pytest.mark.parametrize(("trainer", "row"), [
    ("llama-factory", {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [ASSISTANT]}),
    ("open-instruct", CHAT), ("nemo-rl", CHAT),
])  # fmt: skip
def test_a_column_that_the_trainer_does_not_read_is_refused_before_anything_is_written(
    run: Run, trainer: str, row: dict[str, Any]
) -> None:
    rows = [{**row, "chat_template_kwargs": {"reasoning_effort": "low"}}]
    flags = ("convert", "in.jsonl", "--for", trainer, "-o", "out", "-q")
    problem = "it has the column `chat_template_kwargs`, which the trainer does not read"
    drop = "--drop chat_template_kwargs"
    error = f"error: the output would not fit {trainer}: {problem}\nhint: {drop} leaves it behind\n"
    assert run(*flags, rows=rows) == (2, "", error)
    assert not Path("out").exists()
    assert run(*flags, *drop.split(), rows=rows) == (0, "", "") and run("loader", "out")[0] == 0


@pytest.mark.parametrize(("trainer", "hint"), [
    ("torchtune", "-t MODEL --to text writes them"), ("openrlhf", "-t MODEL writes them"),
    ("verl", "--for trl-sft writes them"), ("axolotl --to sharegpt", "--to messages writes them"),
])  # fmt: skip
def test_calls_that_the_trainer_does_not_read_are_refused(run: Run, trainer: str, hint: str) -> None:
    call = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}
    result = {"role": "tool", "content": "3"}
    rows: list[Any] = [CHAT, {"messages": [USER, call, result, ASSISTANT]}, {"messages": [USER, result]}]
    flags = ("convert", "in.jsonl", "--for", *trainer.split(), "-o", "out", "-q")
    for sent, row, message in ((rows, 1, 1), ([CHAT, rows[2]], 1, 1)):
        code, out, err = run(*flags, rows=sent)
        problem = f"the trainer does not read calls and results (message {message}, line {row + 1})"
        assert (code, out, err) == (4, "", f"error: in.jsonl row {row}: {problem}\nhint: {hint}\n")
        assert not Path("out").exists()
    tools = [{"type": "function", "function": {"name": "f"}}]
    code, _, err = run(*flags, rows=[{**rows[1], "tools": tools}])
    # the form has no place for arguments as text, so that no row shows its columns
    assert (code, err.splitlines()[1]) == (4 if "sharegpt" in trainer else 2, f"hint: {hint}")


def script(name: str, *config: str, head: str = "", before: str = "", more: str = "") -> str:
    """The script for a trainer of TRL, without the line that imports torch where `head` replaces it."""
    length = () if name == "GRPO" else ("max_length=None",)
    lines = "".join(f"        {line},\n" for line in (*config, *length))
    return (
        f"{head}import torch\nfrom datasets import load_dataset\nfrom trl import {name}Config, {name}Trainer\n\n"
        f"{before}"
        f'dataset = load_dataset("out")\ntrainer = {name}Trainer(\n    model="./tiny",\n{more}    args={name}Config(\n'
        f'        output_dir="tiny-{name.lower()}",\n{lines}        use_cpu=not torch.accelerator.is_available(),\n'
        f'        max_steps=1,\n    ),\n    train_dataset=dataset["train"],\n)\n'
    )


REWARD = """
# An answer with its working, as in gsm8k, needs `--final-answer column` in the conversion.
def text(completion):
    return completion if isinstance(completion, str) else completion[-1]["content"]


def reward(completions, answer, **columns):
    \"\"\"Rate each completion: 1.0 if it holds the `answer` of its row. Replace it by your own.\"\"\"
    return [float(str(answer[i]) in text(completion)) for i, completion in enumerate(completions)]


"""
TEMPLATE = """\
# If TRL has no training template for the model: chatfmt templates train ./tiny > t.jinja, and add
# chat_template_path="t.jinja" to the SFTConfig.
"""
ALL_TEXT = "# Trains on prompts too; files of --to messages or --to tokens train on the answers alone.\n"
CHECK = """first = trainer.processing_class.decode(trainer.train_dataset[0]["input_ids"][:1])
assert first == "<|begin_of_text|>", "the tokenizer adds no BOS token: convert with --bos keep"
"""
SECOND = """first, second = trainer.train_dataset[0]["input_ids"][:2]
assert first != second, "the tokenizer adds a second BOS token: convert with --bos strip"
"""
LOADED = """model = AutoModelForTokenClassification.from_pretrained("./tiny", num_labels=2)
tokenizer = AutoTokenizer.from_pretrained("./tiny")
"""
PRM_IMPORTS = """from transformers import AutoModelForTokenClassification, AutoTokenizer
from trl.experimental.prm import"""
TRAIN = "trainer.train()\n"
OPENAI = """# The service cuts rows that are longer than its model's training context.
from glob import glob
from pathlib import Path

from openai import OpenAI

client = OpenAI()


def upload(pattern):
    rows = b"".join(Path(name).read_bytes() for name in sorted(glob(pattern)))
    return client.files.create(file=("rows.jsonl", rows), purpose="fine-tune").id


job = client.fine_tuning.jobs.create(
    model="./tiny",
    training_file=upload("out/data/train-*.jsonl"),
    method={"type": "%s"},
)
print(job.id)
"""
MLX = """# Save as lora.yaml, then: mlx_lm.lora --config lora.yaml
model: "./tiny"
train: true
iters: 1
mask_prompt: true  # trains on the last answer, and there is a row for each
max_seq_length: 1024  # No row is cut: none has more than 1024 tokens.
hf_dataset:
  path: "out"
  train_split: "train"
  # There is no split to validate on: convert with --test-fraction.
  valid_split: "train"
"""
LITGPT = """# Save as litgpt.yaml, then: litgpt finetune_lora ./tiny --config litgpt.yaml
# LitGPT ends each answer with the EOS token of the tokenizer. No row is cut: train.max_seq_length would.
data:
  class_path: litgpt.data.JSON
  init_args:
    json_path: "out/data/train-00000-of-00001.jsonl"
    # Rows of one conversation may be in both parts: --test-fraction keeps each conversation in one split.
    val_split_fraction: 0.05
    mask_prompt: true  # trains on the last answer, and there is a row for each
    prompt_style:
      class_path: litgpt.prompts.Default
train:
  max_steps: 1
"""
QUESTION = {"prompt": [USER], "answer": "4"}
STEPS = {"prompt": "Hi", "completions": ["a", "b"], "labels": [True, False]}


@pytest.mark.parametrize(
    ("trainer", "row", "flags", "columns", "text"),
    [
        ("trl-sft", CHAT, "", "messages", script("SFT", "assistant_only_loss=True", head=TEMPLATE) + TRAIN),
        ("trl-sft", CHAT, "-t llama-3", "text", script("SFT", head=ALL_TEXT) + CHECK + TRAIN),
        ("trl-sft", CHAT, "-t llama-3 --bos keep", "text", script("SFT", head=ALL_TEXT) + SECOND + TRAIN),
        ("trl-dpo", PAIR, "-t llama-3", "prompt chosen rejected",
         script("DPO") + CHECK.replace("input_ids", "prompt_ids") + TRAIN),
        ("trl-dpo", PAIR, "", "prompt chosen rejected", script("DPO") + TRAIN),
        ("trl-dpo", PAIR, "-t chatml", "prompt chosen rejected", script("DPO") + TRAIN),
        ("trl-kto", PAIR, "", "prompt completion label",
         script("KTO", 'train_sampling_strategy="sequential"') + TRAIN),
        ("trl-reward", PAIR, "", "prompt chosen rejected", script("Reward") + TRAIN),
        ("trl-grpo", QUESTION, "", "prompt answer",
         script("GRPO", before=REWARD, more="    reward_funcs=reward,\n") + TRAIN),
        ("trl-prm", STEPS, "-t chatml", "prompt completions labels",
         (script("PRM", head="# PRMTrainer is part of TRL up to 1.13: pip install 'trl<1.14'\n", before=LOADED) + TRAIN)
         .replace("from trl import", PRM_IMPORTS)
         .replace('model="./tiny",\n', "model=model,\n    processing_class=tokenizer,\n")),
        ("openai", CHAT, "", "messages", OPENAI % "supervised"),
        ("openai", PAIR, "", "input preferred_output non_preferred_output", OPENAI % "dpo"),
        ("mlx-lm", CHAT, "", "messages", MLX),
        ("litgpt", CHAT, "-t chatml", "instruction output", LITGPT),
    ],
)  # fmt: skip
def test_the_loader_of_each_trainer(
    run: Run, trainer: str, row: dict[str, Any], flags: str, columns: str, text: str
) -> None:
    assert run("convert", "in.jsonl", "--for", trainer, *flags.split(), "-o", "out", "-q", rows=[row])[0] == 0
    (shard,) = Path("out/data").iterdir()
    assert list(first_row(shard)) == columns.split()
    assert run("loader", "out", "--model", "./tiny", "--max-steps", "1") == (0, text, "")
    if "import" in text:
        compile(text, "script", "exec")
    card = Path("out/README.md").read_text()
    assert "## Train with it\n" in card and f"prints what loads it with {trainer}:\n\n```\n" in card


def first_row(shard: Path) -> dict[str, Any]:
    if shard.suffix == ".jsonl":
        return dict(json.loads(shard.read_text().splitlines()[0]))
    return dict(pq.read_table(shard).to_pylist()[0])


def test_prompts_for_a_reward_keep_the_answers(run: Run) -> None:
    rows = [{"question": "2+2?", "answer": "It is 4", "level": 1}]
    prompt = {"prompt": [{"role": "user", "content": "2+2?"}]}
    code, out, err = run("convert", "in.jsonl", "--for", "trl-grpo", "-q", rows=rows)
    assert (code, json.loads(out), err) == (0, {**prompt, "answer": "It is 4", "level": 1}, "")
    code, out, err = run("convert", "in.jsonl", "--to", "prompt", rows=rows)
    assert (code, json.loads(out)) == (0, prompt)
    assert err.splitlines()[0] == "note: `--to prompt` leaves out the answers: `--keep answer` keeps their column"
    mapped = ("--map", "user=question", "--map", "assistant=answer")
    assert run("convert", "in.jsonl", "--to", "prompt", *mapped, rows=rows)[2].splitlines()[0] == err.splitlines()[0]
    talk = [{"messages": [*prompt["prompt"], {"role": "assistant", "content": "It is 4"}]}]
    code, out, err = run("convert", "in.jsonl", "--for", "trl-grpo", rows=talk)
    assert (code, json.loads(out)) == (0, prompt)
    assert err.splitlines()[0] == "note: `--to prompt` leaves out the answer that ends a conversation"
    code, out, err = run("convert", "in.jsonl", "--to", "prompt", "--keep", "answer", "-q", rows=rows)
    assert (code, json.loads(out), err) == (0, {**prompt, "answer": "It is 4"}, "")


def test_rows_with_images_are_messages_with_a_template_too(run: Run) -> None:
    turns = [{"role": "user", "content": "<image>What?"}, ASSISTANT]
    flags = ("--for", "trl-sft", "-t", "smolvlm", "-o", "out")
    code, _, err = run("convert", "in.jsonl", *flags, rows=[{"messages": turns, "images": ["cat.png"]}])
    note = "note: `--for trl-sft` writes messages, which the trainer renders with the template of its model"
    assert code == 0 and note in err.splitlines()
    text = script("SFT", "assistant_only_loss=True", head=TEMPLATE) + TRAIN
    assert run("loader", "out", "--model", "./tiny", "--max-steps", "1") == (0, text, "")


def test_llama_factory_gets_placeholders_and_the_column_of_images(run: Run) -> None:
    turns = [{"role": "user", "content": [{"type": "image", "image": "cat.png"}, {"type": "text", "text": "What?"}]}]
    flags = ("--for", "llama-factory", "--format", "jsonl", "-q")
    rows = [{"messages": [*turns, ASSISTANT]}]
    code, out, _ = run("convert", "in.jsonl", *flags, rows=rows)
    turns = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "Hello"}]
    assert (code, json.loads(out)) == (0, {"conversations": turns, "images": ["cat.png"]})
    assert run("convert", "in.jsonl", *flags, "-o", "out", rows=rows)[0] == 0
    assert "      images: images\n" in run("loader", "out", "--model", "M")[1]


def test_the_loader_reads_every_row_for_the_longest_and_for_columns_that_only_late_rows_have(run: Run) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    late = {"messages": [USER, {**ASSISTANT, "content": "é" * 4000}], "tools": [tool]}
    for format in ("jsonl", "parquet"):
        flags = ("--for", "llama-factory", "--format", format, "-o", "out", "-q", "--overwrite")
        assert run("convert", "in.jsonl", *flags, rows=[CHAT] * 300 + [late])[0] == 0
        text = run("loader", "out", "--model", "M")[1]
        assert "cutoff_len: 16384\n" in text and "      tools: tools\n" in text, format


def test_media_that_a_trainer_does_not_read_are_refused(run: Run) -> None:
    rows = [{"messages": [{"role": "user", "content": "<image>What?"}, ASSISTANT], "images": ["a/cat.png"]}]
    assert run("convert", "in.jsonl", "--for", "axolotl", rows=rows)[2] == (
        "error: in.jsonl: `--for axolotl` does not train on images\n"
        "hint: `--for trl-sft`, `--for trl-grpo` or `--for llama-factory` takes them\n"
    )
    Path("data").mkdir()
    Path("in.jsonl").rename("data/in.jsonl")
    assert run("convert", "data/in.jsonl", "--for", "ms-swift", "-o", "out", "-q")[0] == 0
    assert run("loader", "out", "--for", "axolotl")[2] == (
        "error: `out` does not fit axolotl, which does not train on images\n"
        "hint: --for trl-sft, llama-factory, ms-swift or verl\n"
    )
    note = "# The images are paths below data: run this there, or convert with --embed-media.\n"
    assert run("loader", "out", "--model", "M")[1].startswith(note)


def test_a_trainer_that_renders_itself_gets_the_same_messages_with_a_template(run: Run) -> None:
    rows = [{"messages": [{"role": "user", "content": "<image>What?"}, ASSISTANT], "images": ["cat.png"]}]
    flags = ("convert", "in.jsonl", "--for", "llama-factory")
    bare, rendered = run(*flags, rows=rows), run(*flags, "-t", "qwen2.5-vl", rows=rows)
    assert (bare[0], rendered[0]) == (0, 0) and bare[1] == rendered[1]
    assert run("convert", "in.jsonl", "--for", "open-instruct", "-t", "chatml", rows=[PAIR])[2] == (
        "error: in.jsonl: `--for open-instruct` renders `preference-conversations` itself, with the template of its "
        "model\nhint: leave out -t\n"
    )


def test_preview_and_check_take_a_trainer(run: Run) -> None:
    code, out, _ = run("preview", "in.jsonl", "--for", "trl-kto", "--json", rows=[PAIR])
    assert (code, '"label": true' in out, '"label": false' in out) == (0, True, True)
    assert run("check", "in.jsonl", "--for", "trl-dpo", rows=[PAIR])[:2] == (0, "1 row, no problems\n")
    assert run("check", "in.jsonl", "--for", "trl-dpo")[0] == 2


@pytest.mark.parametrize(
    ("columns", "config"),
    [("input_ids labels", []), ("input_ids seq_lengths", ["padding_free=True"])],
)
def test_token_rows_are_neither_cut_nor_mixed(columns: str, config: list[str]) -> None:
    splits = {"train": "data/train-*.parquet"}
    output = Output(
        path="out", view="tokens", format="parquet", splits=splits, columns=tuple(columns.split()), model="./tiny",
        max_steps=1, template={"name": "llama-3", "bos": "<|begin_of_text|>"},
    )  # fmt: skip
    assert TRAINERS["trl-sft"].loader(output) == script("SFT", *config) + TRAIN


def test_no_trainer_reads_a_folder_whose_columns_are_renamed(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}\n')
    assert run_cli("convert", "in.jsonl", "--rename", "messages=talk", "-o", "out", cwd=tmp_path).returncode == 0
    loaded = run_cli("loader", "out", "--for", "trl-dpo", cwd=tmp_path)
    needs = (
        "error: `out` does not fit trl-dpo, which needs data of type preference: it was made from language-modeling\n"
    )
    assert (loaded.returncode, loaded.stderr.decode()) == (2, needs)


def test_a_folder_that_no_trainer_reads_says_so(run: Run) -> None:
    row = {
        "images": ["a.png"],
        "messages": [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "A"}],
    }
    assert run("convert", "in.jsonl", "-t", "qwen2.5-vl", "-o", "out", "-q", rows=[row])[0] == 0
    hint = "hint: no trainer reads it as it is: convert the source again with --for TRAINER, such as --for trl-sft\n"
    assert run("loader", "out") == (2, "", f"error: `out` was not made for a trainer\n{hint}")
