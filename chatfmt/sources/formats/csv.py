"""Delimited text (CSV, TSV): RFC 4180 with any delimiter; every cell is read as text, unchanged.

The first record is the header (with `--no-header` the columns are `column1`, `column2`, …), and every record has as
many fields. A quote inside quotes is doubled, and records may span lines. An empty line is not a record.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from ...errors import InputError, Location, RowError, UsageError
from ...json_columns import MOST_COLUMNS, TEXT, TOO_MANY
from ...schema import KEYS, ROW
from ..json.record_batch import SHOWN_BYTES, Record, explain_encoding, raise_bad, report_bad, too_large_error
from ..json.strict import PLAIN_TEXT
from ..model import Format, OnBad, ParseOptions, ReadOptions
from .jsonl import TextPosition, line_blocks, without_bom

CsvRecord = tuple[list[str], Callable[[], Record]]
"""The fields of a record, and a function that returns its bytes and position."""


def read_cells(
    chunks: Iterable[bytes], start: TextPosition, options: ReadOptions, *, format: Format, text: ParseOptions,
    names: Sequence[str] | None = None,
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """Yield source batches of `string` columns; `names` are the column names if the chunks hold no header."""
    sign = delimiter(format, text)

    def describe(error: RowError, raw: bytes) -> None:
        """Report a bad record, with what is needed to parse its text again."""
        error.csv = {"columns": list(names or ()), "delimiter": sign, "quote": text.quote}
        if options.on_bad is None:
            raise_bad(error, raw)
        options.on_bad(error, raw)

    if names is None and text.header:
        start = replace(start, row=start.row - 1)
    records = read_records(chunks, start, format=format, options=text, on_bad=describe)
    if names is None:
        names, records = read_header(records, text)
    rows: list[int] = []
    held: list[list[str]] = []
    size = 0
    for cells, record_of in records:
        record = record_of()
        if len(cells) != len(names):
            report_bad(_wrong_count(len(cells), len(names)), record, describe)
            continue
        rows.append(record.row)
        held.append(cells)
        size += len(record.raw)
        if len(held) >= options.batch_rows or size >= options.batch_bytes:
            yield _batch(held, rows, names)
            rows, held, size = [], [], 0
    if held:
        yield _batch(held, rows, names)


def _batch(records: Sequence[list[str]], rows: Sequence[int], names: Sequence[str]) -> pa.RecordBatch:
    columns = [pa.array(rows, pa.int64()), *(pa.array(column, TEXT) for column in zip(*records, strict=True))]
    return pa.RecordBatch.from_arrays(columns, names=[ROW, *names])


def _wrong_count(found: int, wanted: int) -> RowError:
    hint = f"use `--delimiter` if the fields are separated by another character; {PLAIN_TEXT}"
    return RowError(f"the record has {_fields(found)}, the header has {wanted}", code="csv.fields", hint=hint)


def _fields(count: int) -> str:
    return f"{count} field" if count == 1 else f"{count} fields"


def read_header(records: Iterator[CsvRecord], options: ParseOptions) -> tuple[tuple[str, ...], Iterator[CsvRecord]]:
    """The column names, and the remaining records.

    Raises InputError if a name is duplicate or reserved, or if the delimiter seems to be another.
    """
    first = next(records, None)
    if first is None:
        return (), iter(())
    if len(first[0]) > MOST_COLUMNS:
        at, hint = first[1]().location(), "use `--delimiter` if the fields are separated by another character"
        raise InputError(f"the file has {len(first[0]):,} columns, {TOO_MANY}", code="csv.header", at=at, hint=hint)
    if not options.header:
        return tuple(f"column{number}" for number in range(1, len(first[0]) + 1)), chain([first], records)
    names = tuple(first[0])
    counts = Counter(names)
    for name in names:
        if counts[name] > 1:
            raise _header_error(f"two columns are named `{name}`", first[1]().location())
        if name in (ROW, KEYS):
            raise _header_error(f"a column is named `{name}`, which is reserved by chatfmt", first[1]().location())
    if len(names) == 1 and options.delimiter is None and (other := re.search(r"[;\t|]", names[0])):
        shown_delimiter = repr(other[0])
        hint = f"use `--delimiter {shown_delimiter}`, or `--delimiter ,` if this is intended"
        raise InputError("the header has only one column", code="csv.delimiter", at=Location(line=1), hint=hint)
    return names, records


def _header_error(message: str, at: Location) -> InputError:
    return InputError(message, code="csv.header", at=at, hint=_RENAME)


_RENAME = "rename one, or use `--no-header` if the first line is data"


def read_records(
    chunks: Iterable[bytes], start: TextPosition, *, format: Format, options: ParseOptions, on_bad: OnBad | None = None
) -> Iterator[CsvRecord]:
    """Yield the records of delimited text, including the header, if any; start at row -1 if there is one."""
    if start.byte == 0:
        chunks, bom = without_bom(chunks)
        start = TextPosition(start.row, start.line, bom)
    csv.field_size_limit(2**31 - 1)
    lines = _RecordLines(chunks, start, options)
    reader = csv.reader(lines, strict=True, **_dialect(format, options))
    while True:
        lines.begin()
        try:
            cells = next(reader, None)
            lines.check_end()
        except (csv.Error, RowError) as error:
            bad = error if isinstance(error, RowError) else _explained(str(error))
            if lines.row < 0:
                explain_encoding(bad, lines.record().raw)
                raise InputError(
                    f"the header: {bad.message}", code=bad.code, hint=bad.hint, at=lines.record().location()
                ) from None
            report_bad(bad, lines.record(), on_bad)
        else:
            if cells is None:
                return
            if not cells:
                lines.row -= 1
                continue
            yield cells, lines.record


def delimiter(format: Format, options: ParseOptions) -> str:
    """The field separator: `--delimiter`, or by default a tab for TSV and a comma for CSV. `none` reads each line as
    one field. Raises UsageError."""
    given = {"\\t": "\t", "tab": "\t", "none": "\0"}.get(options.delimiter or "", options.delimiter)
    if given is not None and (len(given) != 1 or given in '\r\n"'):
        raise UsageError(f"`--delimiter {options.delimiter}` is not one character", hint="such as `--delimiter ';'`")
    return given or ("\t" if format == "tsv" else ",")


def _dialect(format: Format, options: ParseOptions) -> dict[str, Any]:
    quoting = {} if options.quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    return {"delimiter": delimiter(format, options), **quoting}


def _explained(error: str) -> RowError:
    if "end of data" in error:
        return RowError("unclosed quote at the end of the file", code="csv.quote", hint=_NO_QUOTE)
    if "expected after" in error:
        return RowError("text after a closing quote", code="csv.quote", hint=_NO_QUOTE)
    return _lone_cr()


def _lone_cr() -> RowError:
    hint = r"write line feeds: perl -pe 's/\r(?!\n)/\n/g' FILE > lines.csv"
    return RowError("line ends with a lone CR", code="csv.newline", hint=hint)


_NO_QUOTE = "use `--no-quote` if quotes are plain text in this file"


class _RecordLines:
    """Decoded lines for `csv.reader`; keeps the bytes of the current record."""

    def __init__(self, chunks: Iterable[bytes], start: TextPosition, options: ParseOptions) -> None:
        blocks = line_blocks(chunks, options.max_row_bytes)
        self.lines = chain.from_iterable(_split(block) for block, _ in blocks)
        self.row, self.line, self.byte = start.row - 1, start.line, start.byte
        self.taken = bytearray()  # a list of lines would take thirty times the memory of short ones
        self.size = self.lines_taken = 0
        self.limit = options.max_row_bytes

    def begin(self) -> None:
        self.row, self.line, self.byte = self.row + 1, self.line + self.lines_taken, self.byte + self.size
        self.taken, self.size, self.lines_taken = bytearray(), 0, 0

    def record(self) -> Record:
        return Record(bytes(self.taken).rstrip(b"\r\n"), self.row, self.line, self.byte)

    def check_end(self) -> None:
        """Raise RowError if the record ends with a CR that is not part of a CRLF; `csv` silently drops it."""
        if self.taken.endswith((b"\r", b"\r\r\n")):
            raise _lone_cr()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.taken += line
        self.size, self.lines_taken = self.size + len(line), self.lines_taken + 1
        if self.size > self.limit:
            del self.taken[SHOWN_BYTES:]
            raise too_large_error(self.limit, "csv.too_large")
        if b"\0" in line:
            raise RowError("NUL character", code="csv.nul")
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise RowError("invalid UTF-8", code="csv.encoding") from error


def _split(block: bytes) -> list[bytes]:
    lines = block.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])
