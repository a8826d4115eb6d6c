"""NeMo RL: https://github.com/NVIDIA-NeMo/RL. It renders conversations with the tokenizer's template."""

from __future__ import annotations

from typing import Any

from .trainer import Output, Trainer, as_yaml, unread_column

EMPTY = {"prompt_file": None, "system_prompt_file": None}


def loader(output: Output) -> str:
    """Return the keys of a configuration of `examples/run_sft.py` that load the rows as they are."""
    data: dict[str, Any] = {"add_generation_prompt": True, "train": files(output, output.train_split)}
    data["validation"] = files(output, output.test_split) if output.test_split else None
    data["default"] = {
        "dataset_name": "openai_format", "chat_key": "messages", "tool_key": "tools", "use_preserving_dataset": True,
        "processor": "sft_processor", **EMPTY,
    }  # fmt: skip
    steps = {} if output.max_steps is None else {"sft": {"max_num_steps": output.max_steps}}
    policy = {"model_name": output.model, "max_total_sequence_length": output.max_length}
    config = {"defaults": "examples/configs/sft.yaml", "policy": policy, "data": data, **steps}
    notes = f"# Save as sft.yaml, then: uv run examples/run_sft.py --config sft.yaml\n# {output.length_note}\n"
    return notes + as_yaml(config)


def files(output: Output, split: str) -> list[dict[str, str]]:
    """Return a dataset for each file of a split: the loader that keeps rows as they are opens one file."""
    return [{"data_path": path} for path in output.paths(split)]


TRAINERS = {
    "nemo-rl": Trainer(
        summary="NVIDIA's NeMo RL",
        source="NeMo-RL 7ea279a (0.6): nemo_rl/data/datasets/response_datasets/oai_format_dataset.py",
        views={"language-modeling": "messages", "prompt-completion": "messages"},
        settings={"format": "jsonl"},
        formats=("jsonl",),
        messages={"transforms": {"arguments": "object"}},
        problem=lambda output: unread_column(output, "chat_template_kwargs"),
        loader=loader,
    ),
}
