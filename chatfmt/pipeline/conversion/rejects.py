"""Rows that are left out: each with its error and its raw text, passed on in the order of the source."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from ... import sources
from ...errors import Location, RowError
from ...manifest import RawRow, Reject
from .row_counts import RowCounts


class Rejected(Struct, gc=False):
    """A row that is left out: why, its number in the file, its raw text, and its line once that is known."""

    error: RowError
    """The error of this row, and of others that are left out for the same reason."""
    row: int | None
    raw: bytes | None
    line: int | None = None

    @property
    def at(self) -> Location:
        """The location of the row in its source."""
        at = self.error.at
        return Location(at.file, self.row, at.message, self.line, at.byte)

    @property
    def order(self) -> int:
        """A sort key for rows of one file: those without a number first."""
        return -1 if self.row is None else self.row


OnRejects = Callable[[Sequence[Rejected]], None]
"""Called with some rows that are left out."""


def ignore_rejects(rows: Sequence[Rejected]) -> None:
    """Drop rows that cannot be converted."""


def to_reject(rejected: Rejected) -> Reject:
    """Return the entry of the rejects file for a row that was left out."""
    error, raw = rejected.error, rejected.raw
    return Reject(error.code, error.message, rejected.at, None if raw is None else RawRow.of(raw, error.csv))


class RejectBuffer:
    """Pass rejects on in the order of the source: a whole batch is read before its first row is converted.

    `on_bad` and `on_unreadable` add rows that are bad, and those that the reader could not read and that are in no
    batch; both are None without `on_rejects`, when the first bad row is raised. `lines` finds the line of a row.
    """

    def __init__(
        self, on_rejects: OnRejects | None, counts: RowCounts, file: str, lines: sources.LineFinder | None = None
    ) -> None:
        self._on_rejects, self._counts, self._file, self._lines = on_rejects, counts, file, lines
        self._waiting: list[Rejected] = []
        self.on_bad = self._waiting.extend if on_rejects is not None else None
        self.on_unreadable = self._add_unreadable if on_rejects is not None else None

    def _add_unreadable(self, error: RowError, raw: bytes) -> None:
        self._counts.reject([error.code])
        error.locate(self._file)
        self._waiting.append(Rejected(error, error.at.row, raw, error.at.line))

    def flush(self) -> None:
        if self._on_rejects is None or not self._waiting:
            return
        self._waiting.sort(key=lambda rejected: rejected.order)
        if self._lines is not None:
            for rejected in self._waiting:
                if rejected.line is None and rejected.row is not None:
                    rejected.line = self._lines.line(rejected.row)
        self._on_rejects(self._waiting)
        self._waiting.clear()
