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
}  # fmt: skip
"""For each view the script, the prefix of its options for data, and the functions that prepare the rows."""


def loader(output: Output) -> str:
    """Return a command line that trains on each file of the training split; a local dataset must be a file."""
    script, prefix, functions = SCRIPTS[output.view]
    mixer = [word for path in output.paths(output.train_split) for word in (path, "1.0")]
    options = {
        "--model_name_or_path": [output.model], f"--{prefix}mixer_list": mixer,
        f"--{prefix}mixer_list_splits": ["train"], f"--{prefix}transform_fn": list(functions),
        "--max_seq_length": [str(output.max_length)],
    }  # fmt: skip
    if output.max_steps is not None:
        options["--max_train_steps"] = [str(output.max_steps)]
    return f"# {output.length_note}\n" + as_command(["python", script], options)


TRAINERS = {
    "open-instruct": Trainer(
        summary="Ai2's open-instruct",
        source="open-instruct e6c3044 (August 2026): open_instruct/dataset_transformation.py",
        views={
            "language-modeling": "messages", "prompt-completion": "messages", "preference": "preference-conversations",
        },
        messages={"transforms": {"arguments": "object"}},
        problem=lambda output: unread_column(output, "chat_template_kwargs"),
        loader=loader,
    ),
}  # fmt: skip
