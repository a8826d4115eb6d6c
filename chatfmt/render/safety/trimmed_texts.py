"""Find the roles whose texts a template trims, if any of their texts begins or ends with white space.

Such texts are found in the columns, so that a batch without any costs next to nothing. A template trims one if its
output stays the same without the white space, but not without the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...escaped_texts import text_offsets
from ...json_columns import JSON, TEXT, integers
from ...rendering import ConversationBatch
from ...schema import REASONING_FIELDS
from ...turn_columns import rows_of_turns
from ..masks.masker import to_chats
from ..single import Chat, TemplateRenderer
from .control_tokens import BLANKS

TRIES = 20
"""How many texts of a role and field a finder examines before it takes the template to print them as they are."""
TRIES_OF_BATCH = 2
_WIDE_BLANKS = ("\u00a0".encode(), "\u3000".encode())
_IS_BLANK = np.zeros(256, np.bool_)
_IS_BLANK[list(BLANKS.encode())] = True
_BLANK = r"(?:[ \x{a0}\x{3000}]|\\[nrt])"
_JSON_EDGE = rf'(?:^|"text":)"{_BLANK}|{_BLANK}"(?:$|[,}}])'
"""White space at the start or end of JSON text, or of a text in it."""


class TrimFinder:
    """Finds what a template trims in the batches of one task."""

    def __init__(self, renderer: TemplateRenderer) -> None:
        self._renderer, self._tries = renderer, Counter[tuple[str, str]]()

    def find(self, chats: ConversationBatch) -> Iterator[str]:
        """Yield, as in `white space around user texts`, what the template trims; each once."""
        turns = chats.messages.flatten()
        if turns.type.get_field_index("role") < 0:
            return
        roles, rows = turns.field("role"), rows_of_turns(chats.messages)
        for field in ("content", *REASONING_FIELDS):
            if turns.type.get_field_index(field) < 0:
                continue
            places = np.flatnonzero(has_blank_edges(turns.field(field)))
            found = roles.take(integers(places))
            for role in (role for role in pc.unique(found).to_pylist() if self._tries[role, field] < TRIES):
                own = places[pc.equal(found, role).to_numpy(zero_copy_only=False)]
                for place in own[:TRIES_OF_BATCH].tolist():
                    self._tries[role, field] += 1
                    row = int(rows[place])
                    (chat,) = to_chats(chats.slice(row, 1))
                    if chat is not None and self._is_trimmed(chat, place - int(np.searchsorted(rows, row)), field):
                        self._tries[role, field] = TRIES
                        yield f"white space around {role} {'texts' if field == 'content' else 'reasoning'}"
                        break

    def _is_trimmed(self, chat: Chat, message: int, field: str) -> bool:
        text = self._renderer.text_or_none(chat)

        def is_same(change: Callable[[str], str]) -> bool:
            changed = _changed(chat, message, field, change)
            return changed != chat and self._renderer.text_or_none(changed) == text

        return text is not None and (is_same(str.lstrip) or is_same(str.rstrip)) and not is_same(lambda _: "z")


def _changed(chat: Chat, message: int, field: str, change: Callable[[str], str]) -> Chat:
    """Return the conversation with a change to a text of a message, or to each part of it that is text."""
    messages = [dict(one) for one in chat.messages]
    value = messages[message][field]
    if isinstance(value, str):
        messages[message][field] = change(value)
    elif isinstance(value, list):
        messages[message][field] = [_changed_part(part, change) for part in value]
    return chat.with_messages(messages)


def _changed_part(part: Any, change: Callable[[str], str]) -> Any:
    is_text = isinstance(part, Mapping) and isinstance(part.get("text"), str)
    return {**part, "text": change(part["text"])} if is_text else part


def has_blank_edges(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Return which texts of a text or JSON column may begin or end with white space; of JSON, some that do not."""
    if column.type == JSON:
        found: npt.NDArray[np.bool_] = (
            pc.match_substring_regex(column, _JSON_EDGE).fill_null(False).to_numpy(zero_copy_only=False)
        )
        return found
    if column.type != TEXT or not len(column):
        return np.zeros(len(column), np.bool_)
    offsets = text_offsets(column).astype(np.int64)
    data = np.frombuffer(column.buffers()[2] or b"", np.uint8)
    sizes, found = np.diff(offsets), np.zeros(len(column), np.bool_)
    filled = np.flatnonzero(sizes)
    first, last = data[offsets[filled]], data[offsets[filled + 1] - 1]
    found[filled] = _IS_BLANK[first] | _IS_BLANK[last]
    for blank in _WIDE_BLANKS:
        for likely, ends, start in ((first == blank[0], 0, 0), (last == blank[-1], 1, -len(blank))):
            near = filled[likely]
            near = near[sizes[near] >= len(blank)]
            starts = offsets[near + ends] + start
            found[near] |= np.logical_and.reduce([data[starts + index] == byte for index, byte in enumerate(blank)])
    return found
