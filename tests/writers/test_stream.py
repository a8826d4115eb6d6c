"""Output streams: stdout, devices, pipes whose reader is gone, full disks."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
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


RUN = """
import sys
from chatfmt.errors import OutputError, ReaderGone
from chatfmt.writers import Stream
try:
    stream = Stream.stdout()
    for _ in range(1000):
        stream.write(b"x" * 10000)
    stream.flush()
except ReaderGone:
    sys.exit(141)
except OutputError as error:
    print(error, file=sys.stderr)
    sys.exit(5)
"""


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
@pytest.mark.parametrize(
    ("redirect", "code", "said"),
    [
        ("| head -c 5 > /dev/null; exit ${PIPESTATUS[0]}", 141, ""),
        ("> /dev/full", 5, "cannot write `stdout`: the disk is full\n"),
        (">&-", 5, "stdout is closed\n"),
    ],
)
def test_real_streams(redirect: str, code: int, said: str) -> None:
    command = ["bash", "-c", f'"$0" -c "$1" {redirect}', sys.executable, RUN]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (code, said)


def test_devices_are_streams(tmp_path: Path) -> None:
    assert is_stream(Path(os.devnull))
    assert not is_stream(tmp_path)
    assert not is_stream(tmp_path / "new")
