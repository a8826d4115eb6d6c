"""MLX LM, training on Apple silicon: https://github.com/ml-explore/mlx-lm."""

from __future__ import annotations

from .trainer import TEXT_INSTEAD, Output, Trainer, quoted, tokenized_text_problem, unread_column


def loader(output: Output) -> str:
    """Return the YAML configuration of `mlx_lm.lora`, whose valid split must not be empty."""
    lines = [
        "# Save as lora.yaml, then: mlx_lm.lora --config lora.yaml",
        f"model: {quoted(output.model)}",
        "train: true",
        *([f"iters: {output.max_steps}"] if output.max_steps is not None else []),
    ]
    if output.view == "text":
        lines.append("# It trains on all of the text: rows of --to messages can be trained on the last answer alone.")
    else:
        lines.append("mask_prompt: true  # trains on the last answer, and there is a row for each")
    lines.append(f"max_seq_length: {output.max_length}  # {output.length_note}")
    lines += ["hf_dataset:", f"  path: {quoted(output.path)}", f"  train_split: {quoted(output.train_split)}"]
    if output.test_split is None:
        lines.append("  # There is no split to validate on: convert with --test-fraction.")
    lines.append(f"  valid_split: {quoted(output.test_split or output.train_split)}")
    return "\n".join(lines) + "\n"


def problem(output: Output) -> str:
    """Return which column MLX LM would ignore, or which token it would double; empty if none."""
    return unread_column(output, "chat_template_kwargs", remedy=TEXT_INSTEAD) or tokenized_text_problem(output)


TRAINERS = {
    "mlx-lm": Trainer(summary="MLX LM on Apple silicon",
                      source="mlx-lm 0.32.2: mlx_lm/tuner/datasets.py, mlx_lm/lora.py",
                      views={**dict.fromkeys(("language-modeling", "prompt-completion"), "messages"), "text": "text"},
                      rendered=dict.fromkeys(("language-modeling", "prompt-completion"), "text"),
                      messages={"transforms": {"arguments": "object", "split_turns": True}},
                      refuses={"messages": ("msg.answer_first", "msg.ends_user")},  # it trains on any last turn
                      text={"bos": "strip", "end": "strip"}, takes=("prompt", "completion"),
                      problem=problem, loader=loader),
}  # fmt: skip
