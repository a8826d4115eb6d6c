"""NeMo RL: https://github.com/NVIDIA-NeMo/RL. It renders conversations with the tokenizer's template."""

from __future__ import annotations

from typing import Any

from .trainer import Output, Trainer, as_yaml, unread_column

EMPTY = {"prompt_file": None, "system_prompt_file": None}


def loader(output: Output) -> str:
    """Return the keys of a configuration of NeMo RL's examples that load the rows as they are."""
    script, section, dataset = SCRIPTS[output.view]
    data: dict[str, Any] = {"add_generation_prompt": True} if output.view == "messages" else {}
    source = folder if output.view == "ranked-completions" else files
    data["train"] = source(output, output.train_split)
    data["validation"] = source(output, output.test_split) if output.test_split else None
    data["default"] = {**dataset, **EMPTY}
    steps = {} if output.max_steps is None else {section: {"max_num_steps": output.max_steps}}
    policy = {"model_name": output.model, "max_total_sequence_length": output.max_length}
    config = {"defaults": f"examples/configs/{script}.yaml", "policy": policy, "data": data, **steps}
    head = f"# Save as {section}.yaml, then: uv run examples/run_{section}.py --config {section}.yaml\n"
    return f"{head}{NOTES.get(output.view, '')}# {output.length_note}\n" + as_yaml(config)


SCRIPTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "messages": ("sft", "sft", {
        "dataset_name": "openai_format", "chat_key": "messages", "tool_key": "tools", "use_preserving_dataset": True,
        "processor": "sft_processor",
    }),
    "ranked-completions": ("dpo", "dpo", {"dataset_name": "PreferenceDataset"}),
    "rlvr-text": ("grpo_math_1B", "grpo", {
        "dataset_name": "ResponseDataset", "input_key": "input", "output_key": "output",
        "processor": "math_hf_data_processor", "env_name": "math",
    }),
}  # fmt: skip
"""For each view the configuration that is changed, its section and script, and how the rows are read."""
NOTES = {"ranked-completions": "# For a reward model: examples/run_rm.py, and rm for dpo in `defaults`.\n"}


def files(output: Output, split: str) -> list[dict[str, str]]:
    """Return a dataset for each file of a split: the loader that keeps rows as they are opens one file."""
    return [{"data_path": path} for path in output.paths(split)]


def folder(output: Output, split: str) -> dict[str, str]:
    """Return the dataset of a split, for loaders that take a single one: `datasets` reads all of its files."""
    return {"data_path": output.folder, "split": split}


def problem(output: Output) -> str:
    """Return which column NeMo RL would ignore; empty if none."""
    is_pair = output.view == "ranked-completions"
    return unread_column(output, *(("tools",) if is_pair else ()), "chat_template_kwargs")


TRAINERS = {
    "nemo-rl": Trainer(
        summary="NVIDIA's NeMo RL",
        source="NeMo-RL 7ea279a (0.6): nemo_rl/data/datasets, nemo_rl/data/processors.py",
        views={
            "language-modeling": "messages", "prompt-completion": "messages", "preference": "ranked-completions",
            "prompt-only": "rlvr-text",
        },
        also=("rlvr-text",),
        settings={"format": "jsonl"},
        formats=("jsonl",),
        messages={"transforms": {"arguments": "object"}},
        by_turn=True,
        refuses={"messages": ("msg.order", "msg.ends_user", "tool.results")},  # an answer's header follows each of them
        problem=problem,
        loader=loader,
    ),
}  # fmt: skip
