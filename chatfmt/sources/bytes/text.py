"""Read a text file as UTF-8 bytes: decompress it, and recode it if the user names another encoding."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator

from ...errors import InputError, Location, UsageError
from ..model import InputSplit, ParseOptions, SourceFile
from .compression import decompressed, file_chunks


def content(
    file: SourceFile | InputSplit, options: ParseOptions, start: int = 0, stop: int | None = None
) -> Iterator[bytes]:
    """Yield the text of a file; [start, stop) are bytes of a file that is neither compressed nor recoded."""
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
        raise InputError(message, code="file.encoding", at=Location(shown, byte=byte), hint=_HINT) from None


_HINT = "name the encoding that the file was written in with `--encoding`"
_WESTERN = ("cp1252", "cp1250", "cp1254", "cp1257")
"""Encodings of Windows that agree on quotes, dashes and many letters; cp1252 is by far the most common."""


def encoding_hint(line: bytes) -> str:
    """Return a hint for a line that is not UTF-8; it names an encoding only if similar ones would read the same."""
    try:
        (text,) = {line.decode(name) for name in _WESTERN}
    except ValueError:  # they differ, or one of them cannot read the line
        return _HINT
    alone = not re.search(rb"[\x80-\xff]{2}", line)  # letters of other scripts stand side by side
    return f"use `--encoding cp1252`, which reads `{_excerpt(text)}`" if alone and text.isprintable() else _HINT


def _excerpt(text: str) -> str:
    """Return the characters around the first one that is not ASCII."""
    place = next(index for index, sign in enumerate(text) if not sign.isascii())
    return text[max(place - 10, 0) : place + 10]


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
