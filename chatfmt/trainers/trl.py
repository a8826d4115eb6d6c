"""TRL, Hugging Face's trainers: https://huggingface.co/docs/trl.

TRL renders conversations itself. A text it tokenizes as any text: a tokenizer that adds BOS adds it, and TRL appends
the tokenizer's EOS to a text, completion or answer that does not end with it.
"""

from __future__ import annotations

import shlex
from typing import Any

from .trainer import TEXT_INSTEAD, WHOLE, Output, Trainer, quoted, tokenized_text_problem, unread_column

SOURCE = "trl 1.16.0: trl/trainer/{}_trainer.py, trl/data_utils.py"
TEXT = {"bos": "strip", "end": "strip"}
MESSAGES = {"transforms": {"arguments": "object"}}


def sft(output: Output) -> str:
    """Return a script for SFTTrainer that trains on the answers, as far as the rows say which text that is."""
    if output.view == "text":
        note = "# Trains on prompts too; files of --to messages or --to tokens train on the answers alone.\n"
        return note + script(output, "SFT", {})
    note, arguments = "", {}
    if output.view == "messages":
        note = TRAINING_TEMPLATE.format(model=shlex.quote(output.model))
        arguments["assistant_only_loss"] = "True"
    if "seq_lengths" in output.columns:
        arguments["padding_free"] = "True"  # keeps the conversations of a packed row apart
    return note + script(output, "SFT", arguments)


TRAINING_TEMPLATE = """\
# If TRL has no training template for the model: chatfmt templates train {model} > t.jinja, and add
# chat_template_path="t.jinja" to the SFTConfig.
"""


def kto(output: Output) -> str:
    """Return a script for KTOTrainer, whose rows stay in order: it compares each with the one before it."""
    return script(output, "KTO", {"train_sampling_strategy": quoted("sequential")})


def grpo(output: Output) -> str:
    """Return a script for GRPOTrainer with a reward that compares completions with a kept column, if there is one."""
    kept = [name for name in ANSWERS if name in output.columns]
    answer = kept[0] if kept else "length"
    how = f"str({answer}[i]) in text(completion)" if kept else "-len(text(completion))"
    words = f"1.0 if it holds the `{answer}` of its row" if kept else "the shorter, the better"
    function = "\n".join([
        "def text(completion):",
        '    return completion if isinstance(completion, str) else completion[-1]["content"]',
        "",
        "",
        f"def reward(completions, {answer + ', ' if kept else ''}**columns):",
        f'    """Rate each completion: {words}. Replace it by your own."""',
        f"    return [float({how}) for i, completion in enumerate(completions)]",
    ])  # fmt: skip
    if answer == "answer":
        function = f"{WORKING}{function}"
    return script(output, "GRPO", {}, "reward_funcs=reward,", before=f"\n{function}\n\n\n")


WORKING = "# An answer with its working, as in gsm8k, needs `--final-answer column` in the conversion.\n"
ANSWERS = ("ground_truth", "final_answer", "answer", "solution", "label", "target")
"""Columns that a reward may compare a completion with, the most telling first."""


def prm(output: Output) -> str:
    """Return a script for PRMTrainer, which takes a model and a tokenizer, not their name.

    Its prompts are plain text: that of the question, unless there is a template.
    """
    loaded = (
        f"model = AutoModelForTokenClassification.from_pretrained({quoted(output.model)}, num_labels=2)\n"
        f"tokenizer = AutoTokenizer.from_pretrained({quoted(output.model)})\n"
    )
    text = script(output, "PRM", {}, "processing_class=tokenizer,", before=loaded, model="model")
    imports = (
        "from transformers import AutoModelForTokenClassification, AutoTokenizer\nfrom trl.experimental.prm import"
    )
    return "# PRMTrainer is part of TRL up to 1.13: pip install 'trl<1.14'\n" + text.replace("from trl import", imports)


