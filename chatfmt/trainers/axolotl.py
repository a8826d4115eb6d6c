"""Axolotl: https://docs.axolotl.ai. It renders conversations itself; segments of rendered text keep chatfmt's mask."""

from __future__ import annotations

from typing import Any

from .trainer import TEXT_INSTEAD, WHOLE, Output, Trainer, as_yaml, tokenized_text_problem, unread_column

MESSAGES = {
    "type": "chat_template", "field_messages": "messages", "roles_to_train": ["assistant"], "train_on_eos": "turn",
}  # fmt: skip
FLAG = {"message_field_training": "train"}
"""The key of turns that says whether one is trained, as the transform `weights=train` writes it."""
TYPES: dict[str, dict[str, Any]] = {
    "messages": MESSAGES,
    "sharegpt": {
        **MESSAGES, "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
    },
    "alpaca": {"type": "alpaca"},
    "segments": {"type": "input_output"},
    "text": {"type": "completion", "field": "text"},
    "preference": {"type": "passthrough"},
    "unpaired-preference": {},
    "tokens": {},
}  # fmt: skip
"""For each view the keys of an entry of `datasets`."""


def loader(output: Output) -> str:
    """Return a configuration of `axolotl train`."""
    entry = {"path": output.path, "split": output.train_split, **dataset(output)}
    config: dict[str, Any] = {"base_model": output.model, "datasets": [entry]}
    if output.test_split is not None:
        config["test_datasets"] = [{**entry, "split": output.test_split}]
    if output.view in RL:
        config |= RL[output.view]
    if not output.template:
        config["chat_template"] = "tokenizer_default"
    config |= {"eot_tokens": [*output.stops]} if output.stops else {}
    config |= {"train_on_inputs": False} if output.view == "segments" else {}
    config |= {"sequence_len": output.max_length, "excess_length_strategy": "raise"}
    config |= {"micro_batch_size": 2 if output.view == "unpaired-preference" else 1}
    config |= {"gradient_accumulation_steps": 1, "learning_rate": 2e-5}
    config |= {"num_epochs": 1} if output.max_steps is None else {"max_steps": output.max_steps}
    config["output_dir"] = f"{output.model_name}-axolotl"
    note = output.length_note if output.view == "unpaired-preference" else STOPS
    note += UNKNOWN_STOPS if output.view in NAMES_STOPS and output.stops is None else ""
    return f"# Save as axolotl.yaml, then: axolotl train axolotl.yaml\n# {note}\n" + as_yaml(config)


RL: dict[str, dict[str, Any]] = {
    "preference": {"rl": "dpo"},
    "unpaired-preference": {"rl": "kto", "skip_prepare_dataset": True, "remove_unused_columns": False},
}
"""The keys of preference optimization: for KTO, TRL's trainer gets the conversations as they are."""
STOPS = "It stops at a row of more than `sequence_len` tokens."
NAMES_STOPS = ("messages", "sharegpt")
UNKNOWN_STOPS = """
# It trains no stop token but EOS and `eot_tokens`, which `chatfmt loader --model MODEL` reads from the template."""


def dataset(output: Output) -> dict[str, Any]:
    """Return the keys of the dataset that say how its rows are read."""
    has_flags = output.view == "messages" and output.weights == "train"
    return {**TYPES[output.view], **(FLAG if has_flags else {})}


def problem(output: Output) -> str:
    """Return which column Axolotl would ignore, or which token it would double; empty if none."""
    if output.view == "messages":
        return unread_column(output, "chat_template_kwargs", remedy=SEGMENTS_INSTEAD)
    if output.view == "preference" and not output.template:
        return (
            f"it looks for each answer in a rendered text, and takes the first place with the same words{TEXT_INSTEAD}"
        )
    if output.view in UNREAD:
        return unread_column(output, *UNREAD[output.view])
    return tokenized_text_problem(output) if output.view == "text" else ""


SEGMENTS_INSTEAD = ": give the template with -t, to write segments of text"
UNREAD = {"alpaca": ("system", "history"), "sharegpt": ("tools",)}
"""Columns that it ignores in the forms of other tools; their calls have a role that it does not know."""


TRAINERS = {
    "axolotl": Trainer(
        summary="Axolotl",
        source="axolotl 0.19.0: axolotl/prompt_strategies, axolotl/utils/data/sft.py and rl.py",
        views={"language-modeling": "messages", "prompt-completion": "messages",
               "unpaired-preference": "unpaired-preference", "text": "text", "segments": "segments"},
        rendered={"language-modeling": "segments", "prompt-completion": "segments", "preference": "preference"},
        also=("tokens", "alpaca", "sharegpt"),
        renders=("unpaired-preference",),
        refuses=WHOLE,
        names_stops=NAMES_STOPS,
        takes=("input_ids",),
        messages={"transforms": {"arguments": "text", "weights": "train"}},  # of objects it leaves out nulls
        text={"end": "strip"},
        unread_calls={"sharegpt": "--to messages"},
        problem=problem,
        mask="--to segments",
        loader=loader,
    ),
}  # fmt: skip
