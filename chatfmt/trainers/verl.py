"""verl: https://verl.readthedocs.io. It renders conversations with the tokenizer's template, turn by turn."""

from __future__ import annotations

from .trainer import Output, Trainer, as_command, media_part_problem, unread_column

PROGRAMS = {
    "messages": (["torchrun", "--nproc_per_node=1", "-m", "verl.trainer.sft_trainer"], "data.messages_key=messages"),
    **dict.fromkeys(("prompt", "rlvr-prompt"), (["python", "-m", "verl.trainer.main_ppo"], "data.prompt_key=prompt")),
}
PROMPT_NOTES = (
    "# It stops at a prompt of more than `data.max_prompt_length` tokens (512 unless set).\n"
    "# Rewards are found by `data_source` and `reward_model` of the rows, or set custom_reward_function.path.\n"
)
NOTES = {
    "messages": "# It stops at a row of more than `data.max_length` tokens.\n",
    "prompt": PROMPT_NOTES, "rlvr-prompt": PROMPT_NOTES,
}  # fmt: skip


def loader(output: Output) -> str:
    """Return a command line of verl's trainer for conversations, or for prompts with rewards."""
    program, key = PROGRAMS[output.view]
    model = "model.path" if output.view == "messages" else "actor_rollout_ref.model.path"
    settings = [f"{model}={output.model}", f"data.train_files={file_list(output, output.train_split)}", key]
    if output.view == "messages":
        settings.append(f"data.max_length={output.max_length}")
    settings.append(f"data.val_files={file_list(output, output.test_split) if output.test_split else 'null'}")
    if output.max_steps is not None:
        settings.append(f"trainer.total_training_steps={output.max_steps}")
    return NOTES[output.view] + as_command(program, {setting: [] for setting in settings})


def file_list(output: Output, split: str) -> str:
    """Return the files of a split as a list of Hydra."""
    return f"[{','.join(output.paths(split))}]"


TRAINERS = {
    "verl": Trainer(
        summary="verl",
        source="verl 0.9.1: verl/utils/dataset/multiturn_sft_dataset.py and rl_dataset.py",
        views={"language-modeling": "messages", "prompt-completion": "messages", "prompt-only": "prompt"},
        also=("rlvr-prompt",),
        formats=("parquet",),
        media=("images",),
        settings={"format": "parquet", "keep": ["all"]},
        messages={"transforms": {"arguments": "object"}, "media_tags": True, "embed_media": True},
        unread_calls={"messages": "--for trl-sft"},
        refuses={"messages": ("msg.answer_first",)},  # it would train on what the template prints before it
        problem=lambda output: unread_column(output, "tools", "chat_template_kwargs") or media_part_problem(output),
        loader=loader,
    ),
}
