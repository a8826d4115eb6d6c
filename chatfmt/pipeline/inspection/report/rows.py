"""The rows of the report's browser as plain data: the record, the messages, and the text in pieces to mark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from ....errors import Location
from ....schema import CONVERSATION_COLUMNS
from ..preview import PreviewRow

PLAIN, TRAINED, SPECIAL, FOLDED = 0, 1, 2, 4
"""The kinds of pieces; a special token in trained text is 3."""
LIMITS = (1200, 400, 120)
"""The characters of a piece that are kept, from generous to short."""
BUDGET = 2_000_000
"""Bytes of all rows as JSON, so that the page stays under 3 MB."""
PIECES = 400
Piece = tuple[int, str]


def to_browser(rows: Sequence[tuple[PreviewRow, Sequence[str]]]) -> str:
    """Return the rows as JSON, their long values folded as far as the page needs."""
    for limit in LIMITS:
        text = json.dumps([row_data(row, why, limit) for row, why in rows], ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) <= BUDGET:
            return text
    return text if len(text.encode()) <= BUDGET else to_browser(rows[: len(rows) // 2])


def row_data(row: PreviewRow, why: Sequence[str], limit: int) -> dict[str, Any]:
    """Return one row."""
    raw = row.raw if row.raw is not None else json.dumps(row.record, ensure_ascii=False, indent=1)
    texts = [each for output in row.output for each in rendered(output, row)]
    return {
        "file": row.file.rpartition("/")[2],
        "row": row.row,
        "place": Location(row=row.row, line=row.line).place.capitalize(),
        "why": [*why, *([row.code] if row.code and row.code not in why else [])],
        "problem": row.problem,
        "raw": fold([(PLAIN, raw)], 4 * limit),
        "messages": [group for conversation in row.conversations for group in groups(conversation, limit)],
        "text": [[name, fold(pieces(text, spans, row.tokens), limit)] for name, text, spans in texts],
    }


def rendered(output: Mapping[str, Any], row: PreviewRow) -> Iterator[tuple[str, str, Sequence[Sequence[int]]]]:
    """Yield the texts of an output row with their trained spans; of a finished conversation, the text it had read."""
    source = row.record if row.spans is not None and "text" not in output else output
    for name in ("text", "prompt", "completion", "chosen", "rejected"):
        value = source.get(name)
        if isinstance(value, str):
            whole = [[0, len(value)]] if name == "completion" and "label" not in output else []
            yield name, value, row.spans or () if name == "text" else whole


def groups(conversation: Mapping[str, Any], limit: int) -> Iterator[list[Any]]:
    """Yield `[name, messages]` for each list of messages, and `[name, text]` for what is beside them."""
    for name, value in conversation.items():
        if name in CONVERSATION_COLUMNS and isinstance(value, list):
            yield [name, [message_data(message, limit) for message in value if isinstance(message, dict)]]
        elif name != "text" and value is not None:
            yield [name, fold([(PLAIN, as_text(value))], limit)]


def message_data(message: Mapping[str, Any], limit: int) -> list[Any]:
    """Return `[role, [[key, pieces], …]]`."""
    parts = [[key, fold([(PLAIN, as_text(value))], limit)] for key, value in message.items() if key != "role"]
    return [str(message.get("role")), [part for part in parts if part[1]]]


def as_text(value: Any) -> str:
    """Return text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def pieces(text: str, spans: Sequence[Sequence[int]], tokens: Sequence[str]) -> list[Piece]:
    """Cut a text where training or special tokens begin and end."""
    marks = bytearray(len(text))
    for start, end in spans:
        marks[start:end] = bytes([TRAINED]) * (end - start)
    for found in re.finditer("|".join(sorted(map(re.escape, tokens), key=len, reverse=True)) or r"(?!)", text):
        for place in range(*found.span()):
            marks[place] |= SPECIAL
    made, start = [], 0
    for kind, run in groupby(marks):
        end = start + sum(1 for _ in run)
        made.append((kind, text[start:end]))
        start = end
    return made


def fold(found: Sequence[Piece], limit: int) -> list[Piece]:
    """Return the pieces with the middle of long ones, and the end of very many, counted instead of shown."""
    made: list[Piece] = []
    for number, (kind, text) in enumerate(found):
        if number == PIECES:
            made.append((FOLDED, f"… {sum(len(rest) for _, rest in found[number:]):,} characters"))
            break
        if len(text) <= limit + 40:
            made.append((kind, text))
            continue
        end = limit // 4
        made += [(kind, text[: limit - end]), (FOLDED, f"… {len(text) - limit:,} characters …"), (kind, text[-end:])]
    return made
