"""Find the line of a text file on which a record begins: rows count records from 0, editors count lines from 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...errors import ChatfmtError, Location
from ..bytes.text import content
from ..formats.jsonl import TextPosition, without_bom
from ..model import ByteRange, InputSplit, LineRun, Source, whole_file
from .index import line_runs, positions_from, record_positions

_NO_RUN = LineRun(0, 0, 0)


class LineFinder:
    """The lines of the records of an input split: those that its reader adds, and of others by reading the file again.

    Records of columnar files, of documents under a `field` and of grouped rows have no line of their own.
    """

    def __init__(self, split: InputSplit) -> None:
        self._split = split
        self._runs: Iterator[LineRun] = iter(())
        self._run: LineRun | None = None
        self._added = _NO_RUN

    def add(self, run: LineRun) -> None:
        """Add lines that follow those added before; after a gap these are forgotten."""
        row, line, rows = self._added
        follows = (row + rows, line + rows) == run[:2]
        self._added = LineRun(row, line, rows + run.rows) if follows else run

    def with_line(self, at: Location) -> Location:
        """Return a location in the split with its line, if it has a row and no line."""
        if at.row is None or at.line is not None or at.file not in ("", self._split.shown):
            return at
        return Location(at.file, at.row, at.message, self.line(at.row), at.byte)

    def line(self, row: int) -> int | None:
        """Return the line of a record, by its number in the file; None if it has none."""
        first, line, rows = self._added
        if not first <= row < first + rows:
            first, line, rows = self._run or _NO_RUN
        if not first <= row < first + rows:
            self._seek(row)
            first, line, rows = self._run or _NO_RUN
        return line + row - first if rows and first <= row else None

    def _seek(self, row: int) -> None:
        """Find the run of a record, or that of the next one after it."""
        if self._run is None or self._run.row > row:
            self._runs, self._run = runs(self._split), LineRun(-1, 0)
        with suppress(ChatfmtError, OSError):
            while self._run is not None and self._run.row + self._run.rows <= row:
                self._run = next(self._runs, None)


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


def runs(split: InputSplit) -> Iterator[LineRun]:
    """Yield the lines of the records of a split, in order; nothing if they are not on lines of their own."""
    options, piece = split.options, split.piece
    if split.format in ("parquet", "arrow") or options.field is not None or options.grouped:
        return iter(())
    start = TextPosition()
    if isinstance(piece, ByteRange) and piece.start:
        start = TextPosition(split.first_row, piece.line, piece.start)
    if split.format == "jsonl":
        chunks = content(split, options, start.byte)
        return line_runs(chunks if start.byte else without_bom(chunks)[0], start, options.max_row_bytes)
    found = positions_from(split, options, start) if start.byte else record_positions(split, options)
    return (LineRun(each.row, each.line) for each in found)
