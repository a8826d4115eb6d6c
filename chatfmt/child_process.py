"""A new interpreter that imports what this one does and dies with it, and frames, the messages to and from it.

A frame is the length of a message (8 bytes, little endian) and the message. Imports nothing beyond the standard
library, since the new interpreter imports this module.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable

_LENGTH = struct.Struct("<Q")
_READ_SIZE = 1 << 20


def python_command(code: str, *arguments: str, flags: tuple[str, ...] = ("-P",)) -> list[str]:
    """Return the command that runs `code` in a new interpreter, with `arguments` in `sys.argv[1:]`.

    With `-P` or `-I` it imports nothing from the current folder before it has the import path of this process.
    """
    path = json.dumps([os.path.realpath(entry) for entry in sys.path])
    start = "import json, sys\nsys.path[:] = json.loads(sys.argv.pop(1))\n"
    return [sys.executable, *flags, "-c", start + code, path, *arguments]


def die_with_parent() -> None:
    """Ask Linux to kill this process when the thread that started it ends (prctl(2))."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, 9)


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
