"""Conversations that `--group-by` made of rows: JSON Lines of our own, each line one conversation or one bad row.

    {"row": 3, "record": {"id": "c1", "messages": [{…}, …]}}
    {"row": 7, "error": {"message": …, "code": …, …}, "raw": BASE64}

`row` is the number of the first row of the conversation in its file, or that of the bad row.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from ...errors import Location, RowError
from ...json_columns import columns_of, decode_objects
from ..json.record_batch import SKIP, to_batches
from ..model import OnBad

_FIELDS = ("message", "hint", "code", "csv")


def bad_line(row: int, error: RowError, raw: bytes) -> dict[str, Any]:
    """Return the line of a row that cannot be read."""
    at = error.at
    fields = {name: value for name in _FIELDS if (value := getattr(error, name))}
    fields |= {"file": at.file, "line": at.line, "byte": at.byte}
    return {"row": row if at.row is None else at.row, "error": fields, "raw": base64.b64encode(raw).decode()}


def rows_in_groups(batches: Iterable[pa.RecordBatch], shown: str, on_bad: OnBad | None) -> Iterator[pa.RecordBatch]:
    """Yield source batches of the conversations in the lines; a bad row goes to `on_bad`, or its RowError is raised."""
    for batch in batches:
        lines = decode_objects(columns_of(batch))
        good = [line for line in lines if "record" in line]
        for line in lines:
            if "error" in line:
                _report(line, shown, on_bad)
        if good:
            yield from to_batches([line["record"] for line in good], [line["row"] for line in good])


def _report(line: dict[str, Any], shown: str, on_bad: OnBad | None) -> None:
    fields = dict(line["error"])
    at = Location(fields.pop("file") or shown, line["row"], line=fields.pop("line"), byte=fields.pop("byte"))
    csv = fields.pop("csv", None)
    error = RowError(fields.pop("message"), at=at, **fields)
    error.csv = csv
    if on_bad is None:
        error.hint = error.hint or SKIP
        raise error
    on_bad(error, base64.b64decode(line["raw"]))
