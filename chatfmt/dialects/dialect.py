"""The `Dialect` type: an entry of the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
from msgspec import Struct

from .kit.columns import Columns, SourceRow

Convert = Callable[[pa.RecordBatch, Columns], pa.RecordBatch]
"""Convert a batch of source rows to a CONVERSATIONS batch."""
FindParts = Callable[[SourceRow, Columns], Mapping[str, str] | None]
"""Return the column (or the key inside a turn) of each part of a record, None if the dialect cannot read it."""


class Dialect(Struct, frozen=True):
    """One way in which datasets represent conversations: how to recognise it and how to convert it.

    `summary` is a noun phrase for users. `rank` is the position in the registry, by which the first dialect that fits
    a row is found; the hundreds are

        100  rows with columns of their own: segments, trees, preferences
        200  formats of providers and of tool-calling datasets
        300  lists of turns
        400  columns of text
        500  dialects that are read only by name

    `type` is the dataset type of its output. `parts` are the parts that `--map` can give it in addition to SIDE_PARTS.
    `covers` names the dialects whose rows it reads too. With `opt_in` it is never detected, only used by name, because
    another dialect reads the same rows; with `is_sure` it is detected only in rows for which that is true, and other
    rows are left to it by name; with `finds` it is suggested only for rows for which that is true. With `whole_file` it
    needs all rows of a file in one batch. `decided_by` are keys of answers by which it chooses some, such as a score.
    """

    convert: Convert
    find_parts: FindParts
    summary: str
    rank: int
    type: str = "language-modeling"
    parts: frozenset[str] = frozenset({"messages"})
    covers: frozenset[str] = frozenset()
    opt_in: bool = False
    is_sure: Callable[[SourceRow, Columns], bool] | None = None
    finds: Callable[[SourceRow, Columns], bool] | None = None
    whole_file: bool = False
    decided_by: frozenset[str] = frozenset()

    @property
    def parses_text(self) -> bool:
        """Whether it parses, when used by name, what the dialects that it covers leave as text."""
        return bool(self.covers) and (self.opt_in or self.is_sure is not None)

    def find_surely(self, record: SourceRow, columns: Columns) -> Mapping[str, str] | None:
        """Return the parts of a record that detection may give to this dialect."""
        found = self.find_parts(record, columns)
        return found if found is None or self.is_sure is None or self.is_sure(record, columns) else None
