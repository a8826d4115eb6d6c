"""Unsloth: https://unsloth.ai. It removes a second BOS from a text, and appends no EOS."""

from __future__ import annotations

from .trainer import WHOLE, Output, Trainer, quoted


def loader(output: Output) -> str:
    """Return a script that trains LoRA weights on the answers, with TRL's SFTTrainer as Unsloth changes it."""
    steps = [] if output.max_steps is None else [f"        max_steps={output.max_steps},"]
    evaluated = [] if output.test_split is None else [f"    eval_dataset=dataset[{quoted(output.test_split)}],"]
    answers = ["trainer = train_on_responses_only(trainer)"] if output.view in ("messages", "text") else []
    return "\n".join([
        *(ANSWERS if answers else []),
        "from unsloth import FastLanguageModel",
        *(["from unsloth.chat_templates import train_on_responses_only"] if answers else []),
        "from datasets import load_dataset",
        "from trl import SFTConfig, SFTTrainer",
        "",
        f"MAX_LENGTH = {output.max_length}  # {output.length_note}",
        f"model, tokenizer = FastLanguageModel.from_pretrained({quoted(output.model)}, max_seq_length=MAX_LENGTH)",
        "model = FastLanguageModel.get_peft_model(model)",
        f"dataset = load_dataset({quoted(output.path)})",
        *(RENDER if output.view == "messages" else []),
        "trainer = SFTTrainer(",
        "    model=model,",
        "    processing_class=tokenizer,",
        "    args=SFTConfig(",
        f"        output_dir={quoted(output.model_name + '-unsloth')},",
        "        max_length=MAX_LENGTH,",
        *steps,
        "    ),",
        f"    train_dataset=dataset[{quoted(output.train_split)}],",
        *evaluated,
        ")",
        *answers,
        "trainer.train()",
        "",
    ])  # fmt: skip


ANSWERS = [
    "# It trains from the header of each answer to that of the next user turn: with some templates also on system",
    "# texts or results of tools, or on no stop token but the last. Files of --to tokens train on the answers alone.",
]
RENDER = [
    "",
    "",
    "def render(row):",
    '    kwargs = row.get("chat_template_kwargs") or {}',
    '    text = tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), tokenize=False, **kwargs)',
    '    return {"text": text}',
    "",
    "",
    "dataset = dataset.map(render)",
]  # fmt: skip

TRAINERS = {
    "unsloth": Trainer(
        summary="Unsloth's SFTTrainer",
        source="unsloth_zoo 2026.10.9: unsloth_zoo/dataset_utils.py",
        views={"language-modeling": "messages", "prompt-completion": "prompt-completion", "text": "text"},
        rendered={"language-modeling": "text"},
        also=("tokens",),
        refuses={**WHOLE, **dict.fromkeys(("messages", "text"), ("msg.line_break",))},  # it looks for headers' tokens
        takes=("input_ids", "labels", "prompt", "completion"),
        messages={"transforms": {"arguments": "object"}},
        text={"end": "eos"},
        mask="--to tokens --tokenizer MODEL",
        loader=loader,
    ),
}
