"""Frames: messages with their length in front (8 bytes, little endian), as sandbox and tokenizer processes use them.

Imports nothing beyond the standard library, since these processes import it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

_LENGTH = struct.Struct("<Q")
_READ_SIZE = 1 << 20


def to_frame(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


def read_frame(read: Callable[[int], bytes], most: int | None = None) -> bytes | None:
    """Return the body of the next frame; None if the stream ends before the frame is complete.

    `read(size)` returns at least one byte and at most `size`, or no bytes at the end of the stream. Raises
    ValueError for a frame that claims more than `most` bytes, before it is read.
    """
    head = _read_exactly(read, _LENGTH.size)
    if head is None:
        return None
    size: int = _LENGTH.unpack(head)[0]
    if most is not None and size > most:
        raise ValueError(f"a frame of {size} bytes")
    return _read_exactly(read, size)


def _read_exactly(read: Callable[[int], bytes], size: int) -> bytes | None:
    pieces = []
    while size:
        piece = read(min(size, _READ_SIZE))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def write_to_stdout(data: bytes | bytearray) -> None:
    """Write frames to the file descriptor of stdout, past Python's own buffer."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
