"""OpenAI's fine-tuning API, whose formats other services read too: Azure OpenAI, Together, Fireworks."""

from __future__ import annotations

from .trainer import Output, Trainer, quoted, unread_column


def loader(output: Output) -> str:
    """Return a script that uploads the files and starts a job."""
    method = "dpo" if output.view == "openai-preference" else "supervised"
    splits = {"training_file": output.train_split}
    if output.test_split is not None:
        splits["validation_file"] = output.test_split
    return "\n".join([
        "# The service cuts rows that are longer than its model's training context.",
        "from glob import glob",
        "from pathlib import Path",
        "",
        "from openai import OpenAI",
        "",
        "client = OpenAI()",
        "",
        "",
        "def upload(pattern):",
        '    rows = b"".join(Path(name).read_bytes() for name in sorted(glob(pattern)))',
        '    return client.files.create(file=("rows.jsonl", rows), purpose="fine-tune").id',
        "",
        "",
        "job = client.fine_tuning.jobs.create(",
        f"    model={quoted(output.model)},",
        *(f"    {name}=upload({quoted(output.files(split))})," for name, split in splits.items()),
        f'    method={{"type": {quoted(method)}}},',
        ")",
        "print(job.id)",
        "",
    ])  # fmt: skip


TRAINERS = {
    "openai": Trainer(
        summary="OpenAI's fine-tuning API",
        source="OpenAI's guides to supervised fine-tuning and direct preference optimization, API reference (2026-07)",
        views={
            **dict.fromkeys(("language-modeling", "prompt-completion"), "messages"),
            "preference": "openai-preference",
        },
        also=("openai",),
        settings={
            "format": "jsonl",
            "transforms": {
                "arguments": "text",
                "tools": "wrapped",
                "call_ids": "fill",
                "reasoning": "inline",
                "weights": "weight",
            },
        },
        formats=("jsonl",),
        problem=lambda output: unread_column(output, "chat_template_kwargs"),
        loader=loader,
    ),
}
