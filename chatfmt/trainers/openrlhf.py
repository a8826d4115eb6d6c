"""OpenRLHF: https://openrlhf.readthedocs.io. It renders conversations with the tokenizer's template."""

from __future__ import annotations

from .trainer import TEXT_INSTEAD, WHOLE, Output, Trainer, as_command, unread_column

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
    is_prompt = output.view == "prompt"
    model = "--actor.model_name_or_path" if is_prompt else "--model.model_name_or_path"
    dataset, split = ("--data.prompt_dataset", "--data.prompt_split") if is_prompt else DATASET
    every = {model: [output.model], dataset: [output.path], split: [output.train_split], **options}
    labels = [name for name in LABELS if name in output.columns] if is_prompt else []
    if labels:
        every["--data.label_key"] = labels[:1]
    if output.max_steps is not None:
        every["--data.max_samples"] = [str(BATCH * output.max_steps)]
    form = {"--data.input_template": [""]} if output.is_text else {"--data.apply_chat_template": []}
    length = {} if is_prompt else {"--data.max_len": [str(output.max_length)]}
    note = GENERATED if is_prompt else f"{output.length_note}\n# {APPENDED}"
    return f"# {note}\n" + as_command(["python", "-m", f"openrlhf.cli.{module}"], {**every, **length, **form})


GENERATED = "`data.max_len` (2048 unless set) holds the prompt and what is generated."
APPENDED = "It appends a blank and EOS to a row that ends with another token, such as <end_of_turn>."
DATASET = ("--data.dataset", "--data.dataset_split")
BATCH = 128
"""Rows of a step, where `--train.batch_size` is not set."""


TRAINERS = {
    "openrlhf": Trainer(
        summary="OpenRLHF",
        source="openrlhf 0.11.2: openrlhf/datasets, openrlhf/cli",
        views={
            "language-modeling": "messages", "prompt-completion": "prompt-completion", "preference": "preference",
            "prompt-only": "prompt",
        },
        rendered={"language-modeling": "prompt-completion"},
        settings={"keep": ["all"]},
        messages={"transforms": {"arguments": "object"}},
        text={"end": "strip", "transforms": {"split_turns": True}},
        by_turn=True,
        refuses={**WHOLE, "messages": ("msg.answer_first", "msg.ends_user")},  # it cuts where an answer would begin
        unread_calls=dict.fromkeys(PROGRAMS, "-t MODEL"),
        problem=lambda output: unread_column(output, "tools", "chat_template_kwargs", remedy=TEXT_INSTEAD),
        loader=loader,
    ),
}  # fmt: skip
