"""Read one input split of any format as source batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from ..errors import ChatfmtError, RowError, located
from ..json_columns import dumps, edit_keys
from ..schema import KEYS, ROW
from ..stores import is_remote
from .bytes.remote_cache import kept_here
from .bytes.text import content, needs_recoding
from .bytes.unchanged import while_unchanged
from .formats.arrow import read_arrow
from .formats.columnar import open_parquet, read_parquet
from .formats.csv import read_cells
from .formats.grouped import rows_in_groups
from .formats.json_array import read_elements
from .formats.json_document import document_records
from .formats.jsonl import TextPosition, read_lines
from .formats.rejects import rows_in_rejects
from .json.record_batch import Record, raise_bad, report_bad, to_batches
from .json.strict import as_record
from .model import DEFAULT_READ, ByteRange, InputSplit, LineRun, OnBad, ReadOptions, RecordRange, RowGroups


def read(
    split: InputSplit, *, columns: Sequence[str] | None = None, skip: Collection[str] = (),
    on_bad: OnBad | None = None,
    batch_rows: int = DEFAULT_READ.batch_rows, batch_bytes: int = DEFAULT_READ.batch_bytes,
    line_bytes: int | None = None, on_lines: Callable[[LineRun], None] | None = None,
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """Yield source batches of `split`: `#row` first, then all columns, or those in `columns` that exist.

    Of text formats, in which any row may have columns of its own, all columns but those in `skip`.

    A bad record goes to `on_bad` with its error and its bytes, and keeps its row number. Raises RowError for a bad
    record without `on_bad`, InputError for a file that is damaged or has changed since it was planned.
    """
    if split.content is not None and split.identity is None and is_remote(split.uri):
        split = replace(split, uri=kept_here(split.uri))
    options = ReadOptions(columns, on_bad, batch_rows, batch_bytes, split.options.max_row_bytes, skip, line_bytes,
                          on_lines)  # fmt: skip
    return while_unchanged(split, partial(_read, split, options))


def _read(split: InputSplit, options: ReadOptions) -> Iterator[pa.RecordBatch]:
    if split.options.rejects or split.options.grouped:
        lines = replace(split, options=replace(split.options, rejects=False, grouped=False))
        rows_in = rows_in_rejects if split.options.rejects else rows_in_groups
        plain = replace(options, columns=None, skip=(), on_bad=None, on_lines=None)
        batches = rows_in(_read(lines, plain), split.shown, options.on_bad)
    elif split.format == "parquet":
        return _read_parquet(split, options)
    elif split.format == "arrow":
        return read_arrow(split.uri, split.shown, split.first_row, split.rows, options)
    else:
        batches = _read_text(split, options)
    if options.columns is None and not options.skip:
        return batches
    return (_select_columns(batch, options) for batch in batches)


def _read_parquet(split: InputSplit, options: ReadOptions) -> Iterator[pa.RecordBatch]:
    piece = split.piece
    if not isinstance(piece, RowGroups):
        with open_parquet(split.uri, split.shown) as file:
            piece = RowGroups(0, file.num_row_groups, split.first_row, split.rows)
    return read_parquet(split.uri, split.shown, piece, split.first_row, options)


def _read_text(split: InputSplit, options: ReadOptions) -> Iterator[pa.RecordBatch]:
    piece = split.piece
    with located(split.shown):
        if isinstance(piece, ByteRange):
            chunks = content(split, split.options, piece.start, piece.stop, options.line_bytes)
            yield from parse(chunks, TextPosition(split.first_row, piece.line, piece.start), split, options)
        else:
            first, stop = _range(piece)
            inside = replace(options, on_bad=_report_between(options.on_bad, first, stop))
            chunks = content(split, split.options, line_bytes=options.line_bytes)
            yield from _rows_between(parse(chunks, TextPosition(), split, inside), first, stop)


def _range(piece: RecordRange | RowGroups) -> tuple[int, float]:
    skip, take = piece.skip, piece.take
    return skip, float("inf") if take is None else skip + take


def parse(
    chunks: Iterable[bytes], start: TextPosition, split: InputSplit, options: ReadOptions
) -> Iterator[pa.RecordBatch]:
    """Yield source batches of the records in `chunks`, which are UTF-8 text."""
    if not needs_recoding(split.options.encoding):
        return _parse(chunks, start, split, options)
    on_bad = None if options.on_bad is None else partial(_report_without_byte, options.on_bad)
    return _without_bytes(_parse(chunks, start, split, replace(options, on_bad=on_bad)))


def _without_bytes(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Drop byte offsets from errors: an offset in the recoded text is not an offset in the file."""
    try:
        yield from batches
    except ChatfmtError as error:
        if error.code != "file.encoding":
            error.at = replace(error.at, byte=None)
        raise


def _report_without_byte(on_bad: OnBad, error: RowError, raw: bytes) -> None:
    error.at = replace(error.at, byte=None)
    on_bad(error, raw)


def _parse(
    chunks: Iterable[bytes], start: TextPosition, split: InputSplit, options: ReadOptions
) -> Iterator[pa.RecordBatch]:
    text = split.options
    if split.format in ("csv", "tsv"):
        return read_cells(chunks, start, options, format=split.format, text=text, names=split.columns)
    if text.field is not None:
        return _read_document(document_records(chunks, split, text.field), options)
    if split.format == "json":
        return read_elements(chunks, start, options, is_part=isinstance(split.piece, ByteRange))
    return read_lines(chunks, start, options)


def _read_document(records: Iterable[object], options: ReadOptions) -> Iterator[pa.RecordBatch]:
    numbered = enumerate(records)
    while some := list(islice(numbered, options.batch_rows)):
        found = [(row, as_record(value)) for row, value in some]
        for row, value in some:
            if as_record(value) is None:
                error = RowError("the record is not an object", code="json.not_object")
                report_bad(error, Record(dumps(value).encode(), row, 1, 0), options.on_bad)
        good = [(row, record) for row, record in found if record is not None]
        if good:
            yield from to_batches([record for _, record in good], [row for row, _ in good])


def _report_between(on_bad: OnBad | None, first: int, stop: float) -> OnBad:
    """Return an `on_bad` that reports (or raises) bad records in [first, stop) and ignores those of other splits."""

    def report(error: RowError, raw: bytes) -> None:
        if error.at.row is not None and first <= error.at.row < stop:
            if on_bad is None:
                raise_bad(error, raw)
            on_bad(error, raw)

    return report


def _rows_between(batches: Iterable[pa.RecordBatch], first: int, stop: float) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        rows = batch.column(0).to_numpy()
        begin, end = int(np.searchsorted(rows, first)), int(np.searchsorted(rows, stop))
        if end > begin:
            yield batch.slice(begin, end - begin)
        if end < len(rows):
            return


def _select_columns(batch: pa.RecordBatch, options: ReadOptions) -> pa.RecordBatch:
    names = batch.schema.names
    wanted = names if options.columns is None else options.columns
    there, left = set(names), {ROW, KEYS, *options.skip}
    kept = [name for name in wanted if name in there and name not in left]
    only = batch.select([ROW, *kept])
    if KEYS not in names:
        return only
    return only.append_column(KEYS, edit_keys(batch.column(KEYS), lambda keys: filter({*kept}.__contains__, keys)))
