"""Trace the leaves of source rows into the conversations made of them.

A leaf is a value that is neither a list nor an object, named by its path: `messages[].content`, `metadata.source`. Text
that holds a list or an object has leaves too, unless the conversation has that text as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import pyarrow as pa
from msgspec import Struct, field

from ...dialects.chat.turns import CONTENT_KEYS, ROLE_KEYS, transpose
from ...dialects.kit.literals import read_literal
from ...dialects.kit.tool_specs import SCHEMA_TYPES
from ...json_columns import decode_objects, text_of_bytes
from ...schema import CONVERSATIONS, MEDIA
from .read_items import ReadItems, step_of

_WORD = re.compile(r"\w+")
_ALIKE = 0.9
"""The share of the words of a text that a conversation must have to hold that text, however it was cut or joined."""
_NAMED = frozenset({"role", "type", "name", "id", "tool_call_id"})
_READ = frozenset({*CONTENT_KEYS, *ROLE_KEYS, *_NAMED, "channel", "recipient"} - {"id"})
"""Keys of turns whose values may become others; those of other keys are copied, if they are."""
_REPLACED = {**SCHEMA_TYPES, "any": "string"}
"""What the types of tools' arguments become, such as `number` for `float`."""
_DEPTH = 4
"""The number of keys after which a path ends: deeper are the keys of the data, such as the parameters of a tool."""
_NESTED = 100
"""The levels of lists and objects that are looked into."""
_VALUES = 20
"""The values of a leaf that are kept, to judge it by."""


class OutputValues:
    """The values of the output of one source row, or of all rows that are read together."""

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self.texts: set[str] = set()
        """What was said, without the names of roles, calls and types."""
        self.keys: set[str] = set()
        self._names: set[str] = set()
        self._pairs: set[tuple[str, str]] = set()
        for record in records:
            self._add(record, "")

    def _add(self, value: Any, key: str, depth: int = 0) -> None:
        self.keys.add(key)
        if isinstance(value, str):
            (self._names if key in _NAMED else self.texts).add(value)
        elif isinstance(value, (Mapping, list)):
            for name, item in value.items() if isinstance(value, Mapping) else ((key, item) for item in value):
                if depth < _NESTED:
                    self._add(item, name, depth + 1)
        elif value is not None:
            self._pairs.add((key, str(value)))

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(word.group() for text in self.texts | self._names for word in _WORD.finditer(text))

    def holds(self, value: Any, key: str, *, piece: bool = False) -> bool:
        """Return whether the conversation has a text or a piece of one, or a number or a boolean under that key."""
        value = text_of_bytes(value) or value if isinstance(value, bytes) else value
        if not isinstance(value, str):
            return (key, str(value)) in self._pairs or (not isinstance(value, bool) and str(value) in self._words)
        if value in self.texts or value in self._names or (key == "type" and _REPLACED.get(value) in self._names):
            return True
        if piece and any(value in text for text in self.texts):
            return True
        found = bytes(word.group() in self._words for word in _WORD.finditer(value))
        return bool(found) and sum(found) >= _ALIKE * len(found)


def records_by_row(batch: pa.RecordBatch) -> dict[int, list[dict[str, Any]]]:
    """Return the conversations of a CONVERSATIONS batch by their source rows, without the kept columns."""
    names = [name for name in batch.schema.names if name in (*CONVERSATIONS[1:], *MEDIA)]
    records = decode_objects({name: batch.column(name) for name in names}) if names else []
    rows: dict[int, list[dict[str, Any]]] = {}
    for row, record in zip(batch.column("row").to_pylist(), records, strict=False):
        rows.setdefault(row, []).append(record)
    return rows


class Entry(Struct):
    """The known facts about a leaf, and some of its values.

    `rows` have it. Of those, the conversation holds no value in the rows `left`, and every value in the rows `copied`;
    in the rows `dropped` it has not even its key, or no such value of some turns, but others of the same column.
    """

    rows: int = 0
    left: int = 0
    dropped: int = 0
    copied: int = 0
    values: list[Any] = field(default_factory=list)


Entries = dict[str, Entry]
"""The leaves of a source by their paths."""


def trace_value(entries: Entries, name: str, value: Any, conversation: OutputValues, items: ReadItems) -> None:
    """Add the leaves in one column of a row; `items` are those that are read of its lists, where it is not all."""
    leaves: dict[str, list[tuple[Any, bool]]] = {}
    for path, leaf, found in _leaves(value, name, name, 0, conversation, items):
        leaves.setdefault(path, []).append((leaf, found))
    is_read = any(found for some in leaves.values() for _, found in some)
    for path, some in leaves.items():
        entry, held = entries.setdefault(path, Entry()), [found for _, found in some]
        entry.rows, entry.left, entry.copied = entry.rows + 1, entry.left + (not any(held)), entry.copied + all(held)
        key = path.rpartition(".")[2].rstrip("[]")
        copies = path == f"{name}[].{key}" and key not in _READ and key in conversation.keys
        entry.dropped += is_read and not (all(held) if copies else any(held) or key in conversation.keys)
        entry.values += [leaf for leaf, _ in some[: _VALUES - len(entry.values)]]


def _leaves(
    value: Any, path: str, key: str, depth: int, conversation: OutputValues, items: ReadItems, level: int = 0
) -> Iterator[tuple[str, Any, bool]]:
    """Yield the leaves of a value with their paths, and whether the conversation holds them; skip blank text."""
    if value is None or (isinstance(value, str) and (not value or value.isspace())):
        return
    piece = key in CONTENT_KEYS and "[]" in path.partition("[]")[2]
    found = not isinstance(value, (list, Mapping)) and conversation.holds(value, key, piece=piece)
    whole = found and not any(each.startswith(path) for each in items.indices)
    inner = value if whole else read_literal(value)
    if not depth and isinstance(inner, Mapping) and not inner.keys().isdisjoint(ROLE_KEYS):
        inner = transpose(inner) or inner
    if level == _NESTED or not isinstance(inner, (list, Mapping)):
        yield path, value, found
    elif isinstance(inner, Mapping):
        for name, item in inner.items():
            inside = f"{path}.{name}" if depth < _DEPTH else path
            yield from _leaves(item, inside, str(name), depth + 1, conversation, items, level + 1)
    else:
        read = items.indices.get(path, ())
        for place, item in enumerate(inner):
            step = step_of(place, len(inner), read) if read else "" if path.endswith("[][]") else "[]"
            yield from _leaves(item, path + step, key, depth, conversation, items, level + 1)
