"""Frames: what is written is read back, however the stream splits it; a stream that ends early gives None."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.child_process import read_frame, to_frame


@given(st.lists(st.binary(max_size=40), max_size=4), st.integers(1, 7))
def test_frames_are_read_back_from_reads_of_any_size(bodies: list[bytes], step: int) -> None:
    stream = io.BytesIO(b"".join(map(to_frame, bodies)))

    def read(size: int) -> bytes:
        return stream.read(min(size, step))

    assert [read_frame(read) for _ in bodies] == bodies
    assert read_frame(read) is None


@pytest.mark.parametrize("length", range(len(to_frame(b"body"))))
def test_a_stream_that_ends_early_gives_none(length: int) -> None:
    assert read_frame(io.BytesIO(to_frame(b"body")[:length]).read) is None


def test_a_frame_is_its_length_in_eight_bytes_then_its_body() -> None:
    assert to_frame(b"ab") == b"\x02\0\0\0\0\0\0\0ab"


def test_a_child_process_imports_no_arrow() -> None:
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('child_process', 'chatfmt/child_process.py')\n"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        "sys.exit('pyarrow' in sys.modules or 'chatfmt' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], timeout=60).returncode == 0
