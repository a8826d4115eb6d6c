"""ms-swift: https://swift.readthedocs.io. It renders conversations with templates of its own."""

from __future__ import annotations

from .trainer import Output, Trainer, as_command

COMMANDS = {
    "messages": ["swift", "sft"],
    "rejected-response": ["swift", "rlhf", "--rlhf_type", "dpo"],
    "unpaired-messages": ["swift", "rlhf", "--rlhf_type", "kto"],
}


def loader(output: Output) -> str:
    """Return a command line of `swift`."""
    options = {"--model": [output.model], "--use_hf": ["true"], "--dataset": [output.path.rstrip("/")]}
    if output.max_steps is not None:
        options["--max_steps"] = [str(output.max_steps)]
    return as_command(COMMANDS[output.view], options)


TRAINERS = {
    "ms-swift": Trainer(
        summary="ms-swift",
        source="ms-swift 4.6.0: swift/dataset/loader.py, swift/dataset/preprocessor/core.py",
        views={
            "language-modeling": "messages", "prompt-completion": "messages", "preference": "rejected-response",
            "unpaired-preference": "unpaired-messages",
        },
        messages={"transforms": {"arguments": "object", "reasoning": "inline"}},
        loader=loader,
    ),
}  # fmt: skip
