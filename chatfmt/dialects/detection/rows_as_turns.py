"""Find out whether rows are turns: which column names their conversation, and which one orders them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from ..chat.turns import find_turn_keys
from ..kit.columns import Columns, SourceRow
from ..kit.roles import role_of

_KEY = re.compile("conv|dialog|session|thread|chat_?id|channel|ticket|episode|trajectory")
_ORDER = re.compile(r"turn|index|idx|order|position|step|seq|time|date|created|_at$|^(n|ts|no)$")
_SORTED = re.compile(r"-?\d+(\.\d+)?|\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")
_ROWS = 50
_SPEAKERS = 4
"""The most speakers that a hint names."""


class RowsAsTurns(Struct, frozen=True):
    """Rows that are turns: the column of their conversation and the one that orders them, where there are any."""

    key: str | None
    order: str | None
    speakers: tuple[str, ...] = ()
    """The speakers that are not known roles, if they are few."""
    named: tuple[tuple[str, str], ...] = ()
    """The keys of turns, with their columns, if these have names such as `Sender` and `Message`."""

    def flags(self) -> Iterator[str]:
        """Yield the flags that make conversations of the rows."""
        yield f"--group-by {shlex.quote(self.key or 'COLUMN')}"
        if self.order:
            yield f"--order-by {shlex.quote(self.order)}"
        for key, name in self.named:
            yield f"--map {key}={shlex.quote(name)}"
        if self.named and not self.speakers:
            yield "--me NAME"
        for speaker in self.speakers:
            yield f"--role {shlex.quote(speaker)}=ROLE"


def rows_as_turns(names: Sequence[str], records: Sequence[SourceRow], columns: Columns) -> RowsAsTurns | None:
    """Return how rows are turns, if most have the name of a role and a text, or a speaker and a conversation."""
    keys = find_turn_keys(records[:_ROWS], columns)
    named = () if keys else tuple((key, name) for key, known in _NAMED.items() for name in names if known(name.lower()))
    keys = keys or dict(named)
    if len(named) > 2 or not {"messages.role", "messages.content"} <= keys.keys():
        return None
    role, content = keys["messages.role"], keys["messages.content"]
    speakers = [record[role] for record in records if isinstance(record.get(role), str)]
    known = sum(role_of(speaker, columns.roles) is not None for speaker in speakers)
    others = [name for name in names if name not in (role, content)]
    key = next((name for name in others if _KEY.search(name.lower()) and _is_key(records, name)), None)
    if 2 * known <= len(records) and (key is None or 2 * len(speakers) <= len(records)):
        return None
    order = next((name for name in others if name != key and _is_order(records, name)), None)
    unknown = [speaker for speaker in dict.fromkeys(speakers) if role_of(speaker, columns.roles) is None]
    return RowsAsTurns(key, order, tuple(unknown) if len(unknown) <= _SPEAKERS else (), named)


_NAMED = {
    "messages.role": frozenset({
        "sender", "author", "speaker", "sent by", "sender_name", "from_name", "who", "participant", "username",
        "user_name", "speaker_name", "author_name", "sender_type", "author_type",
    }).__contains__,
    "messages.content": frozenset({"message", "text", "body", "content", "msg", "utterance"}).__contains__,
}  # fmt: skip
"""Names of columns of logs, in lower case, whose rows are turns if another column names the conversation."""


def _is_key(records: Sequence[SourceRow], name: str) -> bool:
    """Return whether all rows have a text or a number in a column, and some the same."""
    values = [record.get(name) for record in records]
    are_keys = all(isinstance(value, (str, int)) and value != "" for value in values)
    return are_keys and (len(values) < 2 or len({str(value) for value in values}) < len(values))


def _is_order(records: Sequence[SourceRow], name: str) -> bool:
    """Return whether a column is named like a position or a time, and all rows have a number or an ISO time in it."""
    return bool(_ORDER.search(name.lower())) and all(_has_order(record.get(name)) for record in records)


def _has_order(value: Any) -> bool:
    if isinstance(value, str):
        return _SORTED.fullmatch(value) is not None
    return isinstance(value, (int, float)) and not isinstance(value, bool)
