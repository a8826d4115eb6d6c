"""Preferences with a chosen and a rejected answer to one prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ... import json_columns
from ...errors import DialectError, refuse_rows
from ...field_path import value_at
from ...turn_columns import fields_of, stack
from ..chat.messages import read_required_turns, read_turns
from ..chat.turns import find_turn_keys, read_turn_list, texts_as_turns, turns_at
from ..dialect import Dialect
from ..instruction.prompt_completion import find_context_parts, find_prompt, read_question, unexplained_columns
from ..kit.columns import (
    SKIP_HINT,
    Columns,
    SourceRow,
    column_at,
    find_side_parts,
    find_value,
    missing_column,
    refuse_nulls,
    text_columns,
)
from ..kit.names import HISTORY, MESSAGES, PROMPTS
from ..kit.output import conversation_batch, first_turns
from ..kit.roles import role_of

CHOSEN = ("chosen", "chosen_response", "response_chosen", "chosen_output", "chosen_messages", "preferred_output")
REJECTED = (
    "rejected", "rejected_response", "response_rejected", "rejected_output", "rejected_messages",
    "non_preferred_output",
)  # fmt: skip
INPUT = {"prompt": "input.messages", "tools": "input.tools"}
"""Paths in OpenAI's preference fine-tuning format; `tools` is read even if no sampled row has any."""
_OPENING = ("system", "developer", "user")


