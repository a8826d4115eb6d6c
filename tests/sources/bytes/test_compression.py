"""Compressed files: damaged, concatenated and padded; more in `hostile/compression_cases.py`."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path

import pytest
import zstandard

from chatfmt.errors import InputError, RowError

from ...conftest import run_cli
from ..reading import read_all, sizes, written

LINES = b"".join(b'{"a": "%d %s"}\n' % (n, b"xyz"[n % 3 : n % 3 + 1] * (n % 50)) for n in range(3000))
PACKED = {
    "gz": gzip.compress(LINES), "zst": zstandard.ZstdCompressor(write_checksum=True).compress(LINES),
    "bz2": bz2.compress(LINES), "xz": lzma.compress(LINES),
}  # fmt: skip


@pytest.mark.parametrize("kind", PACKED)
def test_damaged_compressed_data(kind: str, tmp_path: Path) -> None:
    whole = PACKED[kind]
    assert len(read_all(written(tmp_path, whole * 3, f"x.jsonl.{kind}"))) == 9000
    for behind in (b"\0x", *([b"\0" * 64] if kind != "xz" else [b"\0", b"\0" * 63, b"\0" * 30_001]), whole[:20]):
        with pytest.raises(InputError) as more:
            read_all(written(tmp_path, whole + behind, f"x.jsonl.{kind}"))
        assert more.value.code in ("file.compressed", "file.truncated")
    for place in range(20, len(whole), len(whole) // 30):
        damaged = whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]
        with pytest.raises((InputError, RowError)):
            read_all(written(tmp_path, damaged, f"x.jsonl.{kind}"))


def test_batches_of_compressed_rows_are_as_large_as_of_plain_rows(tmp_path: Path) -> None:
    lines = b"".join(b'{"a": "%s"}\n' % os.urandom(5000).hex().encode() for _ in range(450))
    packed = {
        "gz": gzip.compress(lines, 1), "zst": zstandard.compress(lines), "bz2": bz2.compress(lines, 1),
        "xz": lzma.compress(lines, preset=0),
    }  # fmt: skip
    assert packed.keys() == PACKED.keys()
    expected = sizes(written(tmp_path, lines, "x.jsonl"))
    assert len(expected) > 1 and sum(expected) == 450
    for kind, data in packed.items():
        assert sizes(written(tmp_path, data, f"x.jsonl.{kind}")) == expected, kind


def test_xz_streams_are_padded_by_fours(tmp_path: Path) -> None:
    whole = PACKED["xz"]
    for zeros in (4, 64, 8 << 10, 30_000):
        padded = whole + b"\0" * zeros
        assert len(read_all(written(tmp_path, padded * 2, "x.jsonl.xz"))) == 6000
        for wrong in (padded + b"\0", whole + b"\0" * (zeros - 1) + whole):
            with pytest.raises(InputError) as caught:
                read_all(written(tmp_path, wrong, "x.jsonl.xz"))
            assert caught.value.message == "damaged xz data: other data follows its end"


def test_byte_offsets_are_of_the_file_or_absent(tmp_path: Path) -> None:
    csv, hint = (
        "user,assistant\né,yo\nétwo\n",
        "hint: name the encoding that the file was written in with `--encoding`\n",
    )
    (tmp_path / "in.csv").write_bytes(csv.encode("latin-1"))
    for source, given in (("in.csv", b""), ("-", csv.encode("latin-1"))):
        run = run_cli("convert", source, "--encoding", "latin-1", cwd=tmp_path, stdin=given)
        line = run.stderr.decode().splitlines()[0]
        assert line == f"error: {source.replace('-', 'stdin')} row 1: the record has 1 field, the header has 2 (line 3)"
    skip = ("--on-error", "skip", "--max-bad", "90%", "--rejects", "bad.jsonl")
    run_cli("convert", "in.csv", "--encoding", "latin-1", *skip, cwd=tmp_path)
    assert json.loads((tmp_path / "bad.jsonl").read_text())["source"] == {"file": "in.csv", "row": 1, "line": 3}
    (tmp_path / "in.csv").write_bytes(csv.encode("utf-16")[:-1])
    run = run_cli("convert", "in.csv", "--encoding", "utf-16", cwd=tmp_path)
    at = len(csv.encode("utf-16")) - 2
    assert run.stderr.decode() == f"error: in.csv: not utf-16: truncated data (byte {at})\n{hint}"
