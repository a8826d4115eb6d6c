"""Output streams: stdout, devices, pipes whose reader is gone, full disks; runs are in `hostile/fault_cases.py`."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from chatfmt.errors import OutputError, ReaderGone
from chatfmt.writers import Stream, is_stream


class Pipe(io.BytesIO):
    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, data: object) -> int:
        raise OSError(self._number, os.strerror(self._number))


def test_a_stream_passes_bytes_on() -> None:
    inner = io.BytesIO()
    stream = Stream(inner)
    assert stream.write(memoryview(b"abc")) == 3
    stream.flush()
    assert (inner.getvalue(), stream.bytes) == (b"abc", 3)


def test_a_stream_that_fails() -> None:
    with pytest.raises(ReaderGone):
        Stream(Pipe(errno.EPIPE)).write(b"x")
    with pytest.raises(OutputError) as caught:
        Stream(Pipe(errno.ENOSPC)).write(b"x")
    assert caught.value.message == "cannot write `stdout`: the disk is full"
    assert caught.value.hint == "free some space, then run again"
    closed = io.BytesIO()
    closed.close()
    for stream in (closed, None):
        with pytest.raises(OutputError, match="stdout is closed"):
            Stream(stream).write(b"x")


def test_devices_are_streams(tmp_path: Path) -> None:
    assert is_stream(Path(os.devnull))
    assert not is_stream(tmp_path)
    assert not is_stream(tmp_path / "new")
