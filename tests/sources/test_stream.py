"""Rows that come through a pipe."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import zlib

import pyarrow as pa
import pytest
import zstandard

from chatfmt.errors import InputError, RowError
from chatfmt.sources import read_stream

from .reading import as_parquet, numbers_of, rows_of


def test_every_format_through_stdin() -> None:
    table = pa.table({"a": ["x", "y"]})
    rows = [{"a": "x"}, {"a": "y"}]
    kinds = [
        b'{"a":"x"}\n{"a":"y"}\n', b'[{"a":"x"},\n{"a":"y"}]', b'a,b\nx,1\ny,2\n', as_parquet(table),
        gzip.compress(b'{"a":"x"}\n{"a":"y"}'), zstandard.compress(as_parquet(table)),
    ]  # fmt: skip
    for content in kinds:
        got = rows_of(read_stream(io.BytesIO(content)))
        assert [{"a": row["a"]} for row in got] == rows, content
    with pytest.raises(InputError) as caught:
        list(read_stream(io.BytesIO(b"")))
    assert caught.value.message == "the input is empty"
    with pytest.raises(RowError) as bad:
        list(read_stream(io.BytesIO(b'{"a":"x"}\n{"a":}\n')))
    assert str(bad.value) == "stdin row 1: not JSON: expected a value (line 2, byte 15)"


def test_stdin_yields_rows_before_it_ends() -> None:
    code = (
        "import sys\nfrom chatfmt.sources import read_stream\n"
        "for batch in read_stream(sys.stdin.buffer): print(batch.num_rows, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        os.write(process.stdin.fileno(), b'{"a":1}\n{"a":2}\n')
        assert process.stdout.readline() == b"2\n"
        os.write(process.stdin.fileno(), b'{"a":3}\n')
        assert process.stdout.readline() == b"1\n"
        process.stdin.close()
    assert process.returncode == 0


def test_a_compressed_pipe_yields_rows_at_once() -> None:
    out, into = os.pipe()
    packer = zlib.compressobj(wbits=31)
    with os.fdopen(out, "rb") as stream, os.fdopen(into, "wb", 0) as pipe:
        batches = read_stream(stream)
        for number in range(3):
            pipe.write(packer.compress(b'{"a": %d}\n' % number) + packer.flush(zlib.Z_SYNC_FLUSH))
            assert numbers_of([next(batches)]) == [number]
        pipe.write(packer.flush())
        pipe.close()
        assert list(batches) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only there can a pipe be made to hold more")
def test_a_pipe_holds_many_rows_while_others_are_converted() -> None:
    out, into = os.pipe()
    os.set_blocking(into, False)
    with os.fdopen(out, "rb") as stream:
        batches = read_stream(stream)
        os.write(into, b'{"a": "x"}\n')
        assert len(next(batches)) == 1
        lines = b'{"a": "%s"}\n' % (b"x" * 990) * 500
        assert os.write(into, lines) == len(lines)
        os.close(into)
        assert [len(batch) for batch in batches] == [500]
