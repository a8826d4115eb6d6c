"""Answers with reasoning before them, in a separate column or between tags in the answer."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from ...field_path import value_at
from ...schema import REASONING_FIELDS, Turn
from ..chat.messages import find_messages_parts
from ..chat.plain_turns import read_plain_turns
from ..chat.turns import turns_at
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow, find_side_parts
from ..kit.output import OutputRow, by_row
from .prompt_completion import find_context_parts, find_prompt, question_answer

REASONING_COLUMNS = (
    ("deepseek_thinking_trajectory", "deepseek_attempt"), ("deepseek_reasoning", "deepseek_solution"),
    ("thinking_trajectory", "attempt"),
)  # fmt: skip
"""Columns of the reasoning and the answer in datasets made with DeepSeek R1."""


def reasoning_column(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """A question, the reasoning and the answer in separate columns (s1K, OpenThoughts' metadata).

    In:  `{"question": "1+1?", "deepseek_thinking_trajectory": "One and one.", "deepseek_attempt": "2"}`
    Out: `{"messages": [{"role": "user", "content": "1+1?"},
           {"role": "assistant", "content": "2", "reasoning_content": "One and one."}]}`

    Every dialect reads reasoning beside an answer of a usual name; this one knows the names of answers that come with
    reasoning. Raises DialectError as `question_answer` does.
    """
    return question_answer(batch, columns)


def find_reasoning_column_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a question, its reasoning and its answer."""
    reasoning, completion = columns.path("reasoning"), columns.path("completion")
    pairs = ((reasoning, completion),) if reasoning and completion else REASONING_COLUMNS
    found = next((pair for pair in pairs if all(isinstance(value_at(record, name), str) for name in pair)), None)
    prompt = find_prompt(record, columns) if found else None
    if found is None or prompt is None:
        return None
    more = {**find_context_parts(record, columns, prompt), **find_side_parts(record, columns)}
    return {"prompt": prompt, "completion": found[1], "reasoning": found[0], **more}


_TAGS = (
    re.compile(r"\s*<think>\n?(.*?)\n?</think>\s*(.*)", re.DOTALL),
    re.compile(r"\s*<reasoning>\n?(.*?)\n?</reasoning>\s*(.*)", re.DOTALL),
    re.compile(
        r"\s*<\|begin_of_thought\|>\s*(.*?)\s*<\|end_of_thought\|>\s*<\|begin_of_solution\|>\s*(.*?)\s*"
        r"(?:<\|end_of_solution\|>\s*)?", re.DOTALL,
    ),
    re.compile(r"(.*?)\n?</think>\s*(.*)", re.DOTALL),
)  # fmt: skip
_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>\s*", re.DOTALL)


@by_row
def reasoning_tags(record: SourceRow, columns: Columns) -> OutputRow:
    r"""Assistant turns with reasoning between tags before the answer; it becomes `reasoning_content`.

    In:  `{"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant",
           "content": "<think>\nOne and one.\n</think>\n\n2"}]}`
    Out: `{"messages": [{"role": "user", "content": "1+1?"},
           {"role": "assistant", "reasoning_content": "One and one.", "content": "2"}]}`

    The tags are `<think>`, `<reasoning>`, OpenThoughts' `<|begin_of_thought|>` with `<|begin_of_solution|>`, or a
    closing `</think>` alone; `<answer>` around the whole answer is dropped too. A turn without tags, or
    with other reasoning in a field of its own, is unchanged.
    Raises DialectError `msg.role`.
    """
    return {"messages": [_split_turn(turn) for turn in read_plain_turns(record, columns)]}


def _split_turn(turn: Turn) -> Turn:
    text = turn.get("content")
    found = split_reasoning(text) if turn["role"] == "assistant" and isinstance(text, str) else None
    if found is None:
        return turn
    if any(turn.get(key) not in (None, "", found[0]) for key in REASONING_FIELDS):
        return turn
    rest = {key: value for key, value in turn.items() if key not in ("role", "content", *REASONING_FIELDS)}
    return {"role": turn["role"], "reasoning_content": found[0], "content": found[1], **rest}


def split_reasoning(text: str) -> tuple[str, str] | None:
    """Return the reasoning and the answer separated by tags, None without tags."""
    match = next((match for tags in _TAGS if (match := tags.fullmatch(text))), None)
    if match is None:
        return None
    reasoning, answer = match.groups()
    inner = _ANSWER.fullmatch(answer)
    return reasoning, inner[1] if inner else answer


def find_reasoning_tags_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row whose turns contain a closing tag of reasoning."""
    found = find_messages_parts(record, columns)
    content = (found or {}).get("messages.content", "content")
    turns: list[dict[str, Any]] = turns_at(record, found["messages"]) or [] if found else []
    texts = [turn[content] for turn in turns if isinstance(turn.get(content), str)]
    return found if any("</think>" in t or "</reasoning>" in t or "<|end_of_thought|>" in t for t in texts) else None


DIALECTS = {
    "reasoning": Dialect(reasoning_column, find_reasoning_column_parts, "a question, its reasoning and its answer",
                         rank=420, parts=frozenset({"prompt", "completion", "context", "history", "reasoning"})),
    "reasoning-tags": Dialect(reasoning_tags, find_reasoning_tags_parts, "reasoning between tags", rank=550,
                              covers=frozenset({"messages", "sharegpt"}), opt_in=True),
}  # fmt: skip
