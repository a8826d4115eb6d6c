"""Rows that an earlier run left out, as a source of their own (`--from-rejects`).

Each line of a rejects file holds the raw row in `raw.data`, which the user may have put right. The rows are converted
as JSON Lines; row 3 of this source is the fourth line of the file.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from .. import sources
from ..errors import InputError, Location
from ..manifest import VERSION
from ..schema import ROW, decode_objects
from ..sources import InputSplit, ReaderOptions, Source, SourceFile, Whole


def from_rejects(source: Source, split: str, folder: Path) -> Source:
    """The rows that the rejects files of the source hold, written out in `folder` and shown under the files' names.

    Raises InputError for other files, and for a row whose raw text was cut or not kept.
    """
    files = [file for group in source.splits.values() for file in group]
    made = tuple(written(file, folder / f"rejects-{number}.jsonl") for number, file in enumerate(files))
    return replace(source, splits={split: made}, options=ReaderOptions(allow_empty=source.options.allow_empty))


def written(file: SourceFile, path: Path) -> SourceFile:
    """The rows of one rejects file as a file of JSON Lines."""
    with path.open("wb") as out:
        for batch in sources.read(InputSplit(file.uri, file.shown, file.format, file.compression, Whole())):
            write_rows(batch_rows(batch), file.shown, out)
    return SourceFile(str(path), file.shown, "jsonl", None, path.stat().st_size)


def batch_rows(batch: pa.RecordBatch) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each line of the rejects file with its number."""
    fields = dict(zip(batch.schema.names, batch.columns, strict=True))
    for row in decode_objects(fields):
        yield row.pop(ROW), row


def write_rows(rows: Iterator[tuple[int, Mapping[str, Any]]], shown: str, out: BinaryIO) -> None:
    for number, row in rows:
        out.write(one_line(raw_of(row, Location(shown, number)), Location(shown, number)) + b"\n")


def raw_of(reject: Mapping[str, Any], at: Location) -> bytes:
    """The raw row that a line of a rejects file holds."""
    raw, place = reject.get("raw"), reject.get("source")
    if reject.get("v") != VERSION or not isinstance(place, dict) or "raw" not in reject:
        raise InputError("this is not a line of a rejects file", hint="leave --from-rejects out", at=at)
    origin = f"`{place.get('file', '')}` row {place.get('row', '?')}"
    if not isinstance(raw, dict) or not isinstance(raw.get("data"), str):
        raise InputError(f"the text of {origin} was not kept", hint="convert it from its own file", at=at)
    if raw.get("truncated"):
        raise InputError(
            f"the text of {origin} was cut when it was kept", at=at,
            hint="convert it from its own file, or put the whole row into `raw.data` and false into `raw.truncated`",
        )  # fmt: skip
    return decoded(raw["data"], str(raw.get("enc")), at)


def decoded(data: str, encoding: str, at: Location) -> bytes:
    """The bytes of a raw row."""
    if encoding != "base64":
        return data.encode()
    try:
        return base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        raise InputError("`raw.data` is not base64", hint="write text and `utf-8` into `raw.enc`", at=at) from None


def one_line(raw: bytes, at: Location) -> bytes:
    """The row on one line; JSON may be broken between its tokens, and a line end inside of text is no JSON."""
    row = raw.strip(b" \t\r\n")
    if not row:
        raise InputError("the row is blank", hint="put the row into `raw.data`, or remove the line", at=at)
    if b"\n" not in row:
        return row
    try:
        json.loads(row)
    except (ValueError, RecursionError):
        raise InputError("the row is not JSON and has several lines", hint="put it right first", at=at) from None
    return b" ".join(row.split(b"\n"))
