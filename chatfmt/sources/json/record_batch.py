"""Turn raw JSON records into record batches, each record exactly, reporting bad ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jiter
import pyarrow as pa
from msgspec import Struct

from ...errors import SKIP, Location, RowError, TooManyKeys
from ...json_columns import encode_objects
from ...schema import KEYS, ROW
from ..encodings import encoding_hint
from ..model import OnBad, ReadOptions
from .strict import as_record, check_value, is_shallow, parse_object


class Record(Struct, frozen=True):
    """The bytes of one record and its position in the file: `row`, `line` (from 1), offset of its first `byte`."""

    raw: bytes
    row: int
    line: int
    byte: int

    def location(self) -> Location:
        """The start of the record, for an error about the whole file."""
        return Location(line=self.line, byte=self.byte)


SHOWN_BYTES = 64 << 10
"""Bytes that are reported of a record that is too long."""
_CELLS = 1 << 20
"""The values of a batch, absent ones included: rows that have different keys are cut into more batches."""
_MANY_KEYS = 4 << 10
"""A record of fewer bytes has too few turns and keys for `_CELLS`."""


def object_batches(
    raws: Sequence[bytes], rows: Sequence[int], record_at: Callable[[int], Record], options: ReadOptions
) -> list[pa.RecordBatch]:
    """The batches of `raws`, JSON text of one object each; `record_at` returns the record of an index if one is bad."""
    values = [_parse(raw, options.max_row_bytes) for raw in raws]
    suspect: Sequence[int] = [index for index, value in enumerate(values) if value is None]
    known = [row for row, value in zip(rows, values, strict=True) if value is not None]
    try:
        batches = to_batches([value for value in values if value is not None], known)
    except (ValueError, RowError):
        batches, suspect = [], range(len(raws))
    good = list(_good(map(record_at, suspect), options))
    return batches + to_batches([value for value, _ in good], [row for _, row in good])


def _parse(raw: bytes, max_bytes: int) -> dict[str, Any] | None:
    """Return a record, of which numbers and keys are still to be checked; None for one that is bad."""
    try:
        value = jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=False)
        if not is_shallow(raw):
            check_value(value)
    except (ValueError, RowError):
        return None
    return as_record(value) if len(raw) <= max_bytes else None


def _good(records: Iterable[Record], options: ReadOptions) -> Iterator[tuple[dict[str, Any], int]]:
    for record in records:
        try:
            if len(record.raw) > options.max_row_bytes:
                raise too_large_error(options.max_row_bytes)
            value = to_object(record.raw)
            if len(record.raw) > _MANY_KEYS:
                to_batch([value], [record.row])
            yield value, record.row
        except RowError as error:
            report_bad(error, record, options.on_bad)


def to_object(raw: bytes) -> dict[str, Any]:
    """Parse one record; raises RowError with its position counted from the beginning of `raw`."""
    value = parse_object(raw)
    for name in (ROW, KEYS):
        if name in value:
            raise RowError(f"a key is named `{name}`, which is reserved by chatfmt", code="json.key")
    return value


def too_large_error(max_bytes: int, code: str = "json.too_large") -> RowError:
    """The error for a record of more than `max_bytes`."""
    return RowError(
        f"the record is longer than {max_bytes} bytes",
        code=code,
        hint=f"--max-row-bytes {-(-2 * max_bytes // 2**20)}MiB reads longer ones",
    )


def report_bad(error: RowError, record: Record, on_bad: OnBad | None) -> None:
    """Stamp the error of a bad record with its position in the file; then pass it to `on_bad`, or raise it."""
    error.locate(row=record.row, line=record.line, byte=record.byte)
    if on_bad is None:
        raise_bad(error, record.raw)
    on_bad(error, record.raw)


def raise_bad(error: RowError, raw: bytes) -> NoReturn:
    """Raise the error of a bad record that stops a run, which would skip it with another flag."""
    explain_encoding(error, raw)
    error.hint = "; ".join(filter(None, (error.hint, SKIP)))
    raise error


def explain_encoding(error: RowError, raw: bytes) -> None:
    """Hint at the encoding of a record that is not UTF-8, if that is the error."""
    if error.message == "invalid UTF-8":
        error.hint = "; or ".join(filter(None, (encoding_hint(raw), error.hint)))


def to_batches(objects: Sequence[dict[str, Any]], rows: Sequence[int]) -> list[pa.RecordBatch]:
    """The source batches of JSON objects: one, or more if their keys differ so much that most values would be absent.

    Raises ValueError for a number that is not finite, TooManyKeys for a row whose turns have too many keys.
    """
    try:
        return [to_batch(objects, rows)] if objects else []
    except TooManyKeys as error:
        half = len(objects) // 2
        if not half:
            error.locate(row=rows[0])
            raise
        return to_batches(objects[:half], rows[:half]) + to_batches(objects[half:], rows[half:])


def to_batch(objects: Sequence[dict[str, Any]], rows: Sequence[int]) -> pa.RecordBatch:
    """The source batch of JSON objects. Raises as `to_batches` does, TooManyKeys also for rows with different keys."""
    fields = encode_objects(objects, cells=_CELLS)
    if ROW in fields:
        raise ValueError(f"a key is named {ROW}")
    return field_batch(fields, rows)


def field_batch(fields: Mapping[str, pa.Array], rows: Sequence[int]) -> pa.RecordBatch:
    """The source batch of these columns, with the row numbers as its first column."""
    return pa.RecordBatch.from_arrays([pa.array(rows, pa.int64()), *fields.values()], names=[ROW, *fields])
