"""LLaMA-Factory: https://github.com/hiyouga/LLaMA-Factory. It renders conversations with templates of its own."""

from __future__ import annotations

from typing import Any

from ..schema import MEDIA
from .trainer import Output, Trainer, as_yaml, media_part_problem, unread_column

TAGS = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
    "observation_tag": "tool", "function_tag": "function_call", "system_tag": "system",
}  # fmt: skip
STAGES: dict[str, dict[str, Any]] = {
    **{key: {"stage": "sft"} for key in ("messages", "alpaca", "sharegpt")},
    "preference-messages": {"stage": "dpo", "pref_beta": 0.1},
    "unpaired-messages": {"stage": "kto", "pref_beta": 0.1},
}
COLUMNS: dict[str, dict[str, str]] = {
    "messages": {},
    "preference-messages": {"chosen": "chosen", "rejected": "rejected"},
    "unpaired-messages": {"kto_tag": "label"},
}
"""For each view the columns beside `messages`, by the names that LLaMA-Factory has for them."""


def loader(output: Output) -> str:
    """Return a configuration of `llamafactory-cli train` that describes the dataset itself."""
    config: dict[str, Any] = {"model_name_or_path": output.model, **STAGES[output.view], "do_train": True}
    config |= {"finetuning_type": "lora", "template": "default", "cutoff_len": output.max_length, "dataset": "chatfmt"}
    config["dataset_dir"] = {"chatfmt": dataset(output, output.train_split)}
    if output.test_split is not None:
        config["eval_dataset"] = "chatfmt-test"
        config["dataset_dir"]["chatfmt-test"] = dataset(output, output.test_split)
    config["output_dir"] = f"{output.model_name}-{STAGES[output.view]['stage']}"
    config |= {} if output.max_steps is None else {"max_steps": output.max_steps}
    notes = ["Save as train.yaml, then: llamafactory-cli train train.yaml", "Set `template` to the one of your model."]
    notes.append(output.length_note)
    if "tools" in output.columns and output.view != "sharegpt":
        notes.append("LLaMA-Factory adds the system text `detailed thinking off` to rows without tools.")
    return "".join(f"# {note}\n" for note in notes) + as_yaml(config)


def dataset(output: Output, split: str) -> dict[str, Any]:
    """Return the entry of `dataset_info.json` for one split."""
    tools = {"tools": "tools"} if "tools" in output.columns else {}
    media = {name: name for name in MEDIA if name in output.columns}
    if output.view == "alpaca":
        more = {name: name for name in ("system", "history") if name in output.columns}
        columns = {"prompt": "instruction", "query": "input", "response": "output", **more, **media}
        return {"hf_hub_url": output.path, "split": split, "formatting": "alpaca", "columns": columns}
    if output.view == "sharegpt":  # its roles and keys are the defaults
        columns = {"messages": "conversations", **tools, **media}
        return {"hf_hub_url": output.path, "split": split, "formatting": "sharegpt", "columns": columns}
    return {
        "hf_hub_url": output.path,
        "split": split,
        "formatting": "openai" if "tools" in output.columns else "sharegpt",
        "ranking": output.view == "preference-messages",
        "columns": {"messages": "messages", **COLUMNS[output.view], **tools, **media},
        "tags": TAGS,
    }


PAIRS = {"preference-messages": "--for trl-dpo", "unpaired-messages": "--for trl-kto"}
"""The views of answers to compare, with what else reads calls there."""


TRAINERS = {
    "llama-factory": Trainer(
        summary="LLaMA-Factory",
        source="llamafactory 0.9.5: llamafactory/data/converter.py, parser.py and loader.py",
        views={
            "language-modeling": "sharegpt", "prompt-completion": "sharegpt", "preference": "preference-messages",
            "unpaired-preference": "unpaired-messages",
        },
        also=("messages", "alpaca"),
        media=(*MEDIA,),
        messages={
            "transforms": {"arguments": "object", "reasoning": "inline", "developer": "system"},
            "media_tags": True,
        },
        unread_calls={"messages": "--to sharegpt", **PAIRS},  # of a call it drops the text beside it
        refuses={
            **dict.fromkeys(("messages", *PAIRS), ("msg.order", "msg.ends_user")),
            "unpaired-messages": ("msg.order", "msg.ends_user", "msg.empty"),  # an empty good answer is a bad one
        },
        problem=lambda output: unread_column(output, "chat_template_kwargs") or media_part_problem(output),
        loader=loader,
    ),
}  # fmt: skip