def script(output: Output, name: str, arguments: dict[str, str], *more: str, before: str = "", model: str = "") -> str:
    """Return a script that trains with `{name}Trainer`, configured by `arguments`, on an output.

    `more` are further arguments of the trainer, `before` is the code before it; `model` is the expression of the model,
    if that is not its name.
    """
    settings = {"output_dir": quoted(f"{output.model_name}-{name.lower()}"), **arguments}
    settings |= {} if name == "GRPO" else {"max_length": "None"}  # the default cuts or drops rows of over 1,024 tokens
    settings["use_cpu"] = "not torch.accelerator.is_available()"
    if output.max_steps is not None:
        settings["max_steps"] = str(output.max_steps)
    datasets = [f"train_dataset=dataset[{quoted(output.train_split)}],"]
    if output.test_split is not None:
        datasets.append(f"eval_dataset=dataset[{quoted(output.test_split)}],")
    config = [f"    {key}={value}," for key, value in settings.items()]
    lines = [f"model={model or quoted(output.model)},", *more, f"args={name}Config(", *config, "),", *datasets]
    return "\n".join([
        "import torch",
        "from datasets import load_dataset",
        f"from trl import {name}Config, {name}Trainer",
        "",
        f"{before}dataset = load_dataset({quoted(output.path)})",
        f"trainer = {name}Trainer(",
        *(f"    {line}" for line in lines),
        ")",
        *first_token_check(output, IDS.get(name)),
        "trainer.train()",
        "",
    ])  # fmt: skip


IDS = {"SFT": "input_ids", "DPO": "prompt_ids", "KTO": "prompt_ids", "Reward": "chosen_ids"}
"""The column of token ids that begins with BOS, in what each trainer prepares."""


def first_token_check(output: Output, ids: str | None) -> list[str]:
    """Return the lines that check that there is one BOS token, as far as the text should have one."""
    if ids is None or not (output.is_text and (output.bos or output.stripped_bos)):
        return []
    first = f"trainer.train_dataset[0][{quoted(ids)}]"
    if output.bos:
        return [
            f"first, second = {first}[:2]",
            'assert first != second, "the tokenizer adds a second BOS token: convert with --bos strip"',
        ]
    return [
        f"first = trainer.processing_class.decode({first}[:1])",
        f'assert first == {quoted(output.stripped_bos)}, "the tokenizer adds no BOS token: convert with --bos keep"',
    ]


def problem(output: Output) -> str:
    """Return which column GRPO would ignore, or which token TRL would double; empty if none."""
    unread = ("tools", "chat_template_kwargs") if output.view == "prompt" else ()
    return unread_column(output, *unread, remedy=TEXT_INSTEAD) or tokenized_text_problem(output)


def _entry(summary: str, file: str, views: dict[str, str], *takes: str, **more: Any) -> Trainer:
    return Trainer(
        summary=summary, source=SOURCE.format(file), views=views, messages=MESSAGES, text=TEXT, takes=("image", *takes),
        problem=problem, **more,
    )  # fmt: skip


TRAINERS = {
    "trl-sft": _entry(
        "supervised fine-tuning with TRL", "sft",
        {"language-modeling": "messages", "prompt-completion": "prompt-completion", "text": "text"},
        "prompt", "completion", "chosen", "rejected", "input_ids", "labels", "seq_lengths",
        rendered={"language-modeling": "text"}, also=("tokens",), refuses=WHOLE, media=("images",),
        mask="--to tokens --tokenizer MODEL", loader=sft,
    ),
    "trl-dpo": _entry("preference optimization with TRL", "dpo", {"preference": "preference"},
                      also=("preference-conversations",), refuses=WHOLE, media=("images",),
                      loader=lambda output: script(output, "DPO", {})),
    "trl-kto": _entry("optimization by good and bad answers with TRL", "kto",
                      {"preference": "unpaired-preference", "unpaired-preference": "unpaired-preference"},
                      "chosen", "rejected",
                      also=("preference",), refuses=WHOLE, media=("images",), loader=kto),
    "trl-reward": _entry("a reward model with TRL", "reward", {"preference": "preference"},
                         also=("preference-conversations",), loader=lambda output: script(output, "Reward", {})),
    "trl-grpo": _entry("reinforcement learning with TRL", "grpo",
                       dict.fromkeys(("prompt-only", "prompt-completion", "language-modeling"), "prompt"),
                       settings={"keep": ["all"]}, media=("images",), loader=grpo),
    "trl-prm": _entry("a process reward model with TRL up to 1.13", "prm", {"stepwise": "stepwise"},
                      settings={"template": "{user_message}"}, loader=prm),
}  # fmt: skip
