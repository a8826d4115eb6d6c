"""Open local and remote files and decompress them in a stream, checking that every stream ends as it should."""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

from ...errors import InputError, Location, exhausted
from ...stores import is_remote, reason_of, store_errors, without_credentials
from ...whole_files import CHECK_ACCESS
from ..model import Compression

CHUNK = 4 << 20
"""Bytes read from a file at a time."""
_PROBED = 64 << 10
"""Bytes in which the last line feed of a chunk is searched for."""
_FED = 8 << 10  # 8 KiB of hostile zstd can unpack to 256 MiB, and the ratio is checked only after each piece
_PIECE = 1 << 20
_RATIO = 1000
_RATIO_FROM = 64 << 20

MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
SUFFIXES: dict[str, Compression] = {
    ".gz": "gz", ".gzip": "gz", ".zst": "zst", ".zstd": "zst", ".bz2": "bz2", ".xz": "xz",
}  # fmt: skip


def content_hash(uri: str) -> str:
    """Return the XXH3-128 (hex) of the bytes of a file, as they are on disk."""
    import hashlib

    import xxhash

    with open_binary(uri) as file, reading(file, uri):
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def open_binary(uri: str) -> BufferedIOBase:
    """Open a path or an fsspec URL for reading. Raises InputError."""
    if is_remote(uri):
        from .remote_cache import open_remote

        with store_errors(shown_uri(uri), InputError):
            return open_remote(uri)
    try:
        return Path(uri).open("rb")
    except FileNotFoundError:
        raise vanished(uri) from None
    except OSError as error:
        if known := exhausted(error):
            raise known from error
        text = f"cannot open `{uri}`: {error.strerror or error}"
        if isinstance(error, PermissionError):
            raise InputError(text, code="file.permission", hint=CHECK_ACCESS) from None
        raise InputError(text, code="file.unreadable", hint="check the disk, and try again") from None
    except ValueError as error:  # a null character
        raise InputError(f"cannot open `{uri}`: {error}", code="file.missing", hint="check the path") from None


def vanished(path: str) -> InputError:
    """Return the error for a file that is missing, though it was listed."""
    hint = "it was there when it was looked for: restore it, then run again"
    return InputError(f"no such file `{path}`", code="file.missing", hint=hint)


@contextmanager
def reading(file: IO[bytes] | BufferedIOBase, uri: str) -> Iterator[None]:
    """Turn an OSError of reading, such as that of a broken disk, into an InputError with the position in the file."""
    try:
        yield
    except OSError as error:
        byte = None
        with suppress(OSError, ValueError):  # a pipe
            byte = file.tell()
        text = without_credentials(error.strerror or reason_of(error))
        raise unreadable_error(text, Location(shown_uri(uri), byte=byte)) from None


def unreadable_error(reason: str, at: Location) -> InputError:
    """The error for a file whose bytes the system does not give."""
    hint = "try again later, or download it first" if is_remote(at.file) else "check the disk, and try again"
    return InputError(f"cannot be read: {reason}", code="file.unreadable", at=at, hint=hint)


def _read(file: BufferedIOBase, uri: str, size: int) -> bytes:
    with reading(file, uri):
        return file.read(size)


def shown_uri(uri: str) -> str:
    """Return a path, or a URL without credentials, for messages."""
    if not is_remote(uri):
        return uri
    from .remote_cache import url_of_kept

    return without_credentials(url_of_kept(uri))


def compression_of(head: bytes) -> Compression | None:
    """The compression that the first bytes of a file indicate."""
    if _is_skippable(head):
        return "zst"
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def _is_skippable(head: bytes) -> bool:
    """Whether the data begins with a skippable zstd frame (RFC 8878, 3.1.2), which may come first."""
    return head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50


def file_chunks(uri: str, start: int = 0, stop: int | None = None, size: int = CHUNK) -> Iterator[bytes]:
    """Yield the bytes [start, stop) of a file as they are on disk, `size` at a time."""
    with open_binary(uri) as file:
        if start:
            file.seek(start)
        at = start
        while chunk := _read(file, uri, size if stop is None else min(size, stop - at)):
            at += len(chunk)
            yield chunk


def line_chunks(path: str, start: int = 0, stop: int | None = None, size: int | None = None) -> Iterator[bytes]:
    """Yield the bytes [start, stop) of a local file, `size` (or `CHUNK`) at a time but cut after the last line feed.

    So readers of lines need not join the ends of chunks, which would copy all bytes once more.
    """
    with open_binary(path) as file:
        stop = file.seek(0, os.SEEK_END) if stop is None else stop
        at, size = start, size or CHUNK
        for edge in range(start + size, stop + size, size):
            with reading(file, path):
                end = _line_end(file, max(at, edge - _PROBED), edge) if edge < stop else stop
            file.seek(at)
            chunk = _read(file, path, end - at)
            at += len(chunk)
            if chunk:
                yield chunk


def _line_end(file: BufferedIOBase, start: int, edge: int) -> int:
    """The end of the last line that ends in [start, edge) of a file; `edge` if there is none."""
    file.seek(start)
    return start + (file.read(edge - start).rfind(b"\n") + 1 or edge - start)


