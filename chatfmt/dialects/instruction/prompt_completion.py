"""Conversations with one question and one answer in separate columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ... import json_columns
from ...errors import DialectError, map_rows
from ...field_path import value_at
from ...turn_columns import concat, stack, struct_of, to_lists
from ..chat.messages import read_turns
from ..chat.turns import find_turn_keys, marked_texts, plain_values, turns_at
from ..dialect import Dialect
from ..kit.columns import (
    SKIP_HINT,
    Columns,
    SourceRow,
    ambiguous_part,
    column_at,
    columns_named,
    find_answer_sides,
    find_label,
    find_side_parts,
    find_text,
    find_value,
    has_text,
    read_bools,
    read_optional_text,
    read_text,
    refuse,
    text_columns,
)
from ..kit.literals import read_list_literal
from ..kit.names import (
    ANSWER_LISTS,
    COMPLETIONS,
    CONTEXTS,
    HISTORY,
    LAST_PROMPTS,
    PROMPTS,
    REASONING,
    SIDES,
    is_metadata,
)
from ..kit.output import conversation_batch
from ..kit.tool_calls import read_call_column


def question_answer(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    r"""A user turn and an assistant turn from one column each, after the turns of a `history` column.

    In:  `{"instruction": "Add.", "input": "1 2", "output": "3", "history": [["hi", "hello"]]}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"},
           {"role": "user", "content": "Add.\n1 2"}, {"role": "assistant", "content": "3"}]}`

    An input (Alpaca), context (dolly) or article that is not blank is appended to the instruction after a line break;
    the option `join` sets another separator. A `context` that is a list of turns is the history. Reasoning in a column
    of its own becomes `reasoning_content`, a mapped `tool_calls` the calls of the assistant turn. Nothing is stripped.
    Raises DialectError `col.missing`, `col.null`, `col.type`, `msg.reasoning`.
    """
    return conversation_batch(
        batch, columns, {"messages": concat(read_question(batch, columns), read_answer(batch, columns))}
    )


def prompt_only(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """A user turn without an answer, after the turns of a `history` column.

    In:  `{"prompt": "The sky is"}`
    Out: `{"prompt": [{"role": "user", "content": "The sky is"}]}`

    Raises DialectError `col.missing`, `col.null`, `col.type`.
    """
    return conversation_batch(batch, columns, {"prompt": read_question(batch, columns)})


def prompt_completion_label(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """A prompt, an answer and whether it is good (TRL's standard unpaired preference).

    In:  `{"prompt": "The sky is", "completion": " blue.", "label": true}`
    Out: `{"prompt": [{"role": "user", "content": "The sky is"}],
           "completion": [{"role": "assistant", "content": " blue."}], "label": true}`

    A label is also 1 or 0, or a word such as `good`; the option `label` set to `ignore` leaves it.
    Raises DialectError `col.missing`, `col.null`, `col.type`.
    """
    own = {
        "prompt": read_question(batch, columns),
        "completion": read_answer(batch, columns),
        "label": read_bools(batch, columns, "label"),
    }
    return conversation_batch(batch, columns, own)


def rendered_text(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """Final text (TRL's standard language modelling), neither parsed nor rendered.

    In:  `{"text": "The sky is blue."}`
    Out: `{"text": "The sky is blue."}`

    Raises DialectError `col.missing`, `col.null`, `col.type`.
    """
    return conversation_batch(batch, columns, {"text": read_text(batch, columns, "text")})


def read_prompt(batch: pa.RecordBatch, columns: Columns) -> pa.StringArray:
    """Return the text of the user turn: the prompt, followed by the context if it is not blank."""
    prompt = read_text(batch, columns, "prompt")
    context = read_optional_text(batch, columns, "context")
    if context is None:
        return prompt
    joined = pc.binary_join_element_wise(prompt, context.fill_null(""), columns.option("join", "\n"))
    return pc.if_else(has_text(context), pc.if_else(pc.equal(prompt, ""), context, joined), prompt)


def read_question(batch: pa.RecordBatch, columns: Columns) -> pa.ListArray:
    """Return the turns of the history, if there is one, and the user turn."""
    question = stack([("user", read_prompt(batch, columns))])
    path = columns.path("history")
    history = column_at(batch, path)
    return question if history is None or path is None else concat(read_history(history, columns, path), question)


def read_answer(batch: pa.RecordBatch, columns: Columns) -> pa.ListArray:
    """Return the assistant turn: text, tool calls, or both."""
    path = columns.path("tool_calls")
    calls = column_at(batch, path)
    if calls is None or path is None:
        return stack([("assistant", read_text(batch, columns, "completion"))])
    content = read_optional_text(batch, columns, "completion")
    turns = {
        "role": pa.array(["assistant"] * len(batch), json_columns.TEXT),
        "content": pa.nulls(len(batch), json_columns.TEXT) if content is None else content,
        "tool_calls": read_call_column(calls, columns, path),
    }
    missing, text = pc.and_(turns["content"].is_null(), turns["tool_calls"].is_null()), f"column `{path}` has no value"
    refuse(missing, lambda row: DialectError(text, hint=SKIP_HINT, code="col.null"))
    return to_lists(struct_of(turns), np.ones(len(batch), np.int64))


def read_history(values: pa.Array, columns: Columns, path: str) -> pa.ListArray:
    """Return the turns of a history: turns, pairs of texts, objects of two texts, or any of these as text."""
    rows = plain_values(values)
    if "" in rows:  # as CSV writes an empty history
        values = pc.if_else(pa.array([row == "" for row in rows]), pa.scalar(None, values.type), values)
    items = [item for row in rows if isinstance(row, list) for item in row]
    objects = all(isinstance(item, dict) for item in items) and all(isinstance(row, list) for row in rows if row)
    if objects and find_turn_keys(items, columns):
        return read_turns(values, columns, path)
    return json_columns.encode_conversations(
        map_rows(lambda value: None if value is None else history_turns(value), rows)
    )


def history_turns(items: Any) -> list[dict[str, Any]]:
    """Return the turns of one history of pairs or alternating texts; raises DialectError `col.type`."""
    if isinstance(items, str) and not items.strip():
        return []
    if marked := marked_texts(items):
        return marked
    turns = [turn for item in items for turn in _history_turn(item)] if isinstance(items, list) else [None]
    if isinstance(items, list) and len(items) % 2 == 0 and all(isinstance(item, str) for item in items):
        return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(items)]
    if any(turn is None for turn in turns):
        raise DialectError("column `history` does not hold pairs of texts", code="col.type")
    return turns  # type: ignore[return-value]


def _history_turn(item: Any) -> list[dict[str, Any] | None]:
    texts = list(item.values()) if isinstance(item, Mapping) else item
    if not isinstance(texts, list) or len(texts) != 2 or not all(isinstance(text, str) for text in texts):
        return [None]
    return [{"role": "user", "content": texts[0]}, {"role": "assistant", "content": texts[1]}]


def find_question_answer_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a question and an answer; raises NoDialect if one is ambiguous."""
    prompt = find_prompt(record, columns)
    answer = {
        "completion": _completion_part(record, columns),
        "tool_calls": find_value(record, (), columns, "tool_calls"),
    }
    found = {part: path for part, path in answer.items() if path is not None}
    if prompt is None or not found or prompt == found.get("completion"):
        return None
    return {
        "prompt": prompt,
        **found,
        **find_context_parts(record, columns, prompt),
        **find_answer_sides(record, columns),
    }


def find_prompt(record: SourceRow, columns: Columns) -> str | None:
    """Return the column of the prompt; raises NoDialect if it is ambiguous."""
    return _find_unambiguous(record, PROMPTS, columns, "prompt") or find_text(record, LAST_PROMPTS, columns, "prompt")


def _completion_part(record: SourceRow, columns: Columns) -> str | None:
    """Return the column of the answer; if there is a `solution`, `answer` is only its result."""
    names: Sequence[str] = COMPLETIONS
    if text_columns(record, ("solution",)):
        names = tuple(name for name in COMPLETIONS if name != "answer")
    return _find_unambiguous(record, names, columns, "completion")


def _find_unambiguous(record: SourceRow, names: Sequence[str], columns: Columns, part: str) -> str | None:
    if columns.path(part) is None:
        filled = [name for name in text_columns(record, names) if record[name].strip()]
        if len({record[name] for name in filled}) > 1:
            raise ambiguous_part(filled, part)
    return find_text(record, names, columns, part)


def find_context_parts(record: SourceRow, columns: Columns, prompt: str) -> dict[str, str]:
    """Return the parts `context` and `history` of a row; a mapped prompt gets no context."""
    mapped = columns.path("prompt") is not None
    names = () if mapped else tuple(name for name in CONTEXTS if name != prompt.lower())
    history = _history(record, columns)
    names = tuple(name for name in names if history is None or name != history.lower())
    found = {"context": _find_unambiguous(record, names, columns, "context"), "history": history}
    return {part: path for part, path in found.items() if path is not None and path != prompt}


def _history(record: SourceRow, columns: Columns) -> str | None:
    found = find_value(record, HISTORY, columns, "history")
    if found is not None:
        value = read_list_literal(value_at(record, found))
        return found if isinstance(value, list) or value == "" else None
    contexts = columns_named(record, ("context",)) if columns.path("history") is None else ()
    return next((name for name in contexts if find_turn_keys(turns_at(record, name), columns)), None)


def find_alpaca_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with an instruction and an output."""
    found = find_question_answer_parts(record, columns)
    return found if found and _names(found) == ("instruction", "output") else None


def find_dolly_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with an instruction, a context and a response."""
    found = find_question_answer_parts(record, columns)
    named = found and _names(found) == ("instruction", "response") and found.get("context", "").lower() == "context"
    return found if named else None


def _names(parts: Mapping[str, str]) -> tuple[str, str]:
    return parts["prompt"].lower(), parts.get("completion", "").lower()


def find_labelled_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a question, an answer and a label."""
    label = find_label(record, columns)
    found = find_question_answer_parts(record, columns) if label else None
    return {**found, "label": label} if found and label else None


def find_prompt_only_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a prompt and no column that could be its answer.

    Unless the prompt is mapped, every other column of text must be metadata (`id`, `source`, …), and no column may have
    the name of an answer.
    """
    mapped = columns.path("prompt")
    history = _history(record, columns)
    prompt = mapped or (
        find_prompt(record, columns) if history else _find_unambiguous(record, PROMPTS, columns, "prompt")
    )
    if prompt is None or not isinstance(value_at(record, prompt), str):
        return None
    found = {"prompt": prompt, **find_side_parts(record, columns)}
    found |= {"history": history} if history else {}
    return found if mapped or not (unexplained_columns(record, found) or _could_answer(record, prompt)) else None


def _could_answer(record: SourceRow, prompt: str) -> bool:
    """Return whether a column has the name of an answer and a value, or, for an unusual prompt, the name alone."""
    lower = {name.lower(): name for name in record}
    names = [lower[name] for name in (*COMPLETIONS, *ANSWER_LISTS, *SIDES, *REASONING) if name in lower]
    return any(record[name] not in (None, "", []) or prompt.lower() != "prompt" for name in names)


def text_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the part of a row with `text` and no other text that could belong to a conversation."""
    path = columns.path("text") or "text"
    if not isinstance(value_at(record, path), str):
        return None
    found = {"text": path}
    return found if columns.path("text") or not unexplained_columns(record, found) else None


def unexplained_columns(record: SourceRow, parts: Mapping[str, str]) -> list[str]:
    """Return the columns of text that are neither parts nor metadata."""
    return [
        name
        for name, value in record.items()
        if isinstance(value, str) and name not in parts.values() and not is_metadata(name)
    ]


PARTS = frozenset({"prompt", "completion", "context", "history", "tool_calls"})

DIALECTS = {
    "unpaired-preference": Dialect(prompt_completion_label, find_labelled_parts,
                                   "a prompt and an answer labelled good or bad", rank=430, parts=PARTS | {"label"},
                                   type="unpaired-preference"),
    "alpaca": Dialect(question_answer, find_alpaca_parts, "an instruction, an input and an output", rank=440,
                      parts=PARTS),
    "dolly": Dialect(question_answer, find_dolly_parts, "an instruction, a context and a response", rank=450,
                     parts=PARTS),
    "prompt-completion": Dialect(question_answer, find_question_answer_parts, "a question and an answer", rank=460,
                                 parts=PARTS),
    "prompt-only": Dialect(prompt_only, find_prompt_only_parts, "a prompt without an answer", rank=470,
                           parts=frozenset({"prompt", "context", "history"}), type="prompt-only"),
    "text": Dialect(rendered_text, text_parts, "text used as it is", rank=490, parts=frozenset({"text"}), type="text"),
}  # fmt: skip
