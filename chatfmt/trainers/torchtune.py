"""torchtune: https://pytorch.org/torchtune. It renders conversations with the tokenizer's own prompt template."""

from __future__ import annotations

from typing import Any

from .trainer import Output, Trainer, as_yaml, unread_column

DATASETS: dict[str, dict[str, Any]] = {
    "messages": {
        "_component_": "torchtune.datasets.chat_dataset", "conversation_column": "messages",
        "conversation_style": "openai", "train_on_input": False,
    },
    "preference-conversations": {"_component_": "torchtune.datasets.preference_dataset", "train_on_input": False},
    "text": {"_component_": "torchtune.datasets.text_completion_dataset", "column": "text"},
}  # fmt: skip


def loader(output: Output) -> str:
    """Return the part of a configuration of `tune run` that loads the rows."""
    entry = {**DATASETS[output.view], "source": output.path}
    config = {"dataset": {**entry, "split": output.train_split}}
    if output.test_split is not None:
        config["dataset_val"] = {**entry, "split": output.test_split}
    steps = "" if output.max_steps is None else f" max_steps_per_epoch={output.max_steps}"
    return (
        f"# Replace `dataset` in a recipe's configuration, then: tune run RECIPE --config FILE{steps}\n"
        "# The tokenizer's `max_seq_len` in that configuration cuts longer rows; null cuts none.\n"
    ) + as_yaml(config)


def problem(output: Output) -> str:
    """Return which column torchtune would ignore, or that it reads no text there; empty if the rows fit."""
    if output.is_text and output.view != "text":
        return "a template rendered its conversations, and the trainer renders them itself: leave out -t"
    return unread_column(output, "tools", "chat_template_kwargs", remedy=ALL_TEXT)


ALL_TEXT = ": -t MODEL --to text writes text, of which it trains on all"

TRAINERS = {
    "torchtune": Trainer(
        summary="torchtune",
        source="torchtune 0.6.1: torchtune/data/_messages.py, torchtune/datasets",
        views={
            "language-modeling": "messages", "prompt-completion": "messages", "preference": "preference-conversations",
            "text": "text",
        },
        messages={"transforms": {"arguments": "object", "reasoning": "inline", "developer": "system"}},
        text={"bos": "strip", "end": "strip"},
        unread_calls={"messages": "-t MODEL --to text", "preference-conversations": "--for trl-dpo"},
        refuses={"messages": ("msg.order",)},  # it stops there
        problem=problem,
        loader=loader,
    ),
}  # fmt: skip