def preference(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """A prompt, a chosen and a rejected answer.

    In:  `{"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}`
    or   `{"conversations": [{"from": "human", "value": "Sky?"}], "chosen": {"from": "gpt", "value": "Blue."}, …}`
    or   `{"input": {"messages": [{"role": "user", "content": "Sky?"}], "tools": […]}, "preferred_output":
           [{"role": "assistant", "content": "Blue."}], "non_preferred_output": […]}`
    or   `{"chosen": "Sky?Blue.", "rejected": "Sky?Green."}`
    Out: `{"prompt": [{"role": "user", "content": "Sky?"}], "chosen": [{"role": "assistant", "content": "Blue."}],
           "rejected": [{"role": "assistant", "content": "Green."}]}`

    If an answer is a whole conversation (it opens with a system or user turn), the row has no `prompt`; the view splits
    off the turns that both sides share. If the answers are texts and there is no prompt column, the prompt is the text
    that both begin with, as in TRL's `extract_prompt` (see `shared_length`), and empty if they share none. If another
    column of text could be the prompt, this needs the option `prompt` set to `shared`.
    Raises DialectError as `messages` does.
    """
    path = columns.path("prompt")
    texts = {part: _texts(column_at(batch, columns.path(part)), columns) for part in ("chosen", "rejected")}
    are_texts = all(values is not None and not values.null_count for values in texts.values())
    if are_texts and path is None:
        return conversation_batch(batch, columns, shared_prompt(**texts))
    own = {part: _answer(batch, columns, part, values) for part, values in texts.items()}
    chosen, rejected = own.values()
    prompt = _prompt(batch, columns)
    if prompt is None and path is not None and are_texts:
        raise missing_column(batch, f"column `{path}` is missing", SKIP_HINT)
    if prompt is not None:
        whole = pc.or_(_opens(chosen), _opens(rejected))
        _refuse_other_prompts(prompt, chosen, whole, path or "")
        prompt = _null_where(whole, prompt)
        if prompt.null_count < len(prompt):
            own["prompt"] = prompt
    return conversation_batch(batch, columns, own)


def _refuse_other_prompts(prompt: pa.ListArray, chosen: pa.ListArray, whole: pa.BooleanArray, path: str) -> None:
    """Raise the errors `pair.prompt` of rows with a prompt and `whole` conversations that lack its text."""
    rows = pc.indices_nonzero(whole)
    asked, said = (json_columns.decode_or_none(lists.take(rows)) for lists in (prompt, chosen))
    pairs = zip(rows.to_pylist(), asked, said, strict=True)
    text = f"the conversation in `chosen` does not have the text of `{path}`"
    refuse_rows(
        [row for row, turns, others in pairs if not _texts_of(turns) <= _texts_of(others)],
        lambda row: DialectError(text, hint="--on-error skip drops such rows", code="pair.prompt"),
    )


def _texts_of(turns: Sequence[Mapping[str, Any]] | None) -> set[str]:
    contents = (turn.get("content") for turn in turns or ())
    texts = {content.strip() if isinstance(content, str) else json_columns.dumps(content) for content in contents}
    return texts - {""}


def _null_where(rows: pa.BooleanArray, lists: pa.ListArray) -> pa.ListArray:
    """Return the lists with null in the marked rows."""
    if not rows.true_count:
        return lists
    return lists.take(pc.if_else(rows, pa.scalar(None, pa.int64()), pa.array(range(len(lists)))))


def _texts(values: pa.Array | None, columns: Columns) -> pa.StringArray | None:
    """Return a column of text; None for any other, and for one in which a text holds turns."""
    if values is None or values.type != json_columns.TEXT:
        return None
    written = values.filter(pc.match_substring_regex(values, r"^\s*[\[{]"))
    is_turns = any(find_turn_keys(read_turn_list(text), columns) for text in written.to_pylist())
    return None if is_turns else values


def shared_prompt(chosen: pa.StringArray, rejected: pa.StringArray) -> dict[str, pa.ListArray]:
    """Split chosen and rejected texts into prompt and answers; without shared text the prompt has no turn."""
    pairs = list(zip(chosen.to_pylist(), rejected.to_pylist(), strict=True))
    lengths = [shared_length(*pair) for pair in pairs]
    texts = {
        "prompt": [pair[0][:length] or None for pair, length in zip(pairs, lengths, strict=True)],
        "chosen": [pair[0][length:] for pair, length in zip(pairs, lengths, strict=True)],
        "rejected": [pair[1][length:] for pair, length in zip(pairs, lengths, strict=True)],
    }
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return {part: stack([(roles[part], json_columns.text_array(values))]) for part, values in texts.items()}


def shared_length(chosen: str, rejected: str) -> int:
    """Return the length of the prompt that two texts begin with, in characters, as TRL 1.16 computes it.

    A space before the first difference belongs to the answers; so does the last character of a text that is a prefix of
    the other. Unlike in TRL, the prompt is empty if the first characters differ or one text is empty.
    """
    shorter = min(len(chosen), len(rejected))
    shared = next((n for n, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), shorter)
    if shared == shorter:
        return max(shared - 1, 0)
    return shared - 1 if chosen[:shared].endswith(" ") else shared


def _answer(batch: pa.RecordBatch, columns: Columns, part: str, texts: pa.StringArray | None) -> pa.ListArray:
    if texts is None:
        return read_required_turns(batch, columns, part, "assistant")
    refuse_nulls(texts, columns.path(part))
    return stack([("assistant", texts)])


def _prompt(batch: pa.RecordBatch, columns: Columns) -> pa.ListArray | None:
    """Return the prompt of each row as turns, from turns or text; None if there is no such column."""
    path = columns.path("prompt")
    values = column_at(batch, path)
    if values is None or path is None:
        return None
    if _texts(values, columns) is not None:
        return read_question(batch, columns)
    return read_turns(texts_as_turns(values, columns, "user"), columns, path)


def _opens(lists: pa.ListArray) -> pa.BooleanArray:
    """Return whether each row opens a conversation: its first turn is a system, developer or user turn."""
    first = fields_of(lists.flatten())["role"].take(first_turns(lists))
    return pc.is_in(first, pa.array(_OPENING))


def find_preference_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a chosen and a rejected answer."""
    chosen = find_value(record, CHOSEN, columns, "chosen")
    rejected = find_value(record, REJECTED, columns, "rejected")
    if chosen is None or rejected is None:
        return None
    answers = [_answer_type(record, path, columns) for path in (chosen, rejected)]
    if None in answers or answers[0] != answers[1]:
        return None
    found = {"chosen": chosen, "rejected": rejected, **find_side_parts(record, columns)}
    turns = turns_at(record, chosen)
    found |= (find_turn_keys(turns, columns) or {}) if answers[0] == "turns" else {}
    needs_prompt = not columns.parts().isdisjoint(("context", "history"))  # which come before it
    if answers[0] == "turns" and turns and _role(turns[0], columns) in _OPENING and not needs_prompt:
        return found
    found |= _prompt_parts(record, columns)
    if needs_prompt and "prompt" not in found and columns.path("prompt") is None:
        return None
    implied = answers[0] == "turns" or "prompt" in found or columns.path("prompt")
    if (
        not implied
        and columns.option("prompt", "auto", "auto", "shared") == "auto"
        and unexplained_columns(record, found)
    ):
        return None
    return found


def _answer_type(record: SourceRow, path: str, columns: Columns) -> str | None:
    value = value_at(record, path)
    written = isinstance(value, (list, dict)) or (isinstance(value, str) and value.lstrip()[:1] in ("[", "{"))
    if written and find_turn_keys(turns_at(record, path), columns):
        return "turns"
    return "text" if isinstance(value, str) else None


def _role(turn: Mapping[str, Any], columns: Columns) -> str | None:
    keys = find_turn_keys([turn], columns) or {}
    name = turn.get(keys.get("messages.role", "role"))
    return role_of(name, columns.roles) if isinstance(name, str) else None


def _prompt_parts(record: SourceRow, columns: Columns) -> dict[str, str]:
    """Return the column of the prompt of both answers: text or turns."""
    if columns.path("prompt") is None:
        asked = text_columns(record, PROMPTS)
        for name in (*MESSAGES, "prompt", "input", *(() if asked else ("context", *HISTORY))):
            turns = turns_at(record, name) if isinstance(record.get(name), (list, str)) else None
            if keys := find_turn_keys(turns, columns):
                return {"prompt": name, **keys}
        if keys := find_turn_keys(turns_at(record, INPUT["prompt"]), columns):
            return {**INPUT, **keys}
    elif keys := find_turn_keys(turns_at(record, columns.path("prompt") or ""), columns):
        return dict(keys)
    path = find_prompt(record, columns) or find_value(record, ("history",), columns, "prompt")
    if path is None or not isinstance(value_at(record, path), str):
        return {}
    return {"prompt": path, **find_context_parts(record, columns, path)}


DIALECTS = {
    "preference": Dialect(preference, find_preference_parts, "a chosen and a rejected answer", rank=150,
                          parts=frozenset({"prompt", "chosen", "rejected", "context", "history"}), type="preference"),
}  # fmt: skip
