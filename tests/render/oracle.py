"""transformers as the oracle, in process: outcomes of `apply_chat_template` with a fixed clock."""

from __future__ import annotations

import datetime
import functools
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.conftest import SHARED, TRL_TEMPLATES
from tests.render.samples import CONVERSATIONS, TEMPLATES

NOW = datetime.datetime(2025, 7, 26, 12, 34, 56)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
TAG = re.compile(r"\{\%-?\s*generation\s*-?\%\}")
Outcome = tuple[str, Any]
"""`("text", text)`, `("spans", (text, spans))`, or the class of the error and its message."""


class StandingClock(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        return NOW


@functools.cache
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import chat_template_utils

    chat_template_utils.datetime = StandingClock
    model = models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3}, unk_token="<unk>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **TOKENS)


def expected(text: str, case: Mapping[str, Any], mode: str) -> Outcome:
    """Return the outcome of a case in transformers: mode `plain`, `prompt`, `continue` or `spans`."""
    if mode == "spans" and case["messages"]:  # the check for no messages is the tokenizer's, which hides the spans
        return outcome(lambda: ("spans", expected_spans(text, case)))
    return outcome(
        lambda: (
            "text",
            tokenizer().apply_chat_template(
                case["messages"],
                tools=case.get("tools"),
                documents=case.get("documents"),
                chat_template=text,
                tokenize=False,
                add_generation_prompt=mode == "prompt",
                continue_final_message=case.get("field", True) if mode == "continue" else False,
                **case.get("kwargs") or {},
            ),
        )
    )


def expected_spans(text: str, case: Mapping[str, Any]) -> tuple[str, list[tuple[int, int]]]:
    from transformers.utils import chat_template_utils

    messages = [{key: value for key, value in turn.items() if value is not None} for turn in case["messages"]]
    rendered, spans = chat_template_utils.render_jinja_template(
        [messages],
        tools=case.get("tools"),
        documents=case.get("documents"),
        chat_template=text,
        return_assistant_tokens_mask=True,
        **{**tokenizer().special_tokens_map, **(case.get("kwargs") or {})},
    )
    return rendered[0], spans[0]


def outcome(render: Callable[[], Outcome]) -> Outcome:
    try:
        return render()
    except Exception as error:
        return to_outcome(error)


def to_outcome(error: BaseException | None) -> Outcome:
    """Return the class and text of an error; the text of a RecursionError depends on where the frames ran out."""
    return type(error).__name__, "" if isinstance(error, RecursionError) else str(error)


@functools.cache
def conversations() -> tuple[dict[str, Any], ...]:
    """Return our own cases, and the shared ones if they are beside the checkout."""
    shared = SHARED / "oracle" / "conversations.jsonl" if SHARED else None
    lines = shared.read_text(encoding="utf-8").split("\n") if shared and shared.is_file() else []
    own = [{**case, "id": f"own {case['id']}"} for case in CONVERSATIONS]
    return (*own, *(json.loads(line) for line in lines if line))


@functools.cache
def templates() -> dict[str, str]:
    """Return template texts by name: our own, those of TRL, and those of the folder CHATFMT_TEMPLATES."""
    folders = [TRL_TEMPLATES] if TRL_TEMPLATES else []
    folders += [Path(given)] if (given := os.environ.get("CHATFMT_TEMPLATES")) else []
    found = {f"own/{name}": text for name, text in TEMPLATES.items()}
    for folder in folders:
        for path in sorted(folder.rglob("*.jinja")):
            found[f"{folder.name}/{path.relative_to(folder)}"] = path.open(encoding="utf-8").read()
    return found
