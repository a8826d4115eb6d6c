"""Find the rows that `--skip` and `--limit` leave: of the source, or of those that `--where` keeps.

Where the last of them is found before anything is cut into shards, so that every executor reads the same rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from ... import mapping, sources
from ...errors import InputError, Location, RowError
from ...mapping import FieldMapping
from ...mapping.names import ROW_NAME
from ...recipe import Recipe
from ...render.sandbox.expressions import expression, text_expression
from ...schema import ROW
from ...sources import Source
from ...sources.model import whole_file
from ...turn_columns import IntArray
from ..conversion.source_rows import column_names, row_number, split_rows


class Window:
    """The rows of a source that `--skip` and `--limit` leave; with `--where` they count the rows that it keeps.

    A row whose expression fails does not count: converting it reports the error.
    """

    def __init__(self, recipe: Recipe, *, nulls: bool) -> None:
        self._skip, self._left = recipe.skip, recipe.limit
        self._rows_kept = rows_kept(where_of(recipe), nulls=nulls)

    @property
    def is_complete(self) -> bool:
        """Whether no later row belongs to the window."""
        return self._left == 0

    def cut(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the part of the next batch that is inside the window."""
        kept = self._rows_kept(batch)
        first = 0 if not self._skip else int(kept[self._skip]) if self._skip < len(kept) else len(batch)
        kept, self._skip = kept[self._skip :], max(0, self._skip - len(kept))
        if self._left is None:
            return batch.slice(first)
        found = kept[: self._left]
        stop = len(batch) if len(found) < self._left else int(found[-1]) + 1 if len(found) else first
        self._left -= len(found)
        return batch.slice(first, stop - first)


def rows_kept(where: FieldMapping, *, nulls: bool, failed: bool = False) -> Callable[[pa.RecordBatch], IntArray]:
    """Return a function that finds the indices of the rows that `--where` keeps; of exploded rows, one is enough.

    With `failed` the rows for which the expression fails are among them.
    """
    if where.where is None:
        return lambda batch: np.arange(len(batch))
    select = mapping.mapper(replace(where, fields=(), keys=()), text_expression, expression, nulls=nulls)

    def find(batch: pa.RecordBatch) -> IntArray:
        try:
            rows = select(batch).batch.column(ROW)
        except RowError:
            if len(batch) == 1:
                return np.arange(int(failed))
            return np.array([index for index, row in enumerate(split_rows(batch)) if len(find(row))], np.int64)
        return np.searchsorted(batch.column(ROW).to_numpy(), np.unique(rows.to_numpy()))

    return find


def where_of(recipe: Recipe) -> FieldMapping:
    """Return the part of the mapping that selects rows; grouped rows are selected before they are grouped."""
    return mapping.plan({}) if recipe.groups_rows else mapping.plan({}, explode=recipe.explode, where=recipe.condition)


def matching_rows(recipe: Recipe, source: Source, split: str, *, nulls: bool) -> str:
    """Return the window as a slice of a split, `[3:17]`; reads the split up to the last row of the window.

    Raises UnknownName for a column that no sampled row has, InputError for an unreadable file or an empty window.
    """
    names = column_names(sources.sample(source, split, bad=[]))
    where, window = where_of(recipe), Window(recipe, nulls=nulls)
    if names:
        mapping.check_columns(where, names)
    reads_all = ROW_NAME in re.findall(r"\w+", recipe.condition or "")
    rows, first, stop = Numbered(source, split, None if reads_all else where.reads(names)), None, 0
    for before, batch in rows:
        part = window.cut(batch)
        if len(part):
            first = before + row_number(part, 0) if first is None else first
            stop = before + row_number(part, -1) + 1
        if window.is_complete:
            return f"[{first or ''}:{stop}]"
    if first is None and recipe.skip and not recipe.allow_empty:
        text = f"`--skip {recipe.skip:,}` skips all rows of `{split}` that --where keeps"
        raise InputError(text, code="file.empty", at=Location(source.shown), hint="skip fewer rows")
    first = rows.count if first is None else first
    return f"[{first}:]" if first and recipe.skip else ""


class Numbered:
    """The batches of a split, each with the number of records in the files before its own; then their `count`."""

    def __init__(self, source: Source, split: str, columns: tuple[str, ...] | None) -> None:
        self._source, self._split, self._columns, self.count = source, split, columns, 0

    def __iter__(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        for file in self._source.splits[self._split]:
            before = self.count
            columns = self._columns if file.format in ("parquet", "arrow") else None

            def count_bad(error: RowError, raw: bytes, before: int = before) -> None:
                self.count = max(self.count, before + (error.at.row or 0) + 1)

            piece = whole_file(file, self._split, self._source.options)
            for batch in sources.read(piece, columns=columns, on_bad=count_bad):
                self.count = max(self.count, before + row_number(batch, -1) + 1)
                yield before, batch
