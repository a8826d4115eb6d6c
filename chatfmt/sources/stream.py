"""Read records from a pipe in constant memory; the format is detected from the first bytes.

Batches hold what the pipe has at the moment, so the first rows come out before the last went in.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import BinaryIO

import pyarrow as pa
from msgspec.structs import replace

from ..errors import InputError, Location, RowError, located
from ..scratch_folder import Scratch, spool
from .bytes.compression import CHUNK, compression_of, decompressed, reading
from .bytes.text import to_utf8
from .discovery.sniff import HEAD, format_of_content
from .formats.jsonl import TextPosition
from .json.strict import BOM
from .model import DEFAULT_READ, DEFAULTS, InputSplit, OnBad, ParseOptions, ReadOptions, RecordRange
from .read import parse, read
from .sample import no_records_error

_FIRST = 64 << 10
_PIPE = 1 << 20  # the most that Linux grants without privileges


def read_stream(
    stream: BinaryIO, shown: str = "-", options: ParseOptions = DEFAULTS, *, on_bad: OnBad | None = None,
    batch_rows: int = DEFAULT_READ.batch_rows, spool_limit: int | None = None,
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """Yield source batches of the records in `stream`: JSON Lines, a JSON array or delimited text, compressed or not.

    Parquet and Arrow are first written to a temporary file of at most `spool_limit` bytes; see `scratch_folder.spool`.
    Raises as `read` does, and InputError for an empty stream.
    """
    head, raw = _peek(_read_available(stream))
    compression = compression_of(head)
    text = to_utf8(decompressed(raw, compression, shown, at_once=True), None, shown)
    head, text = _peek(text)
    if not head:
        if options.allow_empty:
            return
        raise InputError(
            "the input is empty", code="file.empty", at=Location(shown), hint="use `--allow-empty` if this is intended"
        )
    format = format_of_content(head, shown, options)
    split = InputSplit(shown, shown, format, None, RecordRange(), options=options)
    if format in ("parquet", "arrow"):
        yield from _read_columnar(text, split, batch_rows, spool_limit)
        return
    chunks = to_utf8(text, options.encoding, shown)
    bad: list[RowError] = []

    def report(error: RowError, raw: bytes) -> None:
        bad[:] = [error]
        if on_bad is not None:
            on_bad(error, raw)

    reading = ReadOptions(None, report if on_bad else None, batch_rows, max_row_bytes=options.max_row_bytes)
    with located(shown):
        some = None
        for some in parse(chunks, TextPosition(), split, reading):
            yield some
        if some is None and not bad and not options.allow_empty:
            raise no_records_error(shown)


def _peek(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The beginning, enough to detect the format (a line, a magic number or `HEAD` bytes), and all of the chunks."""
    head = b""
    while not _is_enough(head) and (chunk := next(chunks, b"")):
        head += chunk
    return head, chain([head], chunks)


def _is_enough(head: bytes) -> bool:
    return len(head) >= HEAD or compression_of(head) is not None or b"\n" in head.removeprefix(BOM).lstrip()


def _read_available(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what the stream has as soon as it has any: up to 64 KiB first, then up to 4 MiB at a time."""
    _enlarge_pipe(stream)
    wanted = _FIRST
    while parts := [part for part in [_read_some(stream, wanted)] if part]:
        size = len(parts[0])
        while size < wanted and _is_ready(stream) and (part := _read_some(stream, wanted - size)):
            parts.append(part)
            size += len(part)
        yield b"".join(parts)
        wanted = CHUNK


def _enlarge_pipe(stream: BinaryIO) -> None:
    """Enlarge the buffer of a pipe from 64 KiB (pipe(7)): many small batches cost far more than a few large ones."""
    with suppress(ImportError, AttributeError, OSError, ValueError):  # not a pipe, or not supported by the system
        import fcntl

        fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE)


def _read_some(stream: BinaryIO, size: int) -> bytes:
    read1 = getattr(stream, "read1", None)
    with reading(stream, "-"):
        return bytes(read1(size) if read1 else stream.read(size))


def _is_ready(stream: BinaryIO) -> bool:
    try:
        return bool(select.select([stream], [], [], 0)[0])
    except (OSError, ValueError):  # not a pipe, or not supported by the system
        return False


def _read_columnar(
    chunks: Iterator[bytes], split: InputSplit, batch_rows: int, limit: int | None
) -> Iterator[pa.RecordBatch]:
    with Scratch() as scratch:
        path = scratch.folder / "stdin"
        spool(chunks, path, limit)
        yield from read(replace(split, uri=str(path)), batch_rows=batch_rows)
