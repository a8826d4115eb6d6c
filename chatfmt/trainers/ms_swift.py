"""ms-swift: https://swift.readthedocs.io. It renders conversations with templates of its own."""

from __future__ import annotations

from ..schema import MEDIA
from .trainer import Output, Trainer, as_command, media_part_problem

COMMANDS = {
    "messages": ["swift", "sft"],
    "rejected-response": ["swift", "rlhf", "--rlhf_type", "dpo"],
    "unpaired-messages": ["swift", "rlhf", "--rlhf_type", "kto"],
}


def loader(output: Output) -> str:
    """Return a command line of `swift`."""
    options = {"--model": [output.model], "--use_hf": ["true"], "--dataset": [output.folder]}
    options["--strict"] = ["true"]  # it would leave out a row that it cannot read
    options["--max_length"] = [str(output.max_length)]
    if output.max_steps is not None:
        options["--max_steps"] = [str(output.max_steps)]
    return f"# {output.length_note}\n" + as_command(COMMANDS[output.view], options)


TRAINERS = {
    "ms-swift": Trainer(
        summary="ms-swift",
        source="ms-swift 4.6.0: swift/dataset/loader.py, swift/dataset/preprocessor/core.py",
        views={
            "language-modeling": "messages", "prompt-completion": "messages", "preference": "rejected-response",
            "unpaired-preference": "unpaired-messages",
        },
        media=(*MEDIA,),
        takes=(
            "conversation", "conversations", "system", "system_prompt", "image", "video", "audio", "rejected_response",
            "rejected_messages", "label", "channel", "margin", "objects",
        ),
        messages={
            "transforms": {"arguments": "object", "reasoning": "inline", "developer": "system", "weights": "loss"},
            "media_tags": True,
        },
        refuses=dict.fromkeys(COMMANDS, ("msg.order", "pair.same")),  # it joins turns without a break
        problem=media_part_problem,
        loader=loader,
    ),
}  # fmt: skip
