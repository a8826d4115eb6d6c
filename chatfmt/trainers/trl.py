"""TRL: https://huggingface.co/docs/trl."""

from __future__ import annotations

from .trainer import Output, Trainer

SOURCE = "trl 1.16.0: trl/trainer/{}_trainer.py, trl/data_utils.py, trl/chat_template_utils.py"


def sft(output: Output) -> str:
    """Return a script for SFTTrainer."""
    return script(output, "SFT", sft_arguments(output))


def sft_arguments(output: Output) -> dict[str, str]:
    """Return the arguments of SFTConfig that train on what the rows hold."""
    return {"assistant_only_loss": "True"} if output.view == "messages" else {}


def script(output: Output, name: str, arguments: dict[str, str]) -> str:
    """Return a script that trains with the class `{name}Trainer`, configured by `arguments`, on an output."""
    settings = {"output_dir": repr(f"{output.model.rstrip('/').split('/')[-1]}-{name.lower()}"), **arguments}
    if output.max_steps is not None:
        settings["max_steps"] = str(output.max_steps)
    datasets = {"train_dataset": f'dataset["{output.train_split}"]'}
    if output.test_split is not None:
        datasets["eval_dataset"] = f'dataset["{output.test_split}"]'
    return "\n".join([
        "from datasets import load_dataset",
        f"from trl import {name}Config, {name}Trainer",
        "",
        f"dataset = load_dataset({output.path!r})",
        f"trainer = {name}Trainer(",
        f"    model={output.model!r},",
        f"    args={name}Config({', '.join(f'{key}={value}' for key, value in settings.items())}),",
        *(f"    {key}={value}," for key, value in datasets.items()),
        ")",
        "trainer.train()",
        "",
    ])  # fmt: skip


TRAINERS = {
    "trl-sft": Trainer(
        summary="supervised fine-tuning with TRL's SFTTrainer",
        source=SOURCE.format("sft"),
        views={
            "language-modeling": "messages", "prompt-completion": "prompt-completion", "text": "text",
        },
        rendered={"language-modeling": "text"},
        also=("tokens",),
        messages={"transforms": {"arguments": "object"}},
        text={"bos": "strip"},
        loader=sft,
    ),
}  # fmt: skip
