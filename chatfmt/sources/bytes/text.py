"""Read a text file as UTF-8 bytes: decompress it, and recode it if the user names another encoding."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import InputError, Location, UsageError
from ..encodings import NAME_IT
from ..model import InputSplit, ParseOptions, SourceFile
from .compression import decompressed, file_chunks, line_chunks


def content(
    file: SourceFile | InputSplit,
    options: ParseOptions,
    start: int = 0,
    stop: int | None = None,
    line_bytes: int | None = None,
) -> Iterator[bytes]:
    """Yield the text of a file; [start, stop) are bytes of a file that is neither compressed nor recoded.

    Of local JSON Lines `line_bytes` are read at a time.
    """
    if file.format == "jsonl" and is_seekable(file, options) and Path(file.uri).is_file():
        return line_chunks(file.uri, start, stop, line_bytes)
    chunks = decompressed(file_chunks(file.uri, start, stop), file.compression, file.shown)
    return to_utf8(chunks, options.encoding, file.shown)


def is_seekable(file: SourceFile | InputSplit, options: ParseOptions) -> bool:
    """Return whether reading can start at a record in the middle of the text file."""
    return file.compression is None and not needs_recoding(options.encoding) and options.field is None


def to_utf8(chunks: Iterable[bytes], encoding: str | None, shown: str) -> Iterator[bytes]:
    """Recode chunks to UTF-8. Raises UsageError for an unknown encoding, InputError for bytes invalid in it."""
    return _recoded(chunks, encoding, shown) if encoding and needs_recoding(encoding) else iter(chunks)


def _recoded(chunks: Iterable[bytes], encoding: str, shown: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    read = at = 0
    try:
        for chunk in chunks:
            yield decoder.decode(chunk).encode()
            read += len(chunk)
            at = read - len(decoder.getstate()[0])  # a partial character is decoded with the next chunk
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        byte = at + getattr(error, "start", 0)
        message = f"not {encoding}: {getattr(error, 'reason', error)}"
        raise InputError(message, code="file.encoding", at=Location(shown, byte=byte), hint=NAME_IT) from None


def needs_recoding(encoding: str | None) -> bool:
    """Return whether text in this encoding must be recoded to UTF-8. Raises UsageError for an unknown encoding."""
    if encoding is None:
        return False
    try:
        " ".encode(encoding)  # a codec that is not a text encoding (`base64`) fails only here
        if (name := codecs.lookup(encoding).name) in ("idna", "punycode"):
            raise LookupError("an encoding of host names, not of files")
        return name not in ("utf-8", "utf-8-sig")
    except (LookupError, ValueError):
        raise UsageError(f"unknown encoding `{encoding}`", hint="such as `utf-16`, `latin-1` or `cp1252`") from None
