"""Local JSON Lines are read in chunks that end with a line, and divided into the same blocks as any other chunks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.sources.bytes import compression
from chatfmt.sources.bytes.compression import file_chunks, line_chunks
from chatfmt.sources.formats.jsonl import line_blocks


@given(
    sizes=st.lists(st.integers(0, 40), max_size=30),
    end=st.sampled_from([b"", b"\n", b"x"]),
    start=st.integers(0, 50),
    length=st.none() | st.integers(0, 400),
    limit=st.sampled_from([8, 1000]),
)
def test_blocks_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], end: bytes, start: int, length: int | None, limit: int
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "lines"
    path.write_bytes(b"\n".join(b"a" * size for size in sizes) + end)
    size = path.stat().st_size
    start = min(start, size)
    stop = None if length is None else min(start + length, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "CHUNK", 16)
        patch.setattr(compression, "_PROBED", 6)
        chunks = list(line_chunks(str(path), start, stop))
    plain = list(file_chunks(str(path), start, stop, size=16))
    assert b"".join(chunks) == b"".join(plain)
    assert list(line_blocks(chunks, limit)) == list(line_blocks(plain, limit))


def test_chunks_end_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "CHUNK", 8)
    (tmp_path / "lines").write_bytes(b"abc\nde\nfghijklmn\nop")
    assert list(line_chunks(str(tmp_path / "lines"))) == [b"abc\nde\n", b"fghijklmn", b"\nop"]
    assert list(line_chunks(str(tmp_path / "lines"), size=18)) == [b"abc\nde\nfghijklmn\n", b"op"]
