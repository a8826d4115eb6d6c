"""open-instruct: https://github.com/allenai/open-instruct. It renders conversations with the tokenizer's template."""

from __future__ import annotations

from .trainer import Output, Trainer, as_command, unread_column

SCRIPTS = {
    "messages": (
        "open_instruct/finetune.py", "dataset_", ("sft_tulu_tokenize_and_truncate_v1", "sft_tulu_filter_v1"),
    ),
    "preference-conversations": (
        "open_instruct/dpo_tune_cache.py", "",
        ("preference_tulu_tokenize_and_truncate_v1", "preference_tulu_filter_v1"),
    ),
    "rlvr": ("open_instruct/grpo_fast.py", "dataset_", ("rlvr_tokenize_v1", "rlvr_max_length_filter_v1")),
}  # fmt: skip
"""For each view the script, the prefix of its options for data, and the functions that prepare the rows."""


def loader(output: Output) -> str:
    """Return a command line that trains on each file of the training split; a local dataset must be a file."""
    script, prefix, functions = SCRIPTS[output.view]
    mixer = [word for path in output.paths(output.train_split) for word in (path, "1.0")]
    options = {
        "--model_name_or_path": [output.model], f"--{prefix}mixer_list": mixer,
        f"--{prefix}mixer_list_splits": ["train"], f"--{prefix}transform_fn": list(functions),
    }  # fmt: skip
    options |= rollouts(output) if output.view == "rlvr" else {"--max_seq_length": [str(output.max_length)]}
    if output.max_steps is not None and output.view != "rlvr":
        options["--max_train_steps"] = [str(output.max_steps)]
    return f"# {output.length_note}\n" + as_command(["python", script], options)


def rollouts(output: Output) -> dict[str, list[str]]:
    """Return the options for the lengths of prompts, and how many answers are generated for the steps."""
    lengths = {"--max_prompt_token_length": output.max_length, "--pack_length": output.max_length + RESPONSE}
    steps = {} if output.max_steps is None else {"--total_episodes": ROLLOUT * output.max_steps}
    return {name: [str(value)] for name, value in {**lengths, **steps}.items()}


RESPONSE = 256
"""Tokens of a generated answer, where `--response_length` is not set."""
ROLLOUT = 64
"""Answers of a step: 16 prompts with 4 each, where `--num_unique_prompts_rollout` and the like are not set."""


def problem(output: Output) -> str:
    """Return which column open-instruct would ignore, as it does the tools of pairs and prompts; empty if none."""
    return unread_column(output, *(() if output.view == "messages" else ("tools",)), "chat_template_kwargs")


TRAINERS = {
    "open-instruct": Trainer(
        summary="Ai2's open-instruct",
        source="open-instruct e6c3044 (August 2026): open_instruct/dataset_transformation.py",
        views={
            "language-modeling": "messages", "prompt-completion": "messages", "preference": "preference-conversations",
            "prompt-only": "rlvr",
        },
        also=("rlvr",),
        messages={"transforms": {"arguments": "object"}},
        by_turn=True,
        refuses={"messages": ("msg.answer_first",)},
        problem=problem,
        loader=loader,
    ),
}  # fmt: skip