def decompressed(
    chunks: Iterable[bytes], compression: Compression | None, shown: str, *, at_once: bool = False
) -> Iterator[bytes]:
    """Yield the content of a stream of any number of members or frames, `CHUNK` bytes at a time.

    With `at_once`, the content of a chunk is yielded without waiting for the next. Raises InputError if the stream is
    damaged or followed by other data (`file.compressed`), is truncated (`file.truncated`), or unpacks to more than 1000
    times its size (`file.compressed`).
    """
    return iter(chunks) if compression is None else _joined(_members(chunks, compression, shown), at_once)


def _joined(pieces: Iterable[bytes], at_once: bool) -> Iterator[bytes]:
    """Join pieces into chunks of `CHUNK` bytes, since readers make a batch of each; an empty piece ends a chunk."""
    held = bytearray()
    try:
        for piece in pieces:
            held += piece
            while len(held) >= CHUNK or (held and at_once and not piece):
                yield bytes(held[:CHUNK])
                del held[:CHUNK]
    except InputError:  # the content before it is intact
        if held:
            yield bytes(held)
        raise
    if held:
        yield bytes(held)


def _members(chunks: Iterable[bytes], compression: Compression, shown: str) -> Iterator[bytes]:
    """Yield the content in small pieces, and an empty one at the end of each chunk."""
    make, pump = _DECODERS[compression]
    decoder, fed, came, data = None, 0, 0, b""
    for chunk in _small_pieces(chunks):
        if not chunk:
            yield b""
            continue
        fed, data = fed + len(chunk), data + chunk
        while data:
            if decoder is None:
                data = _without_padding(_without_skipped(data), compression)
                if len(data) < _LONGEST_MAGIC:
                    break
                decoder = _member(make, data, compression, shown)
            try:
                for content in pump(decoder, data):
                    came += len(content)
                    check_ratio(came, fed, shown)
                    if content:
                        yield content
            except _DAMAGE as error:
                raise _damaged(compression, str(error), shown) from None
            data, decoder = (decoder.unused_data, None) if decoder.eof else (b"", decoder)
    if decoder is not None:
        raise InputError(
            f"the {compression} data is truncated", code="file.truncated", at=Location(shown), hint=_FETCH_AGAIN
        )
    if data:
        raise _damaged(compression, "other data follows its end", shown)


def _small_pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks in pieces of `_FED` bytes, and an empty one after each chunk."""
    for chunk in chunks:
        yield from (chunk[at : at + _FED] for at in range(0, len(chunk), _FED))
        yield b""


def _member(make: Callable[[], Any], data: bytes, compression: Compression, shown: str) -> Any:
    if compression_of(data) != compression:
        raise _damaged(compression, "other data follows its end", shown)
    return make()


def _without_skipped(data: bytes) -> bytes:
    """Strip the skippable zstd frames at the beginning, all at once: each may have 8 bytes, of which 4 are its size."""
    end = 0
    while _is_skippable(data[end : end + 4]):
        after = end + 8 + int.from_bytes(data[end + 4 : end + 8], "little")
        if len(data) < max(after, end + 8):
            break
        end = after
    return data[end:]


def _without_padding(data: bytes, compression: Compression) -> bytes:
    """Strip the padding that may follow a member: zeros in multiples of four for xz (xz file format, 2.2)."""
    zeros = len(data) - len(data.lstrip(b"\0")) if compression == "xz" else 0
    return data[zeros - zeros % 4 :]


def _pump_zlib(decoder: Any, data: bytes) -> Iterator[bytes]:
    while True:
        content = decoder.decompress(data, _PIECE)
        yield content
        data = decoder.unconsumed_tail
        if decoder.eof or (not data and len(content) < _PIECE):
            return


def _pump_blocks(decoder: Any, data: bytes) -> Iterator[bytes]:
    yield decoder.decompress(data, _PIECE)
    while not decoder.eof and not decoder.needs_input:
        yield decoder.decompress(b"", _PIECE)


def _zstd() -> Any:
    import zstandard  # slow to import, needed for such files only

    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


def _pump_zstd(decoder: Any, data: bytes) -> Iterator[bytes]:
    from zstandard import ZstdError

    try:
        yield decoder.decompress(data)
    except ZstdError as error:
        raise OSError(str(error)) from None


def check_ratio(came: int, fed: int, shown: str, how: str = "decompress it first") -> None:
    """Raise InputError if `fed` bytes unpacked to more than 1000 times as many bytes, or rows; `how` avoids that."""
    if came > _RATIO_FROM and came > _RATIO * fed:
        raise InputError(
            f"unpacks to more than {_RATIO} times its size", code="file.compressed", at=Location(shown),
            hint=f"{how} if this is intended",
        )  # fmt: skip


def _damaged(compression: Compression, why: str, shown: str) -> InputError:
    return InputError(
        f"damaged {compression} data: {why}", code="file.compressed", at=Location(shown), hint=_FETCH_AGAIN
    )


_FETCH_AGAIN = "download or write the file again"
_LONGEST_MAGIC = max(map(len, MAGIC))
_DAMAGE = (zlib.error, OSError, EOFError, lzma.LZMAError)
_DECODERS: dict[Compression, tuple[Callable[[], Any], Callable[[Any, bytes], Iterator[bytes]]]] = {
    "gz": (lambda: zlib.decompressobj(wbits=31), _pump_zlib),
    "zst": (_zstd, _pump_zstd),
    "bz2": (bz2.BZ2Decompressor, _pump_blocks),
    "xz": (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 30), _pump_blocks),
}
