"""Paths to a value in a row or in a JSON document, as users write them, followed over Arrow columns or Python data.

    question            a column; a name with dots or brackets is written as it is
    a.b                 the key `b` of the object `a`; a."b.c" is the key `b.c`
    a[0]   a[-1]        the first or last item of a list
    a[]                 all items, as a list
    a[].b               `b` of every item, as a list as long as `a`; null where an item lacks it
    a[].b[]             the items of all those lists, as one list
    values(a)           the values of the object `a`, as a list; `values(.)` those of the row itself

In a row (`--map`, `--explode`, …) a path that leads nowhere gives null, and text that a path leads into is read as
JSON if it is JSON.

In a document (`--field`) a path starts at the document itself: `data`, `data[].paragraphs[]`, `[].items`,
`values(data)`, `.` for the document. It has no indices and no quoted keys, and it must lead somewhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from .errors import UsageError
from .json_columns import ABSENT, JSON, TEXT, decode_objects, decode_values, dumps, encode_column, loads
from .schema import KEYS, ROW
from .turn_columns import lengths_of, offsets_of, to_lists


class Every(Enum):
    """Steps that turn one value into a list: all items of a list, or all values of an object."""

    ITEM = "[]"
    VALUE = "values()"


Step = str | int | Every
_FIRST = re.compile(r'[^.\[\]"]+')
_NEXT = re.compile(r'\.([^.\[\]"]+)|\."([^"]+)"|\[(-?\d{1,9})\]|\[\]')
_DOCUMENT_PART = re.compile(r"((?:.*[^\[\]])?)((?:\[\])*)", re.DOTALL)


class FieldPath(Struct, frozen=True):
    """A parsed path; `text` is as the user wrote it."""

    text: str
    steps: tuple[Step, ...]

    @classmethod
    def parse(cls, text: str) -> FieldPath:
        """Parse a path in a row; raises UsageError that shows from where it is invalid."""
        inner = re.fullmatch(r"values\((.*)\)(.*)", text, re.DOTALL)
        if inner is None:
            return cls(text, _steps(text))
        before = () if inner[1] == "." else _steps(inner[1])
        return cls(text, (*before, Every.VALUE, *_next_steps(inner[2], text)))

    @classmethod
    def parse_in_document(cls, text: str) -> FieldPath:
        """Parse a path in a document (`--field`); raises UsageError."""
        if inner := re.fullmatch(r"values\((.*)\)", text):
            return cls(text, (*cls.parse_in_document(inner[1]).steps, Every.VALUE))
        steps: list[Step] = []
        for part in [] if text in ("", ".") else text.split("."):
            found = _DOCUMENT_PART.fullmatch(part)
            if not part or found is None:
                raise UsageError(f"`--field {text}` is not a path", hint="write it as `data` or `data[].items[]`")
            steps += [found[1]] if found[1] else []
            steps += [Every.ITEM] * found[2].count("[]")
        return cls(text, tuple(steps))

    @property
    def root(self) -> str | None:
        """The column the path starts in; None for `values(.)`."""
        return self.steps[0] if isinstance(self.steps[0], str) else None

    @property
    def is_many(self) -> bool:
        """Whether the path makes a list by itself, as `a[]` does."""
        return any(isinstance(step, Every) for step in self.steps)

    def find(self, value: Any) -> Any:
        """The value that the path leads to in plain data; None where it leads nowhere."""
        found = _follow(value, self.steps)
        return None if found is ABSENT else found

    def find_all(self, value: Any) -> Iterator[Any]:
        """Yield the values that the path leads to, in order; raises NoSuchStep where it leads nowhere."""
        return _find_all(value, self.steps)

    def column(self, batch: pa.RecordBatch) -> pa.Array:
        """The values that the path leads to in the rows of a source batch; null where it leads nowhere."""
        if self.text in batch.schema.names:
            return batch.column(self.text)
        if self.root is None:
            rows = decode_objects({name: batch.column(name) for name in batch.schema.names if name != ROW})
            return encode_column([_follow(row, self.steps) for row in rows])
        if self.root not in batch.schema.names:
            return pa.nulls(len(batch), TEXT)
        return _walk(batch.column(self.root), self.steps[1:])


class NoSuchStep(LookupError):
    """A `step` of a path does not lead on from `value`."""

    def __init__(self, step: Step, value: Any) -> None:
        super().__init__(step, value)
        self.step, self.value = step, value


@lru_cache(maxsize=1024)
def path_of(text: str) -> FieldPath | None:
    """The path in `text`; None if it can only be the name of a column."""
    if "." not in text and "[" not in text and not text.startswith("values("):
        return None
    try:
        return FieldPath.parse(text)
    except UsageError:
        return None


def value_at(record: Any, text: str) -> Any:
    """The value at the column or path `text` in a record; None where it leads nowhere. A column may be named `a.b`."""
    if (type(record) is dict or isinstance(record, Mapping)) and text in record:
        return record[text]
    path = path_of(text)
    return None if path is None else path.find(record)


def top_level(text: str, names: Collection[str]) -> str:
    """The column that a path starts in, given the `names` of all columns."""
    path = None if text in names else path_of(text)
    return text if path is None or path.root is None else path.root


def expression_for(text: str, names: Collection[str]) -> str:
    """Return the expression that reads a column or path in a template: `a.b`, or `row["my text"].b`."""
    column = top_level(text, names)
    return text if column.isidentifier() else f"row[{dumps(column)}]{text.removeprefix(column)}"


def _steps(text: str) -> tuple[Step, ...]:
    first = _FIRST.match(text)
    if first is None:
        raise _unreadable(text, text)
    return first[0], *_next_steps(text[first.end() :], text)


def _next_steps(rest: str, whole: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    while rest:
        found = _NEXT.match(rest)
        if found is None:
            raise _unreadable(whole, rest)
        name, quoted, index = found.groups()
        steps.append(name or quoted or (int(index) if index else Every.ITEM))
        rest = rest[found.end() :]
    return tuple(steps)


def _unreadable(whole: str, rest: str) -> UsageError:
    return UsageError(f"`{whole}` is not a path from `{rest}` on", hint="a path is like `a.b[0].c` or `a[]`")


def _follow(value: Any, steps: Sequence[Step]) -> Any:
    for place, step in enumerate(steps):
        if isinstance(value, str):
            value = _parsed(value)
        if isinstance(step, Every):
            return _follow_all(value, step, steps[place + 1 :])
        value = _child(value, step)
    return value


def _child(value: Any, step: str | int) -> Any:
    if isinstance(step, str):
        return value.get(step, ABSENT) if isinstance(value, (dict, Mapping)) else ABSENT
    return value[step] if isinstance(value, list) and -len(value) <= step < len(value) else ABSENT


def _children(value: Any, step: Every) -> list[Any] | None:
    if not isinstance(value, list if step is Every.ITEM else dict):
        return None
    return value if isinstance(value, list) else list(value.values())


def _find_all(value: Any, steps: Sequence[Step]) -> Iterator[Any]:
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    inner = _children(value, step) if isinstance(step, Every) else [_child(value, step)]
    if inner is None or inner == [ABSENT]:
        raise NoSuchStep(step, value)
    for item in inner:
        yield from _find_all(item, rest)


def _follow_all(value: Any, step: Every, rest: Sequence[Step]) -> Any:
    items = _children(value, step)
    if items is None:
        return ABSENT
    found = [None if item is ABSENT else item for item in (_follow(item, rest) for item in items)]
    if any(isinstance(later, Every) for later in rest):
        return list(chain.from_iterable(item for item in found if item is not None))
    return found


def _parsed(text: str) -> Any:
    try:
        return loads(text)
    except ValueError:
        return ABSENT


def _walk(column: pa.Array, steps: Sequence[Step]) -> pa.Array:
    """Follow the steps in a column: with kernels for structs and lists, in Python for JSON and everything else."""
    if not steps or (len(steps) == 1 and steps[0] is Every.ITEM and pa.types.is_list(column.type)):
        return column
    step, type = steps[0], column.type
    if isinstance(step, str) and pa.types.is_struct(type):
        found = type.get_field_index(step) >= 0
        return _walk(pc.struct_field(column, step), steps[1:]) if found else pa.nulls(len(column), TEXT)
    if pa.types.is_list(type) and (_names_key(steps) or not _holds_json(type)):
        if isinstance(step, int):
            return _walk(_items_at(column, step), steps[1:])
        if step is Every.ITEM:
            return _walk_items(column, steps[1:])
    return encode_column([_follow(value, steps) for value in decode_values(column)])


def _holds_json(type: pa.ListType) -> bool:
    """Whether the turns of a list have JSON fields, whose meaning a bare struct would lose."""
    turn = type.value_type
    return pa.types.is_struct(turn) and any(field.type == JSON or field.name == KEYS for field in turn)


def _names_key(steps: Sequence[Step]) -> bool:
    return len(steps) > 1 and isinstance(steps[1], str)


def _items_at(column: pa.ListArray, index: int) -> pa.Array:
    lengths = lengths_of(column)
    there = lengths > index if index >= 0 else lengths >= -index
    indices = offsets_of(lengths)[:-1] + (index if index >= 0 else lengths + index)
    return column.flatten().take(pa.array(indices, mask=~there))


def _walk_items(column: pa.ListArray, rest: Sequence[Step]) -> pa.Array:
    items = _walk(column.flatten(), rest)
    lengths = lengths_of(column)
    if any(isinstance(step, Every) for step in rest):
        if not pa.types.is_list(items.type):
            return encode_column([_follow(value, (Every.ITEM, *rest)) for value in decode_values(column)])
        ends = offsets_of(lengths_of(items))[offsets_of(lengths)]
        lengths, items = np.diff(ends), items.flatten()
    return to_lists(items, lengths, column.is_null())
