"""Find the line of a text file on which a record begins: rows count records from 0, editors count lines from 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...errors import ChatfmtError, Location
from ..formats.jsonl import TextPosition
from ..model import ByteRange, InputSplit, Source, whole_file
from .index import positions_from, record_positions


class LineFinder:
    """The lines of the records of an input split; the file is read once more, up to the last record asked for.

    Records of columnar files, of documents under a `field` and of grouped rows have no line of their own.
    """

    def __init__(self, split: InputSplit) -> None:
        self._split = split
        self._positions: Iterator[TextPosition] = iter(())
        self._next: TextPosition | None = None

    def with_line(self, at: Location) -> Location:
        """Return a location in the split with its line, if it has a row and no line."""
        if at.row is None or at.line is not None or at.file not in ("", self._split.shown):
            return at
        return Location(at.file, at.row, at.message, self.line(at.row), at.byte)

    def line(self, row: int) -> int | None:
        """Return the line of a record, by its number in the file; None if it has none."""
        if self._next is None or self._next.row > row:
            self._positions, self._next = positions(self._split), TextPosition(-1)
        with suppress(ChatfmtError, OSError):
            while self._next is not None and self._next.row < row:
                self._next = next(self._positions, None)
        return self._next.line if self._next is not None and self._next.row == row else None


@contextmanager
def lines_named(source: Source) -> Iterator[None]:
    """Add the line to an error about a row of a file of the source."""
    try:
        yield
    except ChatfmtError as error:
        if finder := line_finders(source).get(error.at.file):
            error.at = finder.with_line(error.at)
        raise


def line_finders(source: Source) -> dict[str, LineFinder]:
    """Return a finder for each file of a source, by the name that errors have for the file."""
    return {
        file.shown: LineFinder(whole_file(file, split, source.options))
        for split, files in source.splits.items()
        for file in files
    }


def positions(split: InputSplit) -> Iterator[TextPosition]:
    """Yield where the records of a split begin, in order; nothing if they are not on lines of their own."""
    options, piece = split.options, split.piece
    if split.format in ("parquet", "arrow") or options.field is not None or options.grouped:
        return iter(())
    if isinstance(piece, ByteRange) and piece.start:
        return positions_from(split, options, TextPosition(split.first_row, piece.line, piece.start))
    return record_positions(split, options)
