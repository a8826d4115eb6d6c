"""Read rows that an earlier run rejected, as a source (`--from-rejects`).

Each line of a rejects file (`manifest.Reject`) holds the raw row in `raw.data`, which the user may have fixed: JSON,
or delimited text if there is a `raw.csv` with its format. Row 3 of this source is the fourth line of the file.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa

from ...errors import InputError, Location, RowError
from ...json_columns import columns_of, decode_objects
from ...manifest import VERSION
from ...schema import KEYS, ROW
from ..json.record_batch import raise_bad, to_batches, to_object
from ..model import OnBad, ParseOptions, ReadOptions
from .csv import read_cells
from .jsonl import TextPosition


def rows_in_rejects(batches: Iterable[pa.RecordBatch], shown: str, on_bad: OnBad | None) -> Iterator[pa.RecordBatch]:
    """Yield source batches of the raw rows in the lines of a rejects file.

    Raises InputError for any other line, and for a row whose text was truncated or not kept.
    """
    for batch in batches:
        found = list(_rows_in_batch(batch, shown, on_bad))
        if found:
            yield from to_batches([record for record, _ in found], [row for _, row in found])


def _rows_in_batch(batch: pa.RecordBatch, shown: str, on_bad: OnBad | None) -> Iterator[tuple[dict[str, Any], int]]:
    for line in decode_objects(columns_of(batch)):
        row = line.pop(ROW)
        at = Location(shown, row)
        raw, csv = _raw_of(line, at), _csv_of(line, at)
        try:
            yield (to_object(raw) if csv is None else _record(raw, csv)), row
        except RowError as error:
            error.at, error.csv = at, csv
            if on_bad is None:
                raise_bad(error, raw)
            on_bad(error, raw)


def rejected_row(raw: bytes, csv: Mapping[str, Any] | None) -> pa.RecordBatch | None:
    """Return the raw row of a reject as a source batch of one row; None if it cannot be read."""
    with suppress(RowError):
        return to_batches([to_object(raw) if csv is None else _record(raw, csv)], [0])[0]
    return None


def _raw_of(reject: Mapping[str, Any], at: Location) -> bytes:
    """The raw row in a line of a rejects file."""
    raw, place = reject.get("raw"), reject.get("source")
    if reject.get("v") != VERSION or not isinstance(place, dict) or "raw" not in reject:
        raise _no_reject(at)
    origin = f"`{place.get('file', '')}` row {place.get('row', '?')}"
    if not isinstance(raw, dict) or not isinstance(raw.get("data"), str):
        raise InputError(f"the text of {origin} was not kept", hint="convert it from its own file", at=at)
    if raw.get("truncated"):
        raise InputError(
            f"the text of {origin} was truncated in the rejects file", at=at,
            hint="convert it from its own file, or put the whole row into `raw.data` and set `raw.truncated` to false",
        )  # fmt: skip
    row = _decoded(raw["data"], str(raw.get("enc")), at)
    if not row.strip(b" \t\r\n"):
        raise InputError("the row is blank", hint="put the row into `raw.data`, or remove the line", at=at)
    return row


def _no_reject(at: Location) -> InputError:
    return InputError("this is not a line of a rejects file", hint="omit --from-rejects", at=at)


def _decoded(data: str, encoding: str, at: Location) -> bytes:
    """Decode the bytes of a raw row."""
    if encoding != "base64":
        return data.encode()
    try:
        return base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        raise InputError("`raw.data` is not base64", hint="write text and `utf-8` into `raw.enc`", at=at) from None


def _csv_of(reject: Mapping[str, Any], at: Location) -> Mapping[str, Any] | None:
    """The format of a row of delimited text; None for JSON."""
    csv = reject["raw"].get("csv")
    if csv is not None and not _is_csv(csv):
        raise _no_reject(at)
    return csv  # type: ignore[no-any-return]


def _is_csv(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"columns", "delimiter", "quote"}:
        return False
    names, sign = value["columns"], value["delimiter"]
    named = isinstance(names, list) and all(type(name) is str and name not in (ROW, KEYS) for name in names)
    parts = type(sign) is str and len(sign) == 1 and sign not in '\r\n"'
    return named and parts and len(set(names)) == len(names) and type(value["quote"]) is bool


def _record(raw: bytes, csv: Mapping[str, Any]) -> dict[str, Any]:
    """Parse one row of delimited text; raises RowError."""
    inside = TextPosition(byte=1)  # at byte 0 a byte order mark would be stripped
    text = ParseOptions(header=False, quote=csv["quote"], delimiter=csv["delimiter"])
    batches = read_cells(
        [raw], inside, ReadOptions(batch_rows=2), format="csv", text=text, names=csv["columns"] or None
    )
    records = [record for batch in batches for record in decode_objects(columns_of(batch))]
    if len(records) != 1:
        raise RowError(f"the text is {len(records)} records", code="csv.fields", hint="keep one row in `raw.data`")
    return {name: value for name, value in records[0].items() if name != ROW}
