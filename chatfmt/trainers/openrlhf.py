"""OpenRLHF: https://openrlhf.readthedocs.io. It renders conversations with the tokenizer's template."""

from __future__ import annotations

from .trainer import Output, Trainer, as_command, unread_column

PROGRAMS: dict[str, tuple[str, dict[str, list[str]]]] = {
    "messages": ("train_sft", {"--data.input_key": ["messages"], "--data.multiturn": []}),
    "prompt-completion": ("train_sft", {"--data.input_key": ["prompt"], "--data.output_key": ["completion"]}),
    "preference": ("train_dpo", {"--data.prompt_key": ["prompt"]}),
    "prompt": ("train_ppo_ray", {"--data.input_key": ["prompt"]}),
}
"""For each view the module of `openrlhf.cli`, and its options for the columns."""
LABELS = ("ground_truth", "final_answer", "answer", "label")
"""Columns that a reward may compare an answer with, the most telling first."""


def loader(output: Output) -> str:
    """Return a command line of OpenRLHF."""
    module, options = PROGRAMS[output.view]
    model = "--actor.model_name_or_path" if output.view == "prompt" else "--model.model_name_or_path"
    dataset = "--data.prompt_dataset" if output.view == "prompt" else "--data.dataset"
    every = {model: [output.model], dataset: [output.path], "--data.dataset_split": [output.train_split], **options}
    labels = [name for name in LABELS if name in output.columns] if output.view == "prompt" else []
    if labels:
        every["--data.label_key"] = labels[:1]
    return as_command(["python", "-m", f"openrlhf.cli.{module}"], {**every, "--data.apply_chat_template": []})


TRAINERS = {
    "openrlhf": Trainer(
        summary="OpenRLHF",
        source="openrlhf 0.11.2: openrlhf/datasets, openrlhf/cli",
        views={
            "language-modeling": "messages", "prompt-completion": "prompt-completion", "preference": "preference",
            "prompt-only": "prompt",
        },
        settings={"keep": ["all"]},
        messages={"transforms": {"arguments": "object"}},
        problem=lambda output: unread_column(output, "tools", "chat_template_kwargs"),
        loader=loader,
    ),
}  # fmt: skip
