"""Record batches of JSON objects: many raw records at a time, each exact, the bad ones told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jiter
import pyarrow as pa
from msgspec import Struct

from ...errors import Location, RowError
from ...json_columns import encode_objects
from ...schema import KEYS, ROW
from ..model import OnBad, ReadOptions
from .strict import as_record, check_value, is_shallow, parse_object


class Record(Struct, frozen=True):
    """The bytes of one record and where they lie: `row` in its file, `line` from 1, `byte` of its first byte."""

    raw: bytes
    row: int
    line: int
    byte: int

    def location(self) -> Location:
        """Where the record begins, for an error about the whole file."""
        return Location(line=self.line, byte=self.byte)


SHOWN_BYTES = 64 << 10
"""As much of a record that is too long as is told about it."""


def object_batch(
    raws: Sequence[bytes], rows: Sequence[int], place: Callable[[int], Record], options: ReadOptions
) -> pa.RecordBatch:
    """The batch of `raws`, JSON text of one object each; `place` tells the whole record of an index when it is bad."""
    try:
        return to_batch([_parse(raw, options.max_row_bytes) for raw in raws], rows)
    except (ValueError, RowError):
        good = list(_good(map(place, range(len(raws))), options))
        return to_batch([value for value, _ in good], [row for _, row in good])


def _parse(raw: bytes, max_bytes: int) -> dict[str, Any]:
    value = jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=False)
    record = as_record(value)
    if record is None or len(raw) > max_bytes:
        raise ValueError
    if not is_shallow(raw):
        check_value(value)
    return record


def _good(records: Iterable[Record], options: ReadOptions) -> Iterator[tuple[dict[str, Any], int]]:
    for record in records:
        try:
            if len(record.raw) > options.max_row_bytes:
                raise too_large_error(options.max_row_bytes)
            yield to_object(record.raw), record.row
        except RowError as error:
            report_bad(error, record, options.on_bad)


def to_object(raw: bytes) -> dict[str, Any]:
    """The record that `raw` spells; raises RowError with its place from the beginning of `raw`."""
    value = parse_object(raw)
    for name in (ROW, KEYS):
        if name in value:
            raise RowError(f"a key is named `{name}`, which chatfmt needs for itself", code="json.key")
    return value


def too_large_error(max_bytes: int) -> RowError:
    """The error for a record of more than `max_bytes`."""
    return RowError(
        f"the record is longer than {max_bytes} bytes", code="json.too_large", hint="`--on-error skip` leaves it out"
    )


def report_bad(error: RowError, record: Record, on_bad: OnBad | None) -> None:
    """Tell `on_bad` of a bad record, or raise its error; either way with its place in the file."""
    error.locate(row=record.row, line=record.line, byte=record.byte)
    if on_bad is None:
        raise error
    on_bad(error, record.raw)


def to_batch(objects: Sequence[dict[str, Any]], rows: Sequence[int]) -> pa.RecordBatch:
    """The source batch of JSON objects. Raises ValueError where one holds a number that is not finite."""
    fields = encode_objects(objects)
    if ROW in fields:
        raise ValueError(f"a key is named {ROW}")
    return field_batch(fields, rows)


def field_batch(fields: Mapping[str, pa.Array], rows: Sequence[int]) -> pa.RecordBatch:
    """The source batch of columns, with the numbers of the records before them."""
    return pa.RecordBatch.from_arrays([pa.array(rows, pa.int64()), *fields.values()], names=[ROW, *fields])
