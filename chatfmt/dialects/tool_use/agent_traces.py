"""Agent traces: turns without the question that they answer, tool calls as the last line of text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...field_path import value_at
from ...schema import Turn
from ..chat.messages import find_messages_parts
from ..chat.plain_turns import find_written_parts, read_plain_turns
from ..chat.turns import turns_at
from ..dialect import Dialect
from ..kit.columns import Columns, SourceRow, find_text
from ..kit.literals import read_literal
from ..kit.output import OutputRow, by_row
from ..kit.tool_calls import named_call, with_calls

_QUESTIONS = ("original_question",)


@by_row
def traces(record: SourceRow, columns: Columns) -> OutputRow:
    """Turns of an agent without a user turn, and the question in another column (smolagents).

    In:  `{"messages": [{"role": "system", "content": "Solve it."}, {"role": "assistant", "content": "2"}],
           "original_question": "1+1?"}`
    Out: `{"messages": [{"role": "system", "content": "Solve it."}, {"role": "user", "content": "1+1?"},
           {"role": "assistant", "content": "2"}]}`

    The question is inserted after the system turns. A row with a user turn is unchanged. Calls in `<tool_call>` stay
    text; `--dialect hermes` parses them and inserts the question too. Raises DialectError `msg.role`.
    """
    return {"messages": with_question(read_plain_turns(record, columns), record, columns)}


def find_traces_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a question in another column and no user turn."""
    question = find_question_part(record, columns)
    found = find_messages_parts(record, columns) if question else None
    if found is None:
        return None
    key = found.get("messages.role", "role")
    turns = turns_at(record, found["messages"]) or []
    return None if any(turn.get(key) in ("user", "human") for turn in turns) else {**found, **question}


def with_question(turns: Sequence[Turn], record: SourceRow, columns: Columns) -> list[Turn]:
    """Insert the question after the system turns if there is one and no user turn."""
    path = columns.path("question")
    question = value_at(record, path) if path else None
    if not isinstance(question, str) or any(turn["role"] == "user" for turn in turns):
        return list(turns)
    position = next((n for n, turn in enumerate(turns) if turn["role"] not in ("system", "developer")), len(turns))
    return [*turns[:position], {"role": "user", "content": question}, *turns[position:]]


def find_question_part(record: SourceRow, columns: Columns) -> dict[str, str]:
    """Return the part `question`, if the row has such a column."""
    path = find_text(record, _QUESTIONS, columns, "question")
    return {"question": path} if path else {}


_TAIL = re.compile(r"(?:(.*?)\n)?AI to=([^\s:]+):[ \t]*(\{.*\})\s*", re.DOTALL)


@by_row
def tail_calls(record: SourceRow, columns: Columns) -> OutputRow:
    r"""Assistant turns that end with a line that calls a function, `AI to=NAME: {…}`.

    In:  `{"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content":
           "Let me look.\nAI to=weather: {\"city\": \"Oslo\"}"}]}`
    Out: `{"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "Let me look.",
           "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]}]}`

    A turn whose last line is not JSON stays text. Raises DialectError `msg.role`.
    """
    return {"messages": [_tail_turn(turn) for turn in read_plain_turns(record, columns)]}


def _tail_turn(turn: Turn) -> Turn:
    text = turn.get("content")
    match = _TAIL.fullmatch(text) if turn["role"] == "assistant" and isinstance(text, str) else None
    arguments = read_literal(match[3]) if match else None
    if match is None or not isinstance(arguments, Mapping):
        return turn
    return with_calls(turn, match[1], [named_call(match[2], arguments)])


DIALECTS = {
    "traces": Dialect(traces, find_traces_parts, "agent turns with the question in another column", rank=270,
                      parts=frozenset({"messages", "question"}), covers=frozenset({"messages", "sharegpt"})),
    "tail-calls": Dialect(tail_calls, lambda record, columns: find_written_parts(record, columns, "AI to="),
                          "tool calls in a last line `AI to=NAME: {…}`", rank=540,
                          covers=frozenset({"messages", "sharegpt"}), opt_in=True),
}  # fmt: skip
