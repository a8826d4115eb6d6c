"""Messages between a process and its workers: eight bytes of length, little-endian, then that many bytes.

The first byte of a worker's message says what it is: an item of a generator, a place where the task is, or its end,
good or bad. What follows is pickled.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import BinaryIO

LENGTH = struct.Struct("<Q")
WORKED, FAILED, ITEM, PLACE = b"+", b"-", b">", b"@"


def send(pipe: BinaryIO, data: bytes) -> None:
    """Write one message whole, however little the pipe takes at once."""
    view = memoryview(LENGTH.pack(len(data)) + data)
    while view:
        view = view[pipe.write(view) :]


def receive(pipe: BinaryIO, wait: Callable[[], None] = lambda: None) -> bytes | None:
    """The next message; None at the end of the pipe, also in the middle of a message. `wait` is called before it."""
    wait()
    head = _exactly(pipe, LENGTH.size)
    return None if head is None else _exactly(pipe, LENGTH.unpack(head)[0])


def _exactly(pipe: BinaryIO, size: int) -> bytes | None:
    pieces = []
    while size:
        piece = pipe.read(min(size, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
