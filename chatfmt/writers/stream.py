"""Streams: stdout, devices and pipes, which are written without staging."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from ..errors import OutputError, ReaderGone
from . import durable

T = TypeVar("T")


def is_stream(path: Path) -> bool:
    """Return whether a path is a device or a pipe (`/dev/stdout`, `/dev/null`, a FIFO), written to without staging."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


class Stream:
    """A sink over stdout, a device or a pipe; after an error part of the output has been written.

    Raises ReaderGone if the reader of the pipe is gone, OutputError for a closed or full stream.
    """

    def __init__(self, stream: BinaryIO | None, name: str = "stdout") -> None:
        if stream is None:
            raise _closed(name)
        self._stream, self._name, self.bytes = stream, name, 0

    @classmethod
    def stdout(cls) -> Stream:
        """Return the stream of this process's stdout."""
        return cls(sys.stdout.buffer if sys.stdout is not None else None)

    def write(self, data: bytes | memoryview, /) -> int:
        left = memoryview(data).cast("B")
        while left:  # unbuffered (PYTHONUNBUFFERED), a write may be partial
            left = left[self._call(lambda: self._stream.write(left)) or 0 :]  # noqa: B023
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self._call(self._stream.flush)

    def _call(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except BrokenPipeError:
            self._silence()
            raise ReaderGone from None
        except ValueError:  # I/O operation on closed file
            raise _closed(self._name) from None
        except OSError as error:
            self._silence()
            if error.errno == errno.EBADF:
                raise _closed(self._name) from None
            with durable.explain_errors(self._name):
                raise

    def _silence(self) -> None:
        """Redirect the descriptor to the null device, so that the flush at exit does not fail and print an error."""
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)
        except OSError:
            return


def _closed(name: str) -> OutputError:
    return OutputError(f"{name} is closed", hint="name a file or a folder with `--out`", code="output.closed")
