"""Figures of the rows with each value of a column, for a bounded number of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from msgspec import Struct, field

from ....errors import UnknownName, UsageError
from ....field_path import top_level
from ....json_columns import JSON, dumps, json_values, to_plain
from ....turn_columns import IntArray
from ...conversion.source_rows import column_for
from .histogram import Histogram, histograms

SHOWN = 20
"""The values that are shown, the most frequent ones; the rest are `OTHER`."""
KEPT = 1000
"""The values that are counted by themselves while rows are read; those first seen later are `OTHER`."""
OTHER, MISSING = "other", "(no value)"


class Group(Struct):
    """The lengths of the conversations with one value."""

    lengths: dict[str, Histogram] = field(default_factory=histograms)

    @property
    def conversations(self) -> int:
        return self.lengths["turns"].count

    @property
    def known(self) -> dict[str, Histogram]:
        """The histogram of each kind of length that is known."""
        return {name: lengths for name, lengths in self.lengths.items() if lengths.count}

    def merge(self, other: Group) -> None:
        """Add the lengths of other conversations."""
        for name, lengths in other.lengths.items():
            self.lengths[name].merge(lengths)


class Groups(Struct):
    """The conversations with each value of a column."""

    column: str
    found: dict[str, Group] = field(default_factory=dict)
    rest: Group = field(default_factory=Group)

    def add(self, values: Sequence[str], lengths: dict[str, IntArray]) -> None:
        """Count conversations by their values and their lengths, which are those of LENGTHS that are known."""
        names, places, counts = np.unique(np.array(values, dtype=object), return_inverse=True, return_counts=True)
        for place in np.argsort(-counts, kind="stable").tolist():  # the most frequent are the last to be left out
            same = places == place
            group = self._of(str(names[place]))
            for length, each in lengths.items():
                group.lengths[length].add(each[same])

    def merge(self, other: Groups) -> None:
        """Add the conversations that follow."""
        for name, group in other.found.items():
            self._of(name).merge(group)
        self.rest.merge(other.rest)

    def check(self, columns: pa.Schema) -> None:
        """Raise UsageError if the column is a path into one of the `columns`, and leads nowhere in all rows."""
        if self.found.keys() == {MISSING} and self.column not in columns.names:
            root = top_level(self.column, columns.names)
            listed = pa.types.is_list(columns.field(root).type)
            hint = f"`{root}` is a list: {root}[]{self.column.removeprefix(root)}" if listed else ""
            raise UsageError(f"no row has a value at `{self.column}`, which --by names", hint=hint)

    def _of(self, name: str) -> Group:
        if name not in self.found and len(self.found) >= KEPT:
            return self.rest
        return self.found.setdefault(name, Group())

    def largest(self) -> Iterator[tuple[str, Group]]:
        """Yield up to SHOWN values with their groups, the most frequent first, then the others as one.

        Text has quotes only where these tell `"1"` from the number.
        """
        ordered = sorted(self.found.items(), key=lambda item: (-item[1].conversations, item[0]))
        rest = Group()
        for group in (self.rest, *(group for _, group in ordered[SHOWN:])):
            rest.merge(group)
        others = {OTHER: rest} if rest.conversations else {}
        for name, group in (*ordered[:SHOWN], *others.items()):
            plain = name[1:-1] if name[0] == '"' else name
            yield name if plain in self.found or (plain in others and name != plain) else plain, group


def values_of(path: str, source: pa.RecordBatch, conversations: pa.RecordBatch) -> list[str]:
    """Return the value of a column of the source for each conversation that was read from it, text in quotes."""
    column = column_for(path, source, conversations)
    plain = json_values(column) if column.type == JSON else column.to_pylist()
    return [
        MISSING if value is None else f'"{value}"' if isinstance(value, str) else dumps(to_plain(value))
        for value in plain
    ]


def check_column(path: str, names: Sequence[str]) -> None:
    """Raise UnknownName for a column that no sampled row has."""
    if top_level(path, tuple(names)) not in names:
        raise UnknownName.of("column", top_level(path, tuple(names)), [name for name in names if name[:1] != "#"])
