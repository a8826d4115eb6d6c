"""LitGPT: https://github.com/Lightning-AI/litgpt. It reads instructions and outputs, and appends EOS to outputs."""

from __future__ import annotations

import shlex

from .trainer import WHOLE, Output, Trainer, quoted

FOLDER = "litgpt-data"
ONE_SPLIT = (
    "    # Rows of one conversation may be in both parts: --test-fraction keeps each conversation in one split.\n"
    "    val_split_fraction: 0.05"
)


def loader(output: Output) -> str:
    """Return the YAML configuration of `litgpt finetune_lora`, and the commands that make the one file it reads."""
    path, commands = find_file(output)
    validation = [ONE_SPLIT] if output.test_split is None else []
    lines = [
        *(f"# First: {command}" for command in commands),
        f"# Save as litgpt.yaml, then: litgpt finetune_lora {output.model} --config litgpt.yaml",
        "# LitGPT ends each answer with the EOS token of the tokenizer. No row is cut: train.max_seq_length would.",
        "data:",
        "  class_path: litgpt.data.JSON",
        "  init_args:",
        f"    json_path: {quoted(path)}",
        *validation,
        "    mask_prompt: true  # trains on the last answer, and there is a row for each",
        "    prompt_style:",
        "      class_path: litgpt.prompts.Default",
        *([] if output.max_steps is None else ["train:", f"  max_steps: {output.max_steps}"]),
    ]
    return "\n".join(lines) + "\n"


def find_file(output: Output) -> tuple[str, list[str]]:
    """Return the file of the train split, or the folder of both splits, and the commands that make it."""
    paths = output.paths(output.train_split)
    if output.test_split is None and len(paths) == 1:
        return paths[0], []
    folder = shlex.quote(output.folder)
    if output.test_split is None:
        return f"{FOLDER}.jsonl", [f"cat {folder}/{output.splits[output.train_split]} > {FOLDER}.jsonl"]
    splits = {"train": output.train_split, "val": output.test_split}
    joined = [f"cat {folder}/{output.splits[split]} > {FOLDER}/{name}.jsonl" for name, split in splits.items()]
    return FOLDER, [f"mkdir {FOLDER}", *joined]


TRAINERS = {
    "litgpt": Trainer(summary="LitGPT",
                      source="litgpt 0.5.13: litgpt/data/json_data.py, litgpt/data/base.py, litgpt/tokenizer.py",
                      views={}, rendered=dict.fromkeys(("language-modeling", "prompt-completion"), "instruction"),
                      settings={"format": "jsonl"}, text={"end": "cut", "transforms": {"split_turns": True}},
                      formats=("jsonl",), refuses=WHOLE, takes=("prompt",), loader=loader),
}  # fmt: skip
