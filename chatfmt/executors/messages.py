"""Messages between a process and its workers: eight bytes of length, little-endian, then that many bytes.

The first byte of a worker's message says what it is: an item of a generator, a place where the task is, or its end,
good or bad. What follows is pickled. A parent waits before each piece that it sends or takes (`watch`): a worker may
be stopped in the middle of a message.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

LENGTH = struct.Struct("<Q")
WORKED, FAILED, ITEM, PLACE = b"+", b"-", b">", b"@"
PATIENCE = 10.0
"""Seconds without a sign of life after which a process is looked at: one that is stopped counts as lost."""
_ROOM = 4096  # PIPE_BUF: a pipe that takes anything takes as much at once
Wait = Callable[[], None]


def send(pipe: BinaryIO, data: bytes, wait: Wait | None = None) -> None:
    """Write one message whole, however little the pipe takes at once."""
    view = memoryview(LENGTH.pack(len(data)) + data)
    while view:
        if wait:
            wait()
        view = view[pipe.write(view[:_ROOM] if wait else view) :]


def receive(pipe: BinaryIO, wait: Wait = lambda: None) -> bytes | None:
    """The next message; None at the end of the pipe, also in the middle of a message."""
    head = _exactly(pipe, LENGTH.size, wait)
    return None if head is None else _exactly(pipe, LENGTH.unpack(head)[0], wait)


def watch(pid: int, kill: Callable[[], object], *, reads: Any = None, writes: Any = None) -> None:
    """Return when there is something to read, or room to write; kills the process there if somebody stopped it."""
    if os.name == "nt":
        return
    ends = [end for end in (reads,) if end], [end for end in (writes,) if end]
    stopped = 0
    while not any(select.select(*ends, [], PATIENCE if not stopped else 1.0)):
        stopped = stopped + 1 if is_stopped(pid) else 0
        if stopped > 1:
            kill()


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped (SIGSTOP); False where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def _exactly(pipe: BinaryIO, size: int, wait: Wait) -> bytes | None:
    pieces = []
    while size:
        wait()
        piece = pipe.read(min(size, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
